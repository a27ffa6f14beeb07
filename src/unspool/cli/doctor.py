"""`unspool doctor`: an agent run twice, the second time served, and what makes the two differ."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from unspool.cli.launch import Launch
from unspool.cli.options import Command, json_option, store_option
from unspool.cli.rerun import denied_kinds, names_of, serving_options
from unspool.cli.supervise import supervise
from unspool.cli.terminal import note, put, use_color
from unspool.errors import StoreError, UsageError
from unspool.events import RecordMetadata
from unspool.replay.doctor import diagnose, format_diagnosis
from unspool.replay.rerun_format import outcome_document
from unspool.serving.offers import make_plan, open_tree
from unspool.store import Store, find_store
from unspool.text import dump_json

__all__ = ["doctor"]


@click.command(cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@serving_options
@store_option
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def doctor(
    context: click.Context,
    /,
    *,
    realtime: bool,
    live_tools: tuple[str, ...],
    no_pin: bool,
    deny: tuple[str, ...],
    store: str | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Find what makes an agent irreproducible.

    Runs COMMAND twice: once for real, recorded, and once served from that recording. Where the second run differs,
    names the source with its file and line, as far as it can be known; and lists the clock and random reads that are no
    problem, because they are pinned. --no-pin tells which of those matter. Exit code 0 if the second run was identical.

    \b
        unspool doctor -- python agent.py
    """
    place = find_store(store)
    rules: dict[str, Any] = {
        "realtime": realtime,
        "pin": not no_pin,
        "live_tools": names_of(live_tools),
        "deny": denied_kinds(deny),
    }
    stdout = sys.stderr.fileno() if as_json else None
    note("unspool doctor: first run, for real")
    launch = Launch(command, store=place, name=None, audit=("process", "net"), stdout=stdout)
    code = launch.run()
    if launch.signals and code >= 128:
        context.exit(code)
    first = _root(launch, place)
    note(f"unspool doctor: second run, served from {first.record_id}")
    with ExitStack() as stack:
        readers = [stack.enter_context(reader) for reader in open_tree(place, first.record_id)]
        plan, offers = make_plan(readers, **rules)
    outcome = supervise(place, plan, offers, stdout=stdout)
    diagnosis = diagnose(outcome, [Path(source.path) for source in plan.sources], pin=plan.pin)
    if as_json:
        findings = {"findings": diagnosis.findings, "pinned": diagnosis.pinned, "hash_seed": diagnosis.hash_seed}
        document = {"reproducible": diagnosis.reproducible, **findings, "outcome": outcome_document(outcome)}
        put(dump_json(document))
    else:
        note(format_diagnosis(diagnosis, color=use_color(sys.stderr)).rstrip("\n"))
        if not diagnosis.reproducible:
            more = "" if find_store().path == place.path else f" --store {place.path}"
            note(f"\nThe first run is {first.record_id}. In full: unspool rerun {first.record_id}{more}")
    context.exit(0 if diagnosis.reproducible else 1)


def _root(launch: Launch, store: Store) -> RecordMetadata:
    """The recording of the process that was started.

    Raises:
        StoreError: nothing can be written to the store.
        UsageError: the command started no Python that could be recorded.
    """
    if not launch.is_recorded:
        raise StoreError(f"nothing was recorded: {store.path} cannot be written")
    root = next((one for one in launch.records() if one.role == "agent"), None)
    if root is None:
        raise UsageError("nothing was recorded: the command started no Python that unspool could enter")
    return root
