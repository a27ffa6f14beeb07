"""Reading aside: what takes time is done in a thread with a reader of its own, so that keys are answered meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from unspool.recording.reader import RecordReader

__all__ = ["Desk"]

T = TypeVar("T")


class Desk:
    """One thread that works on one recording. A newer question calls off the one being worked on.

    Args:
        folder: the recording's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="unspool-desk")
        self._reader: RecordReader | None = None
        self._stop = threading.Event()

    async def ask(self, work: Callable[[RecordReader, threading.Event], T]) -> T:
        """The answer of `work`, which is given a reader and an event that is set once nobody waits for it.

        Raises:
            Cancelled: by work that looks at the event.
        """
        self.call_off()
        stop = self._stop = threading.Event()

        def run() -> T:
            if self._reader is None:
                self._reader = RecordReader(self._folder, live=True)
            self._reader.refresh()
            return work(self._reader, stop)

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    def call_off(self) -> None:
        """Nobody waits for the answer any more."""
        self._stop.set()

    def close(self) -> None:
        """Call off what is being done, wait for that, and close the reader."""
        self.call_off()
        self._pool.shutdown(cancel_futures=True)
        if self._reader is not None:
            self._reader.close()
            self._reader = None
