"""`@unspool.tool`: a function whose calls are recorded, with arguments, result, error and time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from unspool.capture import rerun
from unspool.capture.flow import current_flow
from unspool.capture.generators import wrap_async_generator, wrap_generator
from unspool.capture.toolrun import ITEMS_MAX, ToolRun, begin, perform, perform_async
from unspool.events import SyscallEventData

__all__ = ["tool"]

P = ParamSpec("P")
R = TypeVar("R")


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def tool(*, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def tool(function: Any = None, /, *, name: str | None = None) -> Any:
    """Record every call of a function as a tool call.

    Works on plain and async functions, methods, static and class methods, and on generators (recorded when they end,
    with what they gave). When nothing is being recorded the call costs one look-up. Results and exceptions pass
    unchanged.

        @unspool.tool
        def search(query: str) -> list[str]: ...

        @unspool.tool(name="web_search")
        async def search(query: str) -> list[str]: ...

    Args:
        name: the tool's name, the function's own by default; it appears as `/dev/tool/<name>`.
    """
    if function is None:
        return lambda later: tool(later) if name is None else _wrap(later, name)
    return _wrap(function, name)


def _wrap(function: Any, name: str | None) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_wrap(function.__func__, name))
    if not callable(function):
        raise TypeError(f"@unspool.tool goes on a function, not on {type(function).__name__}")
    label: str = name or getattr(function, "__name__", None) or type(function).__name__
    bind = _binder(function)

    def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolRun | None:
        return None if current_flow() is None else begin(label, lambda: bind(args, kwargs))

    def restore(call: SyscallEventData) -> Any:
        from unspool.serving.rebuild import rebuild_value, return_hint

        hint = return_hint(getattr(function, "__wrapped__", function))
        return rebuild_value(call.result, call.result_type, hint, call.result_parts)

    if inspect.isasyncgenfunction(function):
        return wrap_async_generator(function, _starter(function, start, is_async=True))
    if inspect.isgeneratorfunction(function):
        return wrap_generator(function, _starter(function, start, is_async=False))
    if _is_coroutine_function(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            run = start(args, kwargs)
            if run is None:
                return await function(*args, **kwargs)
            return await perform_async(run, lambda: function(*args, **kwargs), restore)

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        run = start(args, kwargs)
        if run is None:
            return function(*args, **kwargs)
        return perform(run, lambda: function(*args, **kwargs), restore)

    return call


def _starter(
    function: Any, start: Callable[[tuple[Any, ...], dict[str, Any]], ToolRun | None], *, is_async: bool
) -> Callable[[tuple[Any, ...], dict[str, Any]], ToolRun | None]:
    """`start` for a generator: in a rerun its run brings the recorded items along."""

    def restore(call: SyscallEventData) -> Any:
        from unspool.serving.rebuild import CannotRebuild, item_hint, rebuild_value, return_hint

        if isinstance(call.result, list) and len(call.result) >= ITEMS_MAX:
            raise CannotRebuild(f"it gave more than the {ITEMS_MAX:,} items that are recorded")
        hint = item_hint(return_hint(function))
        hint = list if hint is Any else list[hint]  # type: ignore[valid-type]  # made of what is annotated
        return rebuild_value(call.result, call.result_type, hint, call.result_parts)

    def start_serving(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolRun | None:
        run = start(args, kwargs)
        if run is not None and rerun.serves_tools():
            run.serve_items(restore, is_async=is_async)
        return run

    return start_serving


def _is_coroutine_function(function: Any) -> bool:
    # An object may have an asynchronous `__call__`.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(vars(type(function)).get("__call__"))


def _binder(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """A function that names positional arguments; `self` and `cls` are left out."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return lambda args, kwargs: {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    skip = next(iter(signature.parameters), None) in ("self", "cls")

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            named = signature.bind(*args, **kwargs).arguments
        except TypeError:  # the call itself will fail, and say why
            return {**{str(i): value for i, value in enumerate(args)}, **kwargs}
        if skip:
            named.pop(next(iter(signature.parameters)), None)
        return dict(named)

    return bind
