"""Which agent process, task and tool the running code belongs to.

A `Flow` travels with the code in a context variable: asyncio copies it into tasks, and the hooks below carry it into
threads and executors. Each task, thread and submitted job gets a path of its own (`0`, `0.2`, `0.2.1`), numbered by its
creator in order of creation, so that the same program has the same paths in every run however its tasks interleave.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextvars import ContextVar, Token, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unspool.capture.process import AgentProcess

__all__ = ["FLOW", "QUIET", "Flow", "current_flow", "install_asyncio", "install_executors", "install_threads", "quiet"]


class Flow:
    """One place in the tree of tasks. `call` and `step` are those of the last model response this task saw."""

    __slots__ = ("call", "children", "path", "process", "span", "step")

    def __init__(
        self,
        process: AgentProcess,
        path: str = "0",
        span: str | None = None,
        call: int | None = None,
        step: int | None = None,
    ) -> None:
        self.process = process
        self.path = path
        self.span = span
        self.call = call
        self.step = step
        self.children = itertools.count(1)

    def child(self) -> Flow:
        """The flow of a task, thread or job started here."""
        return Flow(self.process, f"{self.path}.{next(self.children)}", self.span, self.call, self.step)

    def within(self, span: str, process: AgentProcess | None = None) -> Flow:
        """The same place inside a span (a running tool), or inside another agent process."""
        inner = Flow(process or self.process, "0" if process else self.path, span, self.call, self.step)
        if process is None:
            inner.children = self.children
        else:
            inner.call = inner.step = None
        return inner


FLOW: ContextVar[Flow | None] = ContextVar("unspool_flow", default=None)
# Set while a seam is at work: inner seams and their sockets are part of what the outer one records.
QUIET: ContextVar[bool] = ContextVar("unspool_quiet", default=False)

_root: Callable[[], Flow | None] = lambda: None  # noqa: E731 - replaced by the runtime


def set_root(root: Callable[[], Flow | None]) -> None:
    """Say which flow code belongs to that no hook has reached (threads made in C)."""
    global _root
    _root = root


def current_flow() -> Flow | None:
    """The flow of the running code, None when nothing is being recorded."""
    flow = FLOW.get()
    if flow is None or flow.process.abandoned:
        return _root()
    return flow


class quiet:  # noqa: N801 - used as a statement
    """Inside this block nothing is recorded: the code is part of something already recorded, or our own."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: Token[bool] = QUIET.set(True)

    def __exit__(self, *exc: object) -> None:
        QUIET.reset(self._token)


Patch = Callable[[Any, str, Any], None]


def install_asyncio(module: Any, patch: Patch) -> None:
    """Give every task a flow of its own when it is created (`asyncio.base_events`, and uvloop's loop is one)."""
    original = module.BaseEventLoop.create_task

    def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None, **more: Any) -> Any:
        flow = current_flow()
        if flow is not None:
            if context is None:
                context = copy_context()
                context.run(FLOW.set, flow.child())
            elif context.get(FLOW) is None:
                context.run(FLOW.set, flow.child())
        if context is None:
            return original(self, coro, name=name, **more)
        return original(self, coro, name=name, context=context, **more)

    patch(module.BaseEventLoop, "create_task", create_task)


def install_threads(module: Any, patch: Patch) -> None:
    """Carry the flow into new threads (`threading`). Only ours is carried: the agent's own variables stay as they were."""
    start, bootstrap = module.Thread.start, module.Thread._bootstrap_inner

    def start_with_flow(self: Any) -> None:
        flow = current_flow()
        if flow is not None:
            self._unspool_flow = (flow.child(), QUIET.get())
        start(self)

    def bootstrap_with_flow(self: Any) -> None:
        carried = self.__dict__.pop("_unspool_flow", None)
        if carried is not None:
            FLOW.set(carried[0])
            QUIET.set(carried[1])
        bootstrap(self)

    patch(module.Thread, "start", start_with_flow)
    patch(module.Thread, "_bootstrap_inner", bootstrap_with_flow)


class _Job:
    """A function submitted to a pool, with the flow of who submitted it."""

    __slots__ = ("flow", "function", "quiet")

    def __init__(self, function: Callable[..., Any], flow: Flow, quiet: bool) -> None:
        self.function, self.flow, self.quiet = function, flow, quiet

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        flow_token, quiet_token = FLOW.set(self.flow), QUIET.set(self.quiet)
        try:
            return self.function(*args, **kwargs)
        finally:
            FLOW.reset(flow_token)
            QUIET.reset(quiet_token)


def install_executors(module: Any, patch: Patch) -> None:
    """Carry the flow into the jobs of thread pools (`concurrent.futures.thread`), whose threads outlive them."""
    original = module.ThreadPoolExecutor.submit

    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        flow = current_flow()
        if flow is None:
            return original(self, fn, *args, **kwargs)
        # asyncio.to_thread submits a copied context's `run`, which brings its own flow along.
        return original(self, _Job(fn, flow.child(), QUIET.get()), *args, **kwargs)

    patch(module.ThreadPoolExecutor, "submit", submit)
