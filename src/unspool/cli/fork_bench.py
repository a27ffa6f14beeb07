"""What the debugger's `edit`, `send` and `run` do on the command line."""

from __future__ import annotations

from typing import Any

import click

from unspool.cli.fork_options import edit_document
from unspool.cli.fork_run import Running, run_forks
from unspool.cli.fork_send import Sending, send_samples
from unspool.cli.prices import prices_for
from unspool.errors import Cancelled
from unspool.recording.reader import RecordReader
from unspool.replay.fork_format import format_samples, samples_document
from unspool.replay.forkplan import ForkPlan
from unspool.replay.workbench import Workbench
from unspool.store import Store

__all__ = ["make_workbench"]


def make_workbench(store: Store, reader: RecordReader, *, interactive: bool, color: bool, as_json: bool) -> Workbench:
    """The workbench of a recording; without a person at the terminal nothing opens an editor."""

    def send(plan: ForkPlan, times: int) -> tuple[Any, str]:
        samples = send_samples(plan, Sending(samples=times, prices=prices_for(store)))
        return samples_document(plan, samples), format_samples(plan, samples, color)

    def run(plan: ForkPlan, times: int) -> tuple[Any, str]:
        rules = Running(samples=times, prices=prices_for(store))
        try:
            forks = run_forks(store, reader.record_id, plan, rules, aside=as_json)
        except click.exceptions.Exit as exc:
            raise Cancelled("nothing was run to its end") from exc
        return forks.document(), forks.text()

    return Workbench(reader, edit=edit_document if interactive else None, send=send, run=run)
