"""Taking recordings out of a store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from unspool.catalog.catalog import Catalog
from unspool.catalog.database import NAME
from unspool.cli.prices import PUBLIC
from unspool.errors import InvalidID, StoreError
from unspool.events import RecordMetadata
from unspool.recording.address import newest_first
from unspool.recording.writerfiles import STARTING
from unspool.store import Store, check_id, writer_is_alive

__all__ = ["forget", "remove_leftovers", "remove_recordings", "size_of"]

_TRASH = "trash"
_STARTING_S = 60


def size_of(folder: Path) -> int:
    """Bytes of the files in a recording's folder."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:  # removed meanwhile
        return total
    return total


def remove_recordings(store: Store, records: Iterable[RecordMetadata]) -> None:
    """Remove recordings, and the traces that no other recording is part of.

    Each disappears in one step: it is moved aside first, so that a crash leaves no half of one in the lists; what an
    earlier crash left aside is removed too. Whether a writer is alive is the caller's to ask.

    Raises:
        StoreError: one cannot be removed; those before it are gone.
    """
    trash = store.path / _TRASH
    traces = set()
    try:
        trash.mkdir(mode=0o700, exist_ok=True)
        for metadata in records:
            name = check_id("recording", metadata.record_id)
            (store.records / name).rename(trash / name)
            if metadata.trace_id is not None:
                traces.add(metadata.trace_id)
        shutil.rmtree(trash)
        _remove_traces(store, traces)
    except OSError as exc:
        raise StoreError(f"cannot remove from {store.path}: {exc.strerror or exc}: {exc.filename}") from exc


def forget(store: Store, names: Sequence[str]) -> None:
    """Take removed recordings out of the catalog, with the texts that no other recording has."""
    if (store.path / NAME).exists():
        with Catalog(store, PUBLIC) as catalog:
            catalog.forget(names)


def remove_leftovers(store: Store) -> None:
    """Remove folders of recordings whose start was cut off, which are in no list: their writer died making them."""
    try:
        with os.scandir(store.records) as entries:
            folders = [entry.path for entry in entries if entry.name.startswith(STARTING) and entry.is_dir()]
    except OSError:  # no store yet
        return
    for folder in folders:
        # One made this minute may be about to get its lock.
        if not writer_is_alive(folder) and time.time() - os.stat(folder).st_mtime > _STARTING_S:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_traces(store: Store, trace_ids: set[str]) -> None:
    folders = {}
    for trace_id in trace_ids:
        try:
            folder = store.traces / check_id("trace", trace_id)
        except InvalidID:  # not one of ours
            continue
        if folder.is_dir():
            folders[trace_id] = folder
    if folders:
        for metadata in newest_first(store):
            folders.pop(metadata.trace_id or "", None)
        for folder in folders.values():
            shutil.rmtree(folder)
