"""`unspool replay`: the debugger, full-screen or line by line."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click

from unspool.cli.fork_bench import make_workbench
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.screens import INSTALL, can_take_screen, screen_module
from unspool.cli.terminal import hint, is_terminal, use_color
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.replay import LineDebugger, ReplaySession
from unspool.replay.prompt import CommandInput, PipedInput, TerminalInput
from unspool.store import find_store

__all__ = ["replay"]

HISTORY_NAME = "replay_history"


@click.command(cls=Command)
@recording_argument("recording", metavar="REC[@POINT]")
@click.option("--line", "by_line", is_flag=True, help="The line mode on a terminal too.")
@store_option
@json_option
@click.pass_context
def replay(context: click.Context, recording: str, by_line: bool, store: str | None, as_json: bool) -> None:
    """Step through a recording, forwards and backwards.

    On a terminal the full-screen debugger opens; ? shows its keys. Otherwise, and with --line, it reads commands.

    Commands: next, prev, step-next, step-prev, goto N, find TEXT, next-error, list, print, context, diff, fork, edit,
    send, run, where, info, help, quit; unique beginnings are enough and an empty line repeats the last motion. They can
    be piped in; then the exit code is 1 if one of them failed. With --json each command gives one JSON object on a
    line.

    \b
        unspool replay last
        unspool replay 12@call:3
        echo "next-error" | unspool replay last
    """
    place = find_store(store)
    address = resolve(place, recording)
    interactive = is_terminal(sys.stdin) and is_terminal(sys.stdout) and not as_json
    if not (by_line or as_json) and can_take_screen():
        if (screen := screen_module("debugger")) is not None:
            with RecordReader(address.record_dir, live=True) as reader:
                seq_num = None if address.point is None else address.point.seq_num(reader)
            screen.run_debugger(place, address.record_id, seq_num)
            return
        hint(f"Line mode. The full-screen debugger needs textual: {INSTALL}")
    with RecordReader(address.record_dir, live=True) as reader, ExitStack() as stack:
        source: CommandInput = PipedInput(sys.stdin)
        if interactive:
            source = stack.enter_context(TerminalInput(place.path / HISTORY_NAME))
        session = ReplaySession(reader)
        if address.point is not None:
            seq_num = address.point.seq_num(reader)
            if as_json:
                session.goto(seq_num)
            else:
                source = _Starting(f"goto {seq_num}", source)
        color = use_color() and not as_json
        debugger = LineDebugger(
            session,
            reader,
            sys.stdout,
            interactive=interactive,
            color=color,
            json=as_json,
            workbench=make_workbench(place, reader, interactive=interactive, color=color, as_json=as_json),
        )
        code = debugger.run(source)
    context.exit(code)


class _Starting:
    """Commands with one before them, as if it had been typed."""

    def __init__(self, first: str, rest: CommandInput) -> None:
        self._first: str | None = first
        self._rest = rest

    def read_line(self, prompt: str) -> str:
        """The next line."""
        first, self._first = self._first, None
        return self._rest.read_line(prompt) if first is None else first
