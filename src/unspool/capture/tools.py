"""`@unspool.tool`: a function whose calls are recorded, with arguments, result, error and time."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from unspool.capture.credentials import clean_error
from unspool.capture.flow import FLOW, Flow, current_flow, leave
from unspool.capture.generators import wrap_async_generator, wrap_generator
from unspool.capture.guard import guard
from unspool.capture.places import caller
from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.lines import Marked, error_data, is_plain, to_wire

__all__ = ["ToolRun", "tool"]

P = ParamSpec("P")
R = TypeVar("R")

_ITEMS_MAX = 10_000  # of a generator: one without end must not fill the memory


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

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolRun | None:
        flow = current_flow()
        if flow is not None:
            with guard:
                return ToolRun(flow, label, lambda: bind(args, kwargs))
        return None

    if inspect.isasyncgenfunction(function):
        return wrap_async_generator(function, begin)
    if inspect.isgeneratorfunction(function):
        return wrap_generator(function, begin)
    if _is_coroutine_function(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            run = begin(args, kwargs)
            if run is None:
                return await function(*args, **kwargs)
            token = FLOW.set(run.flow)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                run.failed(error)
                raise
            finally:
                leave(FLOW, token)
            run.returned(result)
            return result

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        run = begin(args, kwargs)
        if run is None:
            return function(*args, **kwargs)
        token = FLOW.set(run.flow)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            run.failed(error)
            raise
        finally:
            leave(FLOW, token)
        run.returned(result)
        return result

    return call


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


def _copied(value: Any) -> Any:
    copy = to_wire(value)
    return copy if is_plain(copy) else Marked(copy)


class ToolRun:
    """One call of a tool: its start is on disk before the work begins, its event when it ends."""

    def __init__(
        self, flow: Flow, name: str, arguments: Callable[[], dict[str, Any]], *, path: str | None = None
    ) -> None:
        self.outer = flow
        self.process = flow.process
        self.path = path or f"/dev/tool/{name}"
        self.span = self.process.new_span()
        self.flow: Flow | None = flow.within(self.span)
        self.started_ns = time.monotonic_ns()
        self.at: str | None = None
        self.input: dict[str, Any] = {}
        self.given: list[Any] = []
        with guard:
            self.at = caller()
            # A copy, taken before the tool can change its arguments.
            self.input = {name: _copied(value) for name, value in arguments().items()}
            self.process.ensure()
            self.process.note_start(
                {
                    "span_id": self.span,
                    "parent_span_id": flow.span or self.process.own_span,
                    "name": "ToolCall",
                    "path": self.path,
                    "start": self.process.elapsed(self.started_ns),
                    "task": flow.path,
                    "call": flow.call,
                    "at": self.at,
                }
            )

    def returned(self, result: Any) -> None:
        """The tool gave a result."""
        self._write(result, None)

    def failed(self, error: BaseException) -> None:
        """The tool raised."""
        self._write(None, error)

    def gave(self, item: Any) -> None:
        """The tool, a generator, gave an item."""
        if len(self.given) < _ITEMS_MAX:
            self.given.append(item)

    def ended(self, error: BaseException | None) -> None:
        """The tool, a generator, is over."""
        self._write(self.given, error)

    def _write(self, result: Any, error: BaseException | None) -> None:
        duration = time.monotonic_ns() - self.started_ns
        with guard:
            kind = type(error) if error is not None else type(result)
            data = clean_error(error_data(error)) if error is not None else None
            err = "" if data is None else f"{kind.__name__}: {data.message}" if data.message else kind.__name__
            exact = error is not None or is_plain(result)
            event = RecordEvent(
                type=RecordEventType.SYSCALL,
                seq_num=0,
                timestamp=self.process.elapsed(self.started_ns),
                pid=0,
                syscall=SyscallEventData(
                    syscall="ToolCall",
                    args={"path": self.path, "input": self.input},
                    result=result,
                    err=err,
                    duration=duration,
                    result_type=None if exact else f"{kind.__module__}.{kind.__qualname__}",
                    error=data,
                ),
                call=self.outer.call,
                step=self.outer.step,
                task=self.outer.path,
                at=self.at,
                span_id=self.span,
                parent_span_id=self.outer.span or self.process.own_span,
            )
            self.process.write(event)
