"""Profiles and forecasts as text. Pure functions; the layout is the seed's."""

from __future__ import annotations

from collections.abc import Iterator

from unspool.context.growth import AlertLevel, GrowthPrediction, GrowthSnapshot
from unspool.context.profile import BlockVerdict, CtxProfileResult
from unspool.context.temperature import ACTIVE_OUTPUTS, WARM_OUTPUTS
from unspool.text import escape_controls, show_text

__all__ = ["format_ctx_profile", "format_growth_prediction"]

BOLD, RED, YELLOW, GREEN, BLUE, RESET = "\x1b[1m", "\x1b[91m", "\x1b[93m", "\x1b[92m", "\x1b[94m", "\x1b[0m"

_BAR_CELLS = 30
_LEAKS_SHOWN = 10
_QUOTE_LIMIT = 60

_STATES = (
    ("active", "Active", f"referred to by one of the last {ACTIVE_OUTPUTS} outputs, or new", GREEN),
    ("warm", "Warm", f"referred to by one of the last {WARM_OUTPUTS} outputs", YELLOW),
    ("cold", "Cold", "not referred to any more", BLUE),
    ("leaked", "Leaked", "tool results never used, duplicate or superseded", RED),
)


def format_ctx_profile(result: CtxProfileResult, color: bool = False) -> str:
    """What fills the context and what of it is used: sections, the empty ones left out. No final newline."""
    return "\n".join(_profile_lines(result, color))


def format_growth_prediction(prediction: GrowthPrediction, color: bool = False) -> str:
    """How the context grew and when it is full; without a budget the trend only. No final newline."""
    return "\n".join(_growth_lines(prediction, color))


def _paint(text: str, code: str, color: bool) -> str:
    return f"{code}{text}{RESET}" if color else text


def _profile_lines(result: CtxProfileResult, color: bool) -> Iterator[str]:
    limit = f"{result.context_budget} budget" if result.context_budget > 0 else "no limit"
    head = f"Ctx Profile: PID {result.pid}  |  CtxID {result.ctx_id}  |  ~{result.total_tokens} tok / {limit}"
    yield _paint(head, BOLD, color)
    yield ""
    yield _paint("Classification:", BOLD, color)
    for name, label, description, code in _STATES:
        bucket = getattr(result.classification, name)
        row = f"{bucket.tokens:5} tok  {bucket.pct:5.1f}%  {bucket.messages:2} msgs"
        yield f"  {_paint(f'{label:<18}', code, color)}{row}  ← {description}"
    if result.top_consumers:
        yield ""
        yield _paint("Top Consumers:", BOLD, color)
        width = max(18, *(len(escape_controls(one.kind)) for one in result.top_consumers))
        for one in result.top_consumers:
            advice = f"  → {escape_controls(one.suggestion)}" if one.suggestion else ""
            yield f"  #{one.rank} {escape_controls(one.kind):<{width}} {one.tokens:5} tok  {one.pct:5.1f}%{advice}"
    leaks = sorted((block for block in result.evidence if block.state == "leaked"), key=lambda block: -block.tokens)
    if leaks:
        yield ""
        yield _paint("Leaked:", BOLD, color)
        yield from (_leak(block) for block in leaks[:_LEAKS_SHOWN])
        if len(leaks) > _LEAKS_SHOWN:
            yield f"  … and {len(leaks) - _LEAKS_SHOWN} more"
    if result.suggestions:
        yield ""
        yield _paint("Suggestions:", BOLD, color)
        yield from (f"  • {escape_controls(suggestion)}" for suggestion in result.suggestions)


def _leak(block: BlockVerdict) -> str:
    used = ""
    if block.last_used_by is not None:
        used = f'; last used by message {block.last_used_by}: "{show_text(block.quote, _QUOTE_LIMIT)}"'
    return f"  message {block.index}  {block.tokens} tok  {escape_controls(block.reason)}{used}"


def _growth_lines(prediction: GrowthPrediction, color: bool) -> Iterator[str]:
    has_budget = prediction.context_budget > 0
    head = f"Context Growth: PID {prediction.pid}  |  {prediction.tokens_used}"
    if has_budget:
        head += f"/{prediction.context_budget} tok  |  {prediction.usage_pct:.1f}% used"
    else:
        head += " tok used  |  No budget set"
    yield _paint(head, BOLD, color)
    if prediction.history:
        yield ""
        yield _paint("Growth Trend:", BOLD, color)
        compactions = set(prediction.compactions)
        before: GrowthSnapshot | None = None
        for snapshot in prediction.history:
            yield _trend_row(before, snapshot, snapshot.step in compactions)
            before = snapshot
    if not has_budget:
        return
    yield ""
    yield _paint("Prediction:", BOLD, color)
    yield f"  Avg Rate:     {prediction.avg_tokens_per_step:.1f} tok/step"
    if prediction.recent_rate > 0 and prediction.recent_rate != prediction.avg_tokens_per_step:
        yield f"  Recent Rate:  {prediction.recent_rate:.1f} tok/step"
    yield f"  Remaining:    {prediction.remaining_budget} tok"
    yield f"  Est. Steps:   {_estimate(prediction)}"
    if prediction.predict_exhaust:
        at = prediction.current_step + prediction.est_remaining
        text = f"budget runs out at about step {at} of {prediction.max_steps}"
        yield f"  Exhaustion:   {_paint(text, RED, color)}"
    yield f"  Alert:        {_alert(prediction.alert_level, color)}"
    yield ""
    # Half of a cell counts as one, as everywhere a percentage is rounded here.
    filled = min(max(int(prediction.usage_pct / 100 * _BAR_CELLS + 0.5), 0), _BAR_CELLS)
    yield f"Budget: {'█' * filled}{'░' * (_BAR_CELLS - filled)} {prediction.usage_pct:.1f}%"


def _trend_row(before: GrowthSnapshot | None, snapshot: GrowthSnapshot, is_compaction: bool) -> str:
    row = f"  Step {snapshot.step:2}:  {snapshot.tokens:6} tok"
    if before is None:
        return row  # what was there at first is the base, not growth
    delta = snapshot.tokens - before.tokens
    return f"{row}  ({delta:+}){'  compacted' if is_compaction and delta < 0 else ''}"


def _estimate(prediction: GrowthPrediction) -> str:
    if prediction.note and prediction.est_remaining == 0:
        # The text of a recording is never trusted with the terminal, not even our own once it came through a file.
        is_gone = prediction.remaining_budget == 0
        return f"{'0' if is_gone else 'unknown'} ({escape_controls(prediction.note)})"
    if prediction.est_high:
        return f"{prediction.est_remaining}  (80%: {prediction.est_low}–{prediction.est_high})"
    return str(prediction.est_remaining)


def _alert(level: AlertLevel, color: bool) -> str:
    if level == AlertLevel.CRITICAL:
        return _paint("⚠ CRITICAL  (remaining < 10%)", RED, color)
    if level == AlertLevel.WARNING:
        return _paint("⚠ WARNING  (remaining < 20%)", YELLOW, color)
    return _paint("none ✓", GREEN, color)
