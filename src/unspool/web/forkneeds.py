"""What a fork would need, run and cost, told before anything is started or sent."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from unspool.cli import amounts
from unspool.cli.prices import Prices
from unspool.cli.restart import restart
from unspool.errors import UnspoolError, UsageError
from unspool.events import RecordMetadata
from unspool.providers import PROVIDERS, vendor
from unspool.replay.forkplan import ForkPlan
from unspool.replay.livecall import LiveRequest, key_names, live_request, with_credentials
from unspool.serving.tools import is_allowed_live
from unspool.trace.names import INPUT, OUTPUT, PATH, count_of, text_of
from unspool.web.forkform import ForkForm
from unspool.web.shelf import LoadedRun

__all__ = ["Need", "Needs", "estimates", "needs_of", "recorded_tools", "request_of"]

_TOOLS: Final = ("/dev/tool/", "/dev/mcp/")
_WORDS: Final = 2_000  # characters of a command line that are shown


@dataclass
class Need:
    """One thing a fork needs: whether it is there, None where that makes no difference; and in words."""

    there: bool | None
    text: str


@dataclass
class Needs:
    """What speaks for and against running the program, and sending the call.

    Attributes:
        run, send: what each needs.
        run_blocked, send_blocked: why it would be refused; "" if it would not.
        live, refused: tools that would run for real behind the point, and those that would not.
    """

    run: list[Need] = field(default_factory=list)
    send: list[Need] = field(default_factory=list)
    run_blocked: str = ""
    send_blocked: str = ""
    live: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def recorded_tools(run: LoadedRun) -> list[tuple[str, str]]:
    """Name and device path of every tool of a run."""
    found: dict[str, str] = {}
    for span in run.spans:
        path = text_of(span, PATH)
        if path.startswith(_TOOLS):
            found.setdefault(path, path.partition("/dev/")[2].partition("/")[2])
    return [(name, path) for path, name in found.items()]


def request_of(plan: ForkPlan, form: ForkForm) -> LiveRequest:
    """The request of the plan, where the form wants it sent.

    Raises:
        UsageError: the form's address is none.
    """
    return live_request(plan, form.base_url)


def needs_of(run: LoadedRun, root: RecordMetadata, plan: ForkPlan, form: ForkForm) -> Needs:
    """What it takes to run and to send a plan.

    Args:
        root: of the process whose program would be run.
    """
    needs = Needs()
    _add_program(needs, root)
    needs.run.append(Need(None, f"The recorded call went to {_place(plan.point.url)}; the program decides itself"))
    _add_key(needs, plan, form)
    tools = recorded_tools(run)
    allowed = ["*"] if form.all_tools else form.live_tools
    needs.live = [name for name, path in tools if is_allowed_live(path, allowed)]
    needs.refused = [name for name, path in tools if not is_allowed_live(path, allowed)]
    return needs


def _add_program(needs: Needs, root: RecordMetadata) -> None:
    try:
        how = restart(root)
    except UnspoolError as exc:
        needs.run_blocked = str(exc)
        return
    needs.run.append(Need(True, f"Runs {shlex.join(how.argv)[:_WORDS]} in {how.cwd}, as it was recorded"))
    about = how.surroundings
    needs.run += [
        Need(False, f"{name} is not set here: the program gets a placeholder, with which live calls are refused")
        for name in about.placeholders
    ]
    needs.run += [Need(False, f"{name} was set and is not now") for name in about.missing[:20]]
    needs.run += [Need(None, text) for text in about.notes]


def _add_key(needs: Needs, plan: ForkPlan, form: ForkForm) -> None:
    if plan.edits.response is not None:
        needs.send_blocked = "The answer is given, so there is nothing to send: run the program with it"
        return
    try:
        request = request_of(plan, form)
        filled = with_credentials(request, os.environ, key_env=form.key_env, is_chosen=form.base_url is not None)
    except UsageError as exc:
        needs.send_blocked = str(exc)
        return
    names = (form.key_env,) if form.key_env is not None else key_names(request)
    set_names = [name for name in names if os.environ.get(name)]
    if filled is request:
        needs.send.append(Need(None, f"Goes to {_place(request.url)}, without a key: the recorded call had none"))
    else:
        needs.send.append(Need(True, f"Goes to {_place(request.url)} with the key in {set_names[0]}, which is set"))
    if request.dropped:
        dropped = ", ".join(request.dropped)
        needs.send.append(Need(None, f"Headers that are not recorded, and not sent: {dropped}"))


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


# --- what it would use -----------------------------------------------------------------------------------------------


def estimates(run: LoadedRun, plan: ForkPlan, prices: Prices, samples: int) -> list[tuple[str, str]]:
    """Tokens and price of the call, and what the recorded run used from there on; each with what it is."""
    found: list[tuple[str, str]] = []
    if plan.edits.response is None:
        found.append(("this call, about", _call_estimate(plan, prices)))
    rest = _rest_of(run, plan)
    if rest:
        found.append(("the recorded run from here on", rest))
    if samples > 1:
        found.append(("times", str(samples)))
    return found


def _call_estimate(plan: ForkPlan, prices: Prices) -> str:
    usage = plan.point.answer.usage if plan.point.answer is not None else None
    estimate = plan.diff.token_estimate
    given, output = (usage.input_tokens, usage.output_tokens) if usage is not None else (None, None)
    tokens = estimate.to_tokens if estimate is not None else None
    if given is not None and estimate is not None and estimate.from_tokens and tokens is not None:
        tokens = round(given * tokens / estimate.from_tokens)  # the provider's own count, by as much more or less
    said = f"{amounts.tokens(tokens)} tokens in, {amounts.tokens(output)} out as recorded"
    if tokens is None or output is None or not plan.context.model:
        return said
    maker = vendor(PROVIDERS[plan.point.provider], plan.url)
    cost = prices.cost(maker, plan.context.model, input_tokens=tokens, output_tokens=output)
    return f"{said}, {amounts.cost(cost)}" if cost is not None else f"{said}, price unknown"


def _rest_of(run: LoadedRun, plan: ForkPlan) -> str:
    place = run.places.get((plan.point.record_id, plan.point.seq_num))
    first = run.spans[place] if place is not None else None
    if first is None:
        number = plan.point.snapshot.call
        for span in run.spans:
            if span.kind == "llm" and run.record_of(span) == plan.point.record_id and number is not None:
                first = span if count_of(span, "unspool.call") == number else first
    if first is None:
        return ""
    calls = [one for one in run.spans if one.kind == "llm" and one.start_time_ns >= first.start_time_ns]
    tokens_in = sum(count_of(one, INPUT) or 0 for one in calls)
    tokens_out = sum(count_of(one, OUTPUT) or 0 for one in calls)
    known = [one.cost_usd for one in calls if one.cost_usd is not None]
    cost = amounts.cost(sum(known), more=len(known) < len(calls)) if known else "cost unknown"
    said = amounts.counted(len(calls), "model call")
    return f"{said}, {amounts.tokens(tokens_in)} tokens in, {amounts.tokens(tokens_out)} out, {cost}"
