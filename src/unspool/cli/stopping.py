"""Ending what is left of a program: its process, and the processes it started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from typing import Final

from unspool.events import RecordMetadata, RecordStatus
from unspool.store import boot_id, os_process_start

__all__ = ["stop_processes"]

_GRACE_S: Final = 2.0  # between asking and making
_POLL_S: Final = 0.02


def stop_processes(root: int | None, records: Iterable[RecordMetadata]) -> int:
    """Ask the processes of a program to end, then make them; gives how many there were.

    Args:
        root: the OS process that was started, with its children; None if it has ended already.
        records: recordings of the program's processes: those whose parents have ended are found by them.
    """
    left = _alive(root, records)
    found = len(left)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for os_pid, start in left.items():
            _send(os_pid, start, number)
        deadline = time.monotonic() + _GRACE_S
        while left and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            left = {os_pid: start for os_pid, start in left.items() if _is_running(os_pid, start)}
        if not left:
            break
    return found


def _alive(root: int | None, records: Iterable[RecordMetadata]) -> dict[int, int | None]:
    """OS processes and when each started, so that a later one with the same number is left alone."""
    found: dict[int, int | None] = {}
    boot = boot_id()
    for one in records:
        if one.status is RecordStatus.RECORDING and one.os_pid and one.os_start and one.boot_id == boot:
            found[one.os_pid] = one.os_start
    if root is not None:
        found[root] = os_process_start(root)
    parents = _parents()
    waiting = list(found)
    while waiting:
        parent = waiting.pop()
        for child in parents.get(parent, ()):
            if child not in found:
                found[child] = os_process_start(child)
                waiting.append(child)
    return {os_pid: start for os_pid, start in found.items() if _is_running(os_pid, start)}


def _parents() -> dict[int, list[int]]:
    """Children of each OS process; empty where the system has no /proc."""
    children: dict[int, list[int]] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return children
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        children.setdefault(parent, []).append(int(name))
    return children


def _is_running(os_pid: int, start: int | None) -> bool:
    if start is None:
        try:
            os.kill(os_pid, 0)
        except OSError:
            return False
        return True
    return os_process_start(os_pid) == start and not _is_zombie(os_pid)


def _is_zombie(os_pid: int) -> bool:
    try:
        with open(f"/proc/{os_pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return True


def _send(os_pid: int, start: int | None, number: int) -> None:
    if _is_running(os_pid, start):
        try:
            os.kill(os_pid, number)
        except OSError:  # it has ended meanwhile, or is another user's
            return
