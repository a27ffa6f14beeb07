"""What a program says about itself: `record` this block, this part is a sub-agent (`spawn`)."""

from __future__ import annotations

import functools
import inspect
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from unspool.capture.credentials import clean_error
from unspool.capture.environment import outer_trace
from unspool.capture.flow import FLOW, Flow, current_flow, leave
from unspool.capture.generators import wrap_async_generator, wrap_generator
from unspool.capture.guard import guard
from unspool.capture.places import caller
from unspool.capture.process import AgentProcess, Lineage
from unspool.capture.runtime import runtime
from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.lines import error_data
from unspool.store import find_store, new_hex_id

__all__ = ["record", "spawn"]

F = TypeVar("F", bound=Callable[..., Any])


class _Scope(ABC):
    """A context manager, sync and async, and a decorator, that runs code as an agent process of its own."""

    flow: Flow | None = None  # of the code inside
    instead: None = None  # only the items of tools are served
    outcome: Any = None
    _process: AgentProcess | None = None
    _token: Token[Flow | None] | None = None

    @abstractmethod
    def _open(self) -> None:
        """Start the agent process, if anything is to be recorded."""

    @abstractmethod
    def _close(self, error: BaseException | None) -> None:
        """End it."""

    @abstractmethod
    def _again(self) -> _Scope:
        """A fresh scope for each call of a decorated function."""

    @property
    def pid(self) -> int | None:
        """The PID of the agent process, None when nothing is recorded."""
        return self._process.pid if self._process is not None and self._process.pid else None

    @property
    def record_id(self) -> str | None:
        """The id of the recording, None when nothing is recorded."""
        recorder = self._process.recorder if self._process is not None else None
        return recorder.record_id if recorder is not None else None

    @property
    def record_dir(self) -> Path | None:
        """The folder of the recording, None when nothing is recorded."""
        recorder = self._process.recorder if self._process is not None else None
        return recorder.record_dir if recorder is not None else None

    def __enter__(self) -> _Scope:
        with guard:
            self._open()
            if self.flow is not None:
                self._token = FLOW.set(self.flow)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            leave(FLOW, self._token)
            self._token = None
        self.ended(error)

    def gave(self, item: Any) -> None:  # noqa: B027 - only tools keep what they gave
        """A decorated generator gave an item."""

    def ended(self, error: BaseException | None) -> None:
        """The block or the decorated generator is over."""
        with guard:
            self._close(error)

    async def __aenter__(self) -> _Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function):
            return wrap_generator(function, self._begin)  # type: ignore[return-value]  # wraps keeps the signature
        if inspect.isasyncgenfunction(function):
            return wrap_async_generator(function, self._begin)  # type: ignore[return-value]  # as above
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]  # wraps keeps the signature

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]  # as above

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Scope | None:
        scope = self._again()
        with guard:
            scope._open()
        return scope if scope.flow is not None else None


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "exited"
    data = clean_error(error_data(error))
    return f"exited: {type(error).__name__}: {data.message}" if data.message else f"exited: {type(error).__name__}"


class record(_Scope):
    """Record what runs inside: `with unspool.record("nightly"): …`, `async with`, or as a decorator.

    Under `unspool run` or inside another `record` the block becomes a sub-agent of what is already recorded. With a W3C
    `TRACEPARENT` in the environment it is part of that trace.

    Args:
        intent: what the agent is asked to do, shown in lists.
        store: the store's folder; found as the command line finds it by default.
        trace: which of `process`, `net`, `file` to record besides model calls, tools and HTTP.
    """

    def __init__(
        self, intent: str = "", *, store: str | Path | None = None, trace: tuple[str, ...] = ("process", "net")
    ) -> None:
        self._intent = intent
        self._store = store
        self._trace = trace
        self._inner: spawn | None = None

    def _again(self) -> record:
        return record(self._intent, store=self._store, trace=self._trace)

    def _open(self) -> None:
        if current_flow() is not None:
            self._inner = inner = spawn(self._intent or "record")
            inner._open()
            self._process, self.flow = inner._process, inner.flow
            return
        found = find_store(self._store)
        outer = outer_trace(os.environ)
        lineage = Lineage(store=str(found.path), trace_id=new_hex_id(), audit=list(self._trace))
        if outer is not None:
            lineage.trace_id, lineage.parent_span_id, lineage.trace_flags = outer
        process = AgentProcess(lineage, intent=self._intent or (caller() or "record"), role="agent")
        runtime.arm(process)
        if process.ensure() is None:
            runtime.drop(process)
            return
        self._process = process
        self.flow = runtime.root_flow

    def _close(self, error: BaseException | None) -> None:
        if self._inner is not None:
            self._inner._close(error)
        elif self._process is not None:
            self._process.end(_reason(error))
            runtime.drop(self._process)


class spawn(_Scope):
    """Mark a sub-agent inside one program: it gets its own PID and recording, with the running agent as parent.

    `with unspool.spawn("researcher", intent="find sources"): …`, `async with`, or as a decorator. When nothing is being
    recorded it does nothing.

    Args:
        name: the kind of agent.
        intent: what it is asked to do; the name by default.
    """

    def __init__(self, name: str, *, intent: str | None = None) -> None:
        self._name = name
        self._intent = intent or name
        self._outer: Flow | None = None
        self._span: str | None = None
        self._started_ns = 0
        self._at: str | None = None

    def _again(self) -> spawn:
        return spawn(self._name, intent=self._intent)

    def _open(self) -> None:
        outer = current_flow()
        if outer is None:
            return
        outer.process.ensure()
        self._outer = outer
        self._span = outer.process.new_span()
        self._started_ns = time.monotonic_ns()
        self._at = caller()
        process = AgentProcess(outer.process.child_lineage(self._span), intent=self._intent, role="agent")
        if process.ensure() is None:
            return
        self._process = process
        runtime.add(process)
        outer.process.note_start(
            {
                "span_id": self._span,
                "parent_span_id": outer.span or outer.process.own_span,
                "name": "Spawn",
                "path": f"/dev/agent/{self._name}",
                "start": outer.process.elapsed(self._started_ns),
                "task": outer.path,
                "pid": process.pid,
                "at": self._at,
            }
        )
        self.flow = outer.within(process.own_span, process)

    def _close(self, error: BaseException | None) -> None:
        process, outer = self._process, self._outer
        if process is None or outer is None:
            return
        reason = _reason(error)
        process.end(reason)
        runtime.drop(process)
        outer.process.write(
            RecordEvent(
                type=RecordEventType.SYSCALL,
                seq_num=0,
                timestamp=outer.process.elapsed(self._started_ns),
                pid=0,
                syscall=SyscallEventData(
                    syscall="Spawn",
                    args={"path": f"/dev/agent/{self._name}", "intent": self._intent, "pid": process.pid},
                    result=f"PID {process.pid}",
                    err="" if error is None else reason.removeprefix("exited: "),
                    duration=time.monotonic_ns() - self._started_ns,
                ),
                call=outer.call,
                step=outer.step,
                task=outer.path,
                at=self._at,
                span_id=self._span,
                parent_span_id=outer.span or outer.process.own_span,
            )
        )
