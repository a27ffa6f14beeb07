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

__all__ = [
    "FLOW",
    "QUIET",
    "Flow",
    "current_flow",
    "install_asyncio",
    "install_executors",
    "install_threads",
    "install_uvloop",
    "leave",
    "quiet",
    "set_root",
]


class Flow:
    """One place in the tree of tasks. `call` and `step` are those of the last model response this task saw.

    `place` is the path, with each tool call around the code counted in (`0.t2`): a rerun that serves a tool call does
    not run what is inside of it, so tasks started there and values read there are numbered apart from all others.
    `outer` is where code goes on that outlives its agent process (a task started inside `spawn`). `asked` is the W3C
    `traceparent` of the request that is being answered, of whose trace the code is then a part.
    """

    __slots__ = ("asked", "call", "children", "outer", "path", "place", "process", "span", "step", "tools")

    def __init__(
        self,
        process: AgentProcess,
        path: str = "0",
        span: str | None = None,
        call: int | None = None,
        step: int | None = None,
        *,
        outer: Flow | None = None,
    ) -> None:
        self.process = process
        self.path = path
        self.place = path
        self.span = span
        self.call = call
        self.step = step
        self.outer = outer
        self.asked: str | None = None
        self.children = itertools.count(1)
        self.tools = itertools.count(1)

    def child(self) -> Flow:
        """The flow of a task, thread or job started here."""
        job = Flow(
            self.process, f"{self.place}.{next(self.children)}", self.span, self.call, self.step, outer=self.outer
        )
        job.asked = self.asked
        return job

    def within(self, span: str, process: AgentProcess | None = None) -> Flow:
        """The same place inside a span (a running tool), or the first place of another agent process."""
        if process is not None:
            first = Flow(process, span=span, outer=self)
            first.asked = self.asked
            return first
        inner = Flow(self.process, self.path, span, self.call, self.step, outer=self.outer)
        inner.asked = self.asked
        inner.place = f"{self.place}.t{next(self.tools)}"
        return inner

    def inside(self, span: str) -> Flow:
        """The same place inside a span of the program's own. A rerun runs that too: nothing is numbered apart."""
        inner = Flow(self.process, self.path, span, self.call, self.step, outer=self.outer)
        inner.place, inner.children, inner.tools = self.place, self.children, self.tools
        inner.asked = self.asked
        return inner

    @property
    def in_tool(self) -> bool:
        """Whether a tool call of this agent process is around the code."""
        return ".t" in self.place


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
    while flow is not None and flow.process.over:
        flow = flow.outer
    return _root() if flow is None else flow


def leave(variable: ContextVar[Any], token: Token[Any]) -> None:
    """Put a context variable back; in another context than it was set in, there is nothing to put back there.

    That happens where Python closes an abandoned coroutine or generator from somewhere else.
    """
    try:
        variable.reset(token)
    except ValueError:
        return


class quiet:
    """Inside this block nothing is recorded: the code is part of something already recorded, or our own."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: Token[bool] = QUIET.set(True)

    def __exit__(self, *exc: object) -> None:
        leave(QUIET, self._token)


Patch = Callable[[Any, str, Any], None]


def install_asyncio(module: Any, patch: Patch) -> None:
    """Give every task of asyncio's own loops a flow when it is created (`asyncio.base_events`)."""
    _watch_tasks(module.BaseEventLoop, patch)


def install_uvloop(module: Any, patch: Patch) -> None:
    """The same for `uvloop`, whose loop is no `BaseEventLoop`."""
    _watch_tasks(module.Loop, patch)


def _watch_tasks(loop: Any, patch: Patch) -> None:
    original = loop.create_task

    def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None, **more: Any) -> Any:
        flow = current_flow()
        # What a client library starts for itself is not numbered: whether it connects anew is a matter of timing.
        if flow is not None and not QUIET.get():
            if context is None:
                context = copy_context()
                context.run(FLOW.set, flow.child())
            elif context.get(FLOW) is None:
                try:
                    context.run(FLOW.set, flow.child())
                except RuntimeError:
                    # The program passed the context it is running in: its task stays where that is.
                    flow = None
        if context is None:
            return original(self, coro, name=name, **more)
        return original(self, coro, name=name, context=context, **more)

    patch(loop, "create_task", create_task)


def _is_pool_worker(thread: Any) -> bool:
    """A thread that serves a pool. Its jobs have places of their own; whether a pool starts one more is chance."""
    target = getattr(thread, "_target", None)
    return getattr(target, "__module__", None) == "concurrent.futures.thread" or type(thread).__module__.startswith(
        "anyio."
    )


def install_threads(module: Any, patch: Patch) -> None:
    """Carry the flow into new threads (`threading`); the agent's own context variables stay as they were."""
    start, bootstrap = module.Thread.start, module.Thread._bootstrap_inner

    def start_with_flow(self: Any) -> None:
        flow = current_flow()
        if flow is not None:
            hush = QUIET.get()
            self._unspool_flow = (flow if hush or _is_pool_worker(self) else flow.child(), hush)
        start(self)

    def bootstrap_with_flow(self: Any) -> None:
        carried = self.__dict__.pop("_unspool_flow", None)
        if carried is not None:
            FLOW.set(carried[0])
            QUIET.set(carried[1])
        bootstrap(self)

    patch(module.Thread, "start", start_with_flow)
    patch(module.Thread, "_bootstrap_inner", bootstrap_with_flow)


def install_executors(module: Any, patch: Patch) -> None:
    """Carry the flow into the jobs of thread pools (`concurrent.futures.thread`), whose threads outlive them.

    The seam is the work item, which catches what the job raises: so our frame is in no traceback.
    """
    item = module._WorkItem
    init, run = item.__init__, item.run

    def init_with_flow(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        flow = current_flow()
        if flow is not None:
            hush = QUIET.get()
            # asyncio.to_thread submits a copied context's `run`, which brings its own flow along.
            self._unspool_flow = (flow if hush else flow.child(), hush)

    def run_with_flow(self: Any, *args: Any, **kwargs: Any) -> None:
        carried = self.__dict__.pop("_unspool_flow", None)
        if carried is None:
            run(self, *args, **kwargs)
            return
        flow_token, quiet_token = FLOW.set(carried[0]), QUIET.set(carried[1])
        try:
            run(self, *args, **kwargs)
        finally:
            leave(FLOW, flow_token)
            leave(QUIET, quiet_token)

    patch(item, "__init__", init_with_flow)
    patch(item, "run", run_with_flow)
