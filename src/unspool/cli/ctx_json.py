"""A context for programs."""

from __future__ import annotations

from typing import Any

from unspool.cli.ctx_view import ContextView
from unspool.context.calls import Call
from unspool.context.charges import Charge
from unspool.context.lives import Life

__all__ = ["context_json", "life_json"]


def context_json(view: ContextView) -> dict[str, Any]:
    """All of the report; with the life of every block."""
    call = view.call
    llm = call.llm
    fitted = view.run.calibration
    held = {id(block): tokens for block, tokens in view.composition.by_block()}
    return {
        "record_id": view.record_id,
        "seq_num": call.seq_num,
        "call": call.call,
        "step": call.step,
        "model": call.model,
        "tokens": call.tokens,
        "counted": call.is_counted,
        "cached_tokens": llm.cached_tokens if llm is not None else None,
        "cache_write_tokens": llm.cache_write_tokens if llm is not None else None,
        "reasoning_tokens": llm.reasoning_tokens if llm is not None else None,
        "context_window": view.window,
        "budget": view.budget,
        "partial": call.partial,
        "fit": {"scale": fitted.scale, "error": fitted.error, "checked": fitted.checked, "pairs": fitted.pairs},
        "categories": view.composition.by_category(),
        "unseen": view.composition.unseen,
        "unseen_because": call.beyond,
        "tools": {
            name: {"tokens": tokens, "results": results}
            for name, (tokens, results) in view.composition.by_tool().items()
        },
        "conversation": {
            "calls": [one.call for one in view.calls],
            "input_tokens": sum(one.tokens for one in view.calls),
            "cost_usd": view.total_usd,
        },
        "blocks": [life_json(view, life, held.get(id(life.block))) for life in view.found.lives],
        "cache_breaks": [
            {
                "call": _place(one.call),
                "before": _place(one.before),
                "section": one.section,
                "block": one.block.key if one.block is not None else None,
                "offset": one.offset,
                "before_text": one.before_text,
                "after_text": one.after_text,
                "cause": one.cause,
                "repaid_tokens": round(one.repaid),
                "cached_tokens": one.cached,
                "repaid_usd": one.usd,
            }
            for one in view.breaks
        ],
        "suggestions": [
            {
                "kind": one.kind,
                "text": one.text,
                "blocks": one.blocks,
                "saved_tokens": one.tokens,
                "saved_usd": one.usd,
                "at_most": one.is_bound,
            }
            for one in view.advice
        ],
    }


def life_json(view: ContextView, life: Life, tokens: int | None) -> dict[str, Any]:
    """The life of one block; `tokens` are those in the call looked at, None if it does not hold it."""
    block, part = life.block, life.part
    calls = view.run.calls

    def place(position: int | None) -> dict[str, Any] | None:
        return None if position is None else _place(calls[position])

    return {
        "block": block.key,
        "category": block.category,
        "tool": block.name or None,
        "tool_call_id": block.message.tool_call_id if block.message is not None else None,
        "tokens": tokens,
        "size": round(block.weight),
        "state": life.state,
        "reason": life.reason,
        "leak": life.leak,
        "fate": life.fate,
        "came": place(block.first),
        "last_sent": place(block.last),
        "uses": [{"call": place(use.call), "quote": use.quote, "kind": use.kind} for use in life.uses],
        "replaced_by": life.replaced_by.key if life.replaced_by is not None else None,
        "should_have_gone": place(life.gone_at),
        "used_part": None
        if part is None
        else {"lines": part.lines, "of": part.of, "share": part.share, "quotes": part.quotes},
        "paid": _charge(life.charge),
        "wasted": _charge(life.wasted),
    }


def _charge(charge: Charge) -> dict[str, Any]:
    return {
        "calls": round(charge.sends),
        "tokens": round(charge.tokens),
        "cached_tokens": round(charge.cached),
        "cost_usd": charge.cost,
    }


def _place(call: Call) -> dict[str, Any]:
    return {"seq_num": call.seq_num, "call": call.call, "step": call.step}
