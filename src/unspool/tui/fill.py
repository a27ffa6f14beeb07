"""The composition of a context: a strip whose parts are its blocks, and a line for each block."""

from __future__ import annotations

from typing import Final

from unspool.cli import amounts
from unspool.cli.table import clip
from unspool.context import BlockVerdict, CtxProfileResult
from unspool.events import Context
from unspool.text import show_text
from unspool.tui.details import Shown
from unspool.tui.pane import PaneLine

__all__ = ["Block", "bar", "fill_lines", "strip"]

# Without colour the character tells the state.
_LOOKS: Final = {
    "active": ("█", "\x1b[92m"),
    "warm": ("▓", "\x1b[93m"),
    "cold": ("▒", "\x1b[94m"),
    "leaked": ("x", "\x1b[91m"),
}
_RESET: Final = "\x1b[0m"


class Block(int):
    """A block of a context as a line's target: the place of its message, -1 for the system prompt."""


def fill_lines(found: tuple[CtxProfileResult, Context] | None, width: int) -> Shown:
    """The strip, the classes, and the blocks in the order of the context."""
    if found is None:
        return Shown([PaneLine("No model call was made at or before this event, so there is no context yet.")])
    result, context = found
    window = f" of {result.context_budget:,} ({bar(result.total_tokens, result.context_budget, 20)})"
    known = "" if result.tokens_used else " (estimate)"
    head = f"{result.total_tokens:,} tokens{known}{window if result.context_budget else ', context window unknown'}"
    lines = [PaneLine(f"\x1b[1m{head}{_RESET}"), PaneLine(strip(result.evidence, max(width - 1, 10))), PaneLine("")]
    for state, (mark, paint) in _LOOKS.items():
        bucket = getattr(result.classification, state)
        share = f"{bucket.tokens:>9,} tok {bucket.pct:5.1f}%  {amounts.counted(bucket.messages, 'block')}"
        lines.append(PaneLine(f"{paint}{mark * 2} {state:<7}{_RESET}{share}"))
    lines += [PaneLine(""), PaneLine(f"\x1b[1m  {'#':>4} {'tokens':>8}  block{_RESET}")]
    top = len(lines)
    largest = max((block.tokens for block in result.evidence), default=1) or 1
    for block in result.evidence:
        mark, paint = _LOOKS[block.state]
        number = "sys" if block.index is None else str(block.index + 1)
        size = f"{mark * max(1, round(8 * block.tokens / largest)):<8}"
        who = f"{_who(block, context)}: {show_text(block.reason, 120)}"
        text = f"{number:>5} {block.tokens:>8,}  {paint}{size}{_RESET} {who}"
        lines.append(PaneLine(text, Block(-1 if block.index is None else block.index)))
        preview = _preview(block, context)
        if preview:
            lines.append(PaneLine(f"\x1b[90m{'':>16}{clip(preview, max(width - 17, 10))}{_RESET}"))
    lines += [PaneLine(f"\x1b[33m• {show_text(one)}{_RESET}") for one in result.suggestions]
    return Shown(lines, 0 if top < 40 else top)


def strip(evidence: list[BlockVerdict], width: int) -> str:
    """The blocks side by side, each as wide as its share of the tokens."""
    total = sum(block.tokens for block in evidence) or 1
    out: list[str] = []
    seen = drawn = 0
    for block in evidence:
        seen += block.tokens
        end = round(seen * width / total)
        mark, paint = _LOOKS[block.state]
        if end > drawn:
            cells = mark * (end - drawn)
            # The seam between neighbours of one state.
            cells = cells[:-1] + "▏" if len(cells) > 2 and mark == "█" else cells
            out.append(f"{paint}{cells}{_RESET}")
            drawn = end
    return "".join(out)


def bar(part: float, whole: float, cells: int) -> str:
    """`████░░░░ 42%`; more than the whole is said, not drawn."""
    share = part / whole if whole > 0 else 0.0
    full = min(max(round(share * cells), 0), cells)
    return f"{'█' * full}{'░' * (cells - full)} {share * 100:.0f}%"


def _who(block: BlockVerdict, context: Context) -> str:
    if block.index is None:
        return "system prompt"
    message = context.messages[block.index]
    return show_text(f"{message.role} {message.tool_name}" if message.tool_name else message.role, 40)


def _preview(block: BlockVerdict, context: Context) -> str:
    if block.index is None:
        return show_text(context.system_prompt or "", 200)
    message = context.messages[block.index]
    calls = " ".join(f"→ {call.name}({call.arguments[:100]})" for call in message.tool_calls or ())
    return show_text(message.content[:200] or calls, 200)
