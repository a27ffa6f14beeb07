"""`unspool fork`: change one thing at a point of a recording, and go on from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unspool.cli.fork_options import edit_document, parse_appends, parse_params, parse_tool_results, text_or_file
from unspool.cli.fork_send import Sending, send_samples
from unspool.cli.live_tools import tool_names
from unspool.cli.options import DOLLARS, SECONDS, Command, json_option, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.terminal import hint, note, put, use_color
from unspool.errors import UsageError
from unspool.recording.address import Address, resolve
from unspool.recording.reader import RecordReader
from unspool.replay.fork_format import (
    dry_run_document,
    format_dry_run,
    format_fork_plan,
    format_samples,
    plan_document,
    samples_document,
)
from unspool.replay.forkplan import ForkOptions, ForkPlan, draft_of, plan_fork
from unspool.replay.forkpoint import kept_state, point_of
from unspool.replay.livecall import live_request
from unspool.replay.restore import SnapshotRestorer
from unspool.store import Store, find_store
from unspool.text import dump_json

__all__ = ["fork"]


@click.command(cls=Command)
@recording_argument("point", metavar="REC@POINT")
@click.option("--set-system", metavar="TEXT|@FILE", help="Another system prompt.")
@click.option("--append", metavar="ROLE:TEXT", multiple=True, help="Add a message at the end. Repeatable.")
@click.option(
    "--remove-last", metavar="N", type=click.IntRange(min=0), default=0, help="Take the last N messages away."
)
@click.option("--replace-last", metavar="TEXT|@FILE", help="Another text for the last message.")
@click.option(
    "--tool-result",
    metavar="CALL_ID=TEXT|@FILE",
    multiple=True,
    help="What a tool returned; a tool's name does if it has one result. Repeatable.",
)
@click.option("--edit", is_flag=True, help="Edit system prompt and messages in $VISUAL or $EDITOR.")
@click.option(
    "--edit-file", metavar="FILE", type=click.Path(dir_okay=False), help="Take an edited document from a file."
)
@click.option("--model", metavar="NAME", help="Ask another model of the same provider.")
@click.option(
    "--set",
    "params",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a parameter of the request: JSON, or a text; null removes it. Dots go into objects. Repeatable.",
)
@click.option(
    "--set-response",
    metavar="TEXT|@FILE",
    help="What the model said: a text, JSON of tool calls, or an answer in the provider's form. Nothing is sent there.",
)
@click.option("--keep-state", is_flag=True, help="Send requests that lean on state at the provider as they are.")
@click.option("--dry-run", is_flag=True, help="Show the request that would be sent, and its difference. No network.")
@click.option(
    "--send", "is_send", is_flag=True, help="Send that one request, and show the answer beside the recorded one."
)
@click.option("--run", "is_run", is_flag=True, help="Run the program: served up to the point, live from there on.")
@click.option(
    "-n", "--samples", metavar="N", type=click.IntRange(min=1), default=1, help="How many times to send or run."
)
@click.option("--base-url", metavar="URL", help="Ask another server, given as the SDK takes it.")
@click.option("--key-env", metavar="NAME", help="The environment variable with the key.  [default: the provider's]")
@click.option(
    "--timeout", "timeout_s", metavar="SECONDS", type=SECONDS, default=600.0, show_default=True, help="Of each --send."
)
@click.option("--max-calls", metavar="N", type=click.IntRange(min=0), help="Live model calls allowed, together.")
@click.option("--max-cost", metavar="USD", type=DOLLARS, help="US dollars that live calls may cost, together.")
@click.option(
    "--live-tools",
    metavar="NAME",
    multiple=True,
    help="Let a tool run for real after the fork; * is all. Repeatable.  [default: asks on a terminal, else refuses]",
)
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: tools after the fork may run.")
@prices_option
@store_option
@json_option
@click.pass_context
def fork(context: click.Context, /, *, point: str, store: str | None, as_json: bool, **given: Any) -> None:
    """Change one thing at a point of a recording, and go on from there.

    Shows what would be forked and what the changes change; --dry-run shows the request, --send sends it, --run runs the
    whole program: what came before the point is served from the recording, what comes after is live. Changes hold for
    the rest of the run, in the same conversation: requests with the same system prompt and messages in common.

    Exit code of --run: 0 if every fork came to its point and its program ended with code 0; 1 if one did not; 3 if one
    was stopped, because the program asked for something else before the point or for what may not be done behind it.

    \b
        unspool fork 12@call:4 --set-system @prompt.txt --dry-run
        unspool fork 12@call:4 --append 'user:Check the date.' --send -n 5
        unspool fork 12@17 --tool-result call_9='{"rate": 1.08}' --run
    """
    modes = [
        name
        for name, on in (("--dry-run", given["dry_run"]), ("--send", given["is_send"]), ("--run", given["is_run"]))
        if on
    ]
    if len(modes) > 1:
        raise UsageError(f"{' and '.join(modes)} do not go together. Choose one")
    _check_options(given, modes)
    place = find_store(store)
    address = resolve(place, point)
    if address.point is None:
        raise UsageError(f"fork needs a point: write {point}@call:N, {point}@step:N or {point}@SEQ")
    with RecordReader(address.record_dir, live=True) as reader:
        plan = _plan(reader, address, given)
    if plan is None:
        note("unspool: the document is empty, so nothing is forked")
        context.exit(1)
    if given["edit"] and plan.edits.is_empty:
        note("unspool: nothing changed")
    color = use_color()
    if given["is_run"] or given["is_send"]:
        for text in plan.point.notes:
            note(f"unspool: {text}")
    if given["is_run"]:
        context.exit(_run(place, address.record_id, plan, given, as_json=as_json))
    elif given["is_send"]:
        how = Sending(
            prices=prices_for(place, given["prices"]),
            samples=given["samples"],
            base_url=given["base_url"],
            key_env=given["key_env"],
            timeout_s=given["timeout_s"],
            max_calls=given["max_calls"],
            max_cost=given["max_cost"],
        )
        samples = send_samples(plan, how)
        put(dump_json(samples_document(plan, samples)) if as_json else format_samples(plan, samples, color))
    elif given["dry_run"]:
        request = live_request(plan, given["base_url"])
        put(dump_json(dry_run_document(plan, request)) if as_json else format_dry_run(plan, request, color))
    else:
        put(dump_json(plan_document(plan)) if as_json else format_fork_plan(plan, color))
        if not as_json:
            hint("Next: --dry-run shows the request, --send sends it, --run runs the program from there")


def _check_options(given: dict[str, Any], modes: list[str]) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: one would.
    """
    is_sent = given["is_send"] or given["is_run"]
    if given["samples"] > 1 and not is_sent:
        raise UsageError("-n says how many times to send or run: it needs --send or --run")
    for name in ("max_calls", "max_cost"):
        if given[name] is not None and not is_sent:
            raise UsageError(f"--{name.replace('_', '-')} limits what is sent: it needs --send or --run")
    if (given["live_tools"] or given["yes"]) and not given["is_run"]:
        raise UsageError("--live-tools and --yes go with --run: nothing else runs tools")
    if given["base_url"] is not None and not modes:
        raise UsageError("--base-url says which server to ask: it needs --send, --run or --dry-run")
    if given["key_env"] is not None and not given["is_send"]:
        raise UsageError("--key-env goes with --send. The program that --run runs takes its own key")
    if given["edit"] and given["edit_file"]:
        raise UsageError("--edit opens an editor, --edit-file takes what was edited: choose one of them")
    if given["model"] is not None and not given["model"].strip():
        raise UsageError("--model takes the name of a model, and this is empty")


def _plan(reader: RecordReader, address: Address, given: dict[str, Any]) -> ForkPlan | None:
    """What the options make of the point; None if an emptied document called it off."""
    assert address.point is not None, "checked before"
    options = ForkOptions(
        remove_last=given["remove_last"],
        replace_last=_text("--replace-last", given["replace_last"]),
        tool_results=parse_tool_results(given["tool_result"]),
        append=parse_appends(given["append"]),
        set_system=_text("--set-system", given["set_system"]),
        model=given["model"],
        params=parse_params(given["params"]),
        response=_text("--set-response", given["set_response"]),
        keep_state=given["keep_state"],
    )
    seq_num = address.point.seq_num(reader)
    where = point_of(reader, seq_num)
    draft = draft_of(where, kept_state(reader, where), options)
    if given["edit"] or given["edit_file"]:
        file = Path(given["edit_file"]) if given["edit_file"] else None
        if not edit_document(draft, file):
            return None
    return plan_fork(where, draft, options, SnapshotRestorer(reader).restore_context(seq_num))


def _text(option: str, value: str | None) -> str | None:
    return None if value is None else text_or_file(option, value)


def _run(place: Store, record_id: str, plan: ForkPlan, given: dict[str, Any], *, as_json: bool) -> int:
    from unspool.cli.fork_run import Running, run_forks

    how = Running(
        prices=prices_for(place, given["prices"]),
        samples=given["samples"],
        live_tools=tool_names(given["live_tools"]),
        is_allowed=given["yes"],
        max_calls=given["max_calls"],
        max_cost=given["max_cost"],
        base_url=given["base_url"],
    )
    forks = run_forks(place, record_id, plan, how, aside=as_json)
    if as_json:
        put(dump_json(forks.document()))
    else:
        note(forks.text())
    return forks.exit_code
