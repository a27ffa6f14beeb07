"""What came of a step: the model call that was told of it, and where what failed was tried again, what that gave."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from unspool.errors import UnspoolError
from unspool.recording.reader import RecordReader
from unspool.trace.names import CALL, RETRY, count_of
from unspool.trace.spans import Span, interval_of, is_failing
from unspool.web.shelf import LoadedRun

__all__ = ["aftermath"]

_TRIES_MOST: Final = 5  # attempts that are followed
_LOOKED_AT: Final = 200  # later calls of a process among which the next of a conversation is looked for


def aftermath(run: LoadedRun, reader: RecordReader, span: Span) -> list[Span]:
    """The steps that a tool call, or a model call that failed, led to; in order of time, each once.

    A tool call led to the next model call of its conversation, which saw the result or the error. Where it failed and
    the same was called again, the attempts follow, up to the first that went well, each with the call that saw it. A
    model call that went well says itself what it led to, so nothing is given for it.
    """
    if span.kind not in ("tool", "llm") or (span.kind == "llm" and not is_failing(span)):
        return []
    found: list[Span] = []
    attempt: Span | None = span
    for _ in range(_TRIES_MOST):
        if attempt is None:
            break
        if attempt is not span:
            found.append(attempt)
        if attempt.kind == "tool" and (told := _told(run, reader, attempt)) is not None:
            found.append(told)
        attempt = _next_attempt(run, attempt) if is_failing(attempt) else None
    once = {one.span_id: one for one in found}
    return sorted(once.values(), key=lambda one: one.start_time_ns)


def _later(run: LoadedRun, span: Span) -> Iterator[Span]:
    """What began in the same process after the span had ended."""
    end = interval_of(span, run.end_ns)[1]
    place = run.places.get((run.record_of(span), run.seq_of(span)), 0)
    return (one for one in islice(run.spans, place + 1, None) if one.pid == span.pid and one.start_time_ns >= end)


def _told(run: LoadedRun, reader: RecordReader, span: Span) -> Span | None:
    """The model call that continues the conversation in which a tool was asked for."""
    try:
        asked = reader.snapshot_of_call(reader.events().bare(reader.index_of(run.seq_of(span))))
    except UnspoolError:
        asked = None
    calls = (one for one in _later(run, span) if one.kind == "llm" and run.seq_of(one))
    for one in islice(calls, _LOOKED_AT):
        if asked is None or _continues(run, reader, one, asked.seq_num):
            return one
    return None


def _continues(run: LoadedRun, reader: RecordReader, call: Span, snapshot_seq: int) -> bool:
    try:
        own = reader.snapshot_of_call(reader.events().bare(reader.index_of(run.seq_of(call))))
    except UnspoolError:
        return False
    return own is not None and own.context is not None and own.context.prev == snapshot_seq


def _next_attempt(run: LoadedRun, span: Span) -> Span | None:
    """Where what failed was called again: the same tool at the model's next wish, the same request as a retry."""
    for one in _later(run, span):
        if span.kind == "llm" and one.kind == "llm" and bool(one.attributes.get(RETRY)):
            return one
        if span.kind == "tool" and one.kind == "tool" and one.name == span.name and _asked_apart(one, span):
            return one
    return None


def _asked_apart(one: Span, other: Span) -> bool:
    """Whether two tool calls are no wishes of the same answer, which ran one after the other."""
    call = count_of(one, CALL)
    return call is None or call != count_of(other, CALL)
