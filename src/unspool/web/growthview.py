"""The context over the calls of a run: a stacked area with compactions, the budget, and what is to be expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, TypeAlias

from unspool.cli import amounts
from unspool.cli.ctx_view import main_call, window_of
from unspool.context.breaks import CacheBreak
from unspool.context.calls import CATEGORIES, Call
from unspool.context.composition import compose
from unspool.context.forecast import forecast_tokens
from unspool.context.growth import GrowthPrediction, GrowthSnapshot
from unspool.context.trajectory import Turn, trajectory
from unspool.web.contexts import Contexts
from unspool.web.contextview import OWN
from unspool.web.links import Links
from unspool.web.timeline import WIDTH, svg_text

__all__ = ["Break", "ContextOverTime", "area_svg", "context_over_time"]

_AREA: Final = 240  # pixels of height
_AXIS_LEFT: Final = 60
_LETTERS: Final = 13  # pixels that a line of text is high
_POINTS_MAX: Final = 400
_LAYERS: Final = (OWN, *CATEGORIES)
_LEAST_TURNS: Final = 3  # before which there is no forecast to draw
_TALL: Final = 1.6  # of the largest context: how much higher a forecast may make the drawing
_BEHIND: Final = (0.35, 0.2, 0.1, 0.05)  # of the run's length: how far a forecast is drawn
_AHEAD: Final = 6  # places at which a forecast is worked out
_Place: TypeAlias = Callable[[float], float]
Ahead: TypeAlias = tuple[int, tuple[int, int, int]]
"""Calls after the last, and the tokens expected then: 10 %, 50 % and 90 % of the ways it may go on."""


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
    """A context in the area: tokens by category, in the order of `_LAYERS`."""

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
    """How the context of one conversation grew. `now` is what the last one is made of.

    `budget` is what fits: what the run was given (`has_budget`), else the model's window; 0 is unknown. `unanswered`
    counts calls that brought no answer, which are not among the `points`.
    """

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
    has_budget: bool = False
    unanswered: int = 0


def context_over_time(contexts: Contexts, links: Links, conversation: int | None = None) -> ContextOverTime | None:
    """The context of a recording's calls; None if it has none.

    Args:
        conversation: which one; the largest by default.
    """
    run = contexts.run
    if not run.calls:
        return None
    if conversation is None or not 0 <= conversation < len(run.conversations):
        conversation = main_call(run, contexts.record_id).conversation
    chosen = conversation
    key = f"run, {type(links).__name__}"
    made: ContextOverTime | None = contexts.page(key, chosen, lambda: _over_time(contexts, links, chosen))
    return made


def _over_time(contexts: Contexts, links: Links, conversation: int) -> ContextOverTime | None:
    run = contexts.run
    last_call = run.calls[run.conversations[conversation][-1]]
    budget = contexts.budget or window_of(last_call) or 0
    found = trajectory(run, last_call, contexts.pid, budget, is_running=contexts.is_running)
    if not found.turns:
        return None
    points = [_point(turn, place) for place, turn in _thinned(found.turns)]
    last = points[-1]
    breaks = [one for one in contexts.breaks if one.call.conversation == conversation]

    def href_of(call: Call) -> str:
        return links.step(contexts.record_id, call.seq_num)

    return ContextOverTime(
        conversation=conversation,
        conversations=[
            (number, f"{run.calls[one[0]].name} to {run.calls[one[-1]].name} ({amounts.counted(len(one), 'call')})")
            for number, one in enumerate(run.conversations)
            if one
        ],
        points=len(found.turns),
        area=area_svg(
            points, len(found.turns), budget, _forecast_of(found.turns), href_of, is_given=contexts.budget is not None
        ),
        growth=found.prediction,
        budget=budget,
        has_budget=contexts.budget is not None,
        model=last_call.model,
        breaks=[_break(one, links, contexts.record_id) for one in sorted(breaks, key=lambda one: -one.repaid)],
        compactions=[turn.call.name for turn in found.compactions],
        now=[
            (name, part, 100 * part / max(last.tokens, 1))
            for name, part in zip(_LAYERS, last.parts, strict=True)
            if part
        ],
        uncounted=sum(not turn.is_counted for turn in found.turns),
        unanswered=len(run.conversations[conversation]) - len(found.turns),
    )


def _point(turn: Turn, place: int) -> Point:
    made_of = compose(turn.call)
    tokens = made_of.by_category()
    return Point(turn, place, [made_of.unseen, *(tokens.get(name, 0) for name in CATEGORIES)])


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


def _forecast_of(turns: Sequence[Turn]) -> list[Ahead]:
    """What `unspool growth` expects of the calls to come, as far as they are drawn."""
    if len(turns) < _LEAST_TURNS:
        return []
    known = [GrowthSnapshot(turn.step, turn.tokens, turn.delta_ms) for turn in turns]
    last = turns[-1].step
    room = max(turn.tokens for turn in turns) * _TALL
    for share in _BEHIND:  # no farther than the drawing is high
        reach = max(round((len(turns) - 1) * share), 1)
        if forecast_tokens(known, last + reach)[1] <= room:
            break
    ahead = sorted({-(-reach * part // _AHEAD) for part in range(1, _AHEAD + 1)})
    return [(0, (turns[-1].tokens,) * 3), *((steps, forecast_tokens(known, last + steps)) for steps in ahead)]


def area_svg(
    shown: Sequence[Point],
    count: int,
    budget: int,
    forecast: Sequence[Ahead],
    href: Callable[[Call], str],
    *,
    is_given: bool = False,
) -> str:
    """Tokens by category over `count` calls, the budget as a line, the forecast as a band behind the last call.

    Args:
        budget: tokens that fit; 0 is unknown.
        is_given: the budget is that of the run, and not the model's window.
    """
    steps = max(count - 1, 1)
    ahead = forecast[-1][0] if forecast else 0
    most = max(point.tokens for point in shown)
    expected = min(forecast[-1][1][2], round(most * _TALL)) if forecast else 0
    top = max(most * 1.15, expected * 1.05, budget if most > budget * 0.25 else 0, 1)
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
    for index, category in enumerate(_LAYERS):
        tops = [low + point.parts[index] for low, (_, point) in zip(base, places, strict=True)]
        if tops != base:
            upper = [f"{x:.1f},{y_of(high):.1f}" for high, (x, _) in zip(tops, places, strict=True)]
            lower = [f"{x:.1f},{y_of(low):.1f}" for low, (x, _) in zip(base, places, strict=True)]
            parts.append(
                f'<polygon class="area {_class_of(category)}" points="{" ".join([*upper, *reversed(lower)])}">'
                f"<title>{escape(category)}</title></polygon>"
            )
        base = tops
    if budget and budget <= top:
        parts.append(
            f'<line class="budget" x1="{_AXIS_LEFT}" x2="{WIDTH}" y1="{y_of(budget):.1f}" y2="{y_of(budget):.1f}"/>'
            f'<text class="axis" x="{WIDTH - 8}" y="{_beside(y_of(budget)):.1f}" text-anchor="end">'
            f"{'budget' if is_given else 'window'} {amounts.tokens(budget)}</text>"
        )
    elif is_given:  # drawn to scale it would leave nothing to see of the contexts
        parts.append(
            f'<text class="axis" x="{WIDTH - 8}" y="{_LETTERS}" text-anchor="end">↑ budget '
            f"{amounts.tokens(budget)}</text>"
        )
    if ahead:
        parts.append(_forecast(forecast, steps, x_of, y_of))
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


def _beside(y: float) -> float:
    """Where the words of a line stand: above it, or below where the drawing ends above it."""
    return y - 4 if y - 4 >= _LETTERS else y + _LETTERS


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


def _forecast(forecast: Sequence[Ahead], last: int, x_of: _Place, y_of: _Place) -> str:
    """The median as a line in a band that holds eight of ten ways the run may go on."""
    xs = [x_of(last + steps) for steps, _ in forecast]
    low, middle, high = (
        [f"{x:.1f},{y_of(tokens[which]):.1f}" for x, (_, tokens) in zip(xs, forecast, strict=True)]
        for which in range(3)
    )
    steps, (least, median, most) = forecast[-1]
    said = (
        f"forecast: in {amounts.counted(steps, 'call')} about {median:,} tokens, "
        f"between {least:,} and {most:,} with 80 % probability"
    )
    return (
        f'<g><title>{said}</title><polygon class="forecast" points="{" ".join([*high, *reversed(low)])}"/>'
        f'<polyline class="forecast" points="{" ".join(middle)}"/></g>'
    )


def _class_of(category: str) -> str:
    return category.replace(" ", "-").replace("'", "")
