"""Traces on disk: `<base>/<trace-id>/spans.jsonl` holds ended spans, `open.jsonl` beside it their starts.

A span is one line and one `write(2)` in append mode, so processes that end together do not cut into each other's
lines. Starts are never taken back: a start without an ended span of the same id is work that was going on when its
process died or was asked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from unspool.errors import InvalidID, StoreError
from unspool.events import TraceID
from unspool.recording import Damage
from unspool.recording.lines import encode_json
from unspool.store import check_id
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import NS_PER_MS, Span, SpanStatus, instant_ms, instant_time
from unspool.trace.tree import metadata_of, unique_spans

__all__ = ["OPEN_NAME", "SPANS_NAME", "SpanReader", "SpanWriter", "TraceSummary"]

SPANS_NAME = "spans.jsonl"
OPEN_NAME = "open.jsonl"
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_LINE_START = b'{"trace_id":'  # how every line of ours begins

logger = logging.getLogger("unspool")


class TraceSummary(Struct):
    """One trace in a list. `span_count` counts ended and unfinished spans; `total_duration` is nanoseconds from the
    first start to the last end; `root_span_name` is that of the first span without a parent in the order of the file,
    "" if there is none.
    """

    trace_id: TraceID
    span_count: int = 0
    start_time_ns: int = 0
    total_duration: int = 0
    root_span_name: str = ""

    @property
    def start_time(self) -> datetime | None:
        """When the first span began, in UTC; None if unknown."""
        return instant_time(self.start_time_ns)

    def to_json(self) -> bytes:
        """The wire form: the seed's keys, then the exact nanoseconds."""
        return encode_json(
            {
                "trace_id": self.trace_id,
                "span_count": self.span_count,
                "start_time_ms": instant_ms(self.start_time_ns),
                "total_duration_ms": self.total_duration // NS_PER_MS,
                "root_span_name": self.root_span_name,
                "start_time_ns": self.start_time_ns,
                "total_duration_ns": self.total_duration,
            }
        )


class SpanWriter:
    """Appends spans to their trace. Making the object touches nothing on disk; folders are made by the first write.

    Safe under any number of threads and processes.
    """

    def __init__(self, base_dir: str | os.PathLike[str]) -> None:
        self._base = Path(base_dir)

    @property
    def base_dir(self) -> Path:
        """The folder of traces."""
        return self._base

    def write_span(self, span: Span) -> None:
        """Append an ended span. What this returned for is in the kernel and survives the death of the process.

        Raises:
            InvalidID: the trace id could leave the folder.
            StoreError: the disk did not take the line.
        """
        self._append(span.trace_id, SPANS_NAME, span.to_json())

    def write_start(self, span: Span) -> None:
        """Append the start of a span: its fields as they are, without an end, with the status `open`.

        Raises:
            InvalidID: the trace id could leave the folder.
            StoreError: the disk did not take the line.
        """
        started = replace(span, end_time_ns=0, duration=0, status=SpanStatus.OPEN)
        self._append(span.trace_id, OPEN_NAME, started.to_json())

    def _append(self, trace_id: TraceID, name: str, line: bytes) -> None:
        folder = self._base / check_id("trace", trace_id)
        path = folder / name
        data = line + b"\n"
        try:
            fd = self._open(folder, path)
            try:
                written = os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as exc:
            raise StoreError(f"cannot write a span to {path}: {exc.strerror or exc}") from exc
        if written != len(data):
            # Not cut off again: another process may have appended since. The reader finds the next line behind it.
            raise StoreError(f"cannot write a span to {path}: the disk took {written} of {len(data)} bytes")

    def _open(self, folder: Path, path: Path) -> int:
        try:
            return os.open(path, _WRITE_FLAGS, 0o600)
        except FileNotFoundError:
            # Two steps, because `parents` makes the folders above with the modes of the umask.
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, _WRITE_FLAGS, 0o600)


class SpanReader:
    """Reads the traces of a folder, which may be growing. A folder that is not there holds no traces.

    Lines that are no spans are skipped, logged and listed in `damage`; all others are read, of any length.
    """

    def __init__(self, base_dir: str | os.PathLike[str]) -> None:
        self._base = Path(base_dir)
        self._damage: dict[TraceID, list[Damage]] = {}

    @property
    def base_dir(self) -> Path:
        """The folder of traces."""
        return self._base

    @property
    def damage(self) -> list[Damage]:
        """What could not be read, for each trace as of its last reading; `file` is `<trace-id>/<name>`."""
        return [one for found in self._damage.values() for one in found]

    def list_traces(self) -> list[TraceSummary]:
        """All traces, the one that started last first. Reads every trace, one at a time.

        A trace of which nothing can be read is listed with no spans; a folder that holds nothing is not.

        Raises:
            StoreError: the folder exists and cannot be read.
        """
        try:
            names = [entry.name for entry in os.scandir(self._base) if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StoreError(f"cannot read the traces in {self._base}: {exc.strerror or exc}") from exc
        summaries = []
        for name in names:
            try:
                spans = self.read_trace(name)
            except InvalidID:
                continue  # Not made by a writer of spans.
            if spans or self._damage[name]:
                summaries.append(_summary(name, spans))
        return sorted(summaries, key=lambda one: (-one.start_time_ns, one.trace_id))

    def read_trace(self, trace_id: TraceID) -> list[Span]:
        """The ended spans of a trace in the order of the file, then the unfinished ones; [] if there is no such trace.

        Raises:
            InvalidID: the id could leave the folder.
        """
        folder = self._base / check_id("trace", trace_id)
        damage = self._damage[trace_id] = []
        with gc_paused():
            spans = list(_read_spans(folder / SPANS_NAME, f"{trace_id}/{SPANS_NAME}", damage))
            unfinished = {
                span.span_id: span for span in _read_spans(folder / OPEN_NAME, f"{trace_id}/{OPEN_NAME}", damage)
            }
        for span in spans if unfinished else ():
            unfinished.pop(span.span_id, None)
        for span in unfinished.values():
            span.end_time_ns = span.duration = 0
            span.status = SpanStatus.OPEN
        for one in damage:
            logger.warning("%s", one)
        return [*spans, *unfinished.values()]


def _read_spans(path: Path, label: str, damage: list[Damage]) -> Iterator[Span]:
    """The spans of a file; what is not one goes to `damage`."""
    offset = 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield Span.from_json(line)
                    except ValueError as exc:
                        span, reason = _behind_a_torn_line(line)
                        damage.append(Damage(label, number, offset, reason or _reason(line, exc)))
                        if span is not None:
                            yield span
                offset += len(line)
    except FileNotFoundError:
        return
    except OSError as exc:
        damage.append(Damage(label, 0, 0, f"unreadable: {exc.strerror or exc}"))


def _behind_a_torn_line(line: bytes) -> tuple[Span | None, str]:
    """The span in the last part of a line whose first part is what a full disk left of another."""
    start = line.rfind(_LINE_START)
    if start > 0:
        try:
            return Span.from_json(line[start:]), f"the first {start} bytes are a torn line; the span behind it was read"
        except ValueError:
            return None, ""
    return None, ""


def _reason(line: bytes, exc: ValueError) -> str:
    return f"not a span: {exc}" if line.endswith(b"\n") else "the last line is torn; it was dropped"


def _summary(trace_id: TraceID, spans: list[Span]) -> TraceSummary:
    unique = unique_spans(spans)[0]
    if not unique:
        return TraceSummary(trace_id)
    metadata = metadata_of(unique)
    root = next((span for span in unique if not span.parent_span_id), None)
    return TraceSummary(
        trace_id=trace_id,
        span_count=metadata.total_spans,
        start_time_ns=metadata.start_time_ns,
        total_duration=metadata.total_duration,
        root_span_name=root.name if root is not None else "",
    )
