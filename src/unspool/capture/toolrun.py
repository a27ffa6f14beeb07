"""One call of a tool, recorded or served: what `@unspool.tool` and the adapters of frameworks share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from typing import Any, NamedTuple

from unspool.capture import output, rerun, serve
from unspool.capture.credentials import clean_error
from unspool.capture.flow import FLOW, Flow, current_flow, leave
from unspool.capture.guard import guard
from unspool.capture.places import caller
from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.lines import Marked, error_data, is_plain, to_wire

__all__ = ["ITEMS_MAX", "ErrorForm", "Restore", "ToolRun", "begin", "perform", "perform_async"]

ITEMS_MAX = 10_000  # of a generator: one without end must not fill the memory

# Makes the value of a recorded call anew, or raises `CannotRebuild`.
Restore = Callable[[SyscallEventData], Any]


class ErrorForm(NamedTuple):
    """How the errors of a library are recorded and made anew."""

    types: tuple[str, ...]  # dotted names of the classes
    arguments: Callable[[Any], list[Any]]  # what to record of one
    make: Callable[[type, list[Any]], BaseException]


def _copied(value: Any) -> Any:
    copy = to_wire(value)
    return copy if is_plain(copy) else Marked(copy)


class ToolRun:
    """One call of a tool: its start is on disk before the work begins, its event when it ends.

    Args:
        flow: where it is called.
        name: the tool's name; its path is `/dev/tool/<name>` unless `path` says otherwise.
        arguments: gives the arguments by name; called once, behind the guard.
        path: the device path. It may be set again until the call ends.
        syscall: the name of the event.
        more: arguments of the event besides `path` and `input`.
        key: what the call is known by in a rerun; the path by default.
        asked: the arguments it is known by in a rerun; all of them by default.
    """

    def __init__(
        self,
        flow: Flow,
        name: str,
        arguments: Callable[[], Mapping[str, Any]],
        *,
        path: str | None = None,
        syscall: str = "ToolCall",
        more: Mapping[str, Any] | None = None,
        key: str | None = None,
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        self.outer = flow
        self.process = flow.process
        self.path = path or f"/dev/tool/{name}"
        self.syscall = syscall
        self.more = more or {}
        self.key = key or self.path
        self.span = self.process.new_span()
        self.flow: Flow | None = flow.within(self.span)
        self.started_ns = time.monotonic_ns()
        self.stopped_ns: int | None = None  # when the work ended, if that is before the call is written down
        self.written: int | None = None  # bytes on standard output when it began
        self.at: str | None = None
        self.input: dict[str, Any] = {}
        self.given: list[Any] = []
        self.outcome: Any = None
        self.instead: Any = None
        self.origin: str | None = None
        self.error_form: ErrorForm | None = None  # for errors that are not made from their `args`
        self.for_real = False  # in a rerun: what it asks for that the recording does not hold is asked for real
        with guard:
            self.at = caller()
            # A copy, taken before the tool can change its arguments.
            self.input = {name: _copied(value) for name, value in arguments().items()}
            self.process.ensure()
            self.process.note_start(
                {
                    "span_id": self.span,
                    "parent_span_id": flow.span or self.process.own_span,
                    "name": syscall,
                    "path": self.path,
                    "start": self.process.elapsed(self.started_ns),
                    "task": flow.path,
                    "call": flow.call,
                    "at": self.at,
                }
            )
            self.written = output.position()
        self.asked: Mapping[str, Any] = self.input if asked is None else asked

    # --- how it went -------------------------------------------------------------------------------------------------

    def returned(self, result: Any, err: str = "") -> None:
        """The tool gave a result; `err` says in words what is wrong with it."""
        self._write(result, None, err)

    def failed(self, error: BaseException) -> None:
        """The tool raised."""
        self._write(None, error)

    def gave(self, item: Any) -> None:
        """The tool, a generator, gave an item."""
        if len(self.given) < ITEMS_MAX:
            self.given.append(item)

    def ended(self, error: BaseException | None) -> None:
        """The tool, a generator, is over."""
        self._write(self.given, error)

    def _write(self, result: Any, error: BaseException | None, err: str = "") -> None:
        duration = (self.stopped_ns or time.monotonic_ns()) - self.started_ns
        with guard:
            data = clean_error(error_data(error)) if error is not None else None
            if data is not None and error is not None:
                if self.error_form is not None and data.type in self.error_form.types:
                    data.args = [to_wire(arg) for arg in self.error_form.arguments(error)]
                name = type(error).__name__
                err = f"{name}: {data.message}" if data.message else name
            event = RecordEvent(
                type=RecordEventType.SYSCALL,
                seq_num=0,
                timestamp=self.process.elapsed(self.started_ns),
                pid=0,
                syscall=SyscallEventData(
                    syscall=self.syscall,
                    args={"path": self.path, **self.more, "input": self.input},
                    result=result,
                    err=err,
                    duration=duration,
                    result_type=self._result_type(result, error),
                    error=data,
                ),
                call=self.outer.call,
                step=self.outer.step,
                task=self.outer.path,
                at=self.at,
                span_id=self.span,
                parent_span_id=self.outer.span or self.process.own_span,
                origin=self.origin,
            )
            if event.syscall is not None and event.syscall.result_type is not None:
                from unspool.serving.rebuild import parts_of

                event.syscall.result_parts = parts_of(result)
            self.process.write(event)
            output.note_tool(self.process.full_span(self.span), self.written)

    def _result_type(self, result: Any, error: BaseException | None) -> str | None:
        if self.outcome is not None:
            kind = type(self.outcome)
            return f"generator that returned a {kind.__module__}.{kind.__qualname__}"
        if error is not None and result is None:
            return None
        kind = type(result)
        return None if is_plain(result) else f"{kind.__module__}.{kind.__qualname__}"

    # --- serving generators ------------------------------------------------------------------------------------------

    def serve_items(self, restore: Restore, *, is_async: bool) -> None:
        """In a rerun: have the recorded items given `instead` of running the generator."""
        from unspool.capture.toolserve import ask

        answer = ask(self, restore)
        if answer is not None:
            items = answer.value if isinstance(answer.value, list) else []
            self.instead = self._items_async(items, answer.error) if is_async else self._items(items, answer.error)

    @contextmanager
    def _giving(self, error: BaseException | None) -> Iterator[None]:
        """Around what is given in place of the generator; it ends as the recorded one did."""
        try:
            yield
        except GeneratorExit:
            self.ended(None)
            raise
        except BaseException as thrown:
            self.ended(thrown)
            raise
        self.ended(error)
        if error is not None:
            raise error

    def _items(self, items: list[Any], error: BaseException | None) -> Iterator[Any]:
        with self._giving(error):
            for item in items:
                self.gave(item)
                yield item

    async def _items_async(self, items: list[Any], error: BaseException | None) -> AsyncIterator[Any]:
        with self._giving(error):
            for item in items:
                self.gave(item)
                yield item


def begin(name: str, arguments: Callable[[], Mapping[str, Any]], **more: Any) -> ToolRun | None:
    """The run of a tool that is called now; None when nothing is being recorded. See `ToolRun`."""
    flow = current_flow()
    if flow is not None:
        with guard:
            return ToolRun(flow, name, arguments, **more)
    return None


def perform(run: ToolRun, function: Callable[[], Any], restore: Restore) -> Any:
    """Call `function` as this run, or give what was recorded of it.

    Raises:
        BaseException: what the function raises, or raised when it was recorded.
    """
    if rerun.serves_tools():
        from unspool.capture.toolserve import ask

        answer = ask(run, restore)
        if answer is not None:
            return answer.give(run)
    token, real = _enter(run)
    try:
        result = function()
    except BaseException as error:
        run.failed(error)
        raise
    finally:
        _leave(token, real)
    run.returned(result)
    return result


async def perform_async(
    run: ToolRun,
    function: Callable[[], Awaitable[Any]],
    restore: Restore,
    judge: Callable[[Any], str] = lambda result: "",
) -> Any:
    """`perform` for a coroutine function. A call that was cancelled waits until it is cancelled again.

    Args:
        judge: says in words what is wrong with a result, "" if nothing is.

    Raises:
        BaseException: what the function raises, or raised when it was recorded.
    """
    if rerun.serves_tools():
        from unspool.capture.toolserve import ask

        answer = ask(run, restore)
        if answer is not None:
            import asyncio

            if isinstance(answer.error, asyncio.CancelledError):
                await _cancelled(run)
            return answer.give(run, judge)
    token, real = _enter(run)
    try:
        result = await function()
    except BaseException as error:
        run.failed(error)
        raise
    finally:
        _leave(token, real)
    run.returned(result, _judged(judge, result))
    return result


def _enter(run: ToolRun) -> tuple[Token[Flow | None], Token[bool] | None]:
    return FLOW.set(run.flow), serve.FOR_REAL.set(True) if run.for_real else None


def _leave(token: Token[Flow | None], real: Token[bool] | None) -> None:
    leave(FLOW, token)
    if real is not None:
        leave(serve.FOR_REAL, real)


async def _cancelled(run: ToolRun) -> None:
    import asyncio

    try:
        await asyncio.get_running_loop().create_future()
    except BaseException as error:
        run.failed(error)
        raise


def _judged(judge: Callable[[Any], str], result: Any) -> str:
    with guard:
        return judge(result)
    return ""
