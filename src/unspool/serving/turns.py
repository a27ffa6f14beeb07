"""Answers in the order in which they were recorded, however fast they are found.

Two requests that were under way at the same time got their answers in some order, and what the program did next may
hang on it (`as_completed`, a list that tasks append to). So an answer is held back until every request that had left
before it came has left again, and every earlier answer has been given. Nothing is held back for long: a request that
does not come, because the program has changed, ends all waiting.
"""

from __future__ import annotations

import heapq
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from unspool.serving.plan import Offer

__all__ = ["Turn", "Turns"]

# In which nothing at all has moved, or as long as the answer took when it was recorded. Paid once by a program that
# has changed; a loaded machine stalls for longer than a second.
_PATIENCE_S: Final = 3.0


class Turns:
    """The order of answers within one recording, for the one OS process that replays it.

    Args:
        offers: its exchanges.
        is_settled: whether an exchange needs no more waiting for: it was asked for, or lies inside a served tool.
        on_timeout: told of the exchange that was waited for in vain; from then on nothing is held back.
    """

    def __init__(
        self, offers: Iterable[Offer], is_settled: Callable[[Offer], bool], on_timeout: Callable[[Offer], None]
    ) -> None:
        self._awaited = deque(sorted(offers, key=lambda one: (one.started, one.number)))
        self._is_settled = is_settled
        self._on_timeout = on_timeout
        self._lock = threading.Lock()
        self._queue: list[tuple[int, int, Turn]] = []
        self._waking: Turn | None = None
        self._given_up = False
        self._moves = 0  # requests that came and turns that were taken

    def arrive(self, offer: Offer) -> Turn | None:
        """The request of this exchange has come; its turn to wait for, None if it is now."""
        if self._given_up:
            return None
        with self._lock:
            self._moves += 1
            if not self._queue and self._waking is None and self._may_be_given(offer):
                return None
            turn = Turn(self, offer)
            heapq.heappush(self._queue, (_answered(offer), offer.number, turn))
            self._call_next()
            return turn

    def give_up(self) -> None:
        """Hold nothing back any more."""
        with self._lock:
            self._given_up = True
            while self._queue:
                heapq.heappop(self._queue)[2].come()

    def time_out(self) -> None:
        """A turn did not come in time."""
        missing = next((one for one in self._awaited if not self._is_settled(one)), None)
        if missing is not None and not self._given_up:
            self._on_timeout(missing)
        self.give_up()

    def leave(self, turn: Turn) -> None:
        """A turn is being taken, or will not be: the next may be called."""
        with self._lock:
            self._moves += 1
            if self._waking is turn:
                self._waking = None
            else:
                self._queue = [item for item in self._queue if item[2] is not turn]
                heapq.heapify(self._queue)
            self._call_next()

    def _call_next(self) -> None:
        # One at a time: the next is called when this one is running again, else two threads would race.
        if self._waking is None and self._queue and self._may_be_given(self._queue[0][2].offer):
            self._waking = heapq.heappop(self._queue)[2]
            self._waking.come()

    def _may_be_given(self, offer: Offer) -> bool:
        """Whether all that had been asked before this answer came has been asked again."""
        before = _answered(offer)
        while self._awaited and self._is_settled(self._awaited[0]):
            self._awaited.popleft()
        for other in self._awaited:
            if other.started >= before:
                return True
            # What its own task asks comes after it, or has been left out, which is noticed elsewhere.
            if other.task != offer.task and not self._is_settled(other):
                return False
        return True


class Turn:
    """The place of one answer in the order."""

    __slots__ = ("_come", "_turns", "offer")

    def __init__(self, turns: Turns, offer: Offer) -> None:
        self.offer = offer
        self._turns = turns
        self._come: Callable[[], None] | bool = False  # what wakes the waiting task; True: it is its turn

    def come(self) -> None:
        """It is its turn. Called under the lock of the turns."""
        wake, self._come = self._come, True
        if callable(wake):
            wake()

    def wait(self) -> None:
        """Block this thread until it is its turn."""
        event = threading.Event()
        if self._wakes(event.set):
            moves = -1
            while moves != self._turns._moves:
                moves = self._turns._moves
                if event.wait(_patience_s(self.offer)):
                    break
            else:
                self._turns.time_out()
        self._turns.leave(self)

    async def async_wait(self) -> None:
        """Let other tasks run until it is its turn; on a loop that is not asyncio's the order is left to itself."""
        asyncio = sys.modules.get("asyncio")
        loop: Any = None
        try:
            loop = asyncio.get_running_loop() if asyncio is not None else None
        except RuntimeError:
            loop = None
        try:
            if asyncio is None or loop is None:
                return
            event = asyncio.Event()
            if self._wakes(lambda: loop.call_soon_threadsafe(event.set)):
                moves = -1
                while moves != self._turns._moves:
                    moves = self._turns._moves
                    try:
                        await asyncio.wait_for(event.wait(), _patience_s(self.offer))
                    except TimeoutError:
                        continue
                    break
                else:
                    self._turns.time_out()
        finally:
            self._turns.leave(self)

    def _wakes(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called when it is its turn; False if it is already."""
        with self._turns._lock:
            if self._come is True:
                return False
            self._come = wake
            return True


def _answered(offer: Offer) -> int:
    return offer.answered or offer.ended or offer.started


def _patience_s(offer: Offer) -> float:
    return max(_PATIENCE_S, (_answered(offer) - offer.started) / 1e9)
