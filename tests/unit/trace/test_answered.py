"""Which trace the work of a server belongs to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unspool.trace.answered import by_trace
from unspool.trace.own import hang_below_remote
from unspool.trace.spans import Span

OWN, ONE, TWO = "0" * 31 + "1", "a" * 32, "b" * 32


def span(number: int, above: int | None = None, asked: str = "", trace: str = OWN) -> Span:
    parent = "" if above is None else f"{above:032x}"
    attributes = {"unspool.traceparent": asked} if asked else {}
    return Span(trace, f"{number:032x}", parent, name=str(number), attributes=attributes)


def asked_by(trace: str, number: int) -> str:
    return f"00-{trace}-{number:016x}-01"


def names(spans: list[Span]) -> list[str]:
    return [one.name for one in spans]


def test_a_request_takes_all_below_it_along():
    server = [
        span(1), span(2, 1, asked_by(ONE, 90)), span(3, 2), span(4, 3), span(5, 1),
        span(6, 1, asked_by(TWO, 91)), span(7, 6),
    ]  # fmt: skip
    found = by_trace(server)
    assert {trace: names(spans) for trace, spans in found.items()} == {
        OWN: ["1", "5"], ONE: ["2", "3", "4"], TWO: ["6", "7"],
    }  # fmt: skip
    assert {one.trace_id for one in found[ONE]} == {ONE}
    assert server[1].trace_id == OWN, "the spans that were given stay as they are"
    caller = span(90, trace=ONE)
    joined = [caller, *found[ONE]]
    hang_below_remote(joined)
    assert joined[1].parent_span_id == caller.span_id
    assert joined[2].parent_span_id == server[1].span_id


def test_a_request_inside_a_request_goes_its_own_way():
    server = [span(1), span(2, 1, asked_by(ONE, 90)), span(3, 2, asked_by(TWO, 91)), span(4, 3), span(5, 2)]
    assert {trace: names(spans) for trace, spans in by_trace(server).items()} == {
        OWN: ["1"], ONE: ["2", "5"], TWO: ["3", "4"],
    }  # fmt: skip


def test_what_may_not_go_stays():
    server = [span(1), span(2, 1, asked_by(ONE, 90)), span(3, 2), span(4, 1, asked_by(TWO, 91)), span(5, 4)]
    found = by_trace(server, into={TWO})
    assert {trace: names(spans) for trace, spans in found.items()} == {OWN: ["1", "2", "3"], TWO: ["4", "5"]}
    assert found[OWN][1].parent_span_id == server[0].span_id


def test_requests_of_the_same_trace_stay_where_they_are():
    spans = [span(1), span(2, 1, asked_by(OWN, 1))]
    assert by_trace(spans) == {OWN: spans}


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["", ONE, TWO, "nonsense"])), max_size=12))
def test_no_span_is_lost_whatever_the_parents_are(parts):
    """Also with parents in a circle, or missing."""
    spans = [span(at, above, asked_by(trace, 90) if trace else "") for at, (above, trace) in enumerate(parts)]
    found = [one for part in by_trace(spans).values() for one in part]
    assert sorted(names(found)) == sorted(names(spans))
    for one in spans:
        asked = one.attributes.get("unspool.traceparent", "")
        if ONE in asked or TWO in asked:
            moved = next(other for other in found if other.span_id == one.span_id)
            assert moved.trace_id == (ONE if ONE in asked else TWO)
