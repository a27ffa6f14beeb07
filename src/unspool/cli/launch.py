"""A recorded command: start it, outlive it, find what it recorded."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from unspool.cli.deaths import Deaths
from unspool.cli.follow import pid_in
from unspool.cli.terminal import note
from unspool.errors import CorruptRecording, StoreError, UsageError
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.manager import RecordManager
from unspool.recording.metadata import write_metadata
from unspool.store import Store, new_hex_id

__all__ = ["AUDIT_KINDS", "Launch", "audit_kinds"]

AUDIT_KINDS: Final = ("file", "process", "net")
_SYNC_S: Final = 1.0
_LOOK_S: Final = 0.1  # for processes that are new
_FRESH_NS: Final = 1_000_000_000
# A terminal sends these to the command too, because it is in our process group: passing them on would double them.
_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
_FORWARDED: Final = (*_FROM_TERMINAL, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def audit_kinds(text: str) -> list[str]:
    """The kinds named in a `--trace` list.

    Raises:
        UsageError: one of them does not exist.
    """
    kinds = [part.strip() for part in text.split(",") if part.strip() and part.strip() != "none"]
    wrong = [kind for kind in kinds if kind not in AUDIT_KINDS]
    if wrong:
        raise UsageError(f"--trace does not know {', '.join(wrong)}. It takes: {', '.join(AUDIT_KINDS)}, or none.")
    return kinds


class Launch:
    """A recorded command: start it, wait for it, find what it recorded.

    A store that cannot be made is said once, and the command runs unrecorded: recording never keeps an agent from its
    work.

    Args:
        argv: the command and its arguments.
        store: where recordings go.
        name: the intent of the agent process; its command line by default.
        audit: which of `process`, `net`, `file` to record.
        environ: the environment to start from; this process' own by default.
        cwd: the working directory; this process' own by default.
        stdout, stderr: as `Popen` takes them; this process' own by default.
        lineage: more fields of the `Lineage` of the first process.

    Raises:
        UsageError: the command does not exist or cannot be executed; or this is inside a rerun, which answers for it
            that nothing is sent.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        store: Store,
        name: str | None,
        audit: Sequence[str],
        environ: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        lineage: Mapping[str, Any] | None = None,
    ) -> None:
        from unspool.capture.credentials import clean_argv
        from unspool.capture.environment import TRACE_VARIABLE, lineage_from, outer_trace, variables
        from unspool.capture.process import Lineage

        if not argv:
            raise UsageError("no command given. Put it after --, for example: unspool run -- python agent.py")
        self.env = dict(os.environ if environ is None else environ)
        self.cwd = cwd
        _refuse_inside_rerun(self.env, lineage or {}, argv)
        program = argv[0] if cwd is None or os.sep not in argv[0] else os.path.join(cwd, argv[0])
        if shutil.which(program, path=self.env.get("PATH")) is None:
            if argv[0].startswith("-"):
                raise UsageError(
                    f"no such option: {argv[0]}. Options of unspool stand before the command, see --help; "
                    f"a command whose name begins with - cannot be started"
                )
            raise UsageError(
                f"{argv[0]}: command not found or not executable. Give a program, for example: python agent.py"
            )
        self.argv = list(argv)
        self.store = store
        outer = outer_trace(self.env)
        if outer is None and lineage_from(self.env) is not None:
            self.env.pop(TRACE_VARIABLE, None)  # of the run that this one is started in
        self.trace_id = new_hex_id() if outer is None else outer.trace_id
        self._id = None if outer is None else new_hex_id()[:16]  # others may be part of an outer trace too
        self.process: subprocess.Popen[bytes] | None = None
        self.is_recorded = True
        self.signals: list[int] = []  # that came while the command ran
        self._stdout, self._stderr = stdout, stderr
        try:
            store.ensure()
        except StoreError as exc:
            self.is_recorded = False
            note(f"unspool: {exc} The command runs unrecorded.")
        else:
            # Nothing of an outer run is handed on: this command is the root of a trace of its own. Other tracers than
            # ours are another matter: it goes on with what `TRACEPARENT` says.
            fields: dict[str, Any] = {"launched": clean_argv(argv, self.env), "launched_in": cwd or os.getcwd()}
            if outer is not None:
                fields |= {"run": self._id, "parent_span_id": outer.span_id, "trace_flags": outer.flags}
            fields |= lineage or {}
            told = Lineage(store=str(store.path), trace_id=self.trace_id, intent=name, audit=list(audit), **fields)
            self.env |= variables(told, self.env.get("PYTHONPATH"))
            self.env |= _msgspec_folder() | _hash_seed(self.env)
        self.first_pid = _last_pid(store) + 1
        self._foreign: set[str] = set()
        self._ended: dict[str, RecordMetadata] = {}
        self._synced: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._deaths = Deaths()
        self._looked_at = 0

    # --- the command -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the command on this process' own stdin, stdout and stderr.

        Raises:
            UsageError: it cannot be executed.
        """
        try:
            self.process = subprocess.Popen(
                self.argv, env=self.env, cwd=self.cwd, stdout=self._stdout, stderr=self._stderr
            )
        except OSError as exc:
            raise UsageError(f"{self.argv[0]}: {exc.strerror or exc}") from exc

    def run(self) -> int:
        """Start the command and wait for it, passing signals on; its exit code as a shell has it (128+N: signal N).

        Raises:
            UsageError: it cannot be executed.
        """
        with _Signals() as signals:
            self.start()
            assert self.process is not None
            signals.pass_to(self.process)
            stopped, stop = os.pipe()
            syncer = threading.Thread(target=self._sync_until, args=(stopped,), name="unspool-sync", daemon=True)
            syncer.start()
            code = signals.wait(self.process)
            ended = datetime.now(UTC)
            self.signals = signals.received
        os.close(stop)
        syncer.join(timeout=5)
        self._note_exit(code, ended)
        return code if code >= 0 else 128 - code

    # --- what it recorded --------------------------------------------------------------------------------------------

    def records(self) -> list[RecordMetadata]:
        """Metadata of what this run has recorded so far, in order of start. Cheap, however many others there are."""
        with self._lock:
            mine = [found for name in self._new_names() if (found := self._describe(name)) is not None]
        return sorted(mine, key=lambda one: one.pid)

    def owns(self, metadata: RecordMetadata) -> bool:
        """Whether a recording was made by this run."""
        return metadata.trace_id == self.trace_id and metadata.extra.get("run") == self._id

    def _new_names(self) -> list[str]:
        """Recordings made since we began: PIDs only ever grow in a store."""
        try:
            names = os.listdir(self.store.records)
        except OSError:  # not there yet, or removed under the running agent
            return []
        return [name for name in names if name not in self._foreign and pid_in(name) >= self.first_pid]

    def _describe(self, name: str) -> RecordMetadata | None:
        if name in self._ended:
            return self._ended[name]
        metadata = RecordManager(self.store.records).describe(self.store.records / name)
        if metadata is None:
            return None  # not written yet
        if not self.owns(metadata):
            self._foreign.add(name)
            return None
        if metadata.status is not RecordStatus.RECORDING:
            self._ended[name] = metadata
        return metadata

    def _sync_until(self, stopped: int) -> None:
        """Have the disk keep up, from outside the agent, and see who dies; until the descriptor's other end closes."""
        synced = time.monotonic()
        while not self._deaths.wait(_LOOK_S, stopped):
            if self._has_new():
                self._deaths.watch(self.records())
            if time.monotonic() - synced >= _SYNC_S:
                self._sync()
                synced = time.monotonic()
        self._sync()
        self._deaths.close()
        os.close(stopped)

    def _has_new(self) -> bool:
        """Whether recordings may have begun since the last look."""
        try:
            changed = self.store.records.stat().st_mtime_ns
        except OSError:  # not there yet, or removed under the running agent
            return False
        # A folder is there before its metadata; and clocks of file systems are coarse.
        is_new = changed != self._looked_at or time.time_ns() - changed < _FRESH_NS
        self._looked_at = changed
        return is_new

    def _sync(self) -> None:
        for metadata in self.records():
            for name in ("messages.jsonl", "events.jsonl"):  # the pool first: events refer to it
                path = self.store.records / metadata.record_id / name
                with contextlib.suppress(OSError):  # removed under us; power loss cannot harm it any more
                    self._sync_file(path)

    def _sync_file(self, path: Path) -> None:
        size = path.stat().st_size
        if self._synced.get(path) == size:
            return
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._synced[path] = size

    def _note_exit(self, code: int, ended: datetime) -> None:
        """Write down what a process that was killed could not: when it ended. Of the first one also the exit code.

        The status of such a recording stays `interrupted`. Of sub-agents inside a process there is no exit code of
        their own; nor is that of another process than the one we started to be had.
        """
        assert self.process is not None
        deaths = {**self._deaths.times, self.process.pid: ended}
        is_first = True
        for metadata in self.records():
            if metadata.status is RecordStatus.RECORDING or metadata.os_pid is None:
                continue
            changed = metadata
            if metadata.os_pid == self.process.pid and is_first:
                is_first = False
                changed = msgspec.structs.replace(changed, exit_code=code if code >= 0 else 128 - code)
            if metadata.status is RecordStatus.INTERRUPTED and metadata.end_time is None:
                changed = msgspec.structs.replace(changed, end_time=deaths.get(metadata.os_pid))
            if changed == metadata:
                continue
            with contextlib.suppress(OSError, CorruptRecording):  # read-only or full: the recording is whole without
                write_metadata(self.store.records / metadata.record_id, changed, durable=True)
                self._ended[metadata.record_id] = changed


class _Signals:
    """While it is entered, signals to this process go to the command, also those that came before it had started.

    Ignored ones stay ignored (nohup), in the command too. Stopping and continuing (Ctrl-Z, fg) keep their default: the
    shell sees us stop together with the command.
    """

    def __init__(self) -> None:
        self._old: dict[int, Any] = {}
        self._early: list[int] = []
        self.received: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: tuple[int, int] | None = None
        self._old_wakeup = -1

    def pass_to(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        early, self._early = self._early, []
        self.received = []
        for number in early:
            self._handle(number, None)

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the command; its exit code, negative for a signal.

        A signal that comes just before a blocking `waitpid`, or to another thread, runs its Python handler only after
        it: seen as a SIGTERM that nobody got. The wake-up file descriptor is written to in any case.
        """
        if self._pipe is None:
            return process.wait()
        while (code := process.poll()) is None:
            if select.select([self._pipe[0]], [], [], _SYNC_S)[0]:
                os.read(self._pipe[0], 4096)
        return code

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        if self._process is None:
            self._early.append(number)
        elif not (number in _FROM_TERMINAL and _is_foreground()):
            self._process.send_signal(number)  # a process that has ended is not signalled

    def __enter__(self) -> _Signals:
        if threading.current_thread() is not threading.main_thread():
            return self  # Python handles signals in the main thread only
        for number in _FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._old[number] = signal.signal(number, self._handle)
        # The end of the command wakes us up as well, if its signal has a handler.
        self._old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._pipe = os.pipe()
        for fd in self._pipe:
            os.set_blocking(fd, False)
        self._old_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._pipe is None:
            return
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        for fd in self._pipe:
            os.close(fd)


def _is_foreground() -> bool:
    """Whether a terminal sends its signals to our process group. Standard input need not be that terminal."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # no controlling terminal
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


def _refuse_inside_rerun(environ: Mapping[str, str], lineage: Mapping[str, Any], argv: Sequence[str]) -> None:
    """A run started by a program that is rerun would be live, with its model calls sent and paid for once more.

    The recording that is served does not hold it: it was a run of its own then too. Where the rerun may go on live
    anyway it is let through; so is a rerun, which serves.

    Raises:
        UsageError: it is refused.
    """
    from unspool.capture.environment import lineage_from
    from unspool.serving.plan import read_plan

    outer = lineage_from(environ)
    if outer is None or outer.rerun is None or "rerun" in lineage:
        return
    try:
        plan = read_plan(Path(outer.rerun))
    except (OSError, msgspec.DecodeError):
        return  # that rerun has ended, and what it left running is bound by nothing any more
    if plan.on_divergence == "live":
        return
    raise UsageError(
        f"not started: {shlex.join(argv)[:200]}. This is inside {'a fork' if plan.target else 'a rerun'} of "
        f"{plan.root}, which is served from there; a run in it is a recording of its own, and would be live. Rerun "
        f"that one by itself (unspool ls lists it), or let this one be live too: unspool rerun {plan.root} "
        f"--on-divergence live"
    )


def _last_pid(store: Store) -> int:
    """The highest PID given out so far."""
    try:
        text = (store.path / "pid").read_text().strip()
        return int(text) if text.isdigit() else 0
    except (OSError, ValueError):
        return 0


def _hash_seed(environ: Mapping[str, str]) -> dict[str, str]:
    """A hash seed where the command has none: as random as Python's own, but recorded with its environment.

    The order of a set of strings hangs on it, and with it every prompt that is made from one: a rerun gets it again.
    """
    if environ.get("PYTHONHASHSEED") not in {None, "", "random"}:
        return {}
    return {"PYTHONHASHSEED": str(1 + secrets.randbelow(2**32 - 1))}  # 0 would turn hash randomization off


def _msgspec_folder() -> dict[str, str]:
    """Where an agent without msgspec may load ours from; its interpreter refuses it if the ABI differs."""
    spec = importlib.util.find_spec("msgspec")
    if spec is None or spec.origin is None:
        return {}
    return {"UNSPOOL_MSGSPEC": str(Path(spec.origin).parent.parent)}
