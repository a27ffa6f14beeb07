"""`unspool.span` and `@unspool.traced`: parts of the program's own code as spans, with what happens inside below them.

A span is a syscall `Span` on `/dev/span/<name>`. Its start is on disk before the work begins, so a program that hangs
or is killed shows in which of them it was. A rerun runs them as the program says: nothing of them is served.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from unspool.capture.credentials import clean_error
from unspool.capture.flow import FLOW, Flow, current_flow, leave
from unspool.capture.generators import wrap_async_generator, wrap_generator
from unspool.capture.guard import guard
from unspool.capture.places import caller
from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.answered import ANSWERED_NAME, answered_line
from unspool.recording.lines import Marked, error_data, is_plain, to_wire
from unspool.tracecontext import parse_traceparent

if TYPE_CHECKING:
    from unspool.capture.process import AgentProcess

__all__ = ["SPAN", "SPAN_PATH", "span", "traced"]

SPAN: Final = "Span"
SPAN_PATH: Final = "/dev/span/"
_ASKED_MAX: Final = 10_000  # traces remembered
_BRIEF_MAX: Final = 200  # characters of an attribute beside the start of a span; all of it comes with the end

P = ParamSpec("P")
R = TypeVar("R")


class _Work:
    """One run of a span. What goes wrong here never reaches the program."""

    instead: None = None  # of a generator: only those of tools are served

    def __init__(self, outer: Flow, name: str, attributes: dict[str, Any], remote: str | None = None) -> None:
        self.outer = outer
        self.process = outer.process
        self.args: dict[str, Any] = {"path": SPAN_PATH + _text(name)}
        if remote is not None:
            self.args["traceparent"] = remote
        self.attributes = {_text(key): _copied(value) for key, value in attributes.items()}
        self.process.ensure()
        self.span = self.process.new_span()
        self.flow: Flow | None = outer.inside(self.span)
        if remote is not None:
            self.flow.asked = remote
            _leave_word(self.process, remote)
        self.outcome: Any = None  # what a generator returned
        self.at = caller()
        self.started_ns = time.monotonic_ns()
        start = {
            "span_id": self.span,
            "parent_span_id": outer.span or self.process.own_span,
            "name": SPAN,
            **self.args,
            "start": self.process.elapsed(self.started_ns),
            "task": outer.path,
            "call": outer.call,
            "at": self.at,
        }
        if self.attributes:
            start["attributes"] = {
                key: short for key, value in self.attributes.items() if (short := _brief(value)) is not None
            }
        self.process.note_start(start)

    def gave(self, item: Any) -> None:
        """A traced generator gave an item; that is not kept."""

    def ended(self, error: BaseException | None) -> None:
        """The work is over."""
        duration = time.monotonic_ns() - self.started_ns
        with guard:
            self._come_back()
            args = {**self.args, "attributes": self.attributes} if self.attributes else self.args
            data = SyscallEventData(syscall=SPAN, args=args, duration=duration)
            if error is not None and not _is_no_failure(error):
                data.error = clean_error(error_data(error))
                name = type(error).__name__
                data.err = f"{name}: {data.error.message}" if data.error.message else name
            self.process.write(
                RecordEvent(
                    type=RecordEventType.SYSCALL,
                    seq_num=0,
                    timestamp=self.process.elapsed(self.started_ns),
                    pid=0,
                    syscall=data,
                    call=self.outer.call,
                    step=self.outer.step,
                    task=self.outer.path,
                    at=self.at,
                    span_id=self.span,
                    parent_span_id=self.outer.span or self.process.own_span,
                )
            )

    def _come_back(self) -> None:
        """What follows the span follows the model calls that were made inside of it."""
        flow, outer = self.flow, self.outer
        if flow is not None and flow.call is not None:
            outer.call, outer.step = flow.call, flow.step


def _leave_word(process: AgentProcess, asked: str) -> None:
    """Beside the events: that a request of this trace is answered here. Once for each trace."""
    remote, known = parse_traceparent(asked), process.asked_by
    if remote is None or remote.trace_id == process.lineage.trace_id or remote.trace_id in known:
        return
    if len(known) >= _ASKED_MAX:
        known.clear()  # to say it twice does no harm
    known.add(remote.trace_id)
    process.append_side(ANSWERED_NAME, answered_line(remote.trace_id))


def _copied(value: Any) -> Any:
    """A value as it is now; the work may change it."""
    copy = to_wire(value)
    return copy if is_plain(copy) else Marked(copy)


def _brief(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value if len(value) <= _BRIEF_MAX else value[:_BRIEF_MAX] + "…")
    return value if isinstance(value, int | float) and is_plain(value) else None


def _text(text: str) -> str:
    """Without what UTF-8 has no form for."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _is_no_failure(error: BaseException) -> bool:
    """Whether it is how Python ends a generator that nobody needs any more, or a program that is done."""
    return isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and error.code in (None, 0))


class span:
    """Name a part of the program in its trace: `with unspool.span("rank", documents=12): …`, or `async with`.

    What happens inside, in tasks, threads, executors and processes started there too, is shown below it. An exception
    that leaves the block marks it as failed, and passes. When nothing is being recorded it costs one look-up.

        with unspool.span("rank", documents=len(found)) as span:
            best = rank(found)
            span.set(best=best.title)

    Args:
        name: what to call it; it appears as `/dev/span/<name>`.
        traceparent: the W3C `traceparent` of a request that is answered here (a header, `_meta` of MCP): the span is
            shown below the one that asked, if that is recorded too. One that is malformed is ignored.
        attributes: what to know about it, by name. Values that JSON has no form for are kept as text.
    """

    __slots__ = ("_attributes", "_name", "_open", "_remote")

    def __init__(self, name: str, /, *, traceparent: str | None = None, **attributes: Any) -> None:
        self._name = name
        self._attributes = attributes
        self._remote = traceparent
        self._open: list[tuple[_Work, Token[Flow | None]]] = []

    def set(self, **attributes: Any) -> None:
        """Add attributes to the span, or replace some, while it runs."""
        if self._open:
            with guard:
                self._open[-1][0].attributes.update((_text(key), _copied(value)) for key, value in attributes.items())

    @property
    def traceparent(self) -> str | None:
        """The W3C `traceparent` that names this span to another program; None when it is not being recorded."""
        if not self._open:
            return None
        work = self._open[-1][0]
        return work.process.traceparent(work.span, work.flow.asked if work.flow is not None else None)

    def __enter__(self) -> span:
        outer = current_flow()
        if outer is not None:
            with guard:
                remote = self._remote if parse_traceparent(self._remote) is not None else None
                if remote == outer.asked:
                    remote = None  # the span around is that of the request
                work = _Work(outer, str(self._name), self._attributes, remote)
                self._open.append((work, FLOW.set(work.flow)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            work, token = self._open.pop()
            leave(FLOW, token)
            work.ended(error)

    async def __aenter__(self) -> span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


@overload
def traced(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def traced(*, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def traced(function: Any = None, /, *, name: str | None = None) -> Any:
    """Make every call of a function a span.

    Works on plain and async functions, methods, static and class methods, and on generators (a span until they end;
    the time their consumer takes counts, what it does is not inside). Arguments and results are not recorded: that is
    what `@unspool.tool` does. When nothing is being recorded a call costs one look-up.

        @unspool.traced
        def rank(found): ...

        @unspool.traced(name="plan")
        async def make_plan(goal): ...

    Args:
        name: of the span; that of the function, with its class, by default.

    Raises:
        TypeError: it is used on something else than a function.
    """
    if function is None:
        return lambda later: _wrap(later, name)
    return _wrap(function, name)


def _wrap(function: Any, name: str | None) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_wrap(function.__func__, name))
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"@unspool.traced goes on a function, not on {_kind_of(function)}")
    label = name or _name_of(function)

    def begin(_args: Any, _kwargs: Any) -> _Work | None:
        outer = current_flow()
        if outer is not None:
            with guard:
                return _Work(outer, label, {})
        return None

    if inspect.isasyncgenfunction(function):
        return wrap_async_generator(function, begin)
    if inspect.isgeneratorfunction(function):
        return wrap_generator(function, begin)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(vars(type(function)).get("__call__")):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            if current_flow() is None:
                return await function(*args, **kwargs)
            with span(label):
                return await function(*args, **kwargs)

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if current_flow() is None:
            return function(*args, **kwargs)
        with span(label):
            return function(*args, **kwargs)

    return call


def _name_of(function: Any) -> str:
    """`Planner.rank` of a method, `rank` of a function, wherever it was defined."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


def _kind_of(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
