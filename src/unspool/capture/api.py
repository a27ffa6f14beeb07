"""What a program says about itself: `record` this block, this part is a sub-agent (`spawn`)."""

from __future__ import annotations

import functools
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from unspool.capture.flow import FLOW, Flow, current_flow
from unspool.capture.guard import guard
from unspool.capture.places import caller
from unspool.capture.process import AgentProcess, Lineage
from unspool.capture.runtime import runtime
from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.store import find_store, new_hex_id

__all__ = ["record", "spawn"]

F = TypeVar("F", bound=Callable[..., Any])


class _Scope(ABC):
    """A context manager, sync and async, and a decorator, that runs code as an agent process of its own."""

    _process: AgentProcess | None = None
    _token: Token[Flow | None] | None = None

    @abstractmethod
    def _enter(self) -> None: ...

    @abstractmethod
    def _leave(self, error: BaseException | None) -> None: ...

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
            self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with guard:
            self._leave(error)

    async def __aenter__(self) -> _Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
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


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "exited"
    return f"exited: {type(error).__name__}: {error}" if str(error) else f"exited: {type(error).__name__}"


class record(_Scope):  # noqa: N801 - used as a statement
    """Record what runs inside: `with unspool.record("nightly"): …`, `async with`, or as a decorator.

    Under `unspool run` or inside another `record` the block becomes a sub-agent of what is already recorded.

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
        self._owns = False
        self._inner: spawn | None = None

    def _again(self) -> record:
        return record(self._intent, store=self._store, trace=self._trace)

    def _enter(self) -> None:
        if current_flow() is not None:
            self._inner = spawn(self._intent or "record")
            self._inner.__enter__()
            self._process = self._inner._process
            return
        found = find_store(self._store)
        lineage = Lineage(store=str(found.path), trace_id=new_hex_id(), audit=list(self._trace))
        process = AgentProcess(lineage, intent=self._intent or (caller() or "record"), role="agent")
        self._owns = not runtime.armed
        runtime.arm(process)
        if process.ensure() is None:
            if self._owns:
                runtime.disarm()
            return
        self._process = process
        self._token = FLOW.set(Flow(process))

    def _leave(self, error: BaseException | None) -> None:
        if self._inner is not None:
            self._inner._leave(error)
            return
        process = self._process
        if process is None:
            return
        if self._token is not None:
            _reset(self._token)
        process.end(_reason(error))
        if self._owns:
            runtime.disarm()
        else:
            runtime.drop(process)


class spawn(_Scope):  # noqa: N801 - used as a statement
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

    def _enter(self) -> None:
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
        self._token = FLOW.set(outer.within(process.own_span, process))

    def _leave(self, error: BaseException | None) -> None:
        process, outer = self._process, self._outer
        if process is None or outer is None:
            return
        if self._token is not None:
            _reset(self._token)
        process.end(_reason(error))
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
                    err="" if error is None else f"{type(error).__name__}: {error}",
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


def _reset(token: Token[Flow | None]) -> None:
    try:
        FLOW.reset(token)
    except ValueError:
        # Left in another context than entered (an async generator's block): there is nothing to put back there.
        FLOW.set(None)
