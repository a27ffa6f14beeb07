"""The forks that this server has started: each an `unspool fork` of its own, watched, stopped with the server."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal

from msgspec import Struct

from unspool.cli.follow import pid_in
from unspool.errors import StoreError, UnspoolError, UsageError
from unspool.events import RecordMetadata
from unspool.recording.manager import RecordManager
from unspool.store import Store

__all__ = ["Job", "JobNotFound", "Jobs", "OptionFile", "Order"]

_AT_ONCE: Final = 4
_KEPT: Final = 100  # jobs that have ended and are remembered
_TAIL: Final = 64 << 10  # bytes of what a fork says that are kept
_RESULT: Final = 64 << 20  # bytes of its document
_GRACE_S: Final = 5.0  # between asking a fork to end and making it
_SECRET: Final = "UNSPOOL_WEB_TOKEN"  # of this server: no program that is run shall talk to it
_PIPES_S: Final = 1.0  # what a fork left running may hold its pipes for as long as it likes

Mode = Literal["run", "send"]
State = Literal["running", "done", "failed", "stopped"]


class JobNotFound(UnspoolError):
    """No fork of this name was started by this server."""


class OptionFile(Struct):
    """A text that an option takes from a file.

    Attributes:
        option: what the file's path is put behind, such as `--set-response=@`.
        name: of the file.
    """

    option: str
    name: str
    text: str


class Order(Struct):
    """What a fork is started with.

    Attributes:
        mode: the whole program, or the one call.
        record_id: the recording the point is in.
        seq_num: the point.
        root: the recording of the run that it is part of, whose program is run.
        options: of `unspool fork`, but for those that take a file.
        files: those, with what the files hold.
        fields: of the form, to be filled in again.
    """

    mode: Mode
    record_id: str
    seq_num: int
    root: str
    options: list[str]
    files: list[OptionFile]
    fields: list[tuple[str, str]] = []


class Job:
    """One `unspool fork` that runs, or has run.

    Attributes:
        order: what it was started with.
        argv: the command line.
        code: its exit code as `Popen` has it; None while it runs.
    """

    def __init__(self, name: str, order: Order, store: Store) -> None:
        self.name = name
        self.order = order
        self.argv: list[str] = []
        self.code: int | None = None
        self.asked_to_stop = False
        self._store = store
        self._first_pid = _last_pid(store) + 1
        self._records: list[str] = []
        self._foreign: set[str] = set()
        self._lock = threading.Lock()
        self._tail = bytearray()
        self._said = 0
        self._result = bytearray()
        self._ended = threading.Event()

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, in a process group of its own.

        Raises:
            StoreError: there is no room for its files, or no process to be had.
        """
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="unspool-fork-"))
            with contextlib.ExitStack() as undo:  # whatever goes wrong
                undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
                self._begin()
                undo.enter_context(self._process)
                undo.callback(self._process.wait)
                undo.callback(self._signal, signal.SIGKILL)
                self._watch()
                undo.pop_all()
        except OSError as exc:
            raise StoreError(f"the fork cannot be started: {exc.strerror or exc}") from exc
        except RuntimeError as exc:  # no more threads
            raise StoreError(f"the fork cannot be started: {exc}") from exc

    def _begin(self) -> None:
        order = self.order
        options = list(order.options)
        for one in order.files:
            file = self._folder / one.name
            file.write_bytes(one.text.encode("utf-8", "surrogatepass"))
            options.append(f"{one.option}{file}")
        self.argv = [
            *(sys.executable, "-m", "unspool", "fork", f"{order.record_id}@{order.seq_num}", *options),
            *("--run" if order.mode == "run" else "--send", "--json", "--store", str(self._store.path)),
        ]
        self._process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env={name: value for name, value in os.environ.items() if name != _SECRET},
        )  # fmt: skip

    def _watch(self) -> None:
        assert self._process.stdout is not None, "asked for with PIPE"
        assert self._process.stderr is not None, "asked for with PIPE"
        readers = [
            threading.Thread(target=self._read, args=(stream, keep), daemon=True, name="unspool-fork-read")
            for stream, keep in ((self._process.stdout, self._keep_result), (self._process.stderr, self._keep_said))
        ]
        for one in readers:
            one.start()
        threading.Thread(target=self._wait, args=(readers,), daemon=True, name="unspool-fork-wait").start()

    def _read(self, stream: IO[bytes], keep: Any) -> None:
        with stream:
            while piece := os.read(stream.fileno(), 65536):
                keep(piece)

    def _keep_said(self, piece: bytes) -> None:
        with self._lock:
            self._said += len(piece)
            self._tail += piece
            del self._tail[: max(len(self._tail) - _TAIL, 0)]

    def _keep_result(self, piece: bytes) -> None:
        with self._lock:
            self._result += piece[: max(_RESULT - len(self._result), 0)]

    def _wait(self, readers: Sequence[threading.Thread]) -> None:
        code = self._process.wait()
        for one in readers:
            one.join(timeout=_PIPES_S)
        self._look(is_over=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        self.code = code
        self._ended.set()

    def stop(self, *, wait: bool = False) -> None:
        """Ask all of its processes to end, and make them if they do not within some seconds.

        Args:
            wait: until it has ended.
        """
        if self._ended.is_set():
            return
        first = not self.asked_to_stop
        self.asked_to_stop = True
        self._signal(signal.SIGTERM)
        if wait:
            self._make_end()
        elif first:
            threading.Thread(target=self._make_end, daemon=True, name="unspool-fork-stop").start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; whether it has."""
        return self._ended.wait(timeout_s)

    def _make_end(self) -> None:
        if not self._ended.wait(_GRACE_S):
            self._signal(signal.SIGKILL)
            self._ended.wait(_GRACE_S)

    def _signal(self, number: int) -> None:
        if self._ended.is_set():
            return  # the group's number may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended just now
            os.killpg(self._process.pid, number)

    # --- how it stands -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Whether it runs, and how it ended."""
        if self.code is None:
            return "running"
        if self.asked_to_stop and self.code != 0:
            return "stopped"
        return "done" if self.code == 0 else "failed"

    @property
    def said(self) -> str:
        """The end of what the command and its program wrote."""
        with self._lock:
            return bytes(self._tail).decode("utf-8", "replace")

    @property
    def said_bytes(self) -> int:
        """How much they wrote in all."""
        with self._lock:
            return self._said

    @property
    def is_cut(self) -> bool:
        """Whether `said` is not all of it."""
        with self._lock:
            return self._said > len(self._tail)

    def result(self) -> dict[str, Any] | None:
        """The document the command printed; None if it printed none, or is not done."""
        if self.code is None:
            return None
        with self._lock:
            text = bytes(self._result)
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def records(self) -> list[str]:
        """The recordings of the forks, the first one first: as soon as they are there."""
        result = self.result()
        if result is not None and self.order.mode == "run":
            told = [one.get("record_id") for one in result.get("forks", ()) if isinstance(one, dict)]
            found = [one for one in told if isinstance(one, str)]
            if found:
                return found
        if self.code is None:
            self._look()
        with self._lock:
            return list(self._records)

    def signature(self) -> tuple[tuple[str, int, int], ...]:
        """Equal as long as a page of it would be the same."""
        return ((self.state, self.said_bytes, len(self.records())),)

    def _look(self, *, is_over: bool = False) -> None:
        """Look for recordings that this fork has begun: PIDs only ever grow in a store."""
        if self.order.mode != "run":
            return
        try:
            new = [name for name in os.listdir(self._store.records) if pid_in(name) >= self._first_pid]
        except OSError:  # the store was removed
            return
        said = self.said if is_over else ""
        for name in sorted(new, key=pid_in):
            if name in self._foreign or name in self._records:
                continue
            metadata = RecordManager(self._store.records).describe(self._store.records / name)
            if metadata is None:
                continue  # not written yet
            with self._lock:
                if self._is_mine(metadata) or (name in said and metadata.parent == self.order.root):
                    if name not in self._records:
                        self._records.append(name)
                elif metadata.parent != self.order.root or metadata.forked_at is None:
                    self._foreign.add(name)

    def _is_mine(self, metadata: RecordMetadata) -> bool:
        """Whether it is a fork of our run, by a process that we started."""
        if metadata.parent != self.order.root or metadata.forked_at is None or metadata.os_pid is None:
            return False
        try:
            return os.getpgid(metadata.os_pid) == self._process.pid
        except OSError:  # it has ended
            return False


class Jobs:
    """All forks of a server. Safe to use from several threads.

    Args:
        prices_file: the price list that the server was given.
    """

    def __init__(self, store: Store, prices_file: str | None = None, *, may_choose_server: bool = True) -> None:
        self.may_choose_server = may_choose_server
        self._store = store
        self._prices_file = prices_file
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._is_closed = False

    def start(self, order: Order) -> Job:
        """Start a fork.

        Raises:
            UsageError: so many are running that this one must wait.
            StoreError: it cannot be started.
        """
        if self._prices_file is not None:
            order.options += ["--prices", os.path.abspath(self._prices_file)]
        with self._lock:
            if self._is_closed:
                raise UsageError("the server is being stopped, so nothing was started")
            running = [job for job in self._jobs.values() if job.code is None]
            if len(running) >= _AT_ONCE:
                raise UsageError(f"{len(running)} forks are running, and no more run at once: stop one, or wait")
            job = Job(secrets.token_hex(8), order, self._store)
            job.start()
            self._jobs[job.name] = job
            ended = [name for name, one in self._jobs.items() if one.code is not None]
            for name in ended[: max(len(self._jobs) - _KEPT, 0)]:
                del self._jobs[name]
        return job

    def get(self, name: str) -> Job:
        """One of them.

        Raises:
            JobNotFound: there is none.
        """
        with self._lock:
            job = self._jobs.get(name)
        if job is None:
            raise JobNotFound(
                "this server has started no such fork, or has forgotten it: forks are remembered until the server "
                "ends. What they recorded is in the list of runs"
            )
        return job

    def all(self) -> list[Job]:
        """The latest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def close(self) -> None:
        """Stop all that run, and start no more. Takes some seconds at most."""
        with self._lock:
            self._is_closed = True
            running = [job for job in self._jobs.values() if job.code is None]
        for job in running:
            job.stop()
        for job in running:
            job.stop(wait=True)


def _last_pid(store: Store) -> int:
    """The highest PID given out so far."""
    try:
        text = (store.path / "pid").read_text().strip()
    except OSError:  # nothing has been recorded here
        return 0
    return int(text) if text.isascii() and text.isdigit() else 0
