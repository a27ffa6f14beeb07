"""The names of `unspool.trace`."""

from __future__ import annotations

import pytest

import unspool.trace

SEED = """
generate_trace_id generate_span_id SpanStatus Span SpanEvent SpanNode SpanRecorder SpanWriter SpanReader build_span_tree
SpanTree TraceMetadata TraceSummary analyze_trace BlameResult BlameEntry BlameSummary ErrorChain CriticalSegment
format_trace_list format_trace_tree format_blame_result
"""


def test_the_names_of_the_seed_are_there_and_no_others():
    assert set(unspool.trace.__all__) == set(SEED.split())
    for name in unspool.trace.__all__:
        assert getattr(unspool.trace, name).__name__ == name


def test_unknown_names_say_so():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unspool.trace.nothing  # noqa: B018
