"""Recording generators: their code runs inside a scope, that of whoever consumes them does not.

A context variable set in the body of a generator is seen by its consumer between two items, so the scope is entered for
each step and left again. Everything else is passed through: what is sent and thrown in, and the return value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from unspool.capture.flow import FLOW, Flow, leave

__all__ = ["Run", "wrap_async_generator", "wrap_generator"]


class Run(Protocol):
    """One recorded iteration."""

    flow: Flow | None
    instead: Any  # an iterator that takes the place of the generator, which then does not run; None: it runs
    outcome: Any  # what a generator returned

    def gave(self, item: Any) -> None:
        """The generator gave an item."""

    def ended(self, error: BaseException | None) -> None:
        """It is over: None when it came to its end or its consumer had enough."""


Begin = Callable[[tuple[Any, ...], dict[str, Any]], Run | None]


def wrap_generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """`function` with every iteration reported to what `begin` gives; None: this one is not recorded."""

    @functools.wraps(function)
    def iterate(*args: Any, **kwargs: Any) -> Any:
        items = function(*args, **kwargs)
        run = begin(args, kwargs)
        if run is None:
            return (yield from items)
        if run.instead is not None:
            return (yield from run.instead)
        step, value = items.send, None
        try:
            while True:
                token = FLOW.set(run.flow)
                try:
                    item = step(value)
                except StopIteration as end:
                    run.outcome = end.value
                    run.ended(None)
                    return end.value
                finally:
                    leave(FLOW, token)
                run.gave(item)
                try:
                    value = yield item
                    step = items.send
                except GeneratorExit:
                    items.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown into the generator, which decides
                    step, value = items.throw, error
        except GeneratorExit:
            run.ended(None)
            raise
        except BaseException as error:
            run.ended(error)
            raise

    return iterate


def wrap_async_generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """`wrap_generator` for asynchronous generators."""

    @functools.wraps(function)
    async def iterate(*args: Any, **kwargs: Any) -> Any:
        items = function(*args, **kwargs)
        run = begin(args, kwargs)
        if run is not None and run.instead is not None:
            async for item in run.instead:
                yield item
            return
        step, value = items.asend, None
        try:
            while True:
                token = FLOW.set(run.flow) if run is not None else None
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    if run is not None:
                        run.ended(None)
                    return
                finally:
                    if token is not None:
                        leave(FLOW, token)
                if run is not None:
                    run.gave(item)
                try:
                    value = yield item
                    step = items.asend
                except GeneratorExit:
                    await items.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown into the generator, which decides
                    step, value = items.athrow, error
        except GeneratorExit:
            if run is not None:
                run.ended(None)
            raise
        except BaseException as error:
            if run is not None:
                run.ended(error)
            raise

    return iterate
