"""A broadcast channel for live events: many producers, independent subscribers, never blocking.

Producers are the agent's own threads and tasks, so sending does nothing but append: it waits for no reader, and a
reader that falls behind loses events (counted) instead of holding the agent up.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["EventChannel", "Subscription", "emit_event"]


def emit_event(channel: EventChannel | None, event: Any) -> None:
    """Send `event` to all subscribers. Never blocks, never raises; None or a closed channel ignores it."""
    if channel is not None:
        channel.send(event)


class EventChannel:
    """Hands each event to every subscription, in one order for all of them.

    Each subscription holds up to `maxsize` events not yet read; further ones are lost to it and counted. What is sent
    before anyone subscribes waits, up to `maxsize`, for the first subscription; later ones start at now. Iterating over
    the channel, with `for` or `async for`, is one subscription.

    Any thread may send, subscribe and close. A channel does not cross `fork()`: in the child, sends are ignored.
    """

    def __init__(self, maxsize: int = 256) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, got {maxsize}")
        self.maxsize = maxsize
        # Reentrant, because a signal handler, a finalizer or an audit hook may send while its own thread is in here.
        self._lock = threading.RLock()
        # Weak, so that a reader that leaves its loop early and forgets the subscription does not pile up events.
        self._subscriptions: list[weakref.ref[Subscription]] = []
        self._waiting: deque[Any] | None = deque()  # None once somebody has subscribed
        self._waiting_dropped = 0
        self._dropped = 0
        self._closed = False
        self._os_pid = os.getpid()

    @property
    def dropped(self) -> int:
        """Events lost so far, summed over subscriptions."""
        return self._dropped

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def send(self, event: Any) -> None:
        """Append `event` for every subscription that has room; see `emit_event`."""
        # After fork() another thread of the parent may have held the lock; in the child nobody will release it.
        if self._closed or os.getpid() != self._os_pid:
            return
        wakeups: list[_Wakeup] = []
        with self._lock:
            if self._closed:
                return
            if self._waiting is not None:
                if len(self._waiting) < self.maxsize:
                    self._waiting.append(event)
                else:
                    self._waiting_dropped += 1
                    self._dropped += 1
                return
            for subscription in self._alive():
                if not subscription._offer(event, wakeups):
                    self._dropped += 1
        # Outside the lock: waking an event loop runs code that is not ours.
        for wakeup in wakeups:
            wakeup.fire()

    def subscribe(self) -> Subscription:
        """A new subscription. It ends when its `close` is called or nothing refers to it any more."""
        with self._lock:
            subscription = Subscription(self, self._waiting or (), self._waiting_dropped)
            self._waiting, self._waiting_dropped = None, 0
            self._subscriptions = [weakref.ref(other) for other in self._alive()]
            self._subscriptions.append(weakref.ref(subscription))
            return subscription

    def close(self) -> None:
        """End every iteration once it has read what is buffered. Later sends are ignored; a second close, too."""
        wakeups: list[_Wakeup] = []
        with self._lock:
            self._closed = True
            for subscription in self._alive():
                subscription._wake(wakeups)
        for wakeup in wakeups:
            wakeup.fire()

    def __iter__(self) -> Subscription:
        return self.subscribe()

    def __aiter__(self) -> Subscription:
        return self.subscribe()

    def _alive(self) -> list[Subscription]:
        return [found for ref in self._subscriptions if (found := ref()) is not None]

    def _remove(self, subscription: Subscription) -> None:
        self._subscriptions = [weakref.ref(other) for other in self._alive() if other is not subscription]


class Subscription:
    """One reader's view of a channel: an iterator, sync and async, with a buffer of its own.

    Several threads or tasks may read one subscription; each event then goes to one of them. As a context manager it
    closes at the end of the block.
    """

    def __init__(self, channel: EventChannel, events: Any = (), dropped: int = 0) -> None:
        """Made by `EventChannel.subscribe`."""
        self._channel = channel
        self._lock = channel._lock
        self._changed = threading.Condition(self._lock)
        self._events: deque[Any] = deque(events)
        self._dropped = dropped
        self._closed = False
        self._sleepers: list[_Wakeup] = []

    @property
    def dropped(self) -> int:
        """Events this subscription lost because it was full; what the channel lost before its first reader included."""
        return self._dropped

    def get(self, timeout: float | None = None) -> Any:
        """The next event, waiting for it; None once the channel or the subscription is closed and all was read.

        Raises:
            TimeoutError: nothing came within `timeout` seconds. 0 does not wait, None waits for ever.
        """
        deadline = _deadline(timeout)
        with self._lock:
            while not self._events:
                if self._ended:
                    return None
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise TimeoutError(f"no event within {timeout} s")
                self._changed.wait(remaining)
            return self._events.popleft()

    async def aget(self, timeout: float | None = None) -> Any:
        """`get` for the running event loop. Cancelling it loses no event."""
        deadline = _deadline(timeout)
        import asyncio  # 20 ms at the start of every agent, for the few that wait on a channel

        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                if self._ended:
                    return None
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise TimeoutError(f"no event within {timeout} s")
                sleeper = _Wakeup(loop)
                self._sleepers.append(sleeper)
            timer = None if remaining is None else loop.call_later(remaining, sleeper.resolve)
            try:
                await sleeper.future
            finally:
                if timer is not None:
                    timer.cancel()
                with self._lock:
                    if sleeper in self._sleepers:
                        self._sleepers.remove(sleeper)

    @property
    def pending(self) -> int:
        """Events buffered now."""
        return len(self._events)

    def drain(self) -> list[Any]:
        """Take all that is buffered now, without waiting."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            return events

    def close(self) -> None:
        """Stop receiving and forget what was not read; readers waiting here end. Closing again does nothing."""
        wakeups: list[_Wakeup] = []
        with self._lock:
            self._closed = True
            self._channel._remove(self)
            self._events.clear()
            self._wake(wakeups)
        for wakeup in wakeups:
            wakeup.fire()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Any:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Any:
        event = await self.aget()
        if event is None:
            raise StopAsyncIteration
        return event

    @property
    def _ended(self) -> bool:
        return self._closed or self._channel.closed

    def _offer(self, event: Any, wakeups: list[_Wakeup]) -> bool:
        """Append `event` if there is room; the channel's lock is held."""
        if len(self._events) >= self._channel.maxsize:
            self._dropped += 1
            return False
        self._events.append(event)
        self._wake(wakeups)
        return True

    def _wake(self, wakeups: list[_Wakeup]) -> None:
        # All of them, not one: a reader that was woken may be cancelled or time out, and nobody else would be told.
        self._changed.notify_all()
        wakeups.extend(self._sleepers)
        self._sleepers.clear()


class _Wakeup:
    """A task waiting on some event loop, which may be of another thread than the sender."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def fire(self) -> None:
        """Wake the task, from any thread."""
        # A loop that was closed with this task still waiting refuses: nobody is left to wake.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.resolve)

    def resolve(self) -> None:
        """Wake the task; on its own loop only."""
        if not self.future.done():
            self.future.set_result(None)


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if timeout < 0:
        raise ValueError(f"timeout must not be negative, got {timeout}")
    return time.monotonic() + timeout
