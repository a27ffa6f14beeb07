"""`unspool run`: start a command with recording switched on, pass everything through, say what was recorded."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click

from unspool.cli import amounts
from unspool.cli.launch import Launch, audit_kinds
from unspool.cli.limit_options import limit_options, limits_from
from unspool.cli.options import Command, store_option
from unspool.cli.otlp_export import exporting
from unspool.cli.terminal import note
from unspool.errors import UsageError
from unspool.events import RecordMetadata
from unspool.store import find_store

__all__ = ["run", "summary", "trace_option"]

trace_option = click.option(
    "--trace",
    metavar="KINDS",
    default="process,net",
    show_default=True,
    help="Syscalls to record besides model calls, tools and HTTP: any of file, process, net, comma-separated; or none.",
)
name_option = click.option(
    "--name", metavar="TEXT", help="What the agent is asked to do; shown in lists.  [default: the command line]"
)


@click.command(cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_option
@store_option
@trace_option
@click.option(
    "--propagate",
    is_flag=True,
    help="Give HTTP requests that are no model calls, and MCP tool calls, a W3C traceparent if they have none. Without "
    "it what the command sends is left as it is.",
)
@limit_options
@click.option(
    "--otlp",
    metavar="[URL]",
    is_flag=False,
    flag_value="",
    help="Send the spans while the command runs to an OTLP/HTTP endpoint; without URL to that of the "
    "OTEL_EXPORTER_OTLP_... variables.",
)
@click.option("--otlp-messages", is_flag=True, help="Send what models saw and said too.")
@click.option("--quiet", "-q", is_flag=True, help="Do not say at the end what was recorded.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    name: str | None,
    store: str | None,
    trace: str,
    propagate: bool,
    otlp: str | None,
    otlp_messages: bool,
    quiet: bool,
    command: tuple[str, ...],
    **limits: Any,
) -> None:
    """Run a command and record it.

    The Python processes that COMMAND starts are recorded too. It keeps its terminal, its signals and its exit code
    (128+N if signal N ended it). If TRACEPARENT is set, the recording is part of that trace; processes that COMMAND
    starts get a TRACEPARENT of their own. A limit that ends the command sends it SIGTERM: exit code 143. Put -- before
    it:

    \b
        unspool run -- python agent.py --verbose
        unspool run --name "nightly" --trace file,process,net -- ./nightly.sh
        unspool run --budget 200k --max-cost 5 -- python agent.py
    """
    if otlp_messages and otlp is None:
        raise UsageError("--otlp-messages says what --otlp sends, and that is not given: add --otlp [URL]")
    began = time.monotonic()
    kept = limits_from(limits)
    more: dict[str, Any] = {"propagate": propagate, "budget": kept.budget}
    with contextlib.ExitStack() as watching:
        gate = None
        if kept.can_say_no:
            from unspool.cli.gate import Gate

            try:
                gate = watching.enter_context(Gate())
                more["gate"] = gate.address
            except OSError as exc:
                note(f"unspool: limits act only after the call that crosses them: no socket can be made: {exc}")
        launch = Launch(command, store=find_store(store), name=name, audit=audit_kinds(trace), lineage=more)
        watching.enter_context(exporting(launch, otlp, messages=otlp_messages))
        if not kept.is_empty:
            from unspool.cli.limits import LimitWatch  # analyses are slow to load, and seldom needed here

            if kept.budget is not None:
                launch.env["UNSPOOL_BUDGET"] = str(kept.budget)  # for `unspool.on_alert` in the command
            watching.enter_context(LimitWatch(launch, kept, gate=gate))
        code = launch.run()
    if not quiet:
        note(summary(launch, time.monotonic() - began))
    context.exit(code)


def summary(launch: Launch, seconds: float) -> str:
    """The closing line: what was recorded, and what to type next."""
    from unspool.cli.listing import tally

    records = launch.records()
    if not launch.is_recorded:
        return f"unspool: nothing was recorded: there is no store. The command took {seconds:.1f}s."
    if not records:
        return f"unspool: nothing was recorded: {_why_nothing(launch)}"
    total = tally(launch.store, records)
    root = next((one for one in records if one.role == "agent"), records[0])
    parts = [amounts.counted(total.calls, "model call"), amounts.counted(total.tools, "tool call")]
    if total.calls and total.tokens is not None:
        parts.append(f"{total.tokens:,}{'+' if total.tokens_unknown else ''} tokens")
    if total.calls and total.cost:
        parts.append(amounts.cost(total.cost, more=total.cost_unknown > 0))
    if total.errors:
        parts.append(amounts.counted(total.errors, "error"))
    if len(records) > 1:
        parts.append(amounts.counted(len(records), "process", "processes"))
    if total.lost:
        parts.append(f"{amounts.counted(total.lost, 'event')} LOST (a message above says why)")
    return f"unspool: recorded {root.record_id}: {', '.join(parts)} in {seconds:.1f}s. Next: {_next(launch, root)}"


def _why_nothing(launch: Launch) -> str:
    from unspool.capture.environment import will_be_captured

    if will_be_captured(launch.argv) is False:
        return f"{launch.argv[0]} was started with -I, -E or -S, which keeps unspool out of it. Leave that away."
    return (
        "the command started no Python that unspool could enter (another language, a Python started with -I, -E or "
        "-S, or a message above says why)."
    )


def _next(launch: Launch, root: RecordMetadata) -> str:
    found_by_itself = find_store().path == launch.store.path
    return f"unspool replay {root.pid}" + ("" if found_by_itself else f" --store {launch.store.path}")
