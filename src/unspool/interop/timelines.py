"""A trace in the formats of timeline viewers: Chrome's trace events, Perfetto's protobuf, speedscope's JSON.

Open them in https://ui.perfetto.dev (the first two) and https://www.speedscope.app.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any, Final

from unspool.interop.otlp import OTLP
from unspool.interop.tracks import Track, lay_out
from unspool.recording.lines import to_wire
from unspool.trace.spans import Span, is_failing
from unspool.trace.tree import SpanTree

__all__ = ["chrome_trace", "perfetto_trace", "speedscope_profile"]

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def chrome_trace(tree: SpanTree) -> bytes:
    """Trace events in JSON: one complete event (`X`) for each span, µs since the trace began.

    The format is described in "Trace Event Format" of the Chromium project.
    """
    origin = tree.metadata.start_time_ns
    events: list[dict[str, Any]] = []
    names = _process_names(tree)
    for index, track in enumerate(lay_out(tree), 1):
        if track.number == 1:
            named = {"name": names.get(track.pid, f"PID {track.pid}")}
            events.append({"ph": "M", "name": "process_name", "pid": track.pid, "args": named})
        events.append({"ph": "M", "name": "thread_name", "pid": track.pid, "tid": index,
                       "args": {"name": f"track {track.number}"}})  # fmt: skip
        for placed in track.spans:
            span = placed.span
            events.append(
                {
                    "ph": "X",
                    "name": span.name or span.kind,
                    "cat": span.kind,
                    "pid": track.pid,
                    "tid": index,
                    "ts": (placed.start - origin) / 1000,
                    "dur": (placed.end - placed.start) / 1000,
                    "args": _facts(span),
                }
            )
            events += [
                {"ph": "i", "s": "t", "name": event.name, "pid": track.pid, "tid": index,
                 "ts": (event.timestamp_ns - origin) / 1000, "args": to_wire(event.attrs)}
                for event in span.events
            ]  # fmt: skip
    whole = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"trace_id": tree.trace_id}}
    return json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()


def _process_names(tree: SpanTree) -> dict[int, str]:
    names: dict[int, str] = {}
    for node, _ in tree.walk():
        span = node.span
        if span.kind == "agent" and not span.synthetic:
            names.setdefault(span.pid, f"{span.name} (PID {span.pid})" if span.pid else span.name)
    return names


def _facts(span: Span) -> dict[str, Any]:
    """What a viewer shows of a span that is clicked on."""
    facts: dict[str, Any] = {"status": str(span.status), "span_id": span.span_id}
    if span.tokens_used:
        facts["tokens"] = span.tokens_used
    if span.cost_usd is not None:
        facts["cost_usd"] = span.cost_usd
    wire = to_wire({name: value for name, value in span.attributes.items() if name != OTLP})
    return {**facts, **wire}


# --- speedscope ------------------------------------------------------------------------------------------------------


def speedscope_profile(tree: SpanTree) -> bytes:
    """A file of speedscope (its file-format-spec): one evented profile for each track, in nanoseconds."""
    origin = tree.metadata.start_time_ns
    frames: dict[str, int] = {}
    profiles = []
    names = _process_names(tree)
    for track in lay_out(tree):
        name = names.get(track.pid, f"PID {track.pid}")
        events = [
            {"type": kind, "frame": frames.setdefault(text, len(frames)), "at": at - origin}
            for kind, text, at in _opened_and_closed(track)
        ]
        if events:
            profiles.append({
                "type": "evented", "unit": "nanoseconds", "events": events,
                "name": name if track.number == 1 else f"{name}, track {track.number}",
                "startValue": events[0]["at"], "endValue": events[-1]["at"],
            })  # fmt: skip
    whole = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "unspool",
        "name": f"trace {tree.trace_id}",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": profiles,
    }
    return json.dumps(whole, separators=(",", ":")).encode()


def _opened_and_closed(track: Track) -> list[tuple[str, str, int]]:
    """Begins and ends in the order of time, each end after those of what is inside."""
    found: list[tuple[str, str, int]] = []
    stack: list[tuple[str, int]] = []
    for placed in track.spans:
        while stack and (stack[-1][1] <= placed.start and not stack[-1][1] == placed.start == placed.end):
            name, end = stack.pop()
            found.append(("C", name, end))
        name = f"{placed.span.kind} {placed.span.name}" + (" (failed)" if is_failing(placed.span) else "")
        found.append(("O", name, placed.start))
        stack.append((name, placed.end))
    while stack:
        name, end = stack.pop()
        found.append(("C", name, end))
    return found


# --- Perfetto --------------------------------------------------------------------------------------------------------

# Field numbers of perfetto/protos/trace: Trace, TracePacket, TrackDescriptor, ProcessDescriptor, TrackEvent.
_PACKET: Final = 1
_TIMESTAMP, _SEQUENCE, _TRACK_EVENT, _CLOCK, _DESCRIPTOR = 8, 10, 11, 58, 60
_UUID, _NAME, _PROCESS, _PARENT = 1, 2, 3, 5
_PROCESS_PID, _PROCESS_NAME = 1, 6
_TYPE, _TRACK, _CATEGORY, _EVENT_NAME, _ANNOTATION = 9, 11, 22, 23, 4
_ANNOTATION_NAME, _BOOL, _INT, _DOUBLE, _STRING = 10, 2, 4, 5, 6
_BEGIN, _END, _INSTANT = 1, 2, 3
_REALTIME: Final = 1  # BUILTIN_CLOCK_REALTIME


def perfetto_trace(tree: SpanTree) -> bytes:
    """A trace in Perfetto's own format: slices on tracks, in wall-clock nanoseconds."""
    packets: list[bytes] = []
    names = _process_names(tree)
    for index, track in enumerate(lay_out(tree), 1):
        process = 1_000_000 + track.pid
        if track.number == 1:
            name = names.get(track.pid, f"PID {track.pid}")
            described = _number(_PROCESS_PID, track.pid) + _text(_PROCESS_NAME, name)
            packets.append(_bytes(_DESCRIPTOR, _number(_UUID, process) + _bytes(_PROCESS, described)))
        where = _number(_UUID, index) + _number(_PARENT, process) + _text(_NAME, f"track {track.number}")
        packets.append(_bytes(_DESCRIPTOR, where))
        packets += _slices(track, index)
    head = _number(_SEQUENCE, 1)
    return b"".join(_bytes(_PACKET, packet + head) for packet in packets)


def _slices(track: Track, uuid: int) -> list[bytes]:
    packets: list[tuple[int, bytes]] = []
    ends: list[int] = []
    closing = _number(_TYPE, _END) + _number(_TRACK, uuid)
    for placed in track.spans:
        while ends and (ends[-1] <= placed.start and not ends[-1] == placed.start == placed.end):
            packets.append((ends.pop(), closing))
        span = placed.span
        event = _number(_TYPE, _BEGIN) + _number(_TRACK, uuid)
        event += _text(_CATEGORY, span.kind) + _text(_EVENT_NAME, span.name or span.kind)
        event += b"".join(_bytes(_ANNOTATION, _annotation(name, value)) for name, value in _facts(span).items())
        packets.append((placed.start, event))
        ends.append(placed.end)
        for one in span.events:
            if placed.start <= one.timestamp_ns <= placed.end:
                at = _number(_TYPE, _INSTANT) + _number(_TRACK, uuid) + _text(_EVENT_NAME, one.name)
                packets.append((one.timestamp_ns, at))
    packets += [(end, closing) for end in reversed(ends)]
    clock = _number(_CLOCK, _REALTIME)
    return [_number(_TIMESTAMP, at) + clock + _bytes(_TRACK_EVENT, event) for at, event in packets]


def _annotation(name: str, value: Any) -> bytes:
    if isinstance(value, bool):
        said = _number(_BOOL, int(value))
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        said = _number(_INT, value)
    elif isinstance(value, float):
        said = _key(_DOUBLE, 1) + struct.pack("<d", value)
    else:
        said = _text(_STRING, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return _text(_ANNOTATION_NAME, name) + said


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _text(field: int, text: str) -> bytes:
    return _bytes(field, _SURROGATES.sub("�", text).encode())
