"""The hard stop of a rerun: nothing more of the program may happen for real.

An exception would be caught by retry loops, and what follows would run for real; so the OS process ends, after what it
has written is flushed and its recordings are closed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

from unspool.capture import rerun
from unspool.capture.flow import QUIET
from unspool.capture.guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unspool.capture.process import AgentProcess
    from unspool.serving.journal import Entry

__all__ = ["EXIT_CODE", "refuse_to_run", "renew", "stop", "stop_with", "watch"]

EXIT_CODE: Final = 3

_stopping = threading.Lock()
_processes: Callable[[], Iterable[AgentProcess]] = tuple  # those whose recordings the end closes


def watch(processes: Callable[[], Iterable[AgentProcess]]) -> None:
    """Have the recordings of these agent processes closed at a stop."""
    global _processes
    _processes = processes


def renew() -> None:
    """After fork, in the child: another thread of the parent may have held the lock."""
    global _stopping
    _stopping = threading.Lock()


def refuse_to_run(why: str) -> NoReturn:
    """End this OS process before anything of the program happens for real."""
    raised = rerun.raised()
    if raised is not None:
        raise raised(why)
    try:
        _say(f"{why}. The program was stopped, because a rerun must not run for real.")
    finally:
        os._exit(EXIT_CODE)


def stop(entry: Entry) -> NoReturn:
    """Write a divergence down and end this OS process."""
    stage = rerun.stage()
    assert stage is not None
    stop_with(lambda: stage.note(entry), entry.reason or "")


def stop_with(write: Callable[[], None], reason: str) -> NoReturn:
    """Have a divergence written down and end this OS process.

    Several threads may come here at once: one does the work, the others wait for the end.
    """
    raised = rerun.raised()
    if raised is not None:
        write()
        raise raised(reason)
    if not _stopping.acquire(blocking=False):
        while True:
            time.sleep(60)
    QUIET.set(True)
    try:
        write()
        _end_recordings()
    except Exception as exc:  # noqa: BLE001 - the program stops whatever happens here
        _say(f"stopped: {reason} ({type(exc).__name__}: {exc})")
    finally:
        os._exit(EXIT_CODE)


def _say(text: str) -> None:
    sys.__stderr__.write(f"unspool: {text}\n")  # type: ignore[union-attr]
    sys.__stderr__.flush()  # type: ignore[union-attr]


def _end_recordings() -> None:
    for stream in (sys.stdout, sys.stderr):
        with guard:
            stream.flush()
    for process in reversed(list(_processes())):
        process.end("stopped: the rerun diverged", stopped=True)
