"""When a context will be full."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from unspool.context.amounts import check_counts, percentage, ratio, to_one_decimal
from unspool.context.forecast import Point, compaction_steps, constant_trend, fit_trend, settled, steps_until
from unspool.events import PID

__all__ = ["AlertLevel", "GrowthPrediction", "GrowthSnapshot", "predict_growth"]

_log = logging.getLogger("unspool")


class AlertLevel(StrEnum):
    """How urgent it is: `warning` with less than 20 % of the budget left, `critical` with less than 10 %."""

    NONE = "none"
    WARNING = "warning"
    CRITICAL = "critical"


class GrowthSnapshot(Struct):
    """Tokens in the context at one step; `delta_ms` is milliseconds since the process was created."""

    step: int = 0
    tokens: int = 0
    delta_ms: int = 0


class GrowthPrediction(Struct):
    """Where a context stands and when it will be full.

    `est_remaining` is the median number of steps that still fit, the turn under way counted as the first, and `est_low`
    to `est_high` its 80 % interval; all three are 0 where nothing can be forecast, and `note` then says why.
    `est_remaining_ms` is the time these steps take at the pace so far, 0 if unknown. `compactions` are the steps at
    which the context had become smaller. `predict_exhaust`: the budget runs out within `max_steps`.
    """

    pid: PID = 0
    tokens_used: int = 0
    context_budget: int = 0
    usage_pct: float = 0.0
    current_step: int = 0
    max_steps: int = 0
    avg_tokens_per_step: float = 0.0
    recent_rate: float = 0.0
    remaining_budget: int = 0
    est_remaining: int = 0
    predict_exhaust: bool = False
    alert_level: AlertLevel = AlertLevel.NONE
    history: list[GrowthSnapshot] = []
    est_low: int = 0
    est_high: int = 0
    est_remaining_ms: int = 0
    compactions: list[int] = []
    note: str = ""

    def to_json(self) -> bytes:
        """The wire form: the seed's keys, then those added here. Percentages and rates have one decimal."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        for key in ("usage_pct", "avg_tokens_per_step", "recent_rate"):
            wire[key] = to_one_decimal(wire[key])
        return msgspec.json.encode(wire)

    @classmethod
    def from_json(cls, data: bytes | str) -> GrowthPrediction:
        """Read the wire form. Missing keys are zero; keys it does not know are ignored.

        An alert level it does not know is taken from the numbers instead, with a warning in the log.

        Raises:
            ValueError: not JSON, a value of the wrong kind, or a count below zero.
        """
        try:
            wire = msgspec.json.decode(data, type=_Wire)
        except msgspec.DecodeError as exc:
            raise ValueError(f"not a growth prediction: {exc}") from exc
        fields = {name: getattr(wire, name) for name in wire.__struct_fields__}
        fields["history"] = [GrowthSnapshot(one.step, one.tokens, one.delta_ms) for one in wire.history or ()]
        fields["compactions"] = wire.compactions or []
        if wire.alert_level in set(AlertLevel):
            fields["alert_level"] = AlertLevel(wire.alert_level)
        else:
            fields["alert_level"] = _alert_level(wire.tokens_used, wire.context_budget)
            _log.warning(
                "unknown alert level %r in a growth prediction: taken as %s", wire.alert_level, fields["alert_level"]
            )
        return cls(**fields)


def predict_growth(  # noqa: PLR0917 - the seed's signature
    pid: PID, tokens_used: int, context_budget: int, current_step: int, max_steps: int, history: Iterable[Point] | None
) -> GrowthPrediction:
    """Forecast when the context is full, from the counts so far.

    Args:
        tokens_used: tokens in the context now, not the sum over calls.
        context_budget: the model's context window; 0: no limit is known, hence no forecast and no alert.
        current_step: the step that is under way.
        max_steps: the last step the run may make; 0: no limit.
        history: counts at real step numbers, in any order; the last of several for one step holds. None is no counts.

    Raises:
        ValueError: a count below zero.
    """
    check_counts(
        pid=pid, tokens_used=tokens_used, context_budget=context_budget, current_step=current_step, max_steps=max_steps
    )
    snapshots = sorted(map(_snapshot, history or ()), key=lambda snapshot: snapshot.step)
    points = settled(snapshots)
    trend = fit_trend(points)
    average = ratio(tokens_used, current_step)
    result = GrowthPrediction(
        pid=pid,
        tokens_used=tokens_used,
        context_budget=context_budget,
        usage_pct=percentage(tokens_used, context_budget),
        current_step=current_step,
        max_steps=max_steps,
        avg_tokens_per_step=average,
        remaining_budget=max(context_budget - tokens_used, 0),
        alert_level=_alert_level(tokens_used, context_budget),
        history=snapshots,
        compactions=compaction_steps(points),
    )
    if trend is None and len(points) < 2 and average > 0:
        trend = constant_trend(tokens_used / current_step)
    result.recent_rate = to_one_decimal(max(trend.slope, 0.0)) if trend is not None else 0.0
    if context_budget == 0:
        result.note = "no budget is set"
    elif result.remaining_budget == 0:
        result.note = "the budget is used up"
        result.predict_exhaust = max_steps > 0 and current_step <= max_steps
    elif trend is None or trend.rate <= 0:
        result.note = "the context is not growing" if points else "no counts yet"
    else:
        uncounted = _uncounted_steps(points, tokens_used, current_step)
        low, middle, high = (max(n - uncounted, 0) for n in steps_until(trend, result.remaining_budget))
        result.est_low, result.est_remaining, result.est_high = low, middle, high
        result.est_remaining_ms = round(middle * _ms_per_step(snapshots))
        result.predict_exhaust = max_steps > 0 and current_step + middle <= max_steps
    return result


def _snapshot(point: Point) -> GrowthSnapshot:
    delta_ms = int(getattr(point, "delta_ms", 0))
    check_counts(step=point.step, tokens=point.tokens, delta_ms=delta_ms)
    return GrowthSnapshot(point.step, point.tokens, delta_ms)


def _alert_level(tokens_used: int, context_budget: int) -> AlertLevel:
    """From whole numbers: at 80.04 % less than 20 % is left, whatever the rounded percentage says."""
    if context_budget <= 0:
        return AlertLevel.NONE
    remaining = context_budget - tokens_used
    if 10 * remaining < context_budget:
        return AlertLevel.CRITICAL
    return AlertLevel.WARNING if 5 * remaining < context_budget else AlertLevel.NONE


def _uncounted_steps(points: list[tuple[int, int]], tokens_used: int, current_step: int) -> int:
    """Turns made since the last count: they have filled part of the room though no count shows it yet."""
    if not points or tokens_used != points[-1][1]:
        return 0
    return max(current_step - points[-1][0], 0)


def _ms_per_step(snapshots: list[GrowthSnapshot]) -> float:
    if len(snapshots) < 2:
        return 0.0
    first, last = snapshots[0], snapshots[-1]
    steps, elapsed_ms = last.step - first.step, last.delta_ms - first.delta_ms
    return elapsed_ms / steps if steps > 0 and elapsed_ms > 0 else 0.0


_Count = Annotated[int, Meta(ge=0)]


class _WireSnapshot(Struct):
    step: _Count = 0
    tokens: _Count = 0
    delta_ms: _Count = 0


class _Wire(Struct):
    """What is accepted: the fields of GrowthPrediction as any writer may have put them."""

    pid: _Count = 0
    tokens_used: _Count = 0
    context_budget: _Count = 0
    usage_pct: float = 0.0
    current_step: _Count = 0
    max_steps: _Count = 0
    avg_tokens_per_step: float = 0.0
    recent_rate: float = 0.0
    remaining_budget: _Count = 0
    est_remaining: _Count = 0
    predict_exhaust: bool = False
    alert_level: str = "none"
    history: list[_WireSnapshot] | None = None
    est_low: _Count = 0
    est_high: _Count = 0
    est_remaining_ms: _Count = 0
    compactions: list[_Count] | None = None
    note: str = ""
