"""How the context of a conversation grew, call by call and by what, and when it will be full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from unspool.context.calls import CATEGORIES, Block, Call, Category, Run
from unspool.context.forecast import level_since
from unspool.context.growth import GrowthPrediction, GrowthSnapshot, predict_growth

__all__ = ["Trajectory", "Turn", "prediction_at", "trajectory"]

_NS_PER_MS = 1_000_000
_MOST_SCALED = 3.0


class Turn(Struct):
    """One context of a conversation.

    Attributes:
        step: from 1, retries and refused calls not counted.
        tokens: of the prompt; `is_counted` says whether the provider counted it.
        more: tokens than the turn before, by the counts; 0 for the first.
        growth: the same by category, negative where something went; an estimate that need not add up to `more` where
            much came and went at once.
        is_rewritten: its history is another than that of the turn before.
        delta_ms: since the process was created.
    """

    step: int
    call: Call
    tokens: int
    is_counted: bool
    more: int
    growth: dict[Category, int]
    is_rewritten: bool
    delta_ms: int


class Trajectory(Struct):
    """The contexts of one conversation and where they lead.

    Attributes:
        per_step: mean growth a step since the last compaction, or since the context is level, by category, the largest
            first.
        compactions: turns at which the context had become smaller by more than a tenth.
        prediction: with `context_budget` 0 where no window is known.
        pending: the next turn has begun: its context is not counted yet.
    """

    turns: list[Turn]
    per_step: dict[Category, float]
    compactions: list[Turn]
    prediction: GrowthPrediction
    pending: bool = False

    @property
    def dropped(self) -> int:
        """Tokens that compactions took away."""
        by_step = {turn.step: turn.tokens for turn in self.turns}
        return sum(by_step[turn.step - 1] - turn.tokens for turn in self.compactions)


def trajectory(
    run: Run, call: Call, pid: int, budget: int, *, max_steps: int = 0, is_running: bool = False
) -> Trajectory:
    """The contexts of the conversation of a call, and the forecast from them.

    Args:
        budget: the window in tokens; 0: unknown, hence no forecast.
        max_steps: the last step the run may make; 0: no limit.
        is_running: the agent goes on, so a turn is under way after the last answer.
    """
    turns: list[Turn] = []
    rewritten = set(run.rewritten)
    sums: dict[Category, float] = {}
    before: Call | None = None
    for one in run.conversation_of(call):
        is_open = one.llm is None
        if not one.is_paid and not (is_open and is_running):
            continue
        weights = _sums(one, before, sums)
        changes = {category: weights.get(category, 0.0) - sums.get(category, 0.0) for category in CATEGORIES}
        more = one.tokens - before.tokens if before is not None else 0
        growth = _growth(changes, more if before is not None else one.tokens - one.unseen)
        turns.append(
            Turn(
                len(turns) + 1,
                one,
                one.tokens,
                one.is_counted,
                more,
                growth,
                one.position in rewritten,
                one.timestamp // _NS_PER_MS,
            )
        )
        before, sums = one, weights
    snapshots = [GrowthSnapshot(turn.step, turn.tokens, turn.delta_ms) for turn in turns]
    last = turns[-1] if turns else None
    pending = is_running and last is not None and last.call.llm is not None
    step = (last.step if last is not None else 0) + pending
    used = last.tokens if last is not None else 0
    prediction = predict_growth(pid, used, budget, step, max_steps, snapshots)
    by_step = {turn.step: turn for turn in turns}
    compactions = [by_step[step] for step in prediction.compactions]
    level = level_since([(turn.step, turn.tokens) for turn in turns])
    since = turns[compactions[-1].step :] if compactions else turns[1:]
    since = since if level is None else turns[level:]
    return Trajectory(turns, _per_step(since), compactions, prediction, pending)


def prediction_at(found: Trajectory, turn: Turn, *, max_steps: int = 0) -> GrowthPrediction:
    """The forecast as it was after a turn, the next one counted as under way."""
    known = [GrowthSnapshot(one.step, one.tokens, one.delta_ms) for one in found.turns[: turn.step]]
    latest = found.prediction
    return predict_growth(latest.pid, turn.tokens, latest.context_budget, turn.step + 1, max_steps, known)


def _growth(changes: dict[Category, float], total: int) -> dict[Category, int]:
    """Changes by category, scaled to the difference of the counts where the two go together."""
    estimate = sum(changes.values())
    scale = total / estimate if estimate else 0.0
    if not 1 / _MOST_SCALED < scale < _MOST_SCALED:
        scale = 1.0  # things came and went, and the small rest says nothing about either
    return {category: tokens for category, change in changes.items() if (tokens := round(change * scale))}


def _sums(call: Call, before: Call | None, known: dict[Category, float]) -> dict[Category, float]:
    """Weights by category: of a call that only goes on, from those of the one before."""
    sums: dict[Category, float] = {}
    blocks: Sequence[Block] = call.blocks
    if before is not None and call.goes_on_from(before):
        sums, blocks = dict(known), call.messages[call.kept :]
    for block in blocks:
        estimate = sum(tokens for _, tokens in block.shares)
        for category, tokens in block.shares:
            share = block.weight * tokens / estimate if estimate else 0.0
            sums[category] = sums.get(category, 0.0) + share
    return sums


def _per_step(turns: Iterable[Turn]) -> dict[Category, float]:
    turns = list(turns)
    sums: dict[Category, int] = {}
    for turn in turns:
        for category, tokens in turn.growth.items():
            sums[category] = sums.get(category, 0) + tokens
    return {category: tokens / len(turns) for category, tokens in sorted(sums.items(), key=lambda item: -abs(item[1]))}
