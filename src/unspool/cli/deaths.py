"""When the OS processes of a run died: told by the kernel, because one that is killed cannot write it down itself."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from datetime import UTC, datetime

from unspool.events import RecordMetadata
from unspool.store import boot_id, os_process_start

__all__ = ["Deaths"]


class Deaths:
    """Watches processes, not only children, through file descriptors of theirs (Linux; elsewhere nothing is known).

    `times` has the instant at which each watched process was seen to end, by its number.
    """

    def __init__(self) -> None:
        self.times: dict[int, datetime] = {}
        self._poll = select.poll() if hasattr(os, "pidfd_open") else None
        self._open: dict[int, int] = {}  # the number of the process, by file descriptor
        self._seen: set[tuple[int | None, int | None]] = set()

    def watch(self, records: Iterable[RecordMetadata]) -> None:
        """Watch those of these processes that run on this machine and are still there."""
        boot = boot_id()
        for one in records:
            key = (one.os_pid, one.os_start)
            if one.os_pid is None or one.boot_id != boot or key in self._seen:
                continue
            self._seen.add(key)
            if self._poll is None:
                continue
            try:
                fd = os.pidfd_open(one.os_pid)
            except OSError:  # it is gone already, or there are no more file descriptors: its death stays unknown
                continue
            if os_process_start(one.os_pid) != one.os_start:  # its number is another's now
                os.close(fd)
                continue
            self._open[fd] = one.os_pid
            self._poll.register(fd, select.POLLIN)

    def wait(self, seconds: float, wake_fd: int) -> bool:
        """Note who ends within this time, or until `wake_fd` can be read; whether it can."""
        poll = self._poll or select.poll()
        poll.register(wake_fd, select.POLLIN)
        found = [fd for fd, _ in poll.poll(seconds * 1000)]
        now = datetime.now(UTC)
        for fd in found:
            if fd in self._open:
                poll.unregister(fd)
                os.close(fd)
                self.times[self._open.pop(fd)] = now
        return wake_fd in found

    def close(self) -> None:
        """Watch nobody any more."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()
        self._poll = None
