"""Spans that come in from outside, into the traces of the store.

What `take` returned for is in the kernel: the sender may forget it. Spans are appended as they come; a span that is
sent twice is on disk twice, and readers of a trace count it once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from unspool.errors import StoreError
from unspool.interop.otlp import Carried, Received, carrier_of, from_otlp, settle
from unspool.recording.lines import decode_json, revive
from unspool.store import Store, check_id
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import Span, SpanStatus
from unspool.trace.storage import OPEN_NAME, SPANS_NAME

__all__ = ["RESOURCES_NAME", "SpanSink", "Taken", "read_carriers"]

RESOURCES_NAME: Final = "resources.jsonl"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_SEEN_MAX: Final = 100_000


class Taken(msgspec.Struct):
    """What became of received spans: how many each trace got, and what was refused."""

    traces: dict[str, int] = {}
    rejected: int = 0
    problems: list[str] = []

    @property
    def spans(self) -> int:
        """How many spans were written."""
        return sum(self.traces.values())


class SpanSink:
    """Writes received spans into the folder of traces. Safe under any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._base = store.traces
        self._lock = threading.Lock()
        self._carriers: set[tuple[str, str]] = set()  # (trace, digest) that are on disk

    def take(self, received: Received, *, known: dict[str, set[str]] | None = None) -> Taken:
        """Write spans.

        Args:
            known: ids of spans by trace that are in the store already and shall not be written again.

        Raises:
            StoreError: the disk did not take all of them. What it took stays.
        """
        taken = Taken({}, received.rejected, list(received.problems))
        lines: dict[tuple[str, str], list[bytes]] = {}
        with gc_paused():
            for carried, group in received.groups:
                self._encode(carried, group, lines, taken, known or {})
        with self._lock:
            for (trace_id, name), found in lines.items():
                self._append(trace_id, name, found)
            self._carriers.update(
                (trace_id, key)
                for (trace_id, name), found in lines.items()
                if name == RESOURCES_NAME
                for key in [msgspec.json.decode(line)["key"] for line in found]
            )
            if len(self._carriers) > _SEEN_MAX:
                self._carriers.clear()  # written again, and read once
        return taken

    def _encode(
        self,
        carried: Carried,
        group: Iterable[Any],
        lines: dict[tuple[str, str], list[bytes]],
        taken: Taken,
        known: dict[str, set[str]],
    ) -> None:
        key, line = carrier_of(carried)
        spans: list[Span] = []
        for one in group:
            if one.span_id in known.get(one.trace_id, ()):
                continue
            try:
                spans.append(from_otlp(one, key))
            except ValueError as exc:
                taken.rejected += 1
                taken.problems.append(f"{one.name!r}: {exc}")
        settle(spans)
        for span in spans:
            trace_id = span.trace_id
            name = OPEN_NAME if span.status is SpanStatus.OPEN and not span.end_time_ns else SPANS_NAME
            lines.setdefault((trace_id, name), []).append(span.to_json())
            if trace_id not in taken.traces:
                taken.traces[trace_id] = 0
            taken.traces[trace_id] += 1
        for trace_id in {span.trace_id for span in spans}:
            place = (trace_id, RESOURCES_NAME)
            if (trace_id, key) not in self._carriers and line not in lines.get(place, ()):
                lines.setdefault(place, []).append(line)

    def _append(self, trace_id: str, name: str, lines: list[bytes]) -> None:
        folder = self._base / check_id("trace", trace_id)
        path = folder / name
        data = memoryview(b"\n".join(lines) + b"\n")
        try:
            fd = self._open(folder, path)
            try:
                # In one write as far as the kernel goes along, so that lines of several processes do not mix.
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
        except OSError as exc:
            raise StoreError(f"cannot write spans to {path}: {exc.strerror or exc}") from exc

    def _open(self, folder: Path, path: Path) -> int:
        try:
            return os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            self._store.ensure()
            self._base.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, _FLAGS, 0o600)


def read_carriers(traces: Path, trace_id: str) -> dict[str, Carried]:
    """The resources and scopes of a trace by their digest; lines that are none are left out."""
    found: dict[str, Carried] = {}
    try:
        data = (traces / check_id("trace", trace_id) / RESOURCES_NAME).read_bytes()
    except OSError:
        return found
    for line in data.splitlines():
        try:
            wire = decode_json(line)
            key = wire.pop("key")
            wire = {name: revive(value, lambda _: None) for name, value in wire.items()}
            found[key] = msgspec.convert(wire, Carried)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found
