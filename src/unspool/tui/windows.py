"""How large a model's context window is, as far as it is known."""

from __future__ import annotations

from unspool.cli.limit_options import budget_of
from unspool.cli.prices import context_window
from unspool.errors import NoSnapshot
from unspool.recording.reader import RecordReader

__all__ = ["window_of", "window_of_path"]

_LLM = "/dev/llm/"


def window_of(reader: RecordReader, seq_num: int) -> int:
    """Tokens that fit into the context in force at an event, as the run was told; else as the model is known for.

    0 if neither is known.
    """
    budget = budget_of(reader.metadata)
    if budget is not None:
        return budget
    try:
        context = reader.context_at(seq_num)
    except NoSnapshot:
        return 0
    position = reader.index_of(seq_num)
    for event in reader.bare_events(position):
        path = event.syscall.args.get("path") if event.syscall is not None else None
        if isinstance(path, str) and path.startswith(_LLM):
            return window_of_path(path)
        if position + 20 < reader.index_of(event.seq_num):
            break
    return context_window(context.provider or "", context.model or "") or 0


def window_of_path(path: str) -> int:
    """The same by device path, `/dev/llm/<vendor>/<model>`."""
    vendor, _, model = path.removeprefix(_LLM).partition("/")
    return context_window(vendor, model) or 0
