"""The files of a recording that is being written, and the lock that shows its writer is alive."""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from pathlib import Path

from unspool.errors import StoreError
from unspool.events import RecordMetadata
from unspool.recording.appender import Appender, open_apart
from unspool.recording.eventlog import EVENTS_NAME
from unspool.recording.metadata import write_metadata
from unspool.recording.pool import POOL_NAME
from unspool.store import LOCK_NAME, new_record_id

__all__ = ["STARTING", "WriterFiles"]

STARTING = ".new-"  # before the name of a folder that is no recording yet

_open_files: weakref.WeakSet[WriterFiles] = weakref.WeakSet()
# Held while files are made and while the process forks, so that the child knows every lock file it inherits.
_making = threading.RLock()


class WriterFiles:
    """A new recording's folder with its open files. It appears under its name when everything is in it.

    A forked child closes its copies: an inherited lock would make a dead writer look alive.

    Args:
        base: the folder of recordings; created if missing.
        metadata: written into the folder; gets its `record_id` here.

    Raises:
        OSError, StoreError: it cannot be made; nothing is left behind.
    """

    def __init__(self, base: Path, metadata: RecordMetadata) -> None:
        self._lock_fd = -1
        self._appenders: list[Appender] = []
        with _making:
            _open_files.add(self)
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            starting, self.folder = _reserve_folder(base, metadata.pid)
            metadata.record_id = self.folder.name
            try:
                # The lock comes first: whoever sees the metadata may already ask whether the writer is alive.
                self._lock_fd = open_apart(starting / LOCK_NAME, os.O_RDWR | os.O_CREAT)
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
                self.events = self._appender(starting / EVENTS_NAME)
                self.pool = self._appender(starting / POOL_NAME)
                write_metadata(starting, metadata)
                os.rename(starting, self.folder)
            except BaseException:
                self.close()
                import shutil  # slow to import, and not needed otherwise

                shutil.rmtree(starting, ignore_errors=True)
                raise

    def _appender(self, path: Path) -> Appender:
        appender = Appender(path)
        self._appenders.append(appender)
        return appender

    def sync(self) -> None:
        """Wait until the disk has what was written (power loss); pool before events.

        Raises:
            OSError: the disk reports a fault.
        """
        self.pool.sync()
        self.events.sync()

    def close(self) -> None:
        """Close the files; the lock last, so that nobody sees a dead writer and an unfinished status."""
        for appender in self._appenders:
            appender.close()
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)  # in a forked child this leaves the parent's lock alone; unlocking would not

    def __del__(self) -> None:
        if getattr(self, "_lock_fd", -1) >= 0:
            self.close()


def _reserve_folder(base: Path, pid: int) -> tuple[Path, Path]:
    """A new folder to fill, and the free name it will get; both are nobody else's."""
    for _ in range(100):
        folder = base / new_record_id(pid)
        starting = base / f"{STARTING}{folder.name}"
        try:
            starting.mkdir(mode=0o700)
        except FileExistsError:
            continue
        if not folder.exists():
            return starting, folder
        starting.rmdir()
    raise StoreError(f"no free record id for PID {pid} in {base} after 100 tries")


def _before_fork() -> None:
    _making.acquire()


def _after_fork_in_parent() -> None:
    _making.release()


def _after_fork_in_child() -> None:
    global _making
    _making = threading.RLock()
    for files in list(_open_files):
        files.close()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
