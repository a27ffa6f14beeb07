"""`unspool ctx --without`: which blocks are meant, and what the run would have been without them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from unspool.cli import amounts
from unspool.cli.ctx_run import Rerun, rerun_json, rerun_lines
from unspool.cli.ctx_text import money
from unspool.cli.ctx_verify import Check
from unspool.cli.ctx_verify_text import check_json, check_lines
from unspool.cli.ctx_view import ContextView
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import bold
from unspool.context.calls import Call
from unspool.context.lives import Life
from unspool.context.whatif import Dropped, WhatIf, find_blocks, leaked_lives, without_blocks
from unspool.errors import UsageError
from unspool.text import show_text

__all__ = ["Without", "run_without", "without_json", "without_text"]


class Without(Struct):
    """The run without some blocks; what checks said of that, and what came of running it so."""

    view: ContextView
    result: WhatIf
    checks: list[Check] | None = None
    rerun: Rerun | None = None

    @property
    def dropped(self) -> list[Dropped]:
        """Those that save something, the most first."""
        return [one for one in self.result.dropped if one.at is not None]

    def call(self, position: int) -> Call:
        """A call of the run."""
        return self.view.run.calls[position]


def run_without(view: ContextView, names: Sequence[str], *, leaked: bool) -> Without:
    """The run of a view without the named blocks, or without what leaked.

    Raises:
        UsageError: a name fits no block.
    """
    chosen: dict[int, Life] = {id(life): life for life in (leaked_lives(view.found) if leaked else ())}
    for name in names:
        lives = find_blocks(view.found, name)
        if not lives:
            have = ", ".join(show_text(life.block.key) for life in view.found.lives if life.block.is_tool_result)
            raise UsageError(
                f"--without: no block of this conversation is {name!r}. Its tool results: {have or 'none'}. "
                f"List all blocks with: unspool ctx {view.record_id} --all"
            )
        chosen |= {id(life): life for life in lives}
    result = without_blocks(view.run, view.found, list(chosen.values()), view.total_usd, view.costs)
    return Without(view, result)


def without_text(found: Without, *, color: bool, width: int | None) -> str:
    """For people. No final newline."""
    result = found.result
    if not result.dropped:
        return "Nothing leaked: every tool result was used, is too new to judge, or went in time."
    title = f"{show_text(found.view.record_id)} without {amounts.counted(len(result.dropped), 'block')}"
    share = 100 * result.saved_tokens / result.tokens if result.tokens else 0.0
    lines = [
        bold(title, color),
        f"  input tokens  {result.tokens:>10,} → {result.tokens - result.saved_tokens:>10,}  (−{share:.1f}%)",
    ]
    if result.usd is not None and result.saved_usd is not None:
        after = result.usd - result.saved_usd + result.anew_usd
        lines.append(f"  cost          {amounts.cost(result.usd):>10} → {amounts.cost(after):>10}")
        if result.anew_usd:
            lines.append(f"    {money(result.anew_usd)} of it because the cache does not hold what follows them")
        if result.is_dearer:
            never = f"{amounts.tokens(result.never_tokens)} tokens and {money(result.never_usd)}"
            note = (
                "  Dropping them one by one costs more than it saves, as it breaks the provider's cache. Had they "
                f"never come in, it would have been {never} less: have the tools return less, or drop many at once."
            )
            lines += _wrapped(note, width)
    cells = [
        [
            show_text(one.life.block.key, 24),
            found.call(one.at).name if one.at is not None else "never",
            amounts.tokens(round(one.saved.tokens)),
            money(one.saved.cost),
            _what(one),
        ]
        for one in result.dropped
    ]
    columns = (
        Column("BLOCK"), Column("GONE AT"), Column("TOKENS", "right"), Column("COST", "right"),
        Column("WHAT", flexible=True, least=20),
    )  # fmt: skip
    lines += ["", format_table(columns, cells, width, color=color)]
    if found.rerun is not None:
        lines += ["", bold("Run again without them", color)]
        lines += rerun_lines(found.rerun, result.saved_tokens, width)
    elif found.checks:
        lines += ["", bold("Sent again without them", color)]
        for check in found.checks:
            lines += check_lines(check, width)
    else:
        lines += ["", *_wrapped("The model may have read what it does not refer to: --verify asks it.", width)]
    return "\n".join(lines)


def _wrapped(text: str, width: int | None) -> list[str]:
    return textwrap.wrap(text, max(width, 40), subsequent_indent="    ") if width else [text]


def _what(one: Dropped) -> str:
    block, life = one.life.block, one.life
    name = f"result of {show_text(block.name, 32)}" if block.is_tool_result else block.category
    if life.part is not None:
        return f"{name}, all but {len(life.part.lines)} of {life.part.of:,} lines"
    return f"{name}, {'STILL USED LATER' if one.is_used else life.fate or life.state}"


def without_json(found: Without) -> dict[str, Any]:
    """For programs."""
    result = found.result
    return {
        "record_id": found.view.record_id,
        "calls": result.calls,
        "input_tokens": result.tokens,
        "cost_usd": result.usd,
        "saved_tokens": result.saved_tokens,
        "saved_usd": result.saved_usd,
        "cache_refill_usd": result.anew_usd,
        "never_in_saved_tokens": result.never_tokens,
        "never_in_saved_usd": result.never_usd,
        "dropped": [
            {
                "block": one.life.block.key,
                "tool": one.life.block.name or None,
                "fate": one.life.fate,
                "state": one.life.state,
                "still_used": one.is_used,
                "gone_at": found.call(one.at).call if one.at is not None else None,
                "in_its_place": one.text,
                "saved_tokens": round(one.saved.tokens),
                "saved_usd": one.saved.cost,
            }
            for one in result.dropped
        ],
        "checks": None if found.checks is None else [check_json(check) for check in found.checks],
        "rerun": None if found.rerun is None else rerun_json(found.rerun, result.saved_tokens),
    }
