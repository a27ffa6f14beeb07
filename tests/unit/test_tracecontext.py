"""W3C trace context, by the examples and rules of its specification."""

from __future__ import annotations

import pytest

from unspool.tracecontext import TraceParent, format_traceparent, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_what_is_written_is_read() -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-01") == TraceParent(TRACE, SPAN, "01")
    text = format_traceparent(TRACE, "f" * 16 + SPAN, "00")
    assert text == f"00-{TRACE}-{SPAN}-00"
    assert parse_traceparent(text) == TraceParent(TRACE, SPAN, "00")


def test_versions_to_come_may_say_more() -> None:
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings") == TraceParent(TRACE, SPAN, "01")


@pytest.mark.parametrize(
    "text",
    [
        None, 3, "", "00", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-01-more", f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01", f"00-{TRACE}-{SPAN[:-1]}١-01", f"0-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01.x",
    ],
)  # fmt: skip
def test_what_is_none_is_ignored(text: object) -> None:
    assert parse_traceparent(text) is None


@pytest.mark.parametrize(("trace_id", "span_id"), [("", SPAN), ("run-1", SPAN), (TRACE, "1"), (TRACE, "0" * 32)])
def test_ids_that_have_no_w3c_form(trace_id: str, span_id: str) -> None:
    assert format_traceparent(trace_id, span_id) is None
