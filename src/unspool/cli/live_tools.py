"""`--live-tools`: what it names, and a word about a name that no tool of the run has."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from unspool.cli.terminal import note
from unspool.errors import UnspoolError
from unspool.recording.reader import RecordReader
from unspool.replay.restore import SnapshotRestorer
from unspool.serving.tools import is_allowed_live
from unspool.text import show_text

__all__ = ["say_unknown_tools", "tool_names", "tool_paths"]

_TOOL_PREFIXES: Final = ("/dev/tool/", "/dev/mcp/")
_ALL: Final = frozenset({"*", "mcp"})
_SHOWN: Final = 20


def tool_names(words: Sequence[str]) -> list[str]:
    """The names of repeatable, comma-separated options, each once."""
    return list(dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip()))


def tool_paths(readers: Sequence[RecordReader]) -> list[str]:
    """Device paths of the tools that ran in a recorded run, each once."""
    paths: dict[str, None] = {}
    for reader in readers:
        for event in reader.bare_events():
            path = event.syscall.args.get("path") if event.syscall is not None else None
            if isinstance(path, str) and path.startswith(_TOOL_PREFIXES):
                paths[path] = None
    return list(paths)


def say_unknown_tools(readers: Sequence[RecordReader], names: Sequence[str]) -> None:
    """Say which names are of no tool that the run used or offered to a model: they allow nothing."""
    paths = tool_paths(readers)
    strange = [
        name
        for name in names
        if name not in _ALL and not name.endswith("/") and not any(is_allowed_live(path, (name,)) for path in paths)
    ]
    if not strange:
        return
    known = dict.fromkeys([*(path.rpartition("/")[2] for path in paths), *_offered(readers)])
    for name in strange:
        if name in known:
            continue
        near = get_close_matches(name, known, n=1)
        meant = f" Did you mean {show_text(near[0], 80)}?" if near else ""
        shown = [show_text(one, 80) for one in list(known)[:_SHOWN]] + (["…"] if len(known) > _SHOWN else [])
        has = f"Its tools are {', '.join(shown)}" if known else "It has none"
        note(f"unspool: warning: --live-tools: the run has no tool {show_text(name, 80)!r}.{meant} {has}")


def _offered(readers: Sequence[RecordReader]) -> list[str]:
    """Names of the tools that stand in the last request of each conversation."""
    names: dict[str, None] = {}
    for reader in readers:
        last = {event.lane: event.seq_num for event in reader.bare_events() if event.context is not None}
        for seq_num in last.values():
            with contextlib.suppress(UnspoolError):  # a damaged request names none
                names |= {tool.name: None for tool in SnapshotRestorer(reader).restore_context(seq_num).tools}
    return list(names)
