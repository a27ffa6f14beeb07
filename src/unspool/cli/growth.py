"""`unspool growth`: how a context grew, and when it will be full."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import click

from unspool.cli.ctx_view import call_at, calls_elsewhere, main_call, window_of
from unspool.cli.growth_text import growth_json, growth_text, turn_json, turn_line
from unspool.cli.limit_options import TOKENS, budget_of
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.terminal import put, use_color, width
from unspool.context.calls import Run
from unspool.context.reading import read_run
from unspool.context.trajectory import Trajectory, prediction_at, trajectory
from unspool.events import RecordStatus
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.store import find_store
from unspool.text import dump_json

__all__ = ["growth"]

_POLL_S: Final = 0.2


@click.command(cls=Command)
@recording_argument("recording", metavar="REC[@POINT]|PID")
@click.option(
    "--budget",
    type=TOKENS,
    metavar="TOKENS",
    help="Tokens that fit, such as 200k.  [default: what unspool run --budget gave; else the model's window]",
)
@click.option(
    "--max-steps", type=click.IntRange(min=0), default=0, help="The last step the run may make.  [default: no limit]"
)
@click.option("--follow", "-f", is_flag=True, help="Say each step as it comes, until the agent ends.")
@store_option
@json_option
def growth(
    recording: str, *, budget: int | None, max_steps: int, follow: bool, store: str | None, as_json: bool
) -> None:
    """Show how a context grew, and when it will be full.

    The contexts of the largest conversation (or of that at the point) as the provider counted them, compactions, what
    grew, and how many more steps fit: the median and the 80 % interval, from the run's own history.

    \b
        unspool growth last
        unspool growth 12 --budget 200k
        unspool growth 12 --follow
    """
    place = find_store(store)
    address = resolve(place, recording)

    def look(reader: RecordReader, run: Run) -> tuple[Trajectory, int | None]:
        seq_num = address.point.seq_num(reader) if address.point is not None else None
        call = main_call(run, reader.record_id) if seq_num is None else call_at(run, seq_num)
        window = window_of(call)
        is_running = reader.metadata.status is RecordStatus.RECORDING
        found = trajectory(
            run,
            call,
            reader.metadata.pid,
            budget or budget_of(reader.metadata) or window or 0,
            max_steps=max_steps,
            is_running=is_running,
        )
        return found, window

    with RecordReader(address.record_dir, live=True) as reader:
        if follow:
            _follow(reader, look, as_json=as_json)
            return
        with calls_elsewhere(place, address.record_id, "growth"):
            found, window = look(reader, read_run(reader))
        if as_json:
            put(dump_json(growth_json(reader.record_id, found, window)))
        else:
            source = _source(budget, budget_of(reader.metadata), window)
            put(growth_text(reader.record_id, found, source, color=use_color(), width=width()))


def _source(given: int | None, recorded: int | None, window: int | None) -> str:
    if given is not None or recorded is not None:
        whose = "the budget you gave" if given is not None else "the budget the run was given"
        return whose + (f"; the model's window is {window:,}" if window else "")
    return "the model's context window" if window else "the model's context window is not known"


def _follow(
    reader: RecordReader, look: Callable[[RecordReader, Run], tuple[Trajectory, int | None]], *, as_json: bool
) -> None:
    """A line for each turn that has been counted, until the recording ends."""
    said: tuple[int, int] = (-1, 0)  # conversation and step
    while True:
        is_running = reader.metadata.status is RecordStatus.RECORDING
        run = read_run(reader)
        if run.calls:
            found, window = look(reader, run)
            answered = [turn for turn in found.turns if turn.call.llm is not None]
            conversation = answered[-1].call.conversation if answered else -1
            since = said[1] if conversation == said[0] else 0
            for turn in answered:
                if turn.step > since:
                    then = prediction_at(found, turn, max_steps=found.prediction.max_steps)
                    then.history = []  # each line has its own turn
                    document = {**turn_json(turn), "context_window": window, "prediction": then}
                    put(dump_json(document) if as_json else turn_line(turn, then))
            if answered:
                said = conversation, answered[-1].step
        if not is_running:
            return
        events = reader.event_count
        while reader.event_count == events and reader.metadata.status is RecordStatus.RECORDING:
            time.sleep(_POLL_S)
            reader.refresh()
