"""A run as an importer found it in somebody else's file, before it becomes recordings.

Instants are nanoseconds of the Unix epoch, durations nanoseconds; both are None where the file does not say. What a
file leaves out is listed in words in `Process.missing`: it is shown as missing and never made up.
Where it gives an order and no times, `offset` is the place in that order, counted in nanoseconds from the start.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Struct

from unspool.events import CtxMessage, LLMResponse, ToolDef

__all__ = ["Item", "ModelCall", "Process", "Run", "Step", "ToolUse", "epoch_ns"]


class ModelCall(Struct):
    """One call of a model: what it saw and what it said. `partial` says why the messages are not all it saw."""

    messages: list[CtxMessage]
    answer: LLMResponse
    system_prompt: str | None = None
    tools: list[ToolDef] | None = None
    params: dict[str, Any] | None = None
    model: str | None = None
    provider: str | None = None
    vendor: str | None = None
    partial: str | None = None
    started_ns: int | None = None
    duration: int | None = None
    offset: int | None = None
    ttft: int | None = None
    request_id: str | None = None
    span: str | None = None
    parent_span: str | None = None


class ToolUse(Struct):
    """One run of a tool. `key` names it for processes that it started; `call` is the id the model gave its request.

    `err` is "" where it succeeded, or where the file does not say that it failed.
    """

    name: str
    input: Any = None
    result: Any = None
    err: str = ""
    key: str | None = None
    mcp: bool = False
    started_ns: int | None = None
    duration: int | None = None
    offset: int | None = None
    span: str | None = None
    parent_span: str | None = None


class Step(Struct):
    """Work that is neither a model call nor a tool: a span of the program's own, or a turn taken by a person."""

    name: str
    args: dict[str, Any] = {}
    result: Any = None
    err: str = ""
    started_ns: int | None = None
    duration: int | None = None
    offset: int | None = None
    span: str | None = None
    parent_span: str | None = None


Item: TypeAlias = ModelCall | ToolUse | Step


class Process(Struct):
    """One agent of a run, with what it did in order.

    Attributes:
        key: unique in the run; `parent` is the key of the process that started it.
        parent_use: the `key` of the tool of the parent that started it.
        missing: what the file does not have, in words that complete "not in the file: …".
        failure: why it ended badly, "" otherwise.
        details: facts of the file that have no other place (a score, a label, a version).
    """

    key: str
    intent: str
    items: list[Item]
    parent: str | None = None
    parent_use: str | None = None
    started_ns: int | None = None
    ended_ns: int | None = None
    failure: str = ""
    cwd: str | None = None
    missing: list[str] = []
    details: dict[str, Any] = {}


class Run(Struct):
    """What one file, or several that belong together, holds: processes, parents before children."""

    processes: list[Process]


def epoch_ns(text: Any) -> int | None:
    """The instant an RFC 3339 text names, to the digit; a time without a zone is UTC. None if it is none."""
    if not isinstance(text, str):
        return None
    head, _, rest = text.strip().partition(".")
    digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
    zone = rest[len(digits) :] if rest else ""
    try:
        moment = datetime.fromisoformat(head + (zone or ("+00:00" if rest else "")))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = datetime.fromisoformat(head + "+00:00")
    return round(moment.timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0") or 0)
