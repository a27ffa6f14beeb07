"""What takes long is worked out once, in the background, and kept while the files it came from are the same."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

__all__ = ["Finding", "Workshop"]

_KEPT: Final = 24
_WAIT_S: Final = 0.9  # how long a page waits for a first result before it says that it is being worked out
_WAIT_AGAIN_S: Final = 0.05  # and for a newer one, when there is an older one to show meanwhile

T = TypeVar("T")


@dataclass
class Finding(Generic[T]):
    """A result. `value` is None while there is none; `is_current`: it is that of the files as they are."""

    value: T | None
    is_current: bool


@dataclass
class _Order:
    signature: object
    future: Future[Any]
    before: Any = None  # the last result of other files


class Workshop:
    """Results by key. Safe to use from several threads."""

    def __init__(self, *, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._orders: OrderedDict[Hashable, _Order] = OrderedDict()
        self._workers = ThreadPoolExecutor(2, "unspool-web")

    def order(self, key: Hashable, signature: object, work: Callable[[], Any], *, after_s: float = 0.0) -> None:
        """Have something worked out that a page will probably ask for.

        Args:
            after_s: when to begin, so that the page that is being made comes first.
        """
        if not after_s:
            self._order(key, signature, work)
            return
        timer = threading.Timer(after_s, self._order, (key, signature, work))
        timer.daemon = True
        timer.start()

    def ask(
        self, key: Hashable, signature: object, work: Callable[[], T], *, wait_s: float | None = None
    ) -> Finding[T]:
        """The result of `work`, run at most once for a signature.

        Args:
            wait_s: how long to wait for it; by default about as long as a person does not mind.

        Raises:
            Exception: whatever `work` raised; the next question runs it again.
        """
        order = self._order(key, signature, work)
        if wait_s is None:
            wait_s = self._wait_s if order.before is None else _WAIT_AGAIN_S
        wait([order.future], wait_s)
        if not order.future.done():
            return Finding(order.before, False)
        if order.future.exception() is not None:
            with self._lock:
                if self._orders.get(key) is order:
                    del self._orders[key]
        return Finding(order.future.result(), order.signature == signature)

    def _order(self, key: Hashable, signature: object, work: Callable[[], Any]) -> _Order:
        with self._lock:
            order = self._orders.get(key)
            # One that is under way is not begun again when the files grow meanwhile: it would never end.
            if order is None or (order.signature != signature and order.future.done()):
                before = None
                if order is not None and order.future.exception() is None:
                    before = order.future.result()
                order = self._orders[key] = _Order(signature, self._workers.submit(work), before)
            self._orders.move_to_end(key)
            while len(self._orders) > _KEPT:
                self._orders.popitem(last=False)
            return order
