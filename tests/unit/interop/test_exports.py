"""What leaves: tracks that nest, timeline formats read back, a page that runs nothing, OTLP of recordings."""

from __future__ import annotations

import json
import random
from html.parser import HTMLParser

import pytest

from unspool.interop.importing import import_paths
from unspool.interop.otlp import to_otlp
from unspool.interop.otlp_json import write_json
from unspool.interop.otlp_proto import read_proto, write_proto
from unspool.interop.outgoing import contents_of, otlp_groups
from unspool.interop.page import html_page
from unspool.interop.timelines import chrome_trace, perfetto_trace, speedscope_profile
from unspool.interop.tracks import lay_out
from unspool.store import Store
from unspool.trace.from_recording import recorded_trace
from unspool.trace.spans import Span, SpanEvent, SpanStatus
from unspool.trace.storage import SpanReader
from unspool.trace.tree import build_span_tree

START = 1_700_000_000_000_000_000


def random_tree(seed, count=60):
    rng = random.Random(seed)
    spans = [Span("t" * 32, f"{0:032x}", pid=1, name="root", start_time_ns=START, end_time_ns=START + 10_000)]
    for number in range(1, count):
        above = rng.choice(spans)
        start = above.start_time_ns + rng.randrange(-20, 5000)
        spans.append(
            Span(
                "t" * 32, f"{number:032x}", above.span_id, pid=rng.choice([1, 1, 2]), name=f"n{number % 7}",
                start_time_ns=start, end_time_ns=start + rng.choice([0, 1, 50, 4000]),
                kind=rng.choice(["llm", "tool", "other", "agent"]), tokens_used=None,
                status=rng.choice([SpanStatus.OK, SpanStatus.ERROR]), attributes={"n": number, "f": 0.5, "b": True},
                events=[SpanEvent(start, "began", {"x": 1})] if number % 5 == 0 else [],
            )
        )  # fmt: skip
    rng.shuffle(spans)
    return build_span_tree(spans)


@pytest.mark.parametrize("seed", range(8))
def test_spans_of_a_track_nest(seed):
    tree = random_tree(seed)
    tracks = lay_out(tree)
    assert sum(len(track.spans) for track in tracks) == 60
    for track in tracks:
        assert {placed.span.pid for placed in track.spans} == {track.pid}
        stack = []
        for placed in track.spans:
            while stack and stack[-1].end <= placed.start and not stack[-1].end == placed.start == placed.end:
                stack.pop()
            assert not stack or (stack[-1].start <= placed.start and placed.end <= stack[-1].end)
            stack.append(placed)


def test_calls_in_sequence_share_a_track_and_concurrent_ones_do_not():
    def span(number, start, end, above=""):
        return Span("t" * 32, f"{number:032x}", above, pid=1, name=str(number), start_time_ns=START + start,
                    end_time_ns=START + end)  # fmt: skip

    root = f"{0:032x}"
    tree = build_span_tree([span(0, 0, 100), span(1, 0, 40, root), span(2, 40, 90, root), span(3, 50, 95, root)])
    assert [[placed.span.name for placed in track.spans] for track in lay_out(tree)] == [["0", "1", "2"], ["3"]]


@pytest.mark.parametrize("seed", range(4))
def test_chrome(seed):
    tree = random_tree(seed)
    found = json.loads(chrome_trace(tree))
    complete = [event for event in found["traceEvents"] if event["ph"] == "X"]
    wanted = {span.span_id: span for span in (node.span for node, _ in tree.walk())}
    assert len(complete) == len(wanted)
    for event in complete:
        span = wanted[event["args"]["span_id"]]
        assert event["dur"] * 1000 == pytest.approx(span.end_time_ns - span.start_time_ns)
        assert event["ts"] * 1000 == pytest.approx(span.start_time_ns - tree.metadata.start_time_ns)
        assert (event["name"], event["cat"], event["pid"]) == (span.name, span.kind, span.pid)


@pytest.mark.parametrize("seed", range(4))
def test_speedscope_opens_and_closes_in_order(seed):
    found = json.loads(speedscope_profile(random_tree(seed)))
    frames = found["shared"]["frames"]
    opened = 0
    for profile in found["profiles"]:
        stack, at = [], 0
        for event in profile["events"]:
            assert event["at"] >= at
            assert 0 <= event["frame"] < len(frames)
            at = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
                opened += 1
            else:
                assert stack.pop() == event["frame"]
        assert stack == []
        assert profile["endValue"] == at
    assert opened == 60


def messages_in(data):
    """The fields of a protobuf message: (number, value) in order; values of length-delimited ones are bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 1:
            yield key >> 3, data[at : at + 8]
            at += 8
        else:
            size = varint()
            yield key >> 3, data[at : at + size]
            at += size


@pytest.mark.parametrize("seed", range(4))
def test_perfetto_slices_begin_and_end(seed):
    tree = random_tree(seed)
    depth, begun, named = {}, 0, set()
    for number, packet in messages_in(perfetto_trace(tree)):
        assert number == 1
        fields = dict(messages_in(packet))
        assert fields[10] == 1
        if 60 in fields:
            named.add(dict(messages_in(fields[60]))[1])
            continue
        event = dict(messages_in(fields[11]))
        assert event[11] in named
        assert fields[58] == 1
        assert START - 100 <= fields[8] <= START + 100_000
        if event[9] == 1:
            depth[event[11]] = depth.get(event[11], 0) + 1
            begun += 1
        elif event[9] == 2:
            depth[event[11]] -= 1
            assert depth[event[11]] >= 0
    assert begun == 60
    assert set(depth.values()) == {0}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_page_shows_everything_and_runs_nothing():
    evil = '<script>alert(1)</script>\x1b[31m" onmouseover="x'
    spans = [
        Span("t" * 32, "a" * 32, name=evil, start_time_ns=START, end_time_ns=START + 10, attributes={evil: evil}),
        Span("t" * 32, "b" * 32, "a" * 32, name="child", kind="llm", start_time_ns=START, status=SpanStatus.ERROR,
             end_time_ns=START + 5, tokens_used=None, attributes={"error.message": evil}),
    ]  # fmt: skip
    page = Page(html_page(build_span_tree(spans)))
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "p", "details", "summary", "span", "pre"),
    }
    assert all(not name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in page.text
    assert "✗ child" in page.text
    assert "?" in page.text  # its tokens are unknown, not 0


def test_a_deep_trace_is_a_page():
    spans = [
        Span("t" * 32, f"{number:032x}", f"{number - 1:032x}" if number else "", name="x", start_time_ns=START,
             end_time_ns=START + 10)
        for number in range(5000)
    ]  # fmt: skip
    assert Page(html_page(build_span_tree(spans))).open == []


def test_recordings_leave_with_the_names_of_both_conventions(data, store, read):
    written = import_paths([data / "vcr" / "test_anthropic_native_tool_search_round_trip.yaml.gz"], store)[0].records
    trace = recorded_trace([read(written[0].record_id)])
    contents = contents_of(trace.processes, trace.spans)
    groups = read_proto(write_proto(otlp_groups(trace.spans, store, contents=contents))).groups
    ((carried, spans),) = groups
    assert carried.resource["telemetry.sdk.name"] == "unspool"
    calls = [span for span in spans if span.attributes["unspool.kind"] == "llm"]
    for span in calls:
        found = span.attributes
        assert found["openinference.span.kind"] == "LLM"
        assert found["llm.token_count.prompt"] == found["gen_ai.usage.input_tokens"] > 0
        assert found["llm.token_count.total"] == found["llm.token_count.prompt"] + found["llm.token_count.completion"]
        assert found["llm.model_name"].startswith("claude")
        assert span.kind == 3
        assert len(span.span_id) == 16
    ids = {span.span_id for span in spans}
    assert sum(span.parent_span_id == "" for span in spans) == 1
    assert all(span.parent_span_id in ids for span in spans if span.parent_span_id)
    assert "USD" in calls[0].attributes["gen_ai.input.messages"]
    assert calls[0].attributes["llm.output_messages.0.message.tool_calls.0.tool_call.function.name"] == (
        "get_exchange_rate"
    )
    assert "1 USD = 0.92 EUR" in calls[1].attributes["output.value"]


def test_without_being_asked_no_message_leaves(data, store, read):
    written = import_paths([data / "vcr" / "test_anthropic_native_tool_search_round_trip.yaml.gz"], store)[0].records
    trace = recorded_trace([read(written[0].record_id)])
    sent = write_proto(otlp_groups(trace.spans, store))
    assert b"0.92 EUR" not in sent
    assert b"exchange rate" not in sent


def test_an_open_span_has_no_end():
    span = Span("a" * 32, "b" * 32, name="x", start_time_ns=START, status=SpanStatus.OPEN)
    assert (to_otlp(span)[0].end_ns, to_otlp(span)[0].status_code) == (0, 0)


def test_an_agent_begun_by_another_tracer_leaves_below_its_span(tmp_path):
    """As a root with an attribute its trace would fall apart at the receiver; and it comes back as it left."""
    outer = f"00-{'ab' * 16}-{'cd' * 8}-01"
    agent = Span("ab" * 16, "e" * 32, name="agent", start_time_ns=START, end_time_ns=START + 9,
                 attributes={"unspool.traceparent": outer})  # fmt: skip
    inner = Span("ab" * 16, "f" * 32, "e" * 32, name="work", start_time_ns=START, end_time_ns=START + 5, kind="other")
    store = Store(tmp_path / "store").ensure()
    for write, name in ((write_proto, "spans.pb"), (write_json, "spans.json")):
        path = tmp_path / name
        path.write_bytes(write(otlp_groups([agent, inner], store)))
        assert import_paths([path], store)[0].is_whole
    back = {span.name: span for span in SpanReader(store.traces).read_trace("ab" * 16)}
    assert (back["agent"].parent_span_id, back["agent"].span_id) == ("cd" * 8, "e" * 16)
    assert back["work"].parent_span_id == "e" * 16
    again = {span.name: span for _, spans in otlp_groups(back.values(), store) for span in spans}
    first = {span.name: span for _, spans in otlp_groups([agent, inner], store) for span in spans}
    assert again == first


def test_a_remote_parent_in_another_trace_is_no_parent():
    span = Span("ab" * 16, "e" * 32, name="x", attributes={"unspool.traceparent": f"00-{'12' * 16}-{'cd' * 8}-01"})
    assert to_otlp(span)[0].parent_span_id == ""
