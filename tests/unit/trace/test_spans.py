"""A span and its line."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

import pytest
from trace_fakes import MS, T0, span

from unspool.trace import Span, SpanEvent, SpanStatus, generate_span_id, generate_trace_id

REFERENCE_LINE = (
    b'{"trace_id":"t1","span_id":"s1","parent_span_id":"","pid":7,"name":"do it","start_time_ms":1000,'
    b'"end_time_ms":1012,"duration_ms":11,"syscall_count":3,"tokens_used":40,"status":"timeout",'
    b'"events":[{"TimestampMs":1001,"Name":"retry","Attrs":{"n":1}}]}'
)


@pytest.mark.parametrize("generate", [generate_trace_id, generate_span_id])
def test_ids_are_32_lower_case_hex_characters_and_differ(generate):
    ids = {generate() for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["ok", "error", "timeout", "open"])
def test_a_status_is_its_lower_case_word(word):
    status = SpanStatus(word)
    assert status is SpanStatus[word.upper()]
    assert str(status) == word
    assert status.to_json() == f'"{word}"'.encode()
    assert SpanStatus.from_json(status.to_json()) is status


def test_an_unknown_status_is_an_error_with_a_warning_never_ok(caplog):
    with caplog.at_level(logging.WARNING, "unspool"):
        assert SpanStatus.from_json('"splendid"') is SpanStatus.ERROR
        line = span("a", end=1).to_json().replace(b'"ok"', b'"splendid"')
        assert Span.from_json(line).status is SpanStatus.ERROR
    assert len(caplog.records) == 2
    assert "splendid" in caplog.text


@pytest.mark.parametrize("text", ["3", "null", "[]", "ok", ""])
def test_a_status_that_is_no_string_is_an_error(text):
    with pytest.raises(ValueError, match=r"."):
        SpanStatus.from_json(text)


def test_a_line_without_a_status_is_not_ok(caplog):
    raw = json.loads(span("a", end=1).to_json())
    del raw["status"]
    assert Span.from_json(json.dumps(raw)).status is SpanStatus.ERROR


# --- fields ----------------------------------------------------------------------------------------------------------


def test_duration_is_derived_from_the_instants():
    assert span("a", start=5, end=17).duration == 12 * MS


def test_a_span_without_an_end_has_no_duration_and_no_end_time():
    one = span("a", start=5)
    assert one.duration == 0
    assert one.end_time is None
    assert one.start_time == datetime.fromtimestamp(1_750_000_000, UTC).replace(microsecond=5000)


def test_times_are_aware_utc_to_the_microsecond():
    one = Span("t", "s", start_time_ns=T0 + 1_234_567)
    assert one.start_time is not None
    assert one.start_time.tzinfo is UTC
    assert one.start_time.microsecond == 1234


def test_an_instant_beyond_datetimes_is_none():
    assert Span("t", "s", start_time_ns=10**23).start_time is None


@pytest.mark.parametrize("field", ["pid", "duration", "syscall_count", "tokens_used"])
def test_negative_counts_are_value_errors(field):
    with pytest.raises(ValueError, match=field):
        Span("t", "s", **{field: -1})


def test_a_copy_shares_no_lists():
    one = span("a", end=1, attributes={"k": 1}, events=[SpanEvent(T0, "e")])
    twin = one.copy()
    twin.events.append(SpanEvent(T0, "f"))
    twin.attributes["k"] = 2
    assert len(one.events) == 1
    assert one.attributes == {"k": 1}


# --- the line --------------------------------------------------------------------------------------------------------


def test_the_line_has_the_seeds_keys_and_exact_nanoseconds_beside_them():
    one = Span("t", "s", "p", 3, "n", T0 + 1_999_999, T0 + 5_500_000, syscall_count=2, tokens_used=9)
    raw = json.loads(one.to_json())
    assert list(raw)[:11] == [
        *("trace_id", "span_id", "parent_span_id", "pid", "name", "start_time_ms", "end_time_ms", "duration_ms"),
        *("syscall_count", "tokens_used", "status"),
    ]
    assert raw["start_time_ms"] == T0 // MS + 1
    assert raw["end_time_ms"] == T0 // MS + 5
    assert raw["duration_ms"] == 3
    assert (raw["start_time_ns"], raw["end_time_ns"], raw["duration_ns"]) == (T0 + 1_999_999, T0 + 5_500_000, 3_500_001)
    assert raw["status"] == "ok"
    assert raw["kind"] == "agent"
    assert raw["attributes"] == {}
    assert raw["cost_usd"] is None


def test_events_are_left_out_when_there_are_none_and_the_parent_never():
    raw = json.loads(span("a", end=1).to_json())
    assert "events" not in raw
    assert raw["parent_span_id"] == ""


def test_an_unset_time_is_the_year_one_on_the_wire():
    raw = json.loads(Span("t", "s").to_json())
    assert raw["start_time_ms"] == raw["end_time_ms"] == -62135596800000
    assert Span.from_json(json.dumps(raw)) == Span("t", "s")


def test_a_line_reads_back_exactly():
    one = span(
        *("a", "p"),
        end=3.25,
        events=[SpanEvent(T0 + 1, "exception", {"exception.message": "no"})],
        kind="tool",
        attributes={"n": 1, "deep": {"list": [1, None, "x"]}},
        cost_usd=0.25,
        tokens_used=None,
        status=SpanStatus.TIMEOUT,
    )
    assert Span.from_json(one.to_json()) == one
    assert Span.from_json(one.to_json().decode()) == one


def test_values_json_cannot_hold_come_back():
    one = span("a", name="half \ud83d", end=1, attributes={"nan": float("inf"), "raw": b"\x00\xff", "$float": "kept"})
    assert Span.from_json(one.to_json()) == one


def test_a_line_of_the_reference_is_read():
    one = Span.from_json(REFERENCE_LINE)
    assert (one.start_time_ns, one.end_time_ns) == (1000 * MS, 1012 * MS)
    # Truncated milliseconds disagree by one; the parts of a critical path must sum to this.
    assert one.duration == 12 * MS
    assert one.status is SpanStatus.TIMEOUT
    assert one.kind == "agent"
    assert one.events == [SpanEvent(1001 * MS, "retry", {"n": 1})]


@pytest.mark.parametrize("value", [-62135596800000, None])
def test_unset_times_of_the_reference_are_unset(value):
    raw = json.loads(REFERENCE_LINE)
    raw["end_time_ms"] = value
    one = Span.from_json(json.dumps(raw))
    assert one.end_time_ns == 0
    assert one.duration == 11 * MS


def test_keys_of_later_versions_are_ignored():
    raw = json.loads(span("a", end=1).to_json())
    raw["links"] = [{"trace_id": "x"}]
    assert Span.from_json(json.dumps(raw)) == span("a", end=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"span_id": None}, "span_id is missing or null"),
        ({"trace_id": 5}, "trace_id is a number"),
        ({"pid": "7"}, "pid is a string"),
        ({"pid": True}, "pid is a boolean"),
        ({"tokens_used": -1}, "tokens_used must not be negative"),
        ({"status": 3}, "status is a number"),
        ({"events": {}}, "events is an object"),
        ({"events": [1]}, "an event is a number"),
        ({"attributes": []}, "attributes is a list"),
        ({"cost_usd": "1"}, "cost_usd is a string"),
    ],
)
def test_what_is_no_span_is_said(change, reason):
    raw = json.loads(span("a", end=1).to_json()) | change
    with pytest.raises(ValueError, match=reason):
        Span.from_json(json.dumps(raw))


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"null", b'{"trace_id":"t"', b"[" * 100_000])
def test_what_is_no_json_object_is_a_value_error(line):
    with pytest.raises(ValueError, match=r"."):
        Span.from_json(line)


def test_whole_floats_are_numbers():
    raw = json.loads(REFERENCE_LINE) | {"pid": 7.0}
    assert Span.from_json(json.dumps(raw)).pid == 7
