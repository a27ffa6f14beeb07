"""The contract of `unspool.trace`, sentence by sentence."""

from __future__ import annotations

import itertools
import json
import logging
import re
import stat
import threading
from datetime import UTC, datetime

import pytest

from unspool import trace
from unspool.errors import InvalidID
from unspool.trace import (
    BlameEntry,
    BlameResult,
    BlameSummary,
    CriticalSegment,
    ErrorChain,
    Span,
    SpanEvent,
    SpanNode,
    SpanReader,
    SpanRecorder,
    SpanStatus,
    SpanTree,
    SpanWriter,
    TraceMetadata,
    TraceSummary,
    analyze_trace,
    build_span_tree,
    format_blame_result,
    format_trace_list,
    format_trace_tree,
    generate_span_id,
    generate_trace_id,
)

MS = 1_000_000
T0 = 1_700_000_000_000 * MS
UNSET_MS = -62_135_596_800_000


def span(span_id, start, end, parent="", *, status=SpanStatus.OK, tokens=0, pid=1, name=None, **more):
    """A span from `start` to `end` milliseconds, made with the seed's fields only."""
    return Span(
        trace_id="t1",
        span_id=span_id,
        parent_span_id=parent,
        pid=pid,
        name=name or span_id,
        start_time_ns=T0 + start * MS,
        end_time_ns=T0 + end * MS,
        syscall_count=0,
        tokens_used=tokens,
        status=status,
        events=[],
        **more,
    )


def blame(*spans):
    return analyze_trace(build_span_tree(list(spans)))


def path_of(result):
    return [node.span.span_id for node in result.critical_path]


def segments_of(result):
    return [
        (part.span.span_id, (part.start_ns - T0) // MS, (part.end_ns - T0) // MS) for part in result.critical_segments
    ]


def ids(spans):
    return [one.span_id for one in spans]


# --- names and ids ---------------------------------------------------------------------------------------------------


def test_every_name_of_the_contract_is_public():
    names = {
        "generate_trace_id",
        "generate_span_id",
        "SpanStatus",
        "Span",
        "SpanEvent",
        "SpanNode",
        "SpanRecorder",
        "SpanWriter",
        "SpanReader",
        "build_span_tree",
        "SpanTree",
        "TraceMetadata",
        "TraceSummary",
        "analyze_trace",
        "BlameResult",
        "BlameEntry",
        "BlameSummary",
        "ErrorChain",
        "CriticalSegment",
        "format_trace_list",
        "format_trace_tree",
        "format_blame_result",
    }
    assert names <= set(trace.__all__)
    assert all(getattr(trace, name) is not None for name in names)


@pytest.mark.parametrize("generate", [generate_trace_id, generate_span_id])
def test_generated_ids_are_32_lower_case_hex_characters_and_unique(generate):
    made = {generate() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made)


# --- SpanStatus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "word"), [(SpanStatus.OK, "ok"), (SpanStatus.ERROR, "error"), (SpanStatus.TIMEOUT, "timeout")]
)
def test_a_status_is_its_wire_word_and_round_trips(status, word):
    assert status == word
    assert status.value == str(status) == word
    assert json.loads(status.to_json()) == word
    assert SpanStatus.from_json(f'"{word}"') is status
    assert SpanStatus(word) is status


def test_an_unknown_status_word_is_error_with_a_warning_never_ok_d54(caplog):
    with caplog.at_level(logging.WARNING, "unspool"):
        assert SpanStatus.from_json(b'"exploded"') is SpanStatus.ERROR
    assert "exploded" in caplog.text


@pytest.mark.parametrize("data", [b"1", b"null", b"{}", b"nonsense"])
def test_a_status_that_is_no_string_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        SpanStatus.from_json(data)


# --- Span ------------------------------------------------------------------------------------------------------------


def test_a_span_derives_duration_and_times():
    one = span("a", 0, 1500)
    assert one.duration == 1500 * MS
    assert one.start_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert one.start_time.tzinfo is not None
    assert one.end_time > one.start_time


def test_an_unset_time_is_none_and_year_1_on_the_wire():
    one = Span(trace_id="t", span_id="s", parent_span_id="", pid=1, name="n", start_time_ns=0, end_time_ns=0)
    assert one.start_time is None
    assert one.end_time is None
    data = json.loads(one.to_json())
    assert (data["start_time_ms"], data["end_time_ms"]) == (UNSET_MS, UNSET_MS)
    assert data["duration_ms"] == 0


def test_a_spans_line_has_the_seeds_keys_truncated_ms_and_the_exact_ns_beside():
    one = Span("t", "s", "", 3, "n", T0 + 1_999_999, T0 + 5_999_998, 3_999_999, 4, 5, SpanStatus.TIMEOUT)
    data = json.loads(one.to_json())
    assert {
        key: data[key]
        for key in (
            *("trace_id", "span_id", "parent_span_id", "pid", "name", "start_time_ms", "end_time_ms", "duration_ms"),
            *("syscall_count", "tokens_used", "status", "start_time_ns", "end_time_ns", "kind", "attributes"),
        )
    } == {
        "trace_id": "t",
        "span_id": "s",
        "parent_span_id": "",
        "pid": 3,
        "name": "n",
        "start_time_ms": T0 // MS + 1,
        "end_time_ms": T0 // MS + 5,
        "duration_ms": 3,
        "syscall_count": 4,
        "tokens_used": 5,
        "status": "timeout",
        "start_time_ns": T0 + 1_999_999,
        "end_time_ns": T0 + 5_999_998,
        "kind": "agent",
        "attributes": {},
    }
    assert "events" not in data


def test_a_span_with_events_round_trips():
    one = span("a", 0, 5, cost_usd=0.25)
    one.events.append(SpanEvent(T0, "exception", {"x": 1}))
    assert len(json.loads(one.to_json())["events"]) == 1
    assert Span.from_json(one.to_json()) == one


def test_a_line_of_the_reference_is_read_with_its_milliseconds():
    line = {
        "trace_id": "t",
        "span_id": "s",
        "parent_span_id": "",
        "pid": 1,
        "name": "n",
        "start_time_ms": 1_700_000_000_000,
        "end_time_ms": UNSET_MS,
        "duration_ms": 0,
        "syscall_count": 2,
        "tokens_used": 3,
        "status": "ok",
        "future": [1],
    }
    one = Span.from_json(json.dumps(line))
    assert (one.start_time_ns, one.end_time_ns, one.syscall_count, one.tokens_used) == (T0, 0, 2, 3)


@pytest.mark.parametrize("field", ["pid", "duration", "syscall_count", "tokens_used"])
def test_negative_counts_of_a_span_are_value_errors(field):
    with pytest.raises(ValueError, match="negative"):
        Span(trace_id="t", span_id="s", **{field: -1})


def test_unknown_tokens_are_none_and_null():
    assert json.loads(span("a", 0, 1, tokens=None).to_json())["tokens_used"] is None


def test_spans_do_not_share_their_default_events():
    first, second = Span("t", "a"), Span("t", "b")
    first.events.append(SpanEvent(1, "x"))
    assert second.events == []


# --- SpanRecorder ----------------------------------------------------------------------------------------------------


def test_a_recorder_counts_ends_and_gives_copies():
    recorder = SpanRecorder()
    recorder.start_span(1, "t", "s", "", "work")
    recorder.record_syscall(1)
    recorder.record_syscall(1)
    recorder.record_tokens(1, 40)
    recorder.end_span(1, SpanStatus.ERROR)
    one = recorder.get_span(1)
    assert (one.trace_id, one.span_id, one.parent_span_id, one.pid, one.name) == ("t", "s", "", 1, "work")
    assert (one.syscall_count, one.tokens_used, one.status, one.kind) == (2, 40, SpanStatus.ERROR, "agent")
    assert one.end_time_ns >= one.start_time_ns > 0
    assert one.duration == one.end_time_ns - one.start_time_ns
    one.name = "changed"
    assert recorder.get_span(1).name == "work"


def test_start_span_takes_a_kind_as_sixth():
    recorder = SpanRecorder()
    recorder.start_span(pid=1, trace_id="t", span_id="s", parent_span_id="p", name="n", kind="tool")
    assert (recorder.get_span(1).kind, recorder.get_span(1).parent_span_id) == ("tool", "p")


def test_everything_about_an_unknown_pid_is_a_no_op():
    recorder = SpanRecorder()
    recorder.record_syscall(9)
    recorder.record_tokens(9, 5)
    recorder.end_span(9, SpanStatus.OK)
    assert recorder.get_span(9) is None
    assert recorder.get_trace_spans("t") == []


def test_get_span_gives_an_ended_span_until_another_starts_for_that_pid():
    recorder = SpanRecorder()
    recorder.start_span(1, "t", "a", "", "n")
    recorder.end_span(1, SpanStatus.OK)
    assert recorder.get_span(1).span_id == "a"
    recorder.start_span(1, "t", "b", "", "n")
    assert recorder.get_span(1).span_id == "b"


def test_a_span_ends_once_and_counts_nothing_afterwards_d47_d53(tmp_path):
    recorder = SpanRecorder()
    recorder.set_writer(SpanWriter(tmp_path))
    recorder.start_span(1, "t", "a", "", "n")
    recorder.end_span(1, SpanStatus.OK)
    end = recorder.get_span(1).end_time_ns
    recorder.end_span(1, SpanStatus.ERROR)
    recorder.record_syscall(1)
    recorder.record_tokens(1, 5)
    one = recorder.get_span(1)
    assert (one.status, one.end_time_ns, one.syscall_count, one.tokens_used) == (SpanStatus.OK, end, 0, 0)
    assert len((tmp_path / "t" / "spans.jsonl").read_text().splitlines()) == 1


def test_ended_spans_of_a_trace_are_kept_while_one_is_open_then_freed():
    recorder = SpanRecorder()
    recorder.start_span(1, "t", "a", "", "n")
    recorder.start_span(2, "t", "b", "a", "n")
    recorder.start_span(3, "other", "c", "", "n")
    recorder.end_span(2, SpanStatus.OK)
    assert sorted(ids(recorder.get_trace_spans("t"))) == ["a", "b"]
    recorder.end_span(1, SpanStatus.OK)
    assert recorder.get_trace_spans("t") == []


def test_negative_tokens_are_a_value_error():
    recorder = SpanRecorder()
    recorder.start_span(1, "t", "a", "", "n")
    with pytest.raises(ValueError, match="negative"):
        recorder.record_tokens(1, -1)


def test_100_spans_with_10_updates_each_from_many_threads():
    recorder = SpanRecorder()

    def work(pid):
        recorder.start_span(pid, "t", f"s{pid}", "", "n")
        for _ in range(10):
            recorder.record_syscall(pid)
            recorder.record_tokens(pid, 2)

    threads = [threading.Thread(target=work, args=(pid,)) for pid in range(1, 101)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = recorder.get_trace_spans("t")
    assert len(spans) == 100
    assert {(one.syscall_count, one.tokens_used) for one in spans} == {(10, 20)}


def test_a_writer_can_be_cleared_and_a_failing_one_is_only_logged(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    recorder = SpanRecorder()
    recorder.set_writer(SpanWriter(tmp_path / "file"))
    recorder.start_span(1, "t", "a", "", "n")
    recorder.end_span(1, SpanStatus.OK)
    assert caplog.records
    recorder.set_writer(SpanWriter(tmp_path / "base"))
    recorder.set_writer(None)
    recorder.start_span(1, "t", "b", "", "n")
    recorder.end_span(1, SpanStatus.OK)
    assert not (tmp_path / "base").exists()


# --- SpanWriter, SpanReader ------------------------------------------------------------------------------------------


def test_making_a_writer_or_a_reader_touches_nothing(tmp_path):
    SpanWriter(tmp_path / "w")
    reader = SpanReader(tmp_path / "w")
    assert reader.list_traces() == []
    assert reader.read_trace("t") == []
    assert not (tmp_path / "w").exists()


def test_write_span_appends_a_line_with_modes_0600_and_0700(tmp_path):
    writer = SpanWriter(str(tmp_path / "a" / "b"))
    spans = [span("a", 0, 10), span("b", 1, 5, "a")]
    for one in spans:
        writer.write_span(one)
    path = tmp_path / "a" / "b" / "t1" / "spans.jsonl"
    assert len(path.read_text().splitlines()) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert SpanReader(str(tmp_path / "a" / "b")).read_trace("t1") == spans


@pytest.mark.parametrize("trace_id", ["", "..", "../x", "a/b", ".hidden", "a..b"])
def test_a_trace_id_that_could_leave_the_folder_is_invalid_d15(tmp_path, trace_id):
    with pytest.raises(InvalidID):
        SpanReader(tmp_path).read_trace(trace_id)
    with pytest.raises(InvalidID):
        SpanWriter(tmp_path).write_span(Span(trace_id=trace_id, span_id="s"))


def test_starts_are_in_open_jsonl_and_unfinished_spans_read_as_open(tmp_path):
    recorder = SpanRecorder()
    recorder.set_writer(SpanWriter(tmp_path))
    recorder.start_span(1, "t", "a", "", "root")
    recorder.start_span(2, "t", "b", "a", "child")
    recorder.end_span(2, SpanStatus.OK)
    assert len((tmp_path / "t" / "open.jsonl").read_text().splitlines()) == 2
    assert len((tmp_path / "t" / "spans.jsonl").read_text().splitlines()) == 1
    found = {one.span_id: one.status for one in SpanReader(tmp_path).read_trace("t")}
    assert found == {"a": "open", "b": "ok"}


def test_a_bad_line_costs_that_line_only_and_is_damage_d46(tmp_path, caplog):
    writer = SpanWriter(tmp_path)
    writer.write_span(span("a", 0, 10))
    path = tmp_path / "t1" / "spans.jsonl"
    with path.open("a") as file:
        file.write("{bad\n\n\n")
    writer.write_span(span("b", 0, 10, "a", name="x" * 200_000))
    reader = SpanReader(tmp_path)
    assert ids(reader.read_trace("t1")) == ["a", "b"]
    assert [(one.line, one.file) for one in reader.damage] == [(2, "t1/spans.jsonl")]
    assert caplog.records
    assert [one.trace_id for one in reader.list_traces()] == ["t1"]


def test_list_traces_gives_summaries_most_recent_first(tmp_path):
    writer = SpanWriter(tmp_path)
    for name, offset in (("old", 0), ("new", 1000), ("mid", 500)):
        for one in (span("b", offset + 10, offset + 300, "a"), span("a", offset, offset + 200, name=f"root-{name}")):
            one.trace_id = name
            writer.write_span(one)
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain").write_text("x")
    summaries = SpanReader(tmp_path).list_traces()
    assert [one.trace_id for one in summaries] == ["new", "mid", "old"]
    last = summaries[-1]
    assert (last.span_count, last.total_duration, last.root_span_name) == (2, 300 * MS, "root-old")
    assert last.start_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_the_root_of_a_summary_is_the_first_one_in_file_order(tmp_path):
    writer = SpanWriter(tmp_path)
    for one in (span("late", 100, 200), span("early", 0, 300)):
        writer.write_span(one)
    assert SpanReader(tmp_path).list_traces()[0].root_span_name == "late"


def test_a_trace_without_a_root_has_an_empty_root_name(tmp_path):
    SpanWriter(tmp_path).write_span(span("b", 0, 1, "gone"))
    assert SpanReader(tmp_path).list_traces()[0].root_span_name == ""


def test_trace_summary_json_has_the_seeds_keys():
    summary = TraceSummary("t", 2, T0 + 1_999_999, 2_999_999, "root")
    data = json.loads(summary.to_json())
    assert list(data)[:5] == ["trace_id", "span_count", "start_time_ms", "total_duration_ms", "root_span_name"]
    assert list(data.values())[:5] == ["t", 2, T0 // MS + 1, 2, "root"]


# --- build_span_tree -------------------------------------------------------------------------------------------------


def test_no_spans_give_no_tree():
    assert build_span_tree([]) is None
    assert build_span_tree(None) is None


def test_a_tree_has_its_root_and_children_by_start_time():
    tree = build_span_tree([span("c", 20, 30, "a"), span("b", 10, 15, "a"), span("d", 11, 12, "b"), span("a", 0, 100)])
    assert isinstance(tree, SpanTree)
    assert isinstance(tree.root, SpanNode)
    assert tree.root.span.span_id == "a"
    assert [child.span.span_id for child in tree.root.children] == ["b", "c"]
    assert tree.trace_id == "t1"
    assert tree.notes == []
    assert [(node.span.span_id, depth) for node, depth in tree.walk()] == [("a", 0), ("b", 1), ("d", 2), ("c", 1)]


def test_metadata_is_over_all_spans():
    tree = build_span_tree(
        [
            span("a", 0, 100, tokens=5),
            span("b", 10, 150, "a", status=SpanStatus.ERROR, tokens=7),
            span("c", 10, 20, "a", status=SpanStatus.TIMEOUT),
        ]
    )
    metadata = tree.metadata
    assert isinstance(metadata, TraceMetadata)
    assert (metadata.total_spans, metadata.total_tokens, metadata.error_count) == (3, 12, 2)
    assert metadata.total_duration == 150 * MS
    assert (metadata.start_time_ns, metadata.end_time_ns) == (T0, T0 + 150 * MS)
    assert metadata.start_time.tzinfo is UTC


@pytest.mark.parametrize(
    "spans",
    [
        [span("a", 0, 10, tokens=1), span("b", 20, 50, tokens=2)],
        [span("a", 0, 10, tokens=1), span("b", 20, 50, "gone", tokens=2)],
        [span("a", 0, 10, "b", tokens=1), span("b", 20, 50, "a", tokens=2)],
        [span("a", 0, 10, "a", tokens=1), span("b", 20, 50, "a", tokens=2)],
    ],
    ids=["two roots", "missing parent", "circle", "own parent"],
)
def test_what_does_not_fit_gives_a_synthetic_root_and_a_note_never_a_loss(spans):
    tree = build_span_tree(spans)
    root = tree.root.span
    assert (root.name, root.pid, root.synthetic) == ("(trace)", 0, True)
    assert (root.start_time_ns, root.end_time_ns) == (T0, T0 + 50 * MS)
    assert sorted(node.span.span_id for node, _ in tree.walk() if not node.span.synthetic) == ["a", "b"]
    assert tree.notes
    assert (tree.metadata.total_spans, tree.metadata.total_tokens) == (2, 3)
    assert analyze_trace(tree).summary.total_spans == 2


def test_only_an_orphan_hangs_under_a_synthetic_root():
    tree = build_span_tree([span("b", 0, 1, "gone")])
    assert tree.root.span.synthetic
    assert [child.span.span_id for child in tree.root.children] == ["b"]


def test_a_repeated_id_is_kept_once_d47():
    tree = build_span_tree([span("a", 0, 1), span("a", 0, 1), span("b", 0, 1, "a")])
    assert [node.span.span_id for node, _ in tree.walk()] == ["a", "b"]
    assert tree.notes


def test_a_deep_chain_does_not_recurse():
    spans = [span("s0", 0, 10)] + [span(f"s{i}", 0, 10, f"s{i - 1}") for i in range(1, 5000)]
    tree = build_span_tree(spans)
    assert sum(1 for _ in tree.walk()) == 5000
    assert analyze_trace(tree).critical_duration == 10 * MS
    assert format_trace_tree(tree)
    assert format_blame_result(analyze_trace(tree))


def test_tree_json_has_the_seeds_keys_and_omits_empty_parent_and_children():
    tree = build_span_tree([span("a", 0, 100, tokens=5), span("b", 10, 20, "a", status=SpanStatus.ERROR)])
    data = json.loads(tree.to_json())
    assert data["trace_id"] == "t1"
    root = data["root"]
    assert "parent_span_id" not in root
    assert root["children"][0]["parent_span_id"] == "a"
    assert "children" not in root["children"][0]
    assert {
        *("trace_id", "span_id", "pid", "name", "start_time_ms", "end_time_ms", "duration_ms"),
        *("syscall_count", "tokens_used", "status"),
    } <= root.keys()
    assert (root["duration_ms"], root["status"], root["children"][0]["status"]) == (100, "ok", "error")
    metadata = data["metadata"]
    assert (metadata["total_spans"], metadata["total_tokens"], metadata["total_duration_ms"]) == (2, 5, 100)
    assert (metadata["start_time_ms"], metadata["end_time_ms"]) == (T0 // MS, T0 // MS + 100)
    assert metadata["error_count"] == 1


# --- the critical path -----------------------------------------------------------------------------------------------


def test_no_tree_gives_no_analysis():
    assert analyze_trace(None) is None
    assert analyze_trace(SpanTree(root=None)) is None


def test_a_single_span_is_the_path():
    result = blame(span("a", 0, 100))
    assert isinstance(result, BlameResult)
    assert path_of(result) == ["a"]
    assert segments_of(result) == [("a", 0, 100)]
    assert result.critical_duration == 100 * MS
    assert result.summary == BlameSummary(1, 0, 100 * MS, 0, 100.0)


@pytest.mark.parametrize(
    ("children", "segments"),
    [
        # three stages one after another are all on the path
        (
            [("x", 10, 30), ("y", 40, 60), ("z", 60, 90)],
            [("a", 0, 10), ("x", 10, 30), ("a", 30, 40), ("y", 40, 60), ("z", 60, 90), ("a", 90, 100)],
        ),
        # of two that overlap only the one that finished last
        ([("x", 0, 60), ("y", 30, 90)], [("a", 0, 30), ("y", 30, 90), ("a", 90, 100)]),
        # one that ended exactly when the next began joins; one that ended later does not
        ([("x", 0, 50), ("y", 50, 100)], [("x", 0, 50), ("y", 50, 100)]),
        ([("x", 0, 51), ("y", 50, 100)], [("a", 0, 50), ("y", 50, 100)]),
        # the shorter of two parallel ones is not on the path
        ([("x", 10, 80), ("y", 20, 40)], [("a", 0, 10), ("x", 10, 80), ("a", 80, 100)]),
        # a child that outlives its parent is cut at its end
        ([("x", 40, 400)], [("a", 0, 40), ("x", 40, 100)]),
        # a child that began before its parent is cut at its start
        ([("x", -40, 30)], [("x", 0, 30), ("a", 30, 100)]),
        # an earlier one behind an overlapping one joins
        ([("w", 0, 20), ("x", 10, 60), ("y", 30, 90)], [("w", 0, 20), ("a", 20, 30), ("y", 30, 90), ("a", 90, 100)]),
    ],
)
def test_critical_segments_cut_the_roots_interval(children, segments):
    result = blame(span("a", 0, 100), *(span(name, start, end, "a") for name, start, end in children))
    assert segments_of(result) == segments
    assert result.critical_duration == 100 * MS
    assert path_of(result)[0] == "a"
    assert path_of(result) == list(dict.fromkeys(["a", *(name for name, _, _ in segments)]))


def test_nested_spans_go_down_to_the_one_that_worked():
    result = blame(span("a", 0, 100), span("b", 10, 90, "a"), span("c", 20, 80, "b"))
    assert segments_of(result) == [("a", 0, 10), ("b", 10, 20), ("c", 20, 80), ("b", 80, 90), ("a", 90, 100)]
    assert path_of(result) == ["a", "b", "c"]
    assert result.summary.critical_path_pct == 100.0


def test_critical_path_never_exceeds_100_percent_d59():
    spans = [span("a", 0, 100), *(span(f"c{i}", i, 100, "a") for i in range(10)), span("late", 50, 300, "a")]
    result = blame(*spans)
    assert result.summary.total_duration == 300 * MS
    assert result.critical_duration == 100 * MS
    assert result.summary.critical_path_pct == pytest.approx(100 / 3)


def test_a_zero_duration_trace_has_its_root_on_the_path_d64():
    result = blame(span("a", 0, 0))
    assert path_of(result) == ["a"]
    assert (result.critical_duration, result.summary.critical_path_pct) == (0, 0.0)
    assert result.duration_hotspots == []


def test_segments_are_gapless_and_proven_only_with_data():
    result = blame(span("a", 0, 100), span("x", 0, 40, "a"), span("y", 50, 70, "a"))
    parts = result.critical_segments
    assert all(isinstance(part, CriticalSegment) for part in parts)
    assert all(before.end_ns == after.start_ns for before, after in itertools.pairwise(parts))
    assert not any(part.proven for part in parts)


def test_spans_with_instants_from_zero_work():
    spans = [
        Span(trace_id="t", span_id="a", parent_span_id="", pid=1, name="a", start_time_ns=0, end_time_ns=100),
        Span(trace_id="t", span_id="b", parent_span_id="a", pid=2, name="b", start_time_ns=0, end_time_ns=40),
    ]
    result = blame(*spans)
    assert result.critical_duration == 100
    assert [(part.span.span_id, part.start_ns, part.end_ns) for part in result.critical_segments] == [
        ("b", 0, 40),
        ("a", 40, 100),
    ]


# --- hotspots --------------------------------------------------------------------------------------------------------


def test_duration_hotspots_rank_self_time_with_overlaps_once_d62():
    result = blame(span("a", 0, 100), span("b", 10, 50, "a"), span("c", 30, 90, "a"))
    assert [(entry.span.span_id, entry.self_time // MS) for entry in result.duration_hotspots] == [
        ("c", 60),
        ("b", 40),
        ("a", 20),
    ]
    assert [entry.rank for entry in result.duration_hotspots] == [1, 2, 3]
    assert [entry.percentage for entry in result.duration_hotspots] == [60.0, 40.0, 20.0]


def test_hotspot_lists_hold_three_and_none_of_value_0_d66():
    spans = [span("a", 0, 100), *(span(f"c{i}", 10, 20 + i, "a", tokens=i) for i in range(5))]
    result = blame(*spans)
    assert [entry.span.tokens_used for entry in result.token_hotspots] == [4, 3, 2]
    assert len(result.duration_hotspots) == 3
    only = blame(span("a", 0, 100), span("b", 0, 100, "a", tokens=8))
    assert [(entry.span.span_id, entry.percentage) for entry in only.token_hotspots] == [("b", 100.0)]
    assert [entry.span.span_id for entry in only.duration_hotspots] == ["b"]
    assert isinstance(only.token_hotspots[0], BlameEntry)


def test_hotspot_ties_are_ordered_by_start_time_then_span_id_d63():
    spans = [span("z", 0, 10, "r"), span("b", 20, 30, "r"), span("a", 20, 30, "r"), span("r", 0, 30)]
    for one in spans:
        one.tokens_used = 5
    for order in (spans, spans[::-1]):
        result = blame(*order)
        assert [entry.span.span_id for entry in result.token_hotspots] == ["r", "z", "a"]


def test_cost_hotspots_are_empty_without_prices_and_ranked_with_them():
    assert blame(span("a", 0, 1)).cost_hotspots == []
    result = blame(span("a", 0, 10, cost_usd=0.25), span("b", 0, 5, "a", cost_usd=0.75), span("c", 0, 5, "a"))
    assert [(entry.span.span_id, entry.percentage) for entry in result.cost_hotspots] == [("b", 75.0), ("a", 25.0)]


# --- error chains ----------------------------------------------------------------------------------------------------

ERR = SpanStatus.ERROR


def test_no_errors_no_chains():
    result = blame(span("a", 0, 1))
    assert result.error_chains == []
    assert result.handled_errors == []


def test_the_root_cause_is_the_origin_not_the_top_d60():
    result = blame(span("a", 0, 100, status=ERR), span("b", 0, 90, "a", status=ERR), span("c", 0, 80, "b", status=ERR))
    (chain,) = result.error_chains
    assert isinstance(chain, ErrorChain)
    assert ids(chain.path) == ["c", "b", "a"]
    assert chain.root_cause is chain.path[0]
    assert chain.root_cause.span_id == "c"
    assert result.summary.error_spans == 3


def test_an_error_travels_only_through_failing_parents_d61():
    result = blame(span("a", 0, 100, status=ERR), span("b", 0, 90, "a"), span("c", 0, 80, "b", status=ERR))
    assert [ids(chain.path) for chain in result.error_chains] == [["a"]]
    assert [ids(chain.path) for chain in result.handled_errors] == [["c"]]


def test_a_chain_that_ends_under_a_parent_that_succeeded_is_handled():
    result = blame(
        span("a", 0, 100), span("b", 0, 90, "a", status=ERR), span("c", 0, 80, "b", status=SpanStatus.TIMEOUT)
    )
    assert result.error_chains == []
    assert [ids(chain.path) for chain in result.handled_errors] == [["c", "b"]]


def test_each_origin_has_its_own_chain():
    result = blame(span("a", 0, 100, status=ERR), span("b", 0, 90, "a", status=ERR), span("c", 0, 40, "a", status=ERR))
    assert [ids(chain.path) for chain in result.error_chains] == [["c", "a"], ["b", "a"]]


def test_a_failing_span_under_a_synthetic_root_is_not_handled():
    result = blame(span("a", 0, 10, status=ERR), span("b", 20, 30))
    assert [ids(chain.path) for chain in result.error_chains] == [["a"]]


# --- blame on the wire -----------------------------------------------------------------------------------------------


def test_blame_json_has_the_seeds_keys_and_units():
    result = blame(span("a", 0, 100, status=ERR, tokens=1), span("b", 10, 30, "a", status=ERR, tokens=3, pid=2))
    data = json.loads(result.to_json())
    assert data["trace_id"] == "t1"
    assert data["critical_duration_ms"] == 100
    seed = {"trace_id", "span_id", "pid", "name", "duration_ms", "tokens_used", "status"}
    assert [(one["span_id"], one["critical_ms"]) for one in data["critical_path"]] == [("a", 80), ("b", 20)]
    assert seed <= data["critical_path"][0].keys()
    hotspot = data["duration_hotspots"][0]
    assert seed | {"percentage", "rank"} <= hotspot.keys()
    assert (hotspot["span_id"], hotspot["percentage"], hotspot["rank"], hotspot["duration_ms"]) == ("a", 80.0, 1, 100)
    assert [one["span_id"] for one in data["token_hotspots"]] == ["b", "a"]
    (chain,) = data["error_chains"]
    assert [one["span_id"] for one in chain["path"]] == ["b", "a"]
    assert chain["root_cause"]["span_id"] == "b"
    assert {"total_spans", "error_spans", "total_duration_ms", "total_tokens", "critical_path_pct"} <= data[
        "summary"
    ].keys()
    assert (data["summary"]["total_duration_ms"], data["summary"]["critical_path_pct"]) == (100, 100.0)


def test_blame_lists_on_the_wire_are_never_null():
    data = json.loads(blame(span("a", 0, 0)).to_json())
    for key in ("duration_hotspots", "token_hotspots", "cost_hotspots", "error_chains", "handled_errors"):
        assert data[key] == []


# --- texts -----------------------------------------------------------------------------------------------------------


def test_format_trace_list_of_nothing():
    assert format_trace_list([]) == "No traces found."
    assert format_trace_list(None) == "No traces found."


def test_format_trace_list_has_header_rule_of_70_and_ids_cut_to_32():
    lines = format_trace_list([TraceSummary("f" * 40, 3, T0, 1_500 * MS, "root"), TraceSummary("g", 12)]).split("\n")
    assert lines[0].startswith(f"{'TRACE ID':<34}SPANS")
    assert lines[0].endswith("ROOT")
    assert lines[1] == "─" * 70
    assert lines[2].startswith("f" * 32 + "  " + "    3")
    assert "1.50s" in lines[2]
    assert lines[2].endswith("root")
    assert len(lines) == 4


def test_format_trace_tree_of_nothing():
    assert format_trace_tree(None) == "No spans found for this trace."
    assert format_trace_tree(SpanTree(root=None)) == "No spans found for this trace."


def test_format_trace_tree_to_the_character():
    tree = build_span_tree(
        [
            span("a", 0, 1500, name="root", tokens=10),
            span("b", 0, 500, "a", name="plan", pid=2, tokens=3),
            span("c", 100, 200, "b", name="deep", pid=3, status=ERR),
            span("d", 600, 700, "a", name="act", pid=4, tokens=None),
            span("e", 610, 620, "d", name="tool", pid=5),
        ]
    )

    def row(prefix, label, duration, tokens, status):
        return f"{prefix}{label:<35}  {duration:>8}  {tokens:>7}  {status}"

    assert format_trace_tree(tree).split("\n") == [
        "Trace: t1  |  5 spans  |  1.50s  |  13 tokens",
        "",
        row("┌─ ", "root (PID 1)", "1.50s", "10 tok", "ok"),
        row("├─ ", "plan (PID 2)", "500ms", "3 tok", "ok"),
        row("│  └─ ", "deep (PID 3)", "100ms", "0 tok", "error"),
        row("└─ ", "act (PID 4)", "100ms", "? tok", "ok"),
        row("   └─ ", "tool (PID 5)", "10ms", "0 tok", "ok"),
    ]


def test_format_trace_tree_verbose_adds_ids_syscalls_and_start():
    tree = build_span_tree([span("a", 0, 5), span("b", 0, 5, "a")])
    text = format_trace_tree(tree, verbose=True)
    assert "SpanID: a  Parent: -  Syscalls: 0  Start: 2023-11-14T22:13:20Z" in text
    assert "SpanID: b  Parent: a  Syscalls: 0" in text
    assert "SpanID" not in format_trace_tree(tree)


def test_format_blame_result_of_nothing():
    assert format_blame_result(None) == "No blame data available."


def test_format_blame_result_has_its_parts():
    result = blame(span("a", 0, 2000, status=ERR, tokens=1), span("b", 0, 500, "a", status=ERR, tokens=3, pid=2))
    text = format_blame_result(result)
    lines = text.split("\n")
    assert lines[0] == "Blame: t1  |  2 spans  |  2 errors"
    assert any(line.startswith("Critical Path (100.0% of total)") for line in lines)
    assert "→ a (PID 1)" in text
    assert "Total: 2.00s / 2.00s" in text
    assert "Duration Hotspots" in text
    assert "Token Hotspots" in text
    assert re.search(r"#1 +b \(PID 2\) +3 tok +75\.0%", text)
    chain = lines[lines.index("Error Chains:") + 1 :]
    assert chain[0].strip() == "Chain 1:"
    assert chain[1].strip().startswith("✗ b (PID 2)")
    assert re.search(r"error +\[ROOT CAUSE\]", chain[1])
    assert chain[2].strip().startswith("✗ a (PID 1)")
    assert "[ROOT CAUSE]" not in chain[2]


def test_format_blame_result_of_a_result_made_by_hand():
    root, leaf = span("a", 0, 1000), span("b", 0, 500, "a", status=ERR)
    text = format_blame_result(
        BlameResult(
            trace_id="t1",
            critical_path=[SpanNode(root), SpanNode(leaf)],
            critical_duration=1000 * MS,
            duration_hotspots=[BlameEntry(span=root, percentage=66.666, rank=1)],
            error_chains=[ErrorChain(path=[leaf, root], root_cause=leaf)],
            summary=BlameSummary(2, 1, 1000 * MS, 0, 100.0),
        )
    )
    assert re.search(r"→ a \(PID 1\) +1\.00s", text)
    assert re.search(r"#1 +a \(PID 1\) +1\.00s +66\.7%", text)
    assert "✗ b (PID 1)" in text
    assert "↑ a (PID 1)" in text


def test_format_blame_result_has_no_errors_in_the_head_and_no_chains_without_any():
    text = format_blame_result(blame(span("a", 0, 5)))
    assert text.startswith("Blame: t1  |  1 spans\n")
    assert "Error Chains" not in text


def test_every_formatter_takes_color_and_is_plain_without():
    tree = build_span_tree([span("a", 0, 10, status=ERR)])
    shown = {
        format_trace_list: [TraceSummary("t")],
        format_trace_tree: tree,
        format_blame_result: analyze_trace(tree),
    }
    for function, data in shown.items():
        assert "\x1b" not in function(data)
        assert "\x1b[" in function(data, color=True)
