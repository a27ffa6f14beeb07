"""Building large structures without the garbage collector looking at them again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["gc_paused"]

_MANY: Final = 100_000  # objects made while it was held back


@contextmanager
def gc_paused() -> Iterator[None]:
    """Hold back the cyclic garbage collector while much is made and nothing is dropped.

    Measured with benchmarks/blame.py: of the time for the tree of a million spans it takes half, and its share grows
    with what else the process holds. Reference counting goes on; cycles are collected afterwards: after much was made
    by a full collection, else by the next of the young.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if gc.get_count()[0] > _MANY and not gc.get_freeze_count():
                # What was made is there to stay. Otherwise the next object anybody makes has all of it looked at.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
