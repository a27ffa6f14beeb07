"""What is armed in this OS process: the patches, and the agent process that unclaimed code belongs to.

The one place with module-level state. `arm` installs every seam, now for what is imported and later for what will be;
`disarm` takes all of them out again.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from unspool.capture import environment, rerun, stopping, workers
from unspool.capture import flow as flows
from unspool.capture.credentials import clean_error
from unspool.capture.flow import Flow
from unspool.capture.guard import guard
from unspool.capture.imports import ImportHooks
from unspool.capture.places import STDLIB, kind_of
from unspool.capture.process import AgentProcess
from unspool.recording.lines import error_data

__all__ = ["Runtime", "runtime", "started"]

_MISSING = object()


class Runtime:
    """The state of capture in this OS process."""

    def __init__(self) -> None:
        self.root: AgentProcess | None = None
        self.root_flow: Flow | None = None
        self.processes: list[AgentProcess] = []
        self._patches: list[tuple[Any, str, Any, Any]] = []  # owner, name, what was there, what we put there
        self._undo: list[Callable[[], None]] = []
        self._hooks: ImportHooks | None = None
        self._lock = threading.RLock()
        self._at_exit = False
        self._for_good = False
        self.flush_output: Callable[[], None] | None = None  # set while standard output is recorded
        flows.set_root(lambda: self.root_flow)
        stopping.watch(lambda: self.processes)

    @property
    def armed(self) -> bool:
        """Whether the seams are in place."""
        return self._hooks is not None

    # --- arming ------------------------------------------------------------------------------------------------------

    def arm(self, root: AgentProcess, *, for_good: bool = False, chance: bool = True) -> None:
        """Install every seam; code that no flow reaches belongs to `root`.

        Args:
            for_good: until the program ends, not only as long as agent processes run in it.
            chance: note what the program reads of the clock and of random sources.
        """
        with self._lock:
            self.root, self.root_flow = root, Flow(root)
            self.processes.append(root)
            self._for_good = self._for_good or for_good
            if self._hooks is not None:
                return
            if not self._at_exit:
                self._at_exit = True
                atexit.register(self._exit)
                # Before the seams, some of which have hooks of their own: they run in this order.
                os.register_at_fork(after_in_child=self._after_fork)
            hooks = self._hooks = ImportHooks()
            for name, install in _seams():
                hooks.add(name, self._installer(install))
            hooks.install()
            with guard:
                from unspool.capture import audit, sources

                self._undo.append(audit.install(self, root.lineage.audit))
                if chance:
                    self._undo.append(sources.install(self))

    def _installer(
        self, install: Callable[[Any, Callable[[Any, str, Any], None]], None]
    ) -> Callable[[ModuleType], None]:
        def hook(module: ModuleType) -> None:
            if not self.armed or _is_namesake(module):
                return
            try:
                install(module, self.patch)
            except Exception as exc:
                if rerun.stage() is not None:
                    # Its requests would leave unseen.
                    stopping.refuse_to_run(f"{module.__name__} cannot be served: {type(exc).__name__}: {exc}")
                raise

        return hook

    def add_hook(self, module: str, hook: Callable[[ModuleType], None]) -> None:
        """Run `hook` when `module` is imported, or now."""
        if self._hooks is not None:
            self._hooks.add(module, self._installer(lambda found, patch: hook(found)))

    def patch(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute so that `disarm` can put the old one back."""
        own = owner.__dict__.get(name, _MISSING) if isinstance(owner, type) else getattr(owner, name, _MISSING)
        self._patches.append((owner, name, own, value))
        if isinstance(value, FunctionType):
            # Libraries look at each other's signatures (google-genai at aiohttp's): ours must not show.
            functools.update_wrapper(value, getattr(owner, name))
        setattr(owner, name, value)

    def disarm(self) -> None:
        """Take every patch out again; nothing is recorded afterwards."""
        with self._lock:
            self.root = self.root_flow = None
            self.processes.clear()
            for undo in reversed(self._undo):
                with guard:
                    undo()
            self._undo.clear()
            if self._hooks is not None:
                self._hooks.remove()
                self._hooks = None
            for owner, name, old, ours in reversed(self._patches):
                with guard:
                    if vars(owner).get(name) is not ours:
                        continue  # the program has put its own over it, which calls ours, which does nothing now
                    if old is _MISSING:
                        delattr(owner, name)
                    else:
                        setattr(owner, name, old)
            self._patches.clear()

    def set_aside(self) -> Callable[[], None]:
        """Take every patch out for a while and leave the agent processes as they are; gives what puts all back.

        What is armed meanwhile has seams of its own: those of a rerun are other ones.
        """
        with self._lock:
            if not self.armed:
                return _nothing
            root, flow, processes, for_good = self.root, self.root_flow, list(self.processes), self._for_good
            self.disarm()
            self._for_good = False

        def put_back() -> None:
            with self._lock:
                self.arm(root or processes[0], for_good=for_good)
                self.root, self.root_flow = root, flow
                self.processes[:] = processes

        return put_back

    # --- processes ---------------------------------------------------------------------------------------------------

    def add(self, process: AgentProcess) -> None:
        """A sub-agent inside this OS process."""
        with self._lock:
            self.processes.append(process)

    def drop(self, process: AgentProcess) -> None:
        """An agent process has ended; with the last one, unless armed for good, every patch goes."""
        with self._lock:
            if process in self.processes:
                self.processes.remove(process)
            if process is self.root and not self._for_good:
                # Others may still run beside it; what belongs to none of them is not recorded any more.
                self.root = self.root_flow = None
            if not self.processes and not self._for_good:
                self.disarm()

    def _exit(self) -> None:
        """At interpreter exit: close what is open, the innermost first."""
        if self.flush_output is not None:
            self.flush_output()
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        reason = "exited"
        with guard:
            if error is not None:
                data = clean_error(error_data(error))
                reason = f"exited: {type(error).__name__}" + (f": {data.message}" if data.message else "")
        for process in reversed(list(self.processes)):
            process.end(reason)
        guard.say_late()

    def _after_fork(self) -> None:
        """In a forked child: the parent's recordings are not ours; ours begins at the first event."""
        stopping.renew()
        parent = self.root
        self._lock = threading.RLock()
        if parent is None:
            return
        current = flows.current_flow()
        origin = current.process if current is not None else parent
        lineage = origin.child_lineage(current.span if current is not None else None)
        for process in self.processes:
            process.abandon()
        child = AgentProcess(lineage, intent=origin.intent, role="worker", on_start=started)
        self.root, self.root_flow = child, Flow(child)
        self.processes = [child]
        flows.FLOW.set(None)


def _nothing() -> None:
    """What puts back nothing."""


def _is_namesake(module: ModuleType) -> bool:
    """Whether this is a module of the program that has the name of one of the standard library."""
    file = getattr(module, "__file__", None)
    return file is not None and module.__name__.partition(".")[0] in sys.stdlib_module_names and kind_of(file) != STDLIB


def started(process: AgentProcess) -> None:
    """What follows when an OS process gets its recording: its children shall know whose they are."""
    environment.publish(process.child_lineage())
    end_with_multiprocessing(process)


def end_with_multiprocessing(process: AgentProcess) -> None:
    """Children of `multiprocessing` leave by `os._exit`, past `atexit`, but run its own finalizers."""
    util = sys.modules.get("multiprocessing.util")
    current = sys.modules.get("multiprocessing.process")
    if util is None or current is None or current.parent_process() is None:
        return

    def end() -> None:
        if runtime.flush_output is not None:
            runtime.flush_output()
        process.end()

    util.Finalize(None, end, exitpriority=-1000)


def _seams() -> list[tuple[str, Callable[[Any, Callable[[Any, str, Any], None]], None]]]:
    """Module to wait for, and what to do with it. One line each; adapters load only when their library does."""

    def later(adapter: str) -> Callable[[Any, Callable[[Any, str, Any], None]], None]:
        def install(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
            from importlib import import_module

            import_module(f"unspool.capture.http.{adapter}").install(module, patch)

        return install

    def tools(adapter: str, name: str = "install") -> Callable[[Any, Callable[[Any, str, Any], None]], None]:
        def install(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
            from importlib import import_module

            getattr(import_module(f"unspool.capture.frameworks.{adapter}"), name)(module, patch)

        return install

    def asked(name: str) -> Callable[[Any, Callable[[Any, str, Any], None]], None]:
        def install(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
            from importlib import import_module

            getattr(import_module("unspool.capture.asked"), name)(module, patch)

        return install

    return [
        ("threading", flows.install_threads),
        ("asyncio.base_events", flows.install_asyncio),
        ("uvloop", flows.install_uvloop),
        ("concurrent.futures.thread", flows.install_executors),
        ("multiprocessing.spawn", workers.install),
        ("httpx", later("httpx")),
        ("httpx2", later("httpx")),
        ("urllib3.connectionpool", later("urllib3")),
        ("aiohttp", later("aiohttp")),
        ("http.server", asked("install_standard_server")),
        ("wsgiref.simple_server", asked("install_simple_server")),
        ("uvicorn.protocols.http.h11_impl", asked("install_uvicorn")),
        ("uvicorn.protocols.http.httptools_impl", asked("install_uvicorn")),
        ("uvicorn.protocols.http.zttp_impl", asked("install_uvicorn")),
        ("uvicorn.protocols.http.zttp_h2_impl", asked("install_uvicorn")),
        ("starlette.applications", asked("install_starlette")),
        ("aiohttp.web_app", asked("install_aiohttp")),
        ("mcp.client.session", tools("mcp")),
        ("mcp.server.runner", asked("install_mcp_runner")),
        ("mcp.server.lowlevel.server", asked("install_mcp_server")),
        ("mcp.client.stdio", tools("mcp_transport", "install_stdio")),
        ("mcp.client.sse", tools("mcp_transport", "install_sse")),
        ("mcp.client.streamable_http", tools("mcp_transport", "install_streamable_http")),
        ("langchain_core.tools.base", tools("langchain")),
        ("agents.tool", tools("openai_agents")),
        ("agents.run_internal.tool_execution", tools("openai_agents")),
        ("pydantic_ai.toolsets.function", tools("pydantic_ai")),
    ]


runtime = Runtime()
