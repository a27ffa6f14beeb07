"""The rerun this OS process belongs to, if any: where it is served from, and what each agent process in it replays."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from unspool.capture.credentials import own_command
from unspool.capture.flow import quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from unspool.capture.process import AgentProcess
    from unspool.serving.edits import Edits
    from unspool.serving.plan import Source
    from unspool.serving.stage import Stage

__all__ = [
    "edits",
    "enter_stage",
    "inherited",
    "is_guest",
    "is_left_out",
    "leave_out",
    "leave_stage",
    "raised",
    "serves_tools",
    "source_of",
    "stage",
    "start",
]

_stage: Stage | None = None
_edits: Edits | None = None
_inherited: list[Edits] = []
_raised: Callable[[str], BaseException] | None = None
_left_out: Callable[[str, str], bool] | None = None
_casting = threading.RLock()


def start(folder: str) -> None:
    """Serve this OS process from a rerun folder. Raises whatever says that it cannot be read."""
    global _stage, _edits, _inherited
    from unspool.serving.stage import Stage

    loaded = Stage(Path(folder))
    if loaded.plan.edits is not None:
        from unspool.serving.edits import read_edits

        _edits = read_edits(loaded.plan.edits)
    if loaded.plan.inherited:
        from unspool.serving.edits import read_edits

        _inherited = [found for one in loaded.plan.inherited if (found := read_edits(one)) is not None]
    _stage = loaded
    os.register_at_fork(after_in_child=_after_fork)


def enter_stage(opened: Stage, raised: Callable[[str], BaseException]) -> None:
    """Serve this OS process until `leave_stage`: a rerun that is one of several in it, as a test is.

    Args:
        raised: makes of a reason what is raised where a rerun of its own would end the process.
    """
    global _stage, _raised
    _stage, _raised = opened, raised


def leave_stage() -> None:
    """Undo `enter_stage`."""
    global _stage, _raised
    _stage = _raised = None


def leave_out(wanted: Callable[[str, str], bool] | None) -> None:
    """Neither record nor serve the requests, by method and URL, for which `wanted` is true; None: leave out none."""
    global _left_out
    _left_out = wanted


def is_left_out(method: str, url: str) -> bool:
    """Whether a request is none of ours."""
    return _left_out is not None and _left_out(method, url)


def is_guest() -> bool:
    """Whether the rerun is one of several in this OS process, most of which is not its own."""
    return _raised is not None


def serves_tools() -> bool:
    """Whether tool calls are answered from a recording."""
    return _stage is not None and _stage.plan.tools


def stage() -> Stage | None:
    """The rerun this OS process belongs to; None in an ordinary run."""
    return _stage


def edits() -> Edits | None:
    """What the fork that runs here changes; None in a plain rerun."""
    return _edits


def inherited() -> list[Edits]:
    """What the forks changed that made the recording, the oldest first."""
    return _inherited


def raised() -> Callable[[str], BaseException] | None:
    """What makes the exception to raise in place of ending the process; None where the process is the rerun's own."""
    return _raised


def source_of(process: AgentProcess) -> Source | None:
    """The recording that an agent process of a rerun replays; None if it has none, or this is no rerun."""
    if _stage is None:
        return None
    if process.cast is None:
        with _casting, quiet():
            if process.cast is None:
                process.cast = (_cast(_stage, process),)
    return process.cast[0]


def _cast(stage: Stage, process: AgentProcess) -> Source | None:
    lineage = process.lineage
    is_first = lineage.parent is None or lineage.forked_at is not None
    if not is_first and lineage.replays is None:
        return None
    return stage.cast(
        None if is_first else lineage.replays,
        own_command(),
        process.intent,
        process.role,
        same_process=not is_first and process.role == "agent",
    )


def _after_fork() -> None:
    global _casting
    _casting = threading.RLock()
    if _stage is not None:
        _stage.after_fork()
