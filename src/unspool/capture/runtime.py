"""What is armed in this OS process: the patches, and the agent process that unclaimed code belongs to.

The one place with module-level state. `arm` installs every seam, now for what is imported and later for what will be;
`disarm` takes all of them out again.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from unspool.capture import flow as flows
from unspool.capture.flow import Flow
from unspool.capture.guard import guard
from unspool.capture.imports import ImportHooks
from unspool.capture.process import AgentProcess

__all__ = ["Runtime", "runtime"]

_MISSING = object()


class Runtime:
    """The state of capture in this OS process."""

    def __init__(self) -> None:
        self.root: AgentProcess | None = None
        self.root_flow: Flow | None = None
        self.processes: list[AgentProcess] = []
        self._patches: list[tuple[Any, str, Any]] = []
        self._undo: list[Callable[[], None]] = []
        self._hooks: ImportHooks | None = None
        self._lock = threading.RLock()
        self._at_exit = False
        self._fork_hooks = False
        flows.set_root(lambda: self.root_flow)

    @property
    def armed(self) -> bool:
        """Whether the seams are in place."""
        return self._hooks is not None

    # --- arming ------------------------------------------------------------------------------------------------------

    def arm(self, root: AgentProcess) -> None:
        """Install every seam; code that no flow reaches belongs to `root`."""
        with self._lock:
            self.root, self.root_flow = root, Flow(root)
            self.processes.append(root)
            if self._hooks is not None:
                return
            hooks = self._hooks = ImportHooks()
            for name, install in _seams():
                hooks.add(name, self._installer(install))
            hooks.install()
            with guard:
                from unspool.capture import audit, nondet

                self._undo.append(audit.install(self, root.lineage.audit))
                self._undo.append(nondet.install(self))
            if not self._at_exit:
                self._at_exit = True
                atexit.register(self._exit)
            if not self._fork_hooks:
                self._fork_hooks = True
                os.register_at_fork(after_in_child=self._after_fork)

    def _installer(self, install: Callable[[Any, Callable[[Any, str, Any], None]], None]) -> Callable[[ModuleType], None]:
        def hook(module: ModuleType) -> None:
            if self.armed:
                install(module, self.patch)

        return hook

    def add_hook(self, module: str, hook: Callable[[ModuleType], None]) -> None:
        """Run `hook` when `module` is imported, or now."""
        if self._hooks is not None:
            self._hooks.add(module, hook)

    def patch(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute so that `disarm` can put the old one back."""
        own = owner.__dict__.get(name, _MISSING) if isinstance(owner, type) else getattr(owner, name, _MISSING)
        self._patches.append((owner, name, own))
        if isinstance(value, FunctionType):
            original = getattr(owner, name, None)
            for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
                if isinstance(text := getattr(original, attribute, None), str):
                    setattr(value, attribute, text)
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
            for owner, name, value in reversed(self._patches):
                with guard:
                    if value is _MISSING:
                        delattr(owner, name)
                    else:
                        setattr(owner, name, value)
            self._patches.clear()

    # --- processes ---------------------------------------------------------------------------------------------------

    def add(self, process: AgentProcess) -> None:
        """A sub-agent inside this OS process."""
        with self._lock:
            self.processes.append(process)

    def drop(self, process: AgentProcess) -> None:
        """A sub-agent has ended."""
        with self._lock:
            if process in self.processes:
                self.processes.remove(process)

    def _exit(self) -> None:
        """At interpreter exit: close what is open, the innermost first."""
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        reason = "exited"
        if error is not None:
            reason = f"exited: {type(error).__name__}: {error}" if str(error) else f"exited: {type(error).__name__}"
        for process in reversed(list(self.processes)):
            process.end(reason)

    def _after_fork(self) -> None:
        """In a forked child: the parent's recordings are not ours; ours begins at the first event."""
        parent = self.root
        self._lock = threading.RLock()
        if parent is None:
            return
        current = flows.FLOW.get()
        origin = current.process if current is not None and not current.process.abandoned else parent
        for process in self.processes:
            process.abandon()
        lineage = origin.child_lineage(current.span if current is not None else None)
        child = AgentProcess(lineage, intent=origin.intent, role="worker", on_start=end_with_multiprocessing)
        self.root, self.root_flow = child, Flow(child)
        self.processes = [child]
        flows.FLOW.set(None)


def end_with_multiprocessing(process: AgentProcess) -> None:
    """Children of `multiprocessing` leave by `os._exit`, past `atexit`, but run its own finalizers."""
    util = sys.modules.get("multiprocessing.util")
    current = sys.modules.get("multiprocessing.process")
    if util is None or current is None or current.parent_process() is None:
        return
    util.Finalize(None, process.end, exitpriority=-1000)


def _seams() -> list[tuple[str, Callable[[Any, Callable[[Any, str, Any], None]], None]]]:
    """Module to wait for, and what to do with it. One line each; adapters load only when their library does."""

    def later(adapter: str) -> Callable[[Any, Callable[[Any, str, Any], None]], None]:
        def install(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
            from importlib import import_module

            import_module(f"unspool.capture.http.{adapter}").install(module, patch)

        return install

    return [
        ("threading", flows.install_threads),
        ("asyncio.base_events", flows.install_asyncio),
        ("concurrent.futures.thread", flows.install_executors),
        ("httpx", later("httpx")),
        ("httpx2", later("httpx")),
        ("urllib3.connectionpool", later("urllib3")),
        ("aiohttp", later("aiohttp")),
    ]


runtime = Runtime()
