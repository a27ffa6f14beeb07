"""Traces on disk."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import stat

import pytest
from trace_fakes import ERROR, MS, OK, OPEN, T0, span

from unspool.errors import InvalidID, StoreError
from unspool.trace import SpanReader, SpanWriter, TraceSummary


@pytest.fixture
def writer(tmp_path):
    return SpanWriter(tmp_path / "store" / "traces")


@pytest.fixture
def reader(writer):
    return SpanReader(writer.base_dir)


def spans_file(writer, trace="t1"):
    return writer.base_dir / trace / "spans.jsonl"


# --- writing ---------------------------------------------------------------------------------------------------------


def test_making_writer_and_reader_touches_nothing(writer, reader):
    assert not writer.base_dir.exists()
    assert reader.list_traces() == []
    assert reader.read_trace("t1") == []
    assert reader.damage == []
    assert not writer.base_dir.exists()


def test_a_span_is_one_line_in_the_file_of_its_trace(writer, reader):
    one = span("a", end=2)
    writer.write_span(one)
    assert spans_file(writer).read_bytes() == one.to_json() + b"\n"
    assert reader.read_trace("t1") == [one]


def test_a_span_is_one_write_d46(writer, monkeypatch):
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(bytes(data)) or real(fd, data))
    writer.write_span(span("a", end=1, name="two\nlines"))
    assert len(written) == 1
    assert written[0].count(b"\n") == 1
    assert written[0].endswith(b"\n")


def test_files_are_for_their_owner_only(writer):
    writer.write_span(span("a", end=1))
    writer.write_start(span("b"))
    for path, mode in (
        (writer.base_dir, 0o700),
        (writer.base_dir / "t1", 0o700),
        (spans_file(writer), 0o600),
        (writer.base_dir / "t1" / "open.jsonl", 0o600),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden", "a..b", "x" * 129, "a\n"])
def test_ids_that_could_leave_the_folder_are_refused_d15(writer, reader, bad):
    with pytest.raises(InvalidID):
        writer.write_span(span("a", end=1, trace_id=bad))
    with pytest.raises(InvalidID):
        reader.read_trace(bad)
    assert not writer.base_dir.exists()


def test_a_disk_that_does_not_take_it_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"spans\.jsonl"):
        SpanWriter(tmp_path / "file").write_span(span("a", end=1))


def test_a_short_write_is_an_error_and_the_next_span_survives(writer, reader, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:20]))
    with pytest.raises(StoreError, match="took 20 of"):
        writer.write_span(span("a", end=1))
    monkeypatch.setattr(os, "write", real)
    writer.write_span(span("b", end=1))
    writer.write_span(span("c", end=1))
    assert [one.span_id for one in reader.read_trace("t1")] == ["b", "c"]
    (damage,) = reader.damage
    assert (damage.file, damage.line, damage.offset) == ("t1/spans.jsonl", 1, 0)
    assert "first 20 bytes" in damage.reason


def _write_many(base: str, name: str) -> None:
    writer = SpanWriter(base)
    for number in range(200):
        writer.write_span(span(f"{name}{number}", end=1, attributes={"text": "x" * 3000}))


def test_processes_that_write_together_do_not_cut_each_others_lines_d46(writer, reader):
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "fork")
    processes = [context.Process(target=_write_many, args=(str(writer.base_dir), name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len({one.span_id for one in reader.read_trace("t1")}) == 400
    assert reader.damage == []


# --- reading ---------------------------------------------------------------------------------------------------------


def test_starts_without_an_end_are_shown_as_open(writer, reader):
    writer.write_start(span("a"))
    writer.write_start(span("b", "a", start=1))
    writer.write_span(span("b", "a", start=1, end=2))
    assert [(one.span_id, one.status, one.end_time_ns) for one in reader.read_trace("t1")] == [
        ("b", OK, T0 + 2 * MS),
        ("a", OPEN, 0),
    ]


def test_a_start_has_no_end_whatever_the_span_says(writer, reader):
    writer.write_start(span("a", end=5, status=ERROR))
    raw = json.loads((writer.base_dir / "t1" / "open.jsonl").read_bytes())
    assert (raw["status"], raw["end_time_ns"], raw["duration_ms"]) == ("open", 0, 0)


@pytest.mark.parametrize("bad", [b"{nonsense\n", b"[]\n", b'{"trace_id":"t1"}\n', b"\xff\xfe\n"])
def test_a_damaged_line_costs_one_line_and_is_reported_d5_d6(writer, reader, bad, caplog):
    writer.write_span(span("a", end=1))
    before = spans_file(writer).stat().st_size
    with open(spans_file(writer), "ab") as file:
        file.write(bad + b"\n\n")
    writer.write_span(span("b", end=1))
    with caplog.at_level(logging.WARNING, "unspool"):
        assert [one.span_id for one in reader.read_trace("t1")] == ["a", "b"]
    (damage,) = reader.damage
    assert (damage.file, damage.line, damage.offset) == ("t1/spans.jsonl", 2, before)
    assert "t1/spans.jsonl:2" in caplog.text


def test_a_torn_last_line_is_dropped_and_reported(writer, reader):
    writer.write_span(span("a", end=1))
    with open(spans_file(writer), "ab") as file:
        file.write(span("b", end=1).to_json()[:50])
    assert [one.span_id for one in reader.read_trace("t1")] == ["a"]
    assert "torn" in reader.damage[0].reason


def test_a_whole_last_line_without_its_newline_is_read(writer, reader):
    writer.write_span(span("a", end=1))
    with open(spans_file(writer), "ab") as file:
        file.write(span("b", end=1).to_json())
    assert len(reader.read_trace("t1")) == 2
    assert reader.damage == []


def test_a_line_of_megabytes_is_read_d5(writer, reader):
    writer.write_span(span("a", end=1, attributes={"text": "x" * 3_000_000}))
    writer.write_span(span("b", end=1))
    assert len(reader.read_trace("t1")) == 2


def test_reading_again_reports_again_not_twice(writer, reader):
    writer.write_span(span("a", end=1))
    with open(spans_file(writer), "ab") as file:
        file.write(b"nonsense\n")
    reader.read_trace("t1")
    reader.list_traces()
    assert len(reader.damage) == 1


def test_a_file_that_cannot_be_read_is_damage_not_absence(writer, reader):
    spans_file(writer).mkdir(parents=True)
    writer.write_start(span("a"))
    assert [one.span_id for one in reader.read_trace("t1")] == ["a"]
    assert reader.damage[0].line == 0
    assert "unreadable" in reader.damage[0].reason


# --- the list --------------------------------------------------------------------------------------------------------


def test_traces_are_listed_most_recent_first(writer, reader):
    writer.write_span(span("a", start=0, end=10, trace_id="old"))
    writer.write_span(span("b", "c", start=60, end=70, trace_id="new"))
    writer.write_span(span("c", start=50, end=80, trace_id="new", name="root of new"))
    assert reader.list_traces() == [
        TraceSummary("new", 2, T0 + 50 * MS, 30 * MS, "root of new"),
        TraceSummary("old", 1, T0, 10 * MS, "a"),
    ]


def test_a_corrupt_line_never_hides_a_trace(writer, reader):
    writer.write_span(span("a", end=1))
    with open(spans_file(writer), "ab") as file:
        file.write(b"nonsense\n")
    (writer.base_dir / "t2").mkdir()
    (writer.base_dir / "t2" / "spans.jsonl").write_bytes(b"nonsense\n")
    assert [(one.trace_id, one.span_count) for one in reader.list_traces()] == [("t1", 1), ("t2", 0)]


def test_what_is_no_trace_is_not_listed(writer, reader):
    writer.write_span(span("a", end=1))
    (writer.base_dir / "empty").mkdir()
    (writer.base_dir / ".cache").mkdir()
    (writer.base_dir / "file").write_text("")
    assert [one.trace_id for one in reader.list_traces()] == ["t1"]


def test_repeated_and_unfinished_spans_count_once(writer, reader):
    writer.write_start(span("a"))
    writer.write_start(span("b", "a", start=4))
    writer.write_span(span("a", end=9))
    writer.write_span(span("a", end=9))
    (summary,) = reader.list_traces()
    assert summary.span_count == 2
    assert summary.total_duration == 9 * MS


def test_a_trace_without_a_root_has_no_root_name(writer, reader):
    writer.write_span(span("a", "gone", end=1))
    assert reader.list_traces()[0].root_span_name == ""


def test_a_base_that_is_no_folder_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot read the traces"):
        SpanReader(tmp_path / "file").list_traces()


def test_the_wire_form_of_a_summary():
    summary = TraceSummary("t1", 2, T0, 1_999_999, "root")
    assert list(json.loads(summary.to_json()).items()) == [
        ("trace_id", "t1"),
        ("span_count", 2),
        ("start_time_ms", T0 // MS),
        ("total_duration_ms", 1),
        ("root_span_name", "root"),
        ("start_time_ns", T0),
        ("total_duration_ns", 1_999_999),
    ]
    assert summary.start_time is not None
    assert json.loads(TraceSummary("t").to_json())["start_time_ms"] == -62135596800000
