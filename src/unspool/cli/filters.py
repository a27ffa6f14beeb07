"""Which events a line view shows: by kind, by name, failed ones only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from unspool.errors import UsageError
from unspool.events import RecordEvent

__all__ = ["KINDS", "EventFilter", "event_kind", "kinds_in"]

KINDS: Final = ("llm", "tool", "spawn", "http", "process", "net", "file", "state", "context")

_BY_NAME: Final = {"HTTP": "http", "Spawn": "spawn", "LLMCall": "llm", "ToolCall": "tool", "MCP": "net"}
_BY_PREFIX: Final = (
    ("/dev/llm/", "llm"),
    ("/dev/tool/", "tool"),
    ("/dev/mcp/", "tool"),
    ("/dev/agent/", "spawn"),
    ("/dev/proc/", "process"),
    ("/dev/net/", "net"),
    ("/dev/fs/", "file"),
)


def event_kind(event: RecordEvent) -> str:
    """One of `KINDS`; `other` for calls that are none of them."""
    if event.llm is not None:
        return "llm"
    if event.context is not None:
        return "context"
    if event.state is not None:
        return "state"
    if event.syscall is None:
        return "other"
    if named := _BY_NAME.get(event.syscall.syscall):
        return named
    path = _path(event)
    return next((kind for prefix, kind in _BY_PREFIX if path.startswith(prefix)), "other")


def kinds_in(texts: Iterable[str]) -> frozenset[str]:
    """The kinds named in comma-separated lists.

    Raises:
        UsageError: one of them does not exist.
    """
    given = list(texts)
    kinds = frozenset(part.strip() for text in given for part in text.split(",") if part.strip())
    if given and not kinds:
        raise UsageError(f"--kind names no kind. It takes: {', '.join(KINDS)}")
    wrong = sorted(kinds.difference(KINDS))
    if wrong:
        raise UsageError(f"--kind does not know {', '.join(wrong)}. It takes: {', '.join(KINDS)}")
    return kinds


@dataclass
class EventFilter:
    """What to show. Empty `kinds` and `names` mean all.

    Attributes:
        names: shell patterns, of which one must match: the resource path, its last part, the name of the call, or the
            model. An answer of a model goes by the path of its call too.
    """

    kinds: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    errors_only: bool = False
    _path_of_call: dict[tuple[int, int], str] = field(default_factory=dict)

    def wants(self, event: RecordEvent) -> bool:
        """Whether to show this event; must be asked for every event, in order."""
        if self.names and event.syscall is not None and event.call is not None and event_kind(event) == "llm":
            self._path_of_call[event.pid, event.call] = _path(event)
        if self.errors_only and not _is_error(event):
            return False
        if self.kinds and event_kind(event) not in self.kinds:
            return False
        return not self.names or any(fnmatchcase(name, glob) for glob in self.names for name in self._names(event))

    def _names(self, event: RecordEvent) -> list[str]:
        path = _path(event)
        if event.llm is not None:
            if event.call is not None:
                path = self._path_of_call.pop((event.pid, event.call), "")
            names = [event.llm.model]
        elif event.context is not None:
            names = [event.context.model]
        else:
            names = [event.syscall.syscall if event.syscall is not None else None]
        names += [path, path.rpartition("/")[2]]
        return [name for name in names if name]


def _path(event: RecordEvent) -> str:
    if event.syscall is None:
        return ""
    path = event.syscall.args.get("path")
    return path if isinstance(path, str) else ""


def _is_error(event: RecordEvent) -> bool:
    if event.syscall is not None:
        return bool(event.syscall.err) or event.syscall.error is not None
    return event.llm is not None and event.llm.error is not None
