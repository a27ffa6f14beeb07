"""`unspool strace`: the calls of an agent as lines, live or after the fact."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click

from unspool.cli.filters import KINDS, EventFilter, kinds_in
from unspool.cli.follow import Follower, Joins, pid_in
from unspool.cli.launch import Launch, audit_kinds
from unspool.cli.lineview import LineView, output
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.run import summary, trace_option
from unspool.cli.terminal import note, use_color
from unspool.errors import RecordingNotFound, UsageError
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import Address, is_fork, is_root, resolve
from unspool.recording.reader import RecordReader
from unspool.store import Store, find_store
from unspool.strace import Options

__all__ = ["strace"]

_COMMAND = "unspool.command"
_WAIT_POLL_S = 0.02


class _Strace(Command):
    """Knows `strace -- CMD` from `strace REC`, which click, that drops the --, does not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


@click.command(cls=_Strace)
@recording_argument("target", metavar="REC | -- COMMAND...", required=False)
@click.argument("rest", nargs=-1, metavar="")
@click.option("--follow", "-f", is_flag=True, help="Also the processes and sub-agents it starts, marked [pid N].")
@click.option(
    "--kind", "-e", "kinds", multiple=True, metavar="KINDS", help=f"Only these, comma-separated: {', '.join(KINDS)}."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="GLOB",
    help="Only calls whose resource path, its last part, name or model matches; may be repeated.",
)
@click.option("--errors", is_flag=True, help="Only what failed.")
@click.option("--since", type=click.Choice(["start", "now"]), default="start", show_default=True, help="Begin there.")
@click.option(
    "--no-follow", "once", is_flag=True, help="Stop at the end of what there is, also when the agent goes on."
)
@click.option("--wait", is_flag=True, help="Wait for the recording if it does not exist yet.")
@click.option("--stats", "-C", is_flag=True, help="Close with a table: time, calls, errors and tokens by resource.")
@click.option("--stats-only", "-c", is_flag=True, help="Only that table.")
@click.option("--verbose", "-v", is_flag=True, help="Show arguments and results whole.")
@click.option("--quiet", "-q", is_flag=True, help="No lines about attaching, detaching and what was recorded.")
@click.option("--output", "-o", "path", metavar="FILE", type=click.Path(dir_okay=False), help="Write lines to a file.")
@click.option("--force", is_flag=True, help="Let --output replace a file.")
@trace_option
@store_option
@json_option
@click.pass_context
def strace(context: click.Context, /, target: str | None, rest: tuple[str, ...], **options: Any) -> None:
    """Show the calls of an agent, live or recorded.

    Lines of what was recorded, then new ones as they are made, until the agent ends or Ctrl-C; the agent does not
    notice. With -- COMMAND it is run as by `unspool run`, and its lines go to standard error. The context and the
    answer of a model call have lines of their own with --verbose, --json or --kind.

    \b
        unspool strace last
        unspool strace 12 -f -e llm,tool
        unspool strace last --name '/dev/tool/*' --errors
        unspool strace -o calls.txt -- python agent.py
    """
    command = context.meta.get(_COMMAND)
    _check(target, rest, command, options)
    store = find_store(options["store"])
    default = sys.stdout if command is None else sys.stderr
    color = options["path"] is None and not options["as_json"] and use_color(default)
    style = Options(color=color, verbose=options["verbose"], json=options["as_json"])
    wanted = EventFilter(kinds_in(options["kinds"]), options["names"], options["errors"])
    with output(options["path"], default, force=options["force"]) as out:
        view = LineView(
            out,
            style,
            wanted,
            lines=not options["stats_only"],
            stats=options["stats"] or options["stats_only"],
            pid_prefix=options["follow"],
            brief=not any(options[name] for name in ("kinds", "names", "errors", "verbose", "as_json")),
        )
        if command is not None:
            context.exit(_strace_command(command, store, view, options))
        assert target is not None
        _strace_recording(target, store, view, options)


def _check(target: str | None, rest: Sequence[str], command: list[str] | None, options: dict[str, Any]) -> None:
    if target is None and command is None:
        raise UsageError("say what to show: unspool strace last, unspool strace PID, or unspool strace -- COMMAND")
    if target is not None and command is not None:
        shown = f"unspool strace {' '.join([target, *rest])}, or unspool strace -- {' '.join(command)}"
        raise UsageError(f"strace shows one recording, or one command after --, not both: {shown}")
    if target is not None and rest:
        words = " ".join([target, *rest])
        raise UsageError(f"strace shows one recording, or one command after --: unspool strace -- {words}")
    for name in ("once", "wait"):
        if command is not None and options[name]:
            raise UsageError(f"--{'no-follow' if name == 'once' else name} is for recordings, not for a command")


# --- a recording -----------------------------------------------------------------------------------------------------


def _strace_recording(target: str, store: Store, view: LineView, options: dict[str, Any]) -> None:
    address = _find(store, target, wait=options["wait"])
    if address.point is not None:
        raise UsageError(f"strace shows a whole recording: unspool show {target} shows one event of it")
    say = _Say(quiet=options["quiet"])
    follower = Follower(
        store,
        joins=_is_child if options["follow"] else None,
        on_attach=say.attached,
        on_detach=say.detached,
        first_pid=pid_in(address.record_id),
    )
    stop = threading.Event()
    if options["once"]:
        stop.set()
    reason = "end of what is recorded"
    try:
        follower.attach(address.record_id, since_now=options["since"] == "now")
        _pump(follower, view, stop if options["once"] else None)
    except KeyboardInterrupt:
        reason = "interrupted"
        raise
    finally:
        for reader in follower.close():
            say.detached(reader, reason)
        view.close()


def _find(store: Store, target: str, *, wait: bool) -> Address:
    while True:
        try:
            return resolve(store, target)
        except RecordingNotFound:
            if not wait:
                raise
        time.sleep(_WAIT_POLL_S)


def _is_child(metadata: RecordMetadata, followed: set[str]) -> bool:
    return metadata.parent in followed and not is_fork(metadata)


def _pump(follower: Follower, view: LineView, stop: threading.Event | None) -> None:
    for item in follower.events(stop):
        if item is None:
            view.flush()
        else:
            view.add(*item)


class _Say:
    """Who is followed, on standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def attached(self, reader: RecordReader) -> None:
        metadata = reader.metadata
        state = "running" if metadata.status is RecordStatus.RECORDING else metadata.status
        self._note(f"[strace] attached to PID {metadata.pid} (state: {state})")

    def detached(self, reader: RecordReader, reason: str | None = None) -> None:
        metadata = reader.metadata
        if reason is None:
            reason = "its writer died" if metadata.status is RecordStatus.INTERRUPTED else "process exited"
        self._note(f"[strace] detached from PID {metadata.pid} ({reason})")

    def _note(self, text: str) -> None:
        if not self._quiet:
            sys.stdout.flush()
            note(text)


# --- a command -------------------------------------------------------------------------------------------------------


def _strace_command(command: list[str], store: Store, view: LineView, options: dict[str, Any]) -> int:
    launch = Launch(command, store=store, name=None, audit=audit_kinds(options["trace"]))
    say = _Say(quiet=options["quiet"])
    follower = Follower(
        store,
        joins=_started_by(launch, children_too=options["follow"]),
        on_attach=say.attached,
        on_detach=say.detached,
        first_pid=launch.first_pid,
    )
    ended = threading.Event()
    lines = _Lines(follower, view, ended)
    began = time.monotonic()
    lines.start()
    try:
        code = launch.run()
    finally:
        ended.set()
        lines.join()
    for reader in follower.close():
        say.detached(reader, "the command ended; it goes on")
    if lines.error is not None:
        note(f"unspool: lines are missing: {lines.error}")
    elif options["stats"] or options["stats_only"]:
        view.close()
    if not options["quiet"]:
        note(summary(launch, time.monotonic() - began))
    return code


def _started_by(launch: Launch, *, children_too: bool) -> Joins:
    return lambda metadata, _followed: launch.owns(metadata) and (children_too or is_root(metadata))


class _Lines(threading.Thread):
    """Shows what a command does while the main thread waits for it; what goes wrong here never reaches the command."""

    def __init__(self, follower: Follower, view: LineView, ended: threading.Event) -> None:
        super().__init__(name="unspool-strace", daemon=True)
        self._follower, self._view, self._ended = follower, view, ended
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            _pump(self._follower, self._view, self._ended)
        except Exception as exc:  # noqa: BLE001 - a closed standard error, a full disk: said at the end
            self.error = exc
