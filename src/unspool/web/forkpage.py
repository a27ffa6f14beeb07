"""The form of a fork as a page shows it: short rows for messages, with texts only of what was opened or changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from unspool.cli.prices import Prices
from unspool.events import LLMResponse, RecordMetadata
from unspool.providers import PROVIDERS
from unspool.replay.diff import ContextDiff
from unspool.replay.fork_format import dry_run_document
from unspool.replay.forkplan import ForkPlan
from unspool.serving.edits import DIALECTS, Line
from unspool.text import cut, display_value
from unspool.web.difftext import DiffRow, diff_rows
from unspool.web.forkdraft import LONGEST, Desk, answer_text, param_text, shown, typed
from unspool.web.forkform import ForkForm
from unspool.web.forkneeds import Needs, estimates, needs_of, recorded_tools, request_of
from unspool.web.inspector import Answer
from unspool.web.prose import Cutter, pieces_of, shown_calls
from unspool.web.shelf import LoadedRun

__all__ = ["ForkPage", "PlanView", "answer_view", "fork_page", "plan_view", "refusal_of"]

_SHOWN: Final = 120  # messages on the page at first, the last ones
_PROMPT_SHOWN: Final = 40_000  # characters of a system prompt that is on the page from the start
_DIFFERENCE: Final = 600  # lines of a request's difference
_ROLE: Final = re.compile("[a-z_]+")


@dataclass
class AddedRow:
    """A message that is to be added; `number` is that of its fields."""

    number: int
    after: int
    role: str
    text: str


@dataclass
class MessageRow:
    """A message. `text` is what its field holds, None while it is not opened; `fixed` says why it cannot be."""

    number: int
    role: str
    name: str
    brief: str
    length: int
    keeps: list[str]
    fixed: str
    text: str | None
    changed: bool
    removed: bool
    added: list[AddedRow] = field(default_factory=list)


@dataclass
class ParamRow:
    """A parameter. `text` is what its field holds, `recorded` what it held; `fixed`: it has no field."""

    name: str
    text: str
    recorded: str
    fixed: bool


@dataclass
class ForkPage:
    """The form.

    `rows` are the messages from `shown_from` on, and earlier ones that something was done with; `earlier` is how many
    are not among them. `first_added` are new messages before the first one. `max_calls` to `key_env` are as typed.
    `faults` says by a field's name what is wrong with it.
    """

    record_id: str
    seq_num: int
    call: int | None
    notes: list[str]
    system: str | None
    system_length: int
    system_changed: bool
    system_fixed: str
    rows: list[MessageRow]
    total: int
    earlier: int
    shown_from: int
    first_added: list[AddedRow]
    roles: list[str]
    model: str
    recorded_model: str
    params: list[ParamRow]
    more_params: str
    response: str | None
    response_given: bool
    has_state: bool
    keep_state: bool
    tools: list[tuple[str, str, bool]]
    all_tools: bool
    max_calls: str
    max_cost: str
    samples: str
    base_url: str
    key_env: str
    may_choose_server: bool
    faults: dict[str, str]


@dataclass
class PlanView:
    """What a fork would be: the difference of what the model sees, of the request, and what it takes."""

    diff: ContextDiff
    rows: list[DiffRow]
    applied: list[str]
    problems: list[str]
    request: list[tuple[str, str]]
    request_left_out: int
    given: Answer | None
    estimates: list[tuple[str, str]]
    caps: list[str]
    needs: Needs


def fork_page(desk: Desk, form: ForkForm, run: LoadedRun, *, may_choose_server: bool) -> ForkPage:
    """The form with what was filled in so far."""
    lines = desk.draft.lines
    total = len(lines)
    added = _added(form, total)
    prompt = typed(desk.prompt, form.system) if form.system is not None else desk.prompt
    first = max(total - _SHOWN + 1 if form.shown_from is None else form.shown_from, 1)
    wanted = {*form.texts, *form.removed, *added, form.opened}
    rows = [
        _row(line, form, added.get(line.number, [])) for line in lines if line.number >= first or line.number in wanted
    ]
    too_long = len(desk.prompt) > LONGEST
    on_page = form.system is not None or form.opened == 0 or len(desk.prompt) <= _PROMPT_SHOWN
    recorded = shown(desk.draft.context.model or "")
    answer = answer_text(desk.point.answer)
    response = form.response_text if form.response_text is not None else shown(answer)
    return ForkPage(
        record_id=desk.point.record_id,
        seq_num=desk.point.seq_num,
        call=desk.point.snapshot.call,
        notes=desk.point.notes,
        system=shown(prompt) if on_page and not too_long else None,
        system_length=len(desk.prompt),
        system_changed=prompt != desk.prompt,
        system_fixed=_too_long(desk) if too_long else "",
        rows=rows,
        total=total,
        earlier=total - len(rows),
        shown_from=first,
        first_added=added.get(0, []),
        roles=list(DIALECTS[desk.point.provider].ROLES),
        model=form.model or recorded,
        recorded_model=recorded,
        params=_params(desk, form),
        more_params=form.more_params,
        response=response if len(response) <= _PROMPT_SHOWN or form.response_text is not None else None,
        response_given=form.answer_given,
        has_state=bool(desk.kept.states),
        keep_state=form.keep_state,
        tools=[(name, path, path in form.live_tools) for name, path in recorded_tools(run)],
        all_tools=form.all_tools,
        max_calls=form.written.get("max-calls", ""),
        max_cost=form.written.get("max-cost", ""),
        samples=form.written.get("samples", "1"),
        base_url=form.written.get("base-url", ""),
        key_env=form.written.get("key-env", ""),
        may_choose_server=may_choose_server,
        faults=form.faults,
    )


def _added(form: ForkForm, total: int) -> dict[int, list[AddedRow]]:
    found: dict[int, list[AddedRow]] = {}
    for number, one in enumerate(form.added, start=1):
        after = min(one.after, total)
        found.setdefault(after, []).append(AddedRow(number, after, one.role, shown(one.text)))
    return found


def _row(line: Line, form: ForkForm, added: list[AddedRow]) -> MessageRow:
    message = line.message
    assert message is not None, "lines of a recorded request have their message"
    posted = form.texts.get(line.number)
    text = line.text if posted is None else typed(line.text, posted)
    fixed = refusal_of(line)
    is_open = (posted is not None and text != line.text) or form.opened == line.number
    keeps = [f"calls {cut(call.name, 80)}({cut(call.arguments, 160)})" for call in message.tool_calls or ()]
    keeps += [cut(part.kind, 40) for part in message.parts or ()]
    name = message.tool_name or (f"[{message.tool_call_id}]" if message.tool_call_id else "")
    return MessageRow(
        number=line.number,
        role=line.role,
        name=cut(name, 80) if line.role == "tool" else "",
        brief=cut(" ".join(line.text[:1000].split()[:30]), 110)
        or ", ".join(cut(call.name, 60) for call in message.tool_calls or ()),
        length=len(line.text),
        keeps=keeps[:40],
        fixed=fixed,
        text=shown(text) if is_open and not fixed else None,
        changed=text != line.text,
        removed=line.number in form.removed,
        added=added,
    )


def refusal_of(line: Line) -> str:
    """Why the text of a message cannot be edited on a page; "" if it can."""
    if len(line.text) > LONGEST:
        return f"It has {len(line.text):,} characters, too many for a page. Edit it with: unspool fork … --edit"
    if not _ROLE.fullmatch(line.role):
        return f"Its role {cut(line.role, 60)!r} is none that the wire format has: it goes out as it came"
    return ""


def _too_long(desk: Desk) -> str:
    return (
        f"It has {len(desk.prompt):,} characters, too many for a page. "
        f"Edit it with: unspool fork {desk.point.record_id}@{desk.point.seq_num} --edit"
    )


def _params(desk: Desk, form: ForkForm) -> list[ParamRow]:
    rows: list[ParamRow] = []
    for name, value in (desk.draft.context.params or {}).items():
        recorded = param_text(name, value)
        if recorded is None:
            rows.append(ParamRow(name, display_value(value, 200), "", True))
        else:
            rows.append(ParamRow(name, form.params.get(name, recorded), recorded, False))
    return rows


# --- a dry run -------------------------------------------------------------------------------------------------------


def plan_view(plan: ForkPlan, form: ForkForm, run: LoadedRun, root: RecordMetadata, prices: Prices) -> PlanView:
    """What a plan would send, as data for the page. Nothing is sent.

    Raises:
        UsageError: the address to send it to is none.
    """
    lines: list[str] = dry_run_document(plan, request_of(plan, form))["request_diff"]
    given = plan.edits.response
    said = None
    if given is not None:
        kind = next((value for name, value in given.headers if name.lower() == "content-type"), None)
        parse = PROVIDERS[plan.point.provider].parse_response
        said = answer_view(parse(plan.url, given.body, kind, given.status, True))
    return PlanView(
        diff=plan.diff,
        rows=diff_rows(plan.diff),
        applied=plan.applied,
        problems=plan.problems,
        request=[(_kind(line), line) for line in lines[:_DIFFERENCE]],
        request_left_out=max(len(lines) - _DIFFERENCE, 0),
        given=said,
        estimates=estimates(run, plan, prices, form.samples),
        caps=_caps(form),
        needs=needs_of(run, root, plan, form),
    )


def _kind(line: str) -> str:
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "equal")


def _caps(form: ForkForm) -> list[str]:
    calls = "no limit of calls" if form.max_calls is None else f"at most {form.max_calls:,} live model calls"
    cost = "no limit of cost" if form.max_cost is None else f"at most ${form.max_cost:g}"
    return [calls, cost]


def answer_view(response: LLMResponse) -> Answer:
    """An answer as pages show it."""
    cutter = Cutter(20_000)
    text, left_out = cutter.cut(response.text or "")
    error = response.error
    return Answer(
        pieces=pieces_of(text),
        calls=shown_calls(response.tool_calls, cutter),
        reasoning=pieces_of(cutter.cut(response.reasoning or "")[0]),
        left_out=left_out,
        finish_reason=response.finish_reason or "",
        model=response.model or "",
        error=cutter.cut(f"{error.type}: {error.message}")[0] if error is not None else "",
        partial=display_value(response.partial, 300) if response.partial is not None else "",
    )
