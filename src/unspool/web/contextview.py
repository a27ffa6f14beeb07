"""The context of one call: its blocks by temperature, as a strip and as rows with the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from unspool.cli import amounts
from unspool.cli.ctx_view import call_at, window_of
from unspool.context.advice import Advice, advise
from unspool.context.calls import Call
from unspool.context.composition import compose
from unspool.recording.reader import RecordReader
from unspool.text import cut, escape_controls
from unspool.web.contexts import Contexts
from unspool.web.timeline import WIDTH, svg_text

__all__ = ["OWN", "StepContext", "step_context", "strip_svg"]

_STRIP: Final = 34  # pixels of height
_BLOCKS_MAX: Final = 400
OWN: Final = "provider's own"  # tokens of the provider's count that no message explains
_STATES: Final = ("active", "warm", "cold", "leaked")


@dataclass
class BlockRow:
    """One block of a context. `message` is its place among the messages of the call, from 1; 0 for none."""

    key: str
    number: int
    role: str
    tokens: int
    share: float
    state: str
    reason: str
    quote: str
    brief: str
    sends: int
    cost: str
    message: int = 0


@dataclass
class StepContext:
    """The context of one call: what it is made of and how warm each part is.

    `budget` is what fits: what the run was given (`has_budget`), else the model's window; 0 is unknown.
    `states` are name, tokens and share of each temperature, `categories` the same of what the blocks are; `before` and
    `after` are the events of the calls around it in its conversation, 0 for none.
    """

    call: str
    model: str
    tokens: int
    budget: int
    has_budget: bool
    counted: bool
    states: list[tuple[str, int, float]]
    categories: list[tuple[str, int, float]]
    blocks: list[BlockRow]
    hidden: int
    strip: str
    advice: list[tuple[str, str]]
    before: int = 0
    after: int = 0


def step_context(contexts: Contexts, reader: RecordReader, seq_num: int) -> StepContext:
    """What `unspool ctx` knows of the context of the call an event belongs to.

    Raises:
        NoSnapshot: there is no call there.
    """
    call = call_at(contexts.run, seq_num)
    made: StepContext = contexts.page("step", call.position, lambda: _step_context(contexts, reader, call))
    return made


def _step_context(contexts: Contexts, reader: RecordReader, call: Call) -> StepContext:
    found = contexts.lives(reader, call)
    lives = {id(life.block): life for life in found.lives}
    composition, window = compose(call), contexts.budget or window_of(call) or 0
    breaks = [one for one in contexts.breaks if one.call.conversation == call.conversation]
    whole = max(composition.total, 1)
    around = contexts.run.conversations[call.conversation]
    place = around.index(call.position)
    calls = contexts.run.calls
    rows: list[BlockRow] = []
    states = dict.fromkeys(_STATES, 0)
    places = _places(reader, call)
    for block, tokens in composition.by_block():
        life = lives.get(id(block))
        state = str(life.state) if life is not None else "active"
        states[state] = states.get(state, 0) + tokens
        rows.append(
            BlockRow(
                key=block.key,
                number=block.number,
                role=block.name or str(block.category),
                tokens=tokens,
                share=100 * tokens / whole,
                state=state,
                reason=life.reason if life is not None else "",
                quote=life.uses[-1].quote if life is not None and life.uses else "",
                brief=cut(" ".join(block.text[:400].split()), 120),
                sends=round(life.charge.sends) if life is not None else 0,
                cost=amounts.cost(life.charge.usd) if life is not None and life.charge.priced else "",
                message=places.get(id(block), 0),
            )
        )
    return StepContext(
        call=call.name,
        model=call.model,
        tokens=composition.total,
        budget=window,
        has_budget=contexts.budget is not None,
        counted=call.is_counted,
        states=[(name, tokens, 100 * tokens / whole) for name, tokens in states.items()],
        categories=[
            (name, tokens, 100 * tokens / whole)
            for name, tokens in [(OWN, composition.unseen), *composition.by_category().items()]
            if tokens
        ],
        blocks=rows[:_BLOCKS_MAX],
        hidden=max(len(rows) - _BLOCKS_MAX, 0),
        strip=strip_svg(rows, composition.total, window, composition.unseen, fits=_fits(contexts)),
        advice=[(one.text, _saved(one)) for one in advise(found, breaks, contexts.run, contexts.costs)],
        before=calls[around[place - 1]].seq_num if place else 0,
        after=calls[around[place + 1]].seq_num if place + 1 < len(around) else 0,
    )


def _places(reader: RecordReader, call: Call) -> dict[int, int]:
    """Where the blocks of a call stand among its messages, from 1, as the page of the step numbers them."""
    context = reader.event(call.seq_num).context
    count = len(context.messages or ()) if context is not None else 0
    said = [block for block in call.messages if block.category != "system"]
    shown = call.messages if count == len(call.messages) else said  # the system prompt may stand among them, or beside
    return {id(block): place for place, block in enumerate(shown, start=1)} if count == len(shown) else {}


def _saved(advice: Advice) -> str:
    text = f"{advice.tokens:,} tokens"
    if advice.usd is not None and advice.usd < 0:
        return f"{text} less, but {amounts.cost(-advice.usd)} more to pay, as it breaks the provider's cache"
    return text if advice.usd is None else f"{text}, {amounts.cost(advice.usd)}"


def _fits(contexts: Contexts) -> str:
    return "window" if contexts.budget is None else "budget"


def strip_svg(rows: Sequence[BlockRow], total: int, budget: int, unseen: int = 0, *, fits: str = "window") -> str:
    """The blocks side by side in the order of the prompt, as wide as their tokens, coloured by temperature.

    Args:
        unseen: tokens of the provider's own, which come first.
        fits: what `budget` is: the model's window, or the budget that the run was given.
    """
    scale = WIDTH / max(total, 1)
    parts: list[str] = []
    x = unseen * scale
    if unseen:
        parts.append(
            f'<g><title>{OWN}: {unseen:,} tokens of its count that no message explains</title><rect class="block own" '
            f'x="0" y="2" width="{max(x - 0.6, 0.4):.2f}" height="{_STRIP - 6}" rx="1.5"/></g>'
        )
    for row in rows:
        width = row.tokens * scale
        name = row.key
        hover = f"{name} {row.role}: {row.tokens:,} tokens ({row.share:.1f} %), {row.state}. {row.reason}"
        if row.quote:
            hover += f" “{row.quote}”"
        label = ""
        if width > 34:
            label = f'<text x="{x + 4:.1f}" y="21">{svg_text(f"{name} {row.role}", int(width / 6.4))}</text>'
        parts.append(
            f'<a href="#block-{escape(escape_controls(row.key))}"><title>{svg_text(hover, 400)}</title>'
            f'<rect class="block {escape(row.state)}" '
            f'x="{x:.2f}" y="2" width="{max(width - 0.6, 0.4):.2f}" height="{_STRIP - 6}" rx="1.5"/>{label}</a>'
        )
        x += width
    full = f", {100 * total / budget:.0f} % of the {fits} of {budget:,}" if budget else ""
    return (
        f'<svg class="strip" viewBox="0 0 {WIDTH} {_STRIP}" width="100%" role="group" '
        f'aria-label="Context of {total:,} tokens{full}">{"".join(parts)}</svg>'
    )
