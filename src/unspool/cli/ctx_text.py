"""A context for people: what fills it, what of it is used, what it cost, what to do. Fits 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from unspool.cli import amounts
from unspool.cli.ctx_view import ContextView
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import bold, dim, red
from unspool.context.breaks import CacheBreak
from unspool.context.calls import Block
from unspool.context.lives import Life
from unspool.text import show_text

__all__ = ["context_text", "evidence", "lives_text", "money"]

_BAR: Final = 24
_NAME: Final = 32
_FATES: Final = ("unused", "duplicate", "superseded", "mostly unused")
_BREAKS_SHOWN: Final = 3


def context_text(view: ContextView, rows: int, *, color: bool, width: int | None) -> str:
    """The whole report on one call. No final newline."""
    blocks = [
        _head(view, color, width),
        _categories(view, color),
        _tools(view, color, width),
        _states(view, color, width),
        _messages(view, rows, color, width),
        _dearest(view, rows, color, width),
        _leaked(view, rows, color, width),
        _breaks(view, color, width),
        _advice(view, color, width),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def lives_text(view: ContextView, *, color: bool, width: int | None) -> str:
    """The life of every block: when it came, who used it, what it cost, when it should have gone."""
    rows = [
        [
            show_text(life.block.key, 24),
            _what(life.block),
            _call_number(view, life.block.first),
            _call_number(view, life.uses[-1].call) if life.uses else "–",
            _call_number(view, life.gone_at) if life.gone_at is not None else "",
            amounts.tokens(round(life.block.weight)),
            str(round(life.charge.sends)),
            money(life.charge.cost),
            money(life.wasted.cost) if life.gone_at is not None else "",
            life.fate or life.state,
        ]
        for life in view.found.lives
    ]
    columns = (
        Column("BLOCK", flexible=True, least=8), Column("WHAT", flexible=True, least=20), Column("CAME", "right"),
        Column("USED", "right"), Column("GO", "right"), Column("TOKENS", "right"), Column("SENT", "right", gives_way=1),
        Column("COST", "right", gives_way=2), Column("WASTED", "right"), Column("STATE"),
    )  # fmt: skip
    note = "CAME, USED, GO: the call it came with, whose answer referred to it last, that should have done without it."
    return "\n".join(
        [_head(view, color, width)[0], format_table(columns, rows, width, color=color), *_wrapped(note, width)]
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _head(view: ContextView, color: bool, width: int | None) -> list[str]:
    call = view.call
    known = "tokens" if call.is_counted else "tokens (estimated: the provider gave no count)"
    title = f"{show_text(view.record_id)} {call.name}: {show_text(call.model or 'unknown model', 40)}"
    filled = f"{call.tokens:,} {known}"
    fits = view.budget or view.window
    if fits:
        filled += f" of {fits:,} ({100 * call.tokens / fits:.1f}%)"
    if view.budget:
        filled += f", the budget of the run{f'; the window is {view.window:,}' if view.window else ''}"
    llm = call.llm
    facts = []
    if llm is not None and llm.cached_tokens is not None:
        facts.append(f"{llm.cached_tokens:,} from cache")
    if llm is not None and llm.cache_write_tokens:
        facts.append(f"{llm.cache_write_tokens:,} written to it")
    if llm is not None and llm.reasoning_tokens:
        facts.append(f"{llm.reasoning_tokens:,} tokens of reasoning in the answer")
    lines = [bold(title, color), ", ".join([filled, *facts])]
    sent = sum(one.tokens for one in view.calls)
    lines.append(
        f"Its conversation: {amounts.counted(len(view.calls), 'call')}, {sent:,} input tokens, "
        f"{amounts.cost(view.total_usd)}"
    )
    error = view.run.calibration.error
    split = (
        f"fitted to those of {view.run.calibration.checked} calls, and off by {100 * error:.1f}% on average"
        if (error is not None)
        else "estimated"
    )
    lines += [dim(line, color) for line in _wrapped(f"Counts are the provider's; their split is {split}.", width)]
    if call.partial:
        lines.append(f"Not all the model saw: {show_text(call.partial, 100)}")
    if call.beyond and view.composition.unseen:
        added = f"Added by the provider: about {view.composition.unseen:,} tokens that no request holds"
        lines += _wrapped(f"{added} ({show_text(call.beyond, 100)})", width)
    return lines


def _categories(view: ContextView, color: bool) -> list[str]:
    total = view.composition.total or 1
    counts: dict[str, int] = {str(name): tokens for name, tokens in view.composition.by_category().items()}
    if view.composition.unseen:
        counts["not in the request"] = view.composition.unseen
    lines = [bold("What fills it", color)]
    for name, tokens in counts.items():
        share = tokens / total
        bar = "█" * max(round(share * _BAR), 1 if tokens else 0)
        lines.append(f"  {name:<18} {tokens:>9,}  {100 * share:5.1f}%  {bar}")
    return lines


def _tools(view: ContextView, color: bool, width: int | None) -> list[str]:
    tools = view.composition.by_tool()
    if len(tools) < 2:
        return []
    total = view.composition.total or 1
    rows = [
        [f"{tokens:,}", f"{100 * tokens / total:.1f}%", str(results), show_text(name, _NAME)]
        for name, (tokens, results) in list(tools.items())[:6]
    ]
    columns = (Column("TOKENS", "right"), Column("SHARE", "right"), Column("RESULTS", "right"), Column("TOOL"))
    return [bold("Tool results", color), *_indented(format_table(columns, rows, width))]


def _states(view: ContextView, color: bool, width: int | None) -> list[str]:
    sums: dict[str, tuple[int, int]] = {}
    held = {id(block): tokens for block, tokens in view.composition.by_block()}
    for life in view.found.lives:
        tokens = held.get(id(life.block))
        if tokens is not None:
            used = round(tokens * life.part.share) if life.part is not None else 0
            state = "leaked" if life.fate in _FATES else life.state
            for name, part, count in ((state, tokens - used, 1), ("active", used, 0)):
                known = sums.get(name, (0, 0))
                sums[name] = known[0] + part, known[1] + count
    parts = [
        f"{name} {amounts.tokens(sums[name][0])} ({amounts.counted(sums[name][1], 'block')})"
        for name in ("active", "warm", "cold", "leaked")
        if name in sums and any(sums[name])
    ]
    return [bold("By use", color), *_wrapped("  " + ", ".join(parts), width, "  ")]


def _messages(view: ContextView, rows: int, color: bool, width: int | None) -> list[str]:
    blocks = sorted(view.composition.by_block(), key=lambda one: -one[1])[:rows]
    by_id = {id(life.block): life for life in view.found.lives}
    cells = []
    for block, tokens in blocks:
        life = by_id.get(id(block))
        cells.append(
            [
                show_text(block.key, 24),
                f"{tokens:,}",
                life.fate if life is not None and life.fate in _FATES else life.state if life is not None else "",
                f"{_what(block)}: {evidence(view, life)}" if life is not None else _what(block),
            ]
        )
    columns = (Column("BLOCK"), Column("TOKENS", "right"), Column("USE"), Column("WHAT", flexible=True, least=20))
    return [bold("Largest blocks", color), *_indented(format_table(columns, cells, _less(width)))]


def _dearest(view: ContextView, rows: int, color: bool, width: int | None) -> list[str]:
    lives = sorted(view.found.lives, key=lambda life: (-(life.charge.cost or 0), -life.charge.tokens))[:rows]
    if not lives or lives[0].charge.tokens <= 0:
        return []
    cells = [
        [
            show_text(life.block.key, 24),
            amounts.tokens(round(life.block.weight)),
            f"× {life.charge.sends:.0f}",
            amounts.tokens(round(life.charge.tokens)),
            money(life.charge.cost),
            _what(life.block),
        ]
        for life in lives
    ]
    columns = (
        Column("BLOCK"), Column("TOKENS", "right"), Column("CALLS", "right"), Column("SENT", "right"),
        Column("COST", "right"), Column("WHAT", flexible=True, least=16),
    )  # fmt: skip
    return [
        bold("Dearest blocks, over all calls that sent them", color),
        *_indented(format_table(columns, cells, _less(width))),
    ]


def _leaked(view: ContextView, rows: int, color: bool, width: int | None) -> list[str]:
    # What no later call sent cost nothing: it is listed with the others, by its temperature.
    lives = [life for life in view.found.lives if life.fate in _FATES and life.gone_at is not None]
    lives.sort(key=lambda life: (-life.wasted.tokens, -life.block.weight))
    if not lives:
        return []
    lines = [bold("Leaked", color)]
    for life in lives[:rows]:
        size = amounts.tokens(round(life.block.weight))
        head = f"{show_text(life.block.key)} {_what(life.block)}, {size} tokens: {red(life.fate or '', color)}"
        head += (
            f"; paid from {_call_name(view, life.gone_at)} on: {amounts.tokens(round(life.wasted.tokens))} tokens"
            f" ({money(life.wasted.cost)})"
        )
        lines += _wrapped("  " + head, width, "    ")
        lines += _wrapped("    " + evidence(view, life), width, "    ")
    if len(lives) > rows:
        lines.append(f"  … and {len(lives) - rows} more")
    return lines


def _breaks(view: ContextView, color: bool, width: int | None) -> list[str]:
    breaks = sorted((one for one in view.breaks if one.repaid >= 1), key=lambda one: -one.repaid)
    if not breaks:
        return []
    lines = [bold("The cached prefix broke", color)]
    for one in sorted(breaks[:_BREAKS_SHOWN], key=lambda one: one.call.position):
        lines += list(_break(one, width))
    if len(breaks) > _BREAKS_SHOWN:
        lines.append(f"  … and {len(breaks) - _BREAKS_SHOWN} more times")
    return lines


def _break(one: CacheBreak, width: int | None) -> Iterator[str]:
    where = one.block.key if one.block is not None else one.section
    paid = f"{amounts.tokens(round(one.repaid))} tokens paid again"
    if one.usd is not None:
        paid += f" ({money(one.usd)} more than from the cache)"
    if one.cached is not None:
        paid += f"; the provider read {one.cached:,} from its cache"
    yield from _wrapped(f"  at {one.call.name}, in {show_text(where)}: {paid}", width, "    ")
    if one.section != "model" and (one.before_text or one.after_text):
        yield f"    before: {show_text(one.before_text, 66)}"
        yield f"    after:  {show_text(one.after_text, 66)}"
    yield from _wrapped(f"    {show_text(one.cause)}", width, "    ")


def _advice(view: ContextView, color: bool, width: int | None) -> list[str]:
    if not view.advice:
        return []
    lines = [bold("What to do, and what it would have saved in this run", color)]
    for one in view.advice:
        bound = "up to " if one.is_bound else ""
        saved = f"{bound}{amounts.tokens(one.tokens)} tokens"
        if one.usd is not None and one.usd < 0:
            saved += f" less, but {money(-one.usd)} more to pay, as it breaks the provider's cache"
        elif one.usd:
            saved += f", {money(one.usd)}"
        lines += _wrapped(f"  • {show_text(one.text)} → {saved}", width, "    ")
    return lines


# --- words -----------------------------------------------------------------------------------------------------------


def evidence(view: ContextView, life: Life) -> str:
    """Why a block has the state it has."""
    if life.part is not None:
        lines = ", ".join(str(number) for number in life.part.lines[:3])
        more = f" and {len(life.part.lines) - 3} more" if len(life.part.lines) > 3 else ""
        plural, verb = ("line", "is") if len(life.part.lines) == 1 else ("lines", "are")
        quotes = ", ".join(f"`{show_text(quote, 40)}`" for quote in dict.fromkeys(life.part.quotes[:3]))
        return f"of {life.part.of:,} lines only {plural} {lines}{more} {verb} referred to, by {quotes}"
    if life.uses:
        last = life.uses[-1]
        where = _call_name(view, last.call) if last.call is not None else "an earlier output"
        used = f"last referred to in {where} by `{show_text(last.quote, 40)}`"
        return f"{show_text(life.reason)}; {used}" if life.leak is not None else used
    return show_text(life.reason)


def _call_name(view: ContextView, position: int | None) -> str:
    return view.run.calls[position].name if position is not None else "–"


def _call_number(view: ContextView, position: int | None) -> str:
    return _call_name(view, position).removeprefix("call ")


def money(usd: float | None) -> str:
    """US dollars; what rounds to nothing is said to be little, not nothing."""
    return "<$0.0001" if usd is not None and 0 < usd < 0.00005 else amounts.cost(usd)


def _what(block: Block) -> str:
    if block.is_tool_result:
        return f"result of {show_text(block.name, _NAME)}"
    if block.category == "tools":
        return "definition"
    if block.category == "system":
        return "system prompt"
    message = block.message
    if message is not None and message.tool_calls and not message.content.strip():
        return f"call of {show_text(message.tool_calls[0].name, _NAME)}"
    return block.category


def _less(width: int | None) -> int | None:
    return None if width is None else width - 2


def _indented(text: str) -> list[str]:
    return ["  " + line for line in text.splitlines()]


def _wrapped(text: str, width: int | None, indent: str = "") -> Sequence[str]:
    if width is None:
        return [text]
    return textwrap.wrap(
        text, max(width, 40), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [text]
