"""Whether a fork can be made at a step: what a page offers only where it works, with the reason where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from unspool.errors import CorruptRecording, SeqNotFound, UnspoolError
from unspool.events import RecordEvent
from unspool.recording.reader import RecordReader
from unspool.replay.forkpoint import point_of
from unspool.web.blameview import Chain
from unspool.web.readers import Readers
from unspool.web.shelf import LoadedRun

__all__ = ["next_call", "only_possible", "why_no_fork"]

_TOOLS: Final = ("/dev/tool/", "/dev/mcp/")
_NO_CALL_AFTER: Final = (
    "No fork can be made here: the model was asked nothing after this tool call, so it was never told the result."
)


def _is_tool(event: RecordEvent) -> bool:
    """Whether an event is a call of a tool, whose result another could take the place of."""
    path = str(event.syscall.args.get("path", "")) if event.syscall is not None else ""
    return path.startswith(_TOOLS)


def next_call(reader: RecordReader, seq_num: int) -> int:
    """The first model call after an event; 0 if there is none."""
    after = reader.bare_events(reader.index_of(seq_num) + 1)
    return next((one.seq_num for one in after if one.context is not None), 0)


def why_no_fork(reader: RecordReader, event: RecordEvent) -> str:
    """Why no fork can be made at the step of an event, as a sentence; "" if one can.

    A fork at a tool call is one at the model call that was told its result.
    """
    seq = event.seq_num
    if _is_tool(event):
        seq = next_call(reader, seq)
        if not seq:
            return _NO_CALL_AFTER
    try:
        point_of(reader, seq)
    except UnspoolError as exc:
        return f"No fork can be made here: {exc}."
    return ""


def only_possible(run: LoadedRun, chains: Sequence[Chain], readers: Readers) -> tuple[list[Chain], str]:
    """Errors with the links to forks that can be made at their origins; why one cannot, as a sentence, "" if all can.

    Args:
        chains: errors of this run that are about to be shown: for each, its recording is looked at.
    """
    found: list[Chain] = []
    why = ""
    for chain in chains:
        origin = chain.path[0] if chain.path else None
        if origin is None or not origin.fork:
            found.append(chain)
            continue
        key = "no fork", origin.record_id, origin.seq_num
        if key not in run.kept:
            run.kept[key] = _reason(readers, origin.record_id, origin.seq_num)
        reason = run.kept[key]
        why = why or reason
        found.append(replace(chain, path=[replace(origin, fork=""), *chain.path[1:]]) if reason else chain)
    return found, why


def _reason(readers: Readers, record_id: str, seq_num: int) -> str:
    reader = readers.get(record_id)
    if reader is None:
        return "No fork can be made here: the recording cannot be read."
    try:
        return why_no_fork(reader, reader.event(seq_num))
    except (CorruptRecording, SeqNotFound) as exc:
        return f"No fork can be made here: {exc}."
