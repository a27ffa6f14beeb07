"""`unspool run`: start a command with recording switched on, pass everything through, say what was recorded."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from unspool.cli.options import store_option
from unspool.errors import UsageError
from unspool.events import RecordMetadata, RecordStatus
from unspool.store import Store, find_store, new_hex_id

__all__ = ["Launch", "run"]

_SYNC_S = 1.0
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT", "SIGTSTP")


class Launch:
    """A recorded command: start it, wait for it, find what it recorded.

    Args:
        argv: the command and its arguments.
        store: where recordings go.
        name: the intent of the agent process; its command line by default.
        audit: which of `process`, `net`, `file` to record.

    Raises:
        UsageError: the command does not exist or cannot be executed.
        StoreError: the store cannot be created.
    """

    def __init__(self, argv: Sequence[str], *, store: Store, name: str | None, audit: Sequence[str]) -> None:
        from unspool.capture.environment import variables
        from unspool.capture.process import Lineage

        if not argv:
            raise UsageError("no command given. Put it after --, for example: unspool run -- python agent.py")
        if shutil.which(argv[0]) is None:
            raise UsageError(f"{argv[0]}: command not found or not executable. Give a program, for example: python agent.py")
        self.store = store.ensure()
        self.trace_id = new_hex_id()
        lineage = Lineage(store=str(store.path), trace_id=self.trace_id, intent=name, audit=list(audit))
        self.env = {**os.environ, **variables(lineage, os.environ.get("PYTHONPATH")), **_msgspec_folder()}
        self.argv = list(argv)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the command on this process' own stdin, stdout and stderr.

        Raises:
            UsageError: it cannot be executed.
        """
        try:
            self.process = subprocess.Popen(self.argv, env=self.env)
        except OSError as exc:
            raise UsageError(f"{self.argv[0]}: {exc.strerror or exc}") from exc

    def wait(self, each: Callable[[], None] | None = None) -> int:
        """Wait for the command, forwarding signals; gives its exit code as a shell would (128+N for a signal).

        Args:
            each: called about once a second meanwhile.
        """
        process = self.process
        assert process is not None
        stop = threading.Event()
        syncer = threading.Thread(target=self._sync_loop, args=(stop,), daemon=True)
        syncer.start()
        with _forward_signals(process):
            while True:
                try:
                    code = process.wait(timeout=_SYNC_S)
                    break
                except subprocess.TimeoutExpired:
                    if each is not None:
                        each()
        stop.set()
        syncer.join(timeout=5)
        return code if code >= 0 else 128 - code

    def _sync_loop(self, stop: threading.Event) -> None:
        """Have the disk keep up, from outside the agent: pool before events (power loss)."""
        while not stop.wait(_SYNC_S):
            for metadata in self.records():
                folder = self.store.records / metadata.record_id
                for name in ("messages.jsonl", "events.jsonl"):
                    with contextlib.suppress(OSError):
                        fd = os.open(folder / name, os.O_RDONLY)
                        try:
                            os.fsync(fd)
                        finally:
                            os.close(fd)

    def records(self) -> list[RecordMetadata]:
        """Metadata of what this run has recorded so far, in order of start."""
        from unspool.recording.manager import RecordManager

        # Reading every folder of a large store once a second would be felt; new folders are the newest.
        since = self.store.records
        with contextlib.suppress(OSError):
            if not since.exists():
                return []
        mine = [m for m in RecordManager(self.store.records).list_records() if m.trace_id == self.trace_id]
        return sorted(mine, key=lambda m: m.pid)

    def note_exit(self, code: int) -> None:
        """Write the exit code into the metadata of the process that was started."""
        from unspool.recording.metadata import write_metadata

        process = self.process
        assert process is not None
        for metadata in self.records():
            if metadata.os_pid == process.pid and metadata.status is not RecordStatus.RECORDING:
                with contextlib.suppress(OSError):
                    write_metadata(
                        self.store.records / metadata.record_id,
                        msgspec.structs.replace(metadata, exit_code=code),
                        durable=True,
                    )


def _msgspec_folder() -> dict[str, str]:
    """Where an agent without msgspec may load ours from; its interpreter refuses it if the ABI differs."""
    spec = importlib.util.find_spec("msgspec")
    if spec is None or spec.origin is None:
        return {}
    return {"UNSPOOL_MSGSPEC": str(Path(spec.origin).parent.parent)}


@contextlib.contextmanager
def _forward_signals(process: subprocess.Popen[bytes]):  # type: ignore[no-untyped-def]  # a generator for `with`
    """Pass signals on to the command. On a terminal Ctrl-C reaches the whole group by itself: only outlive it."""
    old: dict[int, object] = {}

    def forward(number: int, frame: object) -> None:
        if number == signal.SIGINT and os.isatty(0):
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    if threading.current_thread() is threading.main_thread():
        for name in _FORWARDED:
            number = getattr(signal, name, None)
            if number is not None and name not in ("SIGTSTP", "SIGCONT", "SIGWINCH"):
                old[number] = signal.signal(number, forward)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what `signal` gave, it takes


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", metavar="TEXT", help="What the agent is asked to do; shown in lists. Default: the command line.")
@store_option
@click.option(
    "--trace",
    "trace",
    metavar="KINDS",
    default="process,net",
    show_default=True,
    help="Syscalls to record besides model calls, tools and HTTP: a comma-separated list of file, process, net; or none.",
)
@click.option("--quiet", "-q", is_flag=True, help="Do not say at the end what was recorded.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(name: str | None, store: str | None, trace: str, quiet: bool, command: tuple[str, ...]) -> None:
    """Run COMMAND and record it and the Python processes it starts.

    The command keeps its terminal, its signals and its exit code. Put -- before it:

    \b
        unspool run -- python agent.py --verbose
    """
    launch = Launch(command, store=find_store(store), name=name, audit=audit_kinds(trace))
    began = time.monotonic()
    launch.start()
    code = launch.wait()
    launch.note_exit(code)
    if not quiet:
        sys.stderr.write(summary(launch, time.monotonic() - began) + "\n")
    raise SystemExit(code)


def audit_kinds(text: str) -> list[str]:
    """The kinds named in a `--trace` list.

    Raises:
        UsageError: one of them does not exist.
    """
    known = ("file", "process", "net")
    kinds = [part.strip() for part in text.split(",") if part.strip() and part.strip() != "none"]
    wrong = [kind for kind in kinds if kind not in known]
    if wrong:
        raise UsageError(f"--trace does not know {', '.join(wrong)}. It takes: {', '.join(known)}, or none.")
    return kinds


def summary(launch: Launch, seconds: float) -> str:
    """The closing line: what was recorded, and what to type next."""
    from unspool.cli.listing import tally

    records = launch.records()
    if not records:
        return (
            "unspool: nothing was recorded: the command started no Python that unspool could enter "
            "(a Python started with -I, -E or -S, another language, or a message above says why)."
        )
    total = tally(launch.store, records)
    root = next((m for m in records if m.role == "agent"), records[0])
    parts = [f"{total.calls} model call{'s' * (total.calls != 1)}", f"{total.tools} tool call{'s' * (total.tools != 1)}"]
    if total.tokens is not None:
        parts.append(f"{total.tokens:,} tokens")
    if total.errors:
        parts.append(f"{total.errors} error{'s' * (total.errors != 1)}")
    if len(records) > 1:
        parts.append(f"{len(records)} processes")
    if total.lost:
        parts.append(f"{total.lost} EVENTS LOST")
    return f"unspool: recorded {root.record_id}: {', '.join(parts)} in {seconds:.1f}s. Next: unspool replay {root.pid}"
