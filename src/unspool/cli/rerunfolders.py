"""Which folders of reruns are in use, which are kept, and which a supervisor that was killed has left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final

from unspool.cli.terminal import note
from unspool.errors import InvalidID, StoreError
from unspool.replay.rerun import RERUNS_NAME
from unspool.store import LOCK_NAME, Store, check_id, writer_is_alive

__all__ = ["hold_lock", "mark_kept", "remove_left_reruns"]

_KEPT_NAME: Final = "kept"  # holds the id of the rerun's recording: the folder goes with it
_NEW_S: Final = 3600.0  # one that was written to this hour may be about to get its lock, or its program may still run


def hold_lock(folder: Path) -> int:
    """Show that the supervisor of a rerun lives, until the file descriptor is closed or this process is gone.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        shutil.rmtree(folder, ignore_errors=True)
        raise StoreError(f"cannot write to {folder}: {exc.strerror or exc}. Nothing was started.") from exc
    with contextlib.suppress(OSError):  # a file system without locks: the folder's age is all that protects it
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def mark_kept(folder: Path, record_id: str | None) -> None:
    """Keep the folder as long as the recording of its rerun is there; without one, for good."""
    try:
        (folder / _KEPT_NAME).write_text(record_id or "", encoding="utf-8")
    except OSError as exc:
        note(f"unspool: {folder} may be removed by gc: {exc.strerror or exc}")


def remove_left_reruns(store: Store) -> None:
    """Remove the folders of reruns whose supervisor died, and kept ones whose recording is gone."""
    try:
        with os.scandir(store.path / RERUNS_NAME) as entries:
            folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # there was no rerun yet
        return
    for folder in folders:
        if not writer_is_alive(folder) and time.time() - _last_written(folder) > _NEW_S and not _is_kept(folder, store):
            shutil.rmtree(folder, ignore_errors=True)


def _last_written(folder: Path) -> float:
    """When anything in it was last written, in seconds since the epoch."""
    try:
        with os.scandir(folder) as entries:
            return max([folder.stat().st_mtime, *(entry.stat(follow_symlinks=False).st_mtime for entry in entries)])
    except OSError:  # removed meanwhile
        return time.time()


def _is_kept(folder: Path, store: Store) -> bool:
    try:
        record_id = (folder / _KEPT_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:  # the usual folder
        return False
    try:
        return (store.records / check_id("recording", record_id)).is_dir()
    except InvalidID:  # empty, or not written by us
        return True
