"""Recordings as they are, those of another store and those of the reference, copied in under their own names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from unspool.errors import RecordingActive, UnspoolError
from unspool.interop.sources import ImportFault
from unspool.interop.writing import WrittenProcess
from unspool.recording.answered import ANSWERED_NAME
from unspool.recording.eventlog import EVENTS_NAME
from unspool.recording.metadata import METADATA_NAME
from unspool.recording.reader import RecordReader
from unspool.store import Store, check_id

__all__ = ["copy_recording", "is_recording", "recordings_in"]

# Everything a recording may consist of; nothing else in the folder is taken along. `nondet.jsonl` is never exported.
_NAMES: Final = (
    *(EVENTS_NAME, "messages.jsonl", "spans.jsonl", "open.jsonl", "stdout.jsonl", ANSWERED_NAME),
    METADATA_NAME,
)
_COPY_BYTES: Final = 1 << 20


def is_recording(folder: Path) -> bool:
    """Whether a folder holds a recording."""
    return (folder / EVENTS_NAME).is_file() and (folder / METADATA_NAME).is_file()


def recordings_in(folder: Path) -> list[Path]:
    """The recordings in a folder: itself, those in it, or those of a store (`.unspool`, the reference's `.rnix`)."""
    if is_recording(folder):
        return [folder]
    found: list[Path] = []
    for place in (folder, folder / "records"):
        try:
            found += [one for one in sorted(place.iterdir()) if one.is_dir() and is_recording(one)]
        except OSError:
            continue
    return found


def copy_recording(folder: Path, store: Store) -> WrittenProcess | None:
    """Copy a recording into the store under its own id; None if one of this id is there already.

    Raises:
        ImportFault: it cannot be read, is still being written, or its id is none.
        StoreError: the store does not take it.
    """
    folder = folder.resolve()
    try:
        record_id = check_id("recording", folder.name)
        with RecordReader(folder) as reader:
            metadata, count = reader.metadata, reader.event_count
    except RecordingActive:
        raise ImportFault(f"{folder}: still being written; import it when it has ended") from None
    except UnspoolError as exc:
        raise ImportFault(str(exc)) from exc
    store.ensure()
    target = store.records / record_id
    if target.exists():
        return None
    starting = store.records / f".new-{record_id}"
    try:
        starting.mkdir(mode=0o700)
        for name in _NAMES:
            if (folder / name).is_file() and not (folder / name).is_symlink():
                _copy(folder / name, starting / name)
        starting.rename(target)
    except OSError as exc:
        import shutil

        shutil.rmtree(starting, ignore_errors=True)
        raise ImportFault(f"cannot copy {folder} to {target}: {exc.strerror or exc}") from exc
    store.use_pid(metadata.pid)
    return WrittenProcess(record_id, metadata.pid, metadata.intent, metadata.parent, count, -1, -1, [])


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as write:
        while piece := read.read(_COPY_BYTES):
            write.write(piece)
