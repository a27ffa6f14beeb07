"""`unspool rerun`: a recorded program again, served from its recording."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

import click

from unspool.cli.live_tools import say_unknown_tools
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.supervise import supervise
from unspool.cli.terminal import note, put, use_color
from unspool.errors import UsageError
from unspool.events import RecordMetadata
from unspool.recording.address import is_fork, resolve
from unspool.recording.reader import RecordReader
from unspool.replay.rerun import Outcome
from unspool.replay.rerun_format import format_outcome, format_outcome_json
from unspool.serving.offers import make_plan, open_tree
from unspool.store import Store, find_store

__all__ = ["names_of", "rerun", "serving_options"]

DENIABLE: Final = ("fs-write", "process", "net")


def serving_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that serves a program from a recording."""
    for option in (
        click.option("--no-pin", is_flag=True, help="Clock, random numbers and ids of now, not those recorded."),
        click.option(
            "--deny",
            metavar="KINDS",
            multiple=True,
            help="Refuse what the program does for real, comma-separated: fs-write, process, net. Repeatable.",
        ),
        click.option(
            "--live-tools",
            metavar="NAMES",
            multiple=True,
            help="Tools that run for real, comma-separated; * is all of them. Repeatable.",
        ),
        click.option("--realtime", is_flag=True, help="Streams at the pace they had; at once otherwise."),
    ):
        function = option(function)
    return function


def names_of(values: Sequence[str]) -> list[str]:
    """The words of repeatable, comma-separated options."""
    return list(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


def denied_kinds(values: Sequence[str]) -> list[str]:
    """The kinds of `--deny`.

    Raises:
        UsageError: one of them does not exist.
    """
    kinds = names_of(values)
    wrong = [kind for kind in kinds if kind not in DENIABLE]
    if wrong:
        raise UsageError(f"--deny does not know {', '.join(wrong)}. It takes: {', '.join(DENIABLE)}")
    return kinds


@click.command(cls=Command)
@click.option("--keep", is_flag=True, help="Keep the recording of an identical rerun too, and the rerun's folder.")
@serving_options
@click.option(
    "--on-divergence",
    type=click.Choice(["fail", "live"]),
    default="fail",
    show_default=True,
    help="A request that the recording does not hold: stop with exit code 3, or send it for real and go on.",
)
@store_option
@json_option
@recording_argument("recording", metavar="REC")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
@click.pass_context
def rerun(
    context: click.Context,
    /,
    *,
    recording: str,
    command: tuple[str, ...],
    keep: bool,
    realtime: bool,
    live_tools: tuple[str, ...],
    no_pin: bool,
    deny: tuple[str, ...],
    on_divergence: str,
    store: str | None,
    as_json: bool,
) -> None:
    """Run a recorded command again, served from its recording.

    Model calls, HTTP requests and tools give what they gave, the clock and random numbers too; no request that was
    recorded leaves. What the program does beside them (files, child programs, sockets of its own) it does for real, and
    it is listed; --deny refuses it. At the end it says what was proved. Exit code 0: every request was the same and so
    was standard output; 3: the program asked for something else, and the report says where, what and why; 1: anything
    else differs.

    \b
        unspool rerun last
        unspool rerun --live-tools search 12
        unspool rerun 12 -- python agent_fixed.py
    """
    place = find_store(store)
    rules = {
        "realtime": realtime,
        "pin": not no_pin,
        "live_tools": names_of(live_tools),
        "deny": denied_kinds(deny),
        "on_divergence": on_divergence,
    }
    outcome = run_again(
        place, recording, rules, argv=command, keep=keep, stdout=sys.stderr.fileno() if as_json else None
    )
    if as_json:
        put(format_outcome_json(outcome))
    else:
        note(report(outcome, place))
    context.exit(outcome.exit_code)


def run_again(
    store: Store, recording: str, rules: dict[str, Any], *, argv: Sequence[str], keep: bool, stdout: int | None
) -> Outcome:
    """Run a recording again under these fields of a plan.

    Raises:
        UsageError: the address names a point.
        UnspoolError: as `supervise`, and what reading the recording raises.
    """
    address = resolve(store, recording)
    if address.point is not None:
        raise UsageError(
            f"rerun runs all of a recording; leave @{address.point} away, or go on from there: unspool fork"
        )
    with ExitStack() as stack:
        readers = [stack.enter_context(reader) for reader in open_tree(store, address.record_id)]
        _check_program(store, readers[0].metadata)
        say_unknown_tools(readers, rules.get("live_tools", ()))
        plan, offers = make_plan(readers, **rules)
    return supervise(store, plan, offers, argv=argv or None, keep=keep, stdout=stdout)


def _check_program(store: Store, metadata: RecordMetadata) -> None:
    """Refuse a sub-agent that was made with `spawn`: it is no program of its own.

    Raises:
        UsageError: it is one.
    """
    if metadata.parent is None or is_fork(metadata) or not (store.records / metadata.parent).is_dir():
        return
    with RecordReader(store.records / metadata.parent, live=True) as reader:
        parent = reader.metadata
    if (parent.os_pid, parent.trace_id, parent.host) == (metadata.os_pid, metadata.trace_id, metadata.host):
        root = metadata.root or parent.record_id
        raise UsageError(
            f"{metadata.record_id} is a sub-agent inside the program of {root}, which runs as a whole: "
            f"unspool rerun {root}"
        )


def report(outcome: Outcome, store: Store) -> str:
    """The report for people, with what to type next."""
    text = format_outcome(outcome, color=use_color(sys.stderr)).rstrip("\n")
    more = "" if find_store().path == store.path else f" --store {store.path}"
    if outcome.rerun is not None and outcome.kept:
        text += f"\nRecorded as {outcome.rerun}."
        if outcome.status != "identical":
            text += f" Compare: unspool diff {outcome.source} {outcome.rerun}{more}"
    if outcome.folder is not None:
        text += f"\nWhat was served and what happened: {outcome.folder}"
    return text
