"""`unspool.on_alert`: a program is told when the context of one of its model calls gets full."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from unspool.events import PID, LLMResponseData

__all__ = ["BUDGET_VARIABLE", "ContextAlert", "counted", "on_alert"]

BUDGET_VARIABLE: Final = "UNSPOOL_BUDGET"
_CRITICAL: Final = 0.9


class ContextAlert(msgspec.Struct, frozen=True):
    """A context that is nearly full.

    Attributes:
        level: `warning`, or `critical` with less than a tenth of the budget left.
        call: number of the model call whose answer brought it there; `lane` its conversation.
        tokens_used: of its prompt and its answer, as the provider counted them: the next context holds both.
    """

    level: Literal["warning", "critical"]
    pid: PID
    call: int | None
    lane: int | None
    model: str
    tokens_used: int
    budget: int

    @property
    def usage(self) -> float:
        """Used share of the budget."""
        return self.tokens_used / self.budget


Callback: TypeAlias = Callable[[ContextAlert], object]


_lock = threading.Lock()


def _renew() -> None:
    """After fork, in the child: another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)


class _Subscription:
    """A callback and what it was told last of each conversation."""

    def __init__(self, callback: Callback, budget: int, warn: float) -> None:
        self._callback, self._budget, self._warn = callback, budget, warn
        self._told: dict[tuple[PID, int | None], int] = {}
        self._has_failed = False

    def counted(self, pid: PID, lane: int | None, call: int | None, model: str, used: int) -> None:
        share = used / self._budget
        level = 2 if share > _CRITICAL else 1 if share >= self._warn else 0
        with _lock:
            before = self._told.get((pid, lane), 0)
            self._told[pid, lane] = level  # after a compaction it may be told again
        if level > before:
            name: Literal["warning", "critical"] = "critical" if level == 2 else "warning"
            try:
                self._callback(ContextAlert(name, pid, call, lane, model, used, self._budget))
            except Exception as exc:  # noqa: BLE001 - the agent called a model, and gets its answer
                self._report(exc)

    def _report(self, exc: Exception) -> None:
        if not self._has_failed and sys.stderr is not None:
            self._has_failed = True
            print(f"unspool: a callback of on_alert raised {type(exc).__name__}: {exc}", file=sys.stderr)


_subscriptions: list[_Subscription] = []


def on_alert(callback: Callback, *, budget: int | None = None, warn: float = 0.8) -> Callable[[], None]:
    """Call `callback` when a context of this program reaches `warn` of the budget, and when a tenth of it is left.

    Once for each level and conversation, again after the context has become smaller; in the thread (of an asynchronous
    program: on the event loop) that made the call, as soon as the provider's count is there, so a callback should be
    quick, and may be called by several threads at once. It may call a model itself. What it raises does not reach the
    program: it is reported once on stderr. Nothing is called while nothing is recorded.

    Args:
        budget: tokens that fit; by default that of `unspool run --budget`.
        warn: share of it at which to warn.

    Returns:
        A function that ends the subscription.

    Raises:
        ValueError: no budget is given (the windows of models are not known here), or a value is out of range.
    """
    if budget is None:
        text = os.environ.get(BUDGET_VARIABLE, "")
        if not text.isdecimal():
            raise ValueError("on_alert needs to know what fits: give budget=…, or start with unspool run --budget")
        budget = int(text)
    if budget < 1 or not 0 < warn <= 1:
        raise ValueError(f"budget must be at least 1 and warn in (0, 1], got {budget} and {warn}")
    subscription = _Subscription(callback, budget, warn)
    _subscriptions.append(subscription)

    def end() -> None:
        if subscription in _subscriptions:
            _subscriptions.remove(subscription)

    return end


def counted(pid: PID, lane: int | None, call: int | None, data: LLMResponseData) -> None:
    """A model call has been answered."""
    if not _subscriptions or data.request_tokens is None:
        return
    used = data.request_tokens + (data.response_tokens or 0)
    for subscription in _subscriptions.copy():  # a callback may end it
        subscription.counted(pid, lane, call, data.model or "", used)
