"""The growth of a context, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import bold, red
from unspool.context.growth import AlertLevel, GrowthPrediction
from unspool.context.trajectory import Trajectory, Turn
from unspool.text import show_text

__all__ = ["forecast_text", "growth_json", "growth_text", "turn_json", "turn_line"]

_SHOWN: Final = 14  # turns: the first, the compactions, the newest
_BAR: Final = 20
_NEVER: Final = 100_000  # steps: more than any run makes


def growth_text(name: str, found: Trajectory, window: str, *, color: bool, width: int | None) -> str:
    """The whole report. No final newline.

    Args:
        window: where the budget comes from, or why there is none.
    """
    prediction = found.prediction
    model = found.turns[-1].call.model if found.turns else ""
    used = f"{prediction.tokens_used:,} tokens"
    if prediction.context_budget:
        used += f" of {prediction.context_budget:,} ({prediction.usage_pct:.1f}%)"
    lines = [bold(f"{show_text(name)}: {show_text(model or 'unknown model', 40)}", color), f"{used}, {window}", ""]
    lines += [bold("Contexts", color), *_turns(found, width)]
    if found.per_step:
        since = "since the last compaction" if found.compactions else "on average"
        parts = [f"{category} {tokens:+,.0f}" for category, tokens in found.per_step.items() if round(tokens)]
        lines += ["", bold("Growth a step", color), *_wrapped(f"  {', '.join(parts) or 'none'} tokens {since}", width)]
    if found.compactions:
        steps = ", ".join(str(turn.step) for turn in found.compactions)
        count = amounts.counted(len(found.compactions), "compaction")
        lines += _wrapped(f"  {count}, at step {steps}: {amounts.tokens(found.dropped)} tokens went", width)
    lines += ["", bold("Forecast", color), *_wrapped(f"  {forecast_text(prediction)}", width)]
    if prediction.alert_level is not AlertLevel.NONE:
        lines.append("  " + red(_alert(prediction), color))
    return "\n".join(lines)


def forecast_text(prediction: GrowthPrediction) -> str:
    """When the context is full, as a sentence."""
    if not prediction.context_budget:
        return "none: the context window of this model is not known. Give it with --budget TOKENS"
    if prediction.est_high == 0:
        return f"none: {prediction.note or 'the next step does not fit'}"
    if prediction.est_remaining >= _NEVER:
        return "at this pace it does not fill up"
    steps = "step" if prediction.est_remaining == 1 else "steps"
    text = f"full after {prediction.est_remaining:,} more {steps} (80 %: {_interval(prediction)})"
    text += ", the turn under way counted"
    if prediction.est_remaining_ms:
        text += f"; in about {_duration(prediction.est_remaining_ms)} at the pace so far"
    if prediction.predict_exhaust:
        text += f"; before step {prediction.max_steps}"
    return text + ". Compactions to come are not foreseen"


def turn_line(turn: Turn, prediction: GrowthPrediction) -> str:
    """One turn of a run that is followed."""
    text = f"step {turn.step:>3}  {turn.tokens:>9,} tokens  {turn.more:+,}"
    if turn.is_rewritten:
        text += "  rewritten"
    if not prediction.context_budget:
        return text
    text += f"  {prediction.usage_pct:.1f}%"
    if prediction.est_high:
        text += f"  {prediction.est_remaining:,} steps left (80 %: {_interval(prediction)})"
    level = prediction.alert_level
    return text if level is AlertLevel.NONE else f"{text}  {_alert(prediction)}"


def growth_json(record_id: str, found: Trajectory, window: int | None) -> dict[str, Any]:
    """For programs: the wire form of the prediction, and what it rests on."""
    import msgspec

    return {
        "record_id": record_id,
        "context_window": window,
        "pending": found.pending,
        "turns": [turn_json(turn) for turn in found.turns],
        "growth_per_step": found.per_step,
        "compactions": [turn.step for turn in found.compactions],
        "prediction": msgspec.json.decode(found.prediction.to_json()),
    }


def turn_json(turn: Turn) -> dict[str, Any]:
    """One turn for programs."""
    return {
        "step": turn.step,
        "call": turn.call.call,
        "seq_num": turn.call.seq_num,
        "tokens": turn.tokens,
        "counted": turn.is_counted,
        "more": turn.more,
        "growth": turn.growth,
        "rewritten": turn.is_rewritten,
        "delta_ms": turn.delta_ms,
    }


def _turns(found: Trajectory, width: int | None) -> list[str]:
    most = max((turn.tokens for turn in found.turns), default=1) or 1
    rows = []
    for turn in _chosen(found):
        if turn is None:
            rows.append(["…", "", "", "", "", ""])
            continue
        largest = max(turn.growth.items(), key=lambda item: abs(item[1]), default=None) if turn.step > 1 else None
        rows.append(
            [
                str(turn.step),
                turn.call.name.removeprefix("call "),
                f"{turn.tokens:,}{'' if turn.is_counted else '~'}",
                f"{turn.more:+,}" if turn.step > 1 else "",
                "█" * max(round(_BAR * turn.tokens / most), 1),
                "; ".join(["rewritten"] * turn.is_rewritten + ([f"{largest[0]} {largest[1]:+,}"] if largest else [])),
            ]
        )
    columns = (
        Column("STEP", "right"), Column("CALL", "right"), Column("TOKENS", "right"), Column("GROWTH", "right"),
        Column("", gives_way=1), Column("MOST OF IT", flexible=True, least=14),
    )  # fmt: skip
    table = format_table(columns, rows, None if width is None else width - 2)
    return ["  " + line for line in table.splitlines()]


def _chosen(found: Trajectory) -> Iterator[Turn | None]:
    """The turns to show, None for a gap."""
    if len(found.turns) <= _SHOWN:
        yield from found.turns
        return
    chosen = {1, *(turn.step for turn in found.compactions[-3:])}
    chosen |= {turn.step for turn in found.turns[-(_SHOWN - len(chosen) - 2) :]}
    last = 0
    for turn in found.turns:
        if turn.step in chosen:
            if turn.step > last + 1:
                yield None
            yield turn
            last = turn.step


def _alert(prediction: GrowthPrediction) -> str:
    left = prediction.remaining_budget
    return f"{prediction.alert_level.upper()}: {left:,} tokens left"


def _interval(prediction: GrowthPrediction) -> str:
    if prediction.est_high >= _NEVER:
        return f"{prediction.est_low:,} or more"
    return f"{prediction.est_low:,} to {prediction.est_high:,}"


def _duration(ms: int) -> str:
    return amounts.age(ms / 1000)


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(text, max(width, 40), subsequent_indent="  ") or [text]
