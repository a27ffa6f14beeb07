"""Which recordings answered requests of a trace that was begun elsewhere: `traces/<trace-id>/answered`, an id a line.

Only a finding aid, so that a trace is put together without a look into every recording of the store: what belongs
where stands in the events (`traceparent` of a `Span`). Lines of recordings that are gone mean nothing.
"""

from __future__ import annotations

import contextlib
import os

from unspool.errors import InvalidID
from unspool.store import Store, check_id

__all__ = ["answered_by", "note_answered"]

_NAME = "answered"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def note_answered(store: Store, trace_id: str, record_id: str) -> None:
    """Note that a recording holds the answer to a request of this trace.

    Raises:
        InvalidID: the trace id could leave the folder.
        OSError: the disk did not take the line.
    """
    folder = store.traces / check_id("trace", trace_id)
    # Two steps, because `parents` makes the folders above with the modes of the umask.
    store.traces.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder / _NAME, _FLAGS, 0o600)
    try:
        os.write(fd, record_id.encode() + b"\n")
    finally:
        os.close(fd)


def answered_by(store: Store, trace_id: str) -> list[str]:
    """Ids of the recordings in the store that answered requests of a trace, each once, the first to do so first.

    Raises:
        InvalidID: the trace id could leave the folder.
    """
    try:
        lines = (store.traces / check_id("trace", trace_id) / _NAME).read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for record_id in dict.fromkeys(lines):
        with contextlib.suppress(InvalidID):
            if (store.records / check_id("record", record_id)).is_dir():
                found.append(record_id)
    return found
