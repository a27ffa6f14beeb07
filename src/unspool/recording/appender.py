"""A file that only ever holds whole appends."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path

__all__ = ["Appender", "open_apart"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


_APART = 800  # below the 1024 that many systems allow


def open_apart(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file under a number far from those the program gets for its own.

    A program that closes every descriptor (daemons do) gets the low numbers again for files of its own; what we write
    afterwards must fail, not end up in one of them.

    Raises:
        OSError: it cannot be opened.
    """
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    least = _APART if limit == resource.RLIM_INFINITY or limit > 2 * _APART else limit * 3 // 4
    try:
        apart = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    except OSError:
        return fd
    os.close(fd)
    return apart


class Appender:
    """Appends to a new file; `size` is the offset after the last whole append.

    One thread at a time. What `append` returned for is in the kernel: it survives the death of this process.
    """

    def __init__(self, path: Path) -> None:
        self._fd = open_apart(path, _FLAGS)
        self.size = os.fstat(self._fd).st_size

    def append(self, data: bytes) -> None:
        """Write all of `data` or nothing.

        An exception that comes from outside (KeyboardInterrupt) may arrive after the write; `size` tells.

        Raises:
            OSError: the disk took none of it, or only a part, which was cut off again.
        """
        length = len(data)
        try:
            written = os.write(self._fd, data)
            # Large writes may be short without a fault (2 GiB limit, a signal): go on before giving up.
            while written < length:
                written += os.write(self._fd, memoryview(data)[written:])
        except BaseException:
            self._settle(length)
            raise
        self.size += length

    def _settle(self, length: int) -> None:
        """After an exception the file tells how far the write came: keep a whole one, cut off a part."""
        size = os.fstat(self._fd).st_size
        if size == self.size + length:
            self.size = size
        elif size > self.size:
            os.ftruncate(self._fd, self.size)

    def is_removed(self) -> bool:
        """Whether the file has no name any more: writes succeed and are gone."""
        return os.fstat(self._fd).st_nlink == 0

    def sync(self) -> None:
        """Wait until the disk has it all."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
