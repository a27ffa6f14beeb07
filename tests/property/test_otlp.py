"""OTLP into the store and out again: nothing is lost, in either encoding, whatever the spans hold."""

from __future__ import annotations

import tempfile
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.interop.conventions import meaning_of
from unspool.interop.ingest import SpanSink
from unspool.interop.otlp import Carried, Link, OtlpEvent, OtlpSpan, Received, from_otlp, to_otlp
from unspool.interop.otlp_json import read_json, write_json
from unspool.interop.otlp_proto import read_proto, write_proto
from unspool.interop.outgoing import otlp_groups
from unspool.store import Store
from unspool.trace import names
from unspool.trace.storage import SpanReader

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
int64 = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)
scalars = texts | st.booleans() | int64 | floats | st.binary(max_size=20) | st.none()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.just("$float"), inner, max_size=3),
    max_leaves=8,
)
# Attributes nobody knows, and those that mean something to unspool, with values they should and should not have.
known_names = st.sampled_from(
    [
        *("gen_ai.operation.name", "gen_ai.system", "gen_ai.provider.name", "gen_ai.request.model", "llm.model_name"),
        *("gen_ai.usage.input_tokens", "gen_ai.usage.cache_read_input_tokens", "llm.token_count.prompt"),
        *("llm.token_count.completion", "openinference.span.kind", "traceloop.span.kind", "tool.name", "input.value"),
        *("mcp.method.name", "llm.cost.total", "error.type", "error.message", "unspool.otlp", "unspool.kind"),
    ]
)
words = st.sampled_from(
    ["chat", "execute_tool", "invoke_agent", "LLM", "TOOL", "tool", "tools/call", "llm", "100", "x"]
)
attributes = st.dictionaries(texts, values, max_size=4).flatmap(
    lambda free: st.dictionaries(known_names, words | st.integers(0, 1000) | values, max_size=6).map(
        lambda known: {**free, **known}
    )
)
uint32 = st.integers(0, 2**32 - 1)
instants = st.integers(0, 2**63 - 1)
trace_ids = st.sampled_from(["0" * 31 + "1", "f" * 32, "0123456789abcdef" * 2])
span_ids = st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}")

spans = st.builds(
    OtlpSpan,
    trace_id=trace_ids,
    span_id=span_ids,
    parent_span_id=st.just("") | span_ids,
    trace_state=texts,
    flags=uint32,
    name=texts,
    kind=st.integers(0, 7),
    start_ns=instants,
    end_ns=instants,
    attributes=attributes,
    dropped_attributes=uint32,
    events=st.lists(st.builds(OtlpEvent, instants, texts, attributes, uint32), max_size=3),
    dropped_events=uint32,
    links=st.lists(st.builds(Link, trace_ids, span_ids, texts, attributes, uint32, uint32), max_size=2),
    dropped_links=uint32,
    status_code=st.integers(0, 2),
    status_message=texts,
)
carriers = st.builds(Carried, attributes, uint32, texts, texts, texts, attributes, uint32, texts)
messages = st.lists(
    st.tuples(carriers, st.lists(spans, max_size=4, unique_by=lambda span: span.span_id)), min_size=1, max_size=3
)


def canonical(groups):
    """Spans by id with what they came with; types count, so that 1, 1.0 and True differ."""
    found = defaultdict(list)
    for carried, group in groups:
        for span in group:
            found[span.trace_id, span.span_id].append((typed(carried), typed(span)))
    return {key: sorted(items, key=repr) for key, items in found.items()}


def typed(value):
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if hasattr(value, "__struct_fields__"):
        return {name: typed(getattr(value, name)) for name in value.__struct_fields__}
    return type(value).__name__, repr(value)


ENCODINGS = [(write_json, read_json), (write_proto, read_proto)]


@pytest.mark.parametrize(("write", "read"), ENCODINGS)
@settings(max_examples=40, deadline=None)
@given(groups=messages)
def test_encodings_give_back_what_was_written(write, read, groups):
    received = read(write(groups))
    assert received.problems == []
    assert canonical(received.groups) == canonical(groups)


@pytest.mark.parametrize(("write", "read"), ENCODINGS)
@settings(max_examples=40, deadline=None)
@given(groups=messages)
def test_nothing_is_lost_on_the_way_through_the_store(write, read, groups):
    sent = write(groups)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        taken = SpanSink(store).take(read(sent))
        assert taken.problems == []
        reader = SpanReader(store.traces)
        kept = [span for trace_id in taken.traces for span in reader.read_trace(trace_id)]
        assert reader.damage == []
        out = read(write(otlp_groups(kept, store)))
    # A span without an end is kept once for each id; ids here are unique in a group and may repeat across groups.
    open_ids = {(s.trace_id, s.span_id) for _, group in groups for s in group if not s.end_ns}
    wanted, found = canonical(groups), canonical(out.groups)
    assert found.keys() == wanted.keys()
    for key, items in wanted.items():
        if key in open_ids and len(items) > 1:
            assert all(item in items for item in found[key])
        else:
            assert found[key] == items


@settings(max_examples=100, deadline=None)
@given(span=spans)
def test_a_span_keeps_what_it_was(span):
    before = typed(span)
    assert typed(to_otlp(from_otlp(span, "k"))[0]) == before


@settings(max_examples=100, deadline=None)
@given(given=attributes)
def test_a_meaning_is_never_made_up(given):
    """No counts, no tokens; and what replaces another value is said to."""
    meaning = meaning_of(dict(given))
    assert meaning.tokens is None or meaning.tokens >= 0
    if meaning.kind != "llm":
        assert meaning.tokens == 0
    for name in meaning.added:
        assert name not in given or name in meaning.was
    if not any("token" in name for name in given) and meaning.kind == "llm":
        assert meaning.tokens is None
        assert names.INPUT not in meaning.added


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_spans_or_a_value_error(data):
    for read in (read_json, read_proto):
        try:
            received = read(data)
        except ValueError:
            continue
        assert isinstance(received, Received)
