"""The context in pictures: the blocks of one call by temperature, and the whole run as a stacked area."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, TypeAlias

from unspool.cli import amounts
from unspool.cli.ctx_view import Costs, main_call, view_of, window_of
from unspool.cli.prices import Prices
from unspool.context.breaks import CacheBreak, find_breaks
from unspool.context.calls import CATEGORIES, Call
from unspool.context.composition import compose
from unspool.context.growth import GrowthPrediction
from unspool.context.reading import read_run
from unspool.context.trajectory import Turn, trajectory
from unspool.events import RecordStatus
from unspool.recording.reader import RecordReader
from unspool.text import cut
from unspool.web.links import Links
from unspool.web.timeline import WIDTH, svg_text

__all__ = ["Break", "ContextOverTime", "StepContext", "area_svg", "context_over_time", "step_context", "strip_svg"]

_STRIP: Final = 34  # pixels of height
_AREA: Final = 240
_AXIS_LEFT: Final = 60
_POINTS_MAX: Final = 400
_BEHIND: Final = 0.35  # of the run's length: how far a forecast is drawn
_BLOCKS_MAX: Final = 400
_STATES: Final = ("active", "warm", "cold", "leaked")
_Place: TypeAlias = Callable[[float], float]


@dataclass
class BlockRow:
    """One block of a context."""

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


@dataclass
class StepContext:
    """The context of one call: what it is made of and how warm each part is.

    `states` are name, tokens and share of each temperature, `categories` the same of what the blocks are.
    """

    call: str
    model: str
    tokens: int
    budget: int
    counted: bool
    states: list[tuple[str, int, float]]
    categories: list[tuple[str, int, float]]
    blocks: list[BlockRow]
    hidden: int
    strip: str
    advice: list[tuple[str, str]]


def step_context(reader: RecordReader, prices: Prices, seq_num: int) -> StepContext:
    """What `unspool ctx` knows of the context of the call an event belongs to.

    Raises:
        NoSnapshot: there is no call there.
    """
    view = view_of(reader, prices, seq_num)
    lives = {id(life.block): life for life in view.found.lives}
    whole = max(view.composition.total, 1)
    rows: list[BlockRow] = []
    states = dict.fromkeys(_STATES, 0)
    for block, tokens in view.composition.by_block():
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
            )
        )
    return StepContext(
        call=view.call.name,
        model=view.call.model,
        tokens=view.composition.total,
        budget=view.window or 0,
        counted=view.call.is_counted,
        states=[(name, tokens, 100 * tokens / whole) for name, tokens in states.items()],
        categories=[
            (str(name), tokens, 100 * tokens / whole) for name, tokens in view.composition.by_category().items()
        ],
        blocks=rows[:_BLOCKS_MAX],
        hidden=max(len(rows) - _BLOCKS_MAX, 0),
        strip=strip_svg(rows, view.composition.total, view.window or 0),
        advice=[
            (one.text, f"{one.tokens:,} tokens" + (f", {amounts.cost(one.usd)}" if one.usd is not None else ""))
            for one in view.advice
        ],
    )


def strip_svg(rows: Sequence[BlockRow], total: int, budget: int) -> str:
    """The blocks side by side in the order of the prompt, as wide as their tokens, coloured by temperature."""
    scale = WIDTH / max(total, 1)
    parts: list[str] = []
    x = 0.0
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
            f'<a href="#block-{escape(row.key)}"><title>{svg_text(hover, 400)}</title>'
            f'<rect class="block {escape(row.state)}" '
            f'x="{x:.2f}" y="2" width="{max(width - 0.6, 0.4):.2f}" height="{_STRIP - 6}" rx="1.5"/>{label}</a>'
        )
        x += width
    full = f", {100 * total / budget:.0f} % of the window of {budget:,}" if budget else ""
    return (
        f'<svg class="strip" viewBox="0 0 {WIDTH} {_STRIP}" width="100%" role="group" '
        f'aria-label="Context of {total:,} tokens{full}">{"".join(parts)}</svg>'
    )


# --- over time -------------------------------------------------------------------------------------------------------


@dataclass
class Break:
    """A call whose prompt is no continuation of the one before, so that the provider's cache did not hold it."""

    call: str
    href: str
    before: str
    where: str
    cause: str
    was: str
    now: str
    repaid: int
    cached: int | None
    cost: str


@dataclass
class Point:
    """A context in the area: tokens by category, in the order of `CATEGORIES`."""

    turn: Turn
    place: int
    parts: list[int]

    @property
    def call(self) -> Call:
        """Its call."""
        return self.turn.call

    @property
    def tokens(self) -> int:
        """Of the prompt."""
        return self.turn.tokens


@dataclass
class ContextOverTime:
    """How the context of one conversation grew. `now` is what the last one is made of."""

    conversation: int
    conversations: list[tuple[int, str]]
    points: int
    area: str
    growth: GrowthPrediction
    budget: int
    model: str
    breaks: list[Break]
    compactions: list[str]
    now: list[tuple[str, int, float]]
    uncounted: int = 0


def context_over_time(
    reader: RecordReader, prices: Prices, links: Links, conversation: int | None = None
) -> ContextOverTime | None:
    """The context of a recording's calls; None if it has none.

    Args:
        conversation: which one; the largest by default.
    """
    run = read_run(reader)
    if not run.calls:
        return None
    if conversation is None or not 0 <= conversation < len(run.conversations):
        conversation = main_call(run, reader.record_id).conversation
    last_call = run.calls[run.conversations[conversation][-1]]
    budget = window_of(last_call) or 0
    is_running = reader.metadata.status is RecordStatus.RECORDING
    found = trajectory(run, last_call, reader.metadata.pid, budget, is_running=is_running)
    if not found.turns:
        return None
    points = [_point(turn, place) for place, turn in _thinned(found.turns)]
    last = points[-1]
    breaks = [one for one in find_breaks(run, Costs(reader, prices)) if one.call.conversation == conversation]
    return ContextOverTime(
        conversation=conversation,
        conversations=[
            (number, f"{run.calls[one[0]].name} to {run.calls[one[-1]].name} ({amounts.counted(len(one), 'call')})")
            for number, one in enumerate(run.conversations)
            if one
        ],
        points=len(found.turns),
        area=area_svg(
            points, len(found.turns), budget, found.prediction, lambda call: links.step(reader.record_id, call.seq_num)
        ),
        growth=found.prediction,
        budget=budget,
        model=last_call.model,
        breaks=[_break(one, links, reader.record_id) for one in sorted(breaks, key=lambda one: -one.repaid)],
        compactions=[turn.call.name for turn in found.compactions],
        now=[
            (name, part, 100 * part / max(last.tokens, 1))
            for name, part in zip(CATEGORIES, last.parts, strict=True)
            if part
        ],
        uncounted=sum(not turn.is_counted for turn in found.turns),
    )


def _point(turn: Turn, place: int) -> Point:
    made_of = compose(turn.call)
    tokens = made_of.by_category()
    parts = [tokens.get(name, 0) for name in CATEGORIES]
    parts[0] += made_of.unseen  # what no message explains is the provider's own preamble
    return Point(turn, place, parts)


def _break(one: CacheBreak, links: Links, record_id: str) -> Break:
    where = one.block.key if one.block is not None else str(one.section)
    return Break(
        call=one.call.name,
        href=links.step(record_id, one.call.seq_num),
        before=one.before.name,
        where=f"{one.section} {where}" if where != one.section else where,
        cause=one.cause,
        was=one.before_text,
        now=one.after_text,
        repaid=round(one.repaid),
        cached=one.cached,
        cost=amounts.cost(one.usd) if one.usd is not None else "",
    )


def _thinned(turns: Sequence[Turn]) -> list[tuple[int, Turn]]:
    """As many turns as can be drawn, with the first, the last, and those around a compaction; with their places."""
    every = -(-len(turns) // _POINTS_MAX)
    kept = []
    for place, turn in enumerate(turns):
        following = turns[place + 1] if place + 1 < len(turns) else None
        edge = turn.is_rewritten or (following is not None and following.is_rewritten)
        if edge or place % every == 0 or following is None:
            kept.append((place, turn))
    return kept


def area_svg(
    shown: Sequence[Point], count: int, budget: int, growth: GrowthPrediction, href: Callable[[Call], str]
) -> str:
    """Tokens by category over `count` calls, the budget as a line, the forecast as a band behind the last call."""
    steps = max(count - 1, 1)
    ahead = max(steps * _BEHIND, 1.0) if growth.recent_rate > 0 and count > 2 else 0.0
    most = max(point.tokens for point in shown)
    top = max(most * 1.15, budget if most > budget * 0.25 else 0, 1)
    width = WIDTH - _AXIS_LEFT - 8

    def x_of(number: float) -> float:
        return _AXIS_LEFT + number / (steps + ahead) * width

    def y_of(tokens: float) -> float:
        return 10 + (1 - min(tokens, top) / top) * (_AREA - 30)

    parts = [_scale(top, y_of)]
    places = [(x_of(point.place), point) for point in shown]
    if len(places) == 1:  # an area needs some width
        places.append((x_of(1), shown[0]))
    base = [0] * len(places)
    for index, category in enumerate(CATEGORIES):
        tops = [low + point.parts[index] for low, (_, point) in zip(base, places, strict=True)]
        if tops != base:
            upper = [f"{x:.1f},{y_of(high):.1f}" for high, (x, _) in zip(tops, places, strict=True)]
            lower = [f"{x:.1f},{y_of(low):.1f}" for low, (x, _) in zip(base, places, strict=True)]
            parts.append(
                f'<polygon class="area {category.replace(" ", "-")}" points="{" ".join([*upper, *reversed(lower)])}">'
                f"<title>{category}</title></polygon>"
            )
        base = tops
    if budget and budget <= top:
        parts.append(
            f'<line class="budget" x1="{_AXIS_LEFT}" x2="{WIDTH}" y1="{y_of(budget):.1f}" y2="{y_of(budget):.1f}"/>'
            f'<text class="axis" x="{WIDTH - 8}" y="{y_of(budget) - 4:.1f}" text-anchor="end">window '
            f"{amounts.tokens(budget)}</text>"
        )
    if ahead:
        parts.append(_forecast(shown[-1].tokens, growth, (steps, steps + ahead), x_of, y_of))
    half = max(width / (steps + ahead) * count / max(len(shown), 1) / 2, 1.0)
    for point in shown:
        x = x_of(point.place)
        if point.turn.is_rewritten:
            parts.append(
                f"<g><title>the history was rewritten before {svg_text(point.call.name)}</title>"
                f'<line class="compaction" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{_AREA - 20}"/></g>'
            )
        hover = f"{point.call.name}: {point.tokens:,} tokens" + ("" if point.turn.is_counted else " (estimate)")
        left, right = max(x - half, _AXIS_LEFT), min(x + half, WIDTH)
        box = (
            f'<title>{svg_text(hover)}</title><rect class="hit" x="{left:.1f}" y="10" width="{right - left:.1f}" '
            f'height="{_AREA - 30}"/>'
        )
        address = href(point.call)
        parts.append(f'<a href="{escape(address)}">{box}</a>' if address else f"<g>{box}</g>")
    return (
        f'<svg class="growth" viewBox="0 0 {WIDTH} {_AREA}" width="100%" role="group" '
        f'aria-label="Context over {count} calls, at most {most:,} tokens">{"".join(parts)}</svg>'
    )


def _scale(top: float, y_of: _Place) -> str:
    """Lines at round numbers of tokens, about four of them."""
    step = 10 ** max(len(str(int(top / 4))) - 1, 0)
    step *= next((factor for factor in (1, 2, 5) if top / (step * factor) <= 5), 10)
    parts = []
    at = 0
    while at <= top:
        y = y_of(at)
        parts.append(
            f'<line class="tick" x1="{_AXIS_LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_AXIS_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{amounts.tokens(at)}</text>'
        )
        at += step
    return "".join(parts)


def _forecast(tokens: int, growth: GrowthPrediction, between: tuple[float, float], x_of: _Place, y_of: _Place) -> str:
    """The median rate as a line; the band is between the rates that fill the window soonest and latest."""
    middle = growth.recent_rate
    low = high = middle
    if growth.remaining_budget > 0 and growth.est_low > 0 and growth.est_high > 0:
        high, low = growth.remaining_budget / growth.est_low, growth.remaining_budget / growth.est_high
        middle = growth.remaining_budget / growth.est_remaining if growth.est_remaining > 0 else middle
    x1, x2 = map(x_of, between)
    ahead = between[1] - between[0]
    ends = [y_of(tokens + rate * ahead) for rate in (high, low, middle)]
    return (
        f'<g><title>forecast: about {middle:,.0f} tokens a call</title><polygon class="forecast" points="{x1:.1f},'
        f'{y_of(tokens):.1f} {x2:.1f},{ends[0]:.1f} {x2:.1f},{ends[1]:.1f}"/><line class="forecast" x1="{x1:.1f}" '
        f'x2="{x2:.1f}" y1="{y_of(tokens):.1f}" y2="{ends[2]:.1f}"/></g>'
    )
