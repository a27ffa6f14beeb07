"""Subprocesses, sockets and files of the agent's code, through `sys.addaudithook` (PEP 578).

Audit events fire before the act, so these syscalls say what was attempted; exit codes come from `Popen`. A hook can
never be removed, so it first looks whether anything is armed. What it cannot see: C extensions that open files or
sockets without the interpreter, and what a subprocess does that is no Python.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from unspool.capture import environment, rerun
from unspool.capture.credentials import clean_argv, clean_text
from unspool.capture.flow import QUIET, Flow, current_flow, leave
from unspool.capture.guard import guard
from unspool.capture.places import AGENT, LIBRARY, OURS, STDLIB, caller, kind_of
from unspool.events import RecordEvent, RecordEventType, SyscallEventData

if TYPE_CHECKING:
    from unspool.capture.runtime import Runtime
    from unspool.capture.touched import Touched

__all__ = ["KINDS", "install"]

KINDS = ("process", "net", "file")

_wanted: frozenset[str] = frozenset()
_recorded: frozenset[str] = frozenset()  # those of `_wanted` that become events; the others a rerun watches
_touched: Touched | None = None
_busy = threading.local()
_added = False
_store_prefix = ""
_FOR_ITSELF = (f"{os.sep}platform.py", f"{os.sep}sysconfig.py", f"{os.sep}ctypes{os.sep}util.py")
_NOISE = ("/proc/", "/sys/", "/dev/", "/usr/lib/", "/usr/share/", "/etc/ssl/", "/etc/localtime")


def install(runtime: Runtime, kinds: Iterable[str]) -> Callable[[], None]:
    """Start watching the given kinds; gives the function that stops it."""
    global _added, _wanted, _recorded, _touched, _store_prefix
    chosen = set(kinds)
    events: set[str] = set()
    if "net" in chosen:
        events.add("socket.connect")
    if "file" in chosen:
        events |= {"open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate"}
    if "process" in chosen:
        events |= {"os.exec", "os.posix_spawn"}
        _watch_os(runtime.patch)
        runtime.add_hook("subprocess", lambda module: _watch_popen(module, runtime.patch))
        runtime.add_hook("asyncio.base_subprocess", lambda module: _watch_transport(module, runtime.patch))
    if runtime.root is not None:
        _store_prefix = os.path.join(runtime.root.lineage.store, "")
    _recorded = _wanted = frozenset(events)
    with guard:
        stage = rerun.stage()
        if stage is not None and runtime.root is not None and not rerun.is_guest():
            from unspool.capture.touched import EVENTS, Touched

            _touched = Touched(stage, runtime.root.lineage.store)
            _wanted = _recorded | EVENTS.keys()
    if not _added and _wanted:
        _added = True
        sys.addaudithook(_hook)

    def stop() -> None:
        global _wanted, _touched
        _wanted, _touched = frozenset(), None

    return stop


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in _wanted:
        return
    if getattr(_busy, "on", False):
        return
    watch = _touched
    if watch is None and QUIET.get():
        return
    _busy.on = True
    try:
        if watch is not None:
            watch.see(event, args)  # refuses what the rerun may not do
        if event not in _recorded or QUIET.get():
            return
        flow = current_flow()
        if flow is not None:
            with guard:  # an exception from an audit hook would abort the agent's call
                _HANDLERS[event](flow, event, args)
    finally:
        _busy.on = False


def _write(flow: Flow, name: str, path: str, args: dict[str, Any], result: Any = "attempted") -> None:
    flow.process.ensure()
    flow.process.write(
        RecordEvent(
            type=RecordEventType.SYSCALL,
            seq_num=0,
            timestamp=flow.process.elapsed(),
            pid=0,
            syscall=SyscallEventData(syscall=name, args={"path": path, **args}, result=result),
            call=flow.call,
            step=flow.step,
            task=flow.path,
            at=caller(),
            parent_span_id=flow.span or flow.process.own_span,
        )
    )


def _nearest_kind() -> str | None:
    """Whose code acts: the kind of the first frame that is not the interpreter's or ours.

    None for what the interpreter does for itself: an import, or asking the system what it is (`platform`). STDLIB when
    there is no such frame: the program gave a thread or a loop a function of the standard library to run.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        kind = kind_of(filename)
        if kind not in (STDLIB, OURS):
            return kind
        if filename.startswith("<frozen importlib") or filename.endswith(_FOR_ITSELF):
            return None
        frame = frame.f_back
    return STDLIB


def _connect(flow: Flow, event: str, args: tuple[Any, ...]) -> None:
    if _nearest_kind() is None:
        return
    address = args[1]
    if isinstance(address, tuple) and len(address) >= 2:
        where = f"{address[0]}:{address[1]}"
    elif isinstance(address, (str, bytes)):
        where = os.fsdecode(address)
        if not where or where.startswith("\0"):
            return
    else:
        where = str(address)
    _write(flow, "Connect", f"/dev/net/{where}", {})


def _open(flow: Flow, event: str, args: tuple[Any, ...]) -> None:
    path, mode = args[0], args[1]
    if not isinstance(path, (str, bytes, os.PathLike)):
        return  # a file descriptor: the file behind it was opened before
    name = os.path.abspath(os.fsdecode(path))
    if name.startswith(_NOISE) or name.startswith(_store_prefix) or kind_of(name) in (LIBRARY, STDLIB, OURS):
        return
    if _nearest_kind() != AGENT:
        return
    if not isinstance(mode, str):
        flags = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
        mode = "w" if flags & (os.O_WRONLY | os.O_RDWR) else "r"
    _write(flow, "Open", f"/dev/fs{name}", {"mode": mode})


def _change(flow: Flow, event: str, args: tuple[Any, ...]) -> None:
    name = os.path.abspath(os.fsdecode(args[0])) if isinstance(args[0], (str, bytes, os.PathLike)) else str(args[0])
    if name.startswith(_store_prefix) or _nearest_kind() != AGENT:
        return
    more = {}
    if event == "os.rename" and isinstance(args[1], (str, bytes, os.PathLike)):
        more["to"] = os.fsdecode(args[1])
    _write(flow, event.removeprefix("os.").capitalize(), f"/dev/fs{name}", more)


def _exec(flow: Flow, event: str, args: tuple[Any, ...]) -> None:
    program, argv = os.fsdecode(args[0]), [os.fsdecode(word) for word in args[1]]
    if event == "os.exec" and not os.access(program, os.X_OK):
        return  # os.execvp tries each folder of PATH
    _write(flow, "Exec", f"/dev/proc/{os.path.basename(program)}", {"argv": clean_argv(argv)})
    if event == "os.exec":
        # This program is about to be replaced: what it recorded is complete.
        flow.process.end("replaced by exec")


_HANDLERS: dict[str, Callable[[Flow, str, tuple[Any, ...]], None]] = {
    "socket.connect": _connect,
    "open": _open,
    "os.remove": _change,
    "os.rename": _change,
    "os.mkdir": _change,
    "os.rmdir": _change,
    "os.truncate": _change,
    "os.exec": _exec,
    "os.posix_spawn": _exec,
}


# --- subprocesses: start, environment, exit code ---------------------------------------------------------------------


class _Child:
    """A command that was started, until its exit is known."""

    def __init__(self, flow: Flow, argv: list[str], *, path: str | None = None, os_pid: int | None = None) -> None:
        self.flow, self.argv, self.os_pid = flow, argv, os_pid
        self.at = caller()
        self.started_ns = time.monotonic_ns()
        self.span = flow.process.new_span()
        self.captured = environment.will_be_captured(argv)
        self.path = path or f"/dev/proc/{os.path.basename(argv[0]) if argv else '?'}"
        self._done = False
        flow.process.ensure()
        flow.process.begun(self)
        flow.process.note_start(
            {
                "span_id": self.span,
                "parent_span_id": flow.span or flow.process.own_span,
                "name": "Exec",
                "path": self.path,
                "start": flow.process.elapsed(self.started_ns),
                "task": flow.path,
                "at": self.at,
            }
        )

    def cut_off(self) -> None:
        self._end("not waited for", "")

    def ended(self, code: int | None) -> None:
        """The command has ended, or nobody will ever know."""
        if code is None:
            self.cut_off()
        else:
            self._end(f"exit {code}", "" if code == 0 else f"exit code {code}")

    def failed(self, error: BaseException) -> None:
        """It could not be started."""
        self._end(None, f"{type(error).__name__}: {clean_text(str(error))}")

    def _end(self, result: str | None, err: str) -> None:
        if self._done:
            return
        self._done = True
        args: dict[str, Any] = {"path": self.path, "argv": clean_argv(self.argv)}
        if self.os_pid is not None:
            args["os_pid"] = self.os_pid
        if self.captured is not None:
            args["captured"] = self.captured
        self.flow.process.write(
            RecordEvent(
                type=RecordEventType.SYSCALL,
                seq_num=0,
                timestamp=self.flow.process.elapsed(self.started_ns),
                pid=0,
                syscall=SyscallEventData(
                    syscall="Exec", args=args, result=result, err=err, duration=time.monotonic_ns() - self.started_ns
                ),
                call=self.flow.call,
                step=self.flow.step,
                task=self.flow.path,
                at=self.at,
                span_id=self.span,
                parent_span_id=self.flow.span or self.flow.process.own_span,
            )
        )
        self.flow.process.finished(self)


def _watched_flow() -> Flow | None:
    """The flow that starts a command, None if that is not recorded."""
    flow = None if QUIET.get() else current_flow()
    if flow is None or _nearest_kind() is None:
        return None
    flow.process.ensure()
    return flow


def _watch_os(patch: Callable[[Any, str, Any], None]) -> None:
    """`os.system` for its exit code, and the calls that take an environment, so that ours goes along."""
    system = os.system

    def watched_system(command: Any) -> int:
        child = None
        with guard:
            flow = _watched_flow()
            if flow is not None:
                child = _Child(flow, ["sh", "-c", os.fsdecode(command)], path="/dev/proc/sh")
        try:
            status = system(command)
        except BaseException as error:
            if child is not None:
                with guard:
                    child.failed(error)
            raise
        if child is not None:
            with guard:
                child.ended(os.waitstatus_to_exitcode(status))
        return status

    patch(os, "system", watched_system)
    for name in ("execve", "posix_spawn", "posix_spawnp"):
        if hasattr(os, name):
            patch(os, name, _with_environment(getattr(os, name)))


def _with_environment(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(path: Any, argv: Any, env: Any, *more: Any, **options: Any) -> Any:
        with guard:
            flow = None if QUIET.get() else current_flow()
            if flow is not None:
                flow.process.ensure()
                env = environment.for_child(env, flow)
        return original(path, argv, env, *more, **options)

    return start


_SHELL_POSITION, _ENV_POSITION = 7, 9  # among the positional parameters of `Popen` after `args`


def _watch_popen(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    popen = module.Popen
    init, handle_exit = popen.__init__, popen._handle_exitstatus

    def watched_init(self: Any, args: Any, *more: Any, **options: Any) -> None:
        child = None
        with guard:
            flow = _watched_flow()
            if flow is not None:
                shell = options.get("shell") or (len(more) > _SHELL_POSITION and more[_SHELL_POSITION])
                child = _Child(flow, _words(args, bool(shell)))
                if len(more) > _ENV_POSITION:
                    ours = environment.for_child(more[_ENV_POSITION], flow, child.span)
                    more = (*more[:_ENV_POSITION], ours, *more[_ENV_POSITION + 1 :])
                else:
                    options["env"] = environment.for_child(options.get("env"), flow, child.span)
        if child is None:
            init(self, args, *more, **options)
            return
        token = QUIET.set(True)  # the spawn's own audit events are this one
        try:
            init(self, args, *more, **options)
        except BaseException as error:
            with guard:
                child.failed(error)
            raise
        finally:
            leave(QUIET, token)
        with guard:
            child.os_pid = self.pid
            self._unspool_child = child

    def watched_exit(self: Any, sts: int, *more: Any, **options: Any) -> None:
        handle_exit(self, sts, *more, **options)
        with guard:
            child = self.__dict__.get("_unspool_child")
            if child is not None:
                child.ended(self.returncode)

    patch(popen, "__init__", watched_init)
    patch(popen, "_handle_exitstatus", watched_exit)


def _watch_transport(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    """asyncio reaps its subprocesses itself, past `Popen`."""
    transport = module.BaseSubprocessTransport
    original = transport._process_exited

    def process_exited(self: Any, returncode: int) -> None:
        with guard:
            child = getattr(self._proc, "_unspool_child", None)
            if child is not None:
                child.ended(returncode)
        original(self, returncode)

    patch(transport, "_process_exited", process_exited)


def _words(args: Any, shell: bool = False) -> list[str]:
    if shell:
        command = args if isinstance(args, (str, bytes)) else next(iter(args), "")
        return ["sh", "-c", os.fsdecode(command)]
    if isinstance(args, (str, bytes, os.PathLike)):
        return [os.fsdecode(args)]
    return [os.fsdecode(word) if isinstance(word, (str, bytes, os.PathLike)) else str(word) for word in args]
