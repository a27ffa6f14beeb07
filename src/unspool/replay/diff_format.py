"""A context diff as text and as JSON. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unspool.replay.alignment import EditedMessage
from unspool.replay.diff import ContextDiff, TokenDelta
from unspool.replay.prefix import PrefixBreak
from unspool.replay.settings import ValueChange
from unspool.replay.words import WordChange
from unspool.text import VALUE_LIMIT, cut, display_value, dump_json, escape_controls, show_text

__all__ = ["diff_document", "format_context_diff", "format_context_diff_json"]

_RULE = "─" * 37
_MESSAGE_LIMIT = 200  # code points of a message on its line; the JSON form has it whole
_CONTEXT_LIMIT = 24  # code points of unchanged text shown on each side of a changed word
_WORDS_LIMIT = 400  # code points after which no more changed words are shown
_RED, _GREEN, _YELLOW, _CYAN, _RESET = "\x1b[91m", "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[0m"


def format_context_diff(diff: ContextDiff, color: bool = False) -> str:
    """What changed, for people: `+` added, `-` removed, `~` edited with its words, `>` moved. Ends with a newline.

    Changed words are marked as `git diff --word-diff` does, `[-old-]` and `{+new+}`. Texts are on one line each, cut,
    and nothing in them acts on a terminal.
    """
    times = f"{_seconds(diff.from_timestamp)} → {_seconds(diff.to_timestamp)}"
    lines = [f"Context Diff: #{diff.from_seq_num:03d} → #{diff.to_seq_num:03d} ({times})", _RULE, *_remarks(diff)]
    if diff.is_empty:
        lines.append("No changes detected.")
    else:
        lines += [*_prompt(diff, color), *_messages(diff, color), *_tools(diff, color), *_params(diff, color)]
        if diff.prefix_break is not None:
            lines.append(_prefix(diff.prefix_break))
        lines.append(_tokens(diff.token_delta, diff.token_estimate))
    return "\n".join(lines) + "\n"


def format_context_diff_json(diff: ContextDiff, color: bool = False) -> str:
    """The diff as one line of JSON: timestamps in truncated milliseconds, with the exact nanoseconds beside them.

    Args:
        color: JSON has none; taken because every `format_*` takes it.
    """
    return dump_json(diff_document(diff))


def diff_document(diff: ContextDiff) -> dict[str, Any]:
    """What `format_context_diff_json` writes, as data."""
    document: dict[str, Any] = {}
    for name in diff.__struct_fields__:
        value = getattr(diff, name)
        if name in ("from_timestamp", "to_timestamp"):
            document[f"{name}_ms"], document[f"{name}_ns"] = int(value / 1_000_000), value
        else:
            document[name] = value
    return document


def _seconds(timestamp_ns: int) -> str:
    return f"+{timestamp_ns / 1e9:.1f}s"


def _remarks(diff: ContextDiff) -> Iterator[str]:
    sides = ((diff.requested_from, diff.from_seq_num), (diff.requested_to, diff.to_seq_num))
    for requested, used in sides:
        if requested is not None and requested != used:
            yield f"Asked for #{requested:03d}; the context in force there is of #{used:03d}"
    for note in diff.notes:
        yield f"Note: {show_text(note)}"


def _prompt(diff: ContextDiff, color: bool) -> Iterator[str]:
    prompt = diff.system_prompt
    old, new = (escape_controls(text) or "none" for text in (prompt.from_hash, prompt.to_hash))
    if not prompt.changed:
        yield f"System Prompt: unchanged (hash={new})"
        return
    yield f"System Prompt: changed ({old} → {new})"
    if diff.prompt_words:
        yield _painted("  ~ ", _YELLOW, color) + _words(diff.prompt_words, color)


def _messages(diff: ContextDiff, color: bool) -> Iterator[str]:
    messages = diff.messages
    delta = messages.to_count - messages.from_count
    yield f"Messages: {messages.from_count} → {messages.to_count} ({delta:+d})"
    yield from (_painted(f"  + {show_text(text, _MESSAGE_LIMIT)}", _GREEN, color) for text in messages.added)
    yield from (_painted(f"  - {show_text(text, _MESSAGE_LIMIT)}", _RED, color) for text in messages.removed)
    yield from (_edited(message, color) for message in messages.edited)
    for moved in messages.moved:
        places = f"(message {moved.from_index + 1} → {moved.to_index + 1})"
        yield _painted(f"  > {show_text(moved.text, _MESSAGE_LIMIT)} {places}", _CYAN, color)


def _edited(message: EditedMessage, color: bool) -> str:
    line = _painted("  ~ ", _YELLOW, color) + _words(message.words, color)
    # What the text does not show must still be named: the id a tool result answers to, an image.
    hidden = [name for name in message.fields if name != "content"]
    return f"{line} ({', '.join(hidden)} changed)" if hidden else line


def _words(words: list[WordChange], color: bool) -> str:
    pieces: list[str] = []
    shown = 0
    for number, word in enumerate(words):
        if shown > _WORDS_LIMIT:
            pieces.append("...")
            break
        text = show_text(word.text, _MESSAGE_LIMIT) if word.op != "equal" else _context(words, number)
        shown += len(text)
        if word.op == "removed":
            text = _painted(f"[-{text}-]", _RED, color)
        elif word.op == "added":
            text = _painted(f"{{+{text}+}}", _GREEN, color)
        pieces.append(text)
    return "".join(pieces)


def _context(words: list[WordChange], number: int) -> str:
    """Unchanged words, without what is far from every change; the beginning of a message says whose it is."""
    text = words[number].text
    first, last = number == 0, number == len(words) - 1
    head = _CONTEXT_LIMIT if not (first and last) else _MESSAGE_LIMIT
    tail = 0 if last else _CONTEXT_LIMIT
    if len(text) <= head + tail + 3:
        return escape_controls(text)
    return f"{escape_controls(text[:head])}...{escape_controls(text[len(text) - tail :])}"


def _tools(diff: ContextDiff, color: bool) -> Iterator[str]:
    tools = diff.tools
    if not (tools.added or tools.removed or tools.changed or tools.reordered):
        return
    yield f"Tools: {tools.from_count} → {tools.to_count} ({tools.to_count - tools.from_count:+d})"
    yield from (_painted(f"  + {show_text(name)}", _GREEN, color) for name in tools.added)
    yield from (_painted(f"  - {show_text(name)}", _RED, color) for name in tools.removed)
    for tool in tools.changed:
        changes = ", ".join(_value(change) for change in tool.changes)
        yield _painted(f"  ~ {show_text(tool.name)}: {cut(changes, _WORDS_LIMIT)}", _YELLOW, color)
    if tools.reordered:
        yield _painted("  > in another order", _CYAN, color)


def _params(diff: ContextDiff, color: bool) -> Iterator[str]:
    if diff.params:
        yield "Parameters:"
    marks = {"added": ("+", _GREEN), "removed": ("-", _RED), "changed": ("~", _YELLOW)}
    for change in diff.params:
        mark, paint = marks[change.change]
        yield _painted(f"  {mark} {_value(change)}", paint, color)


def _value(change: ValueChange) -> str:
    old, new = display_value(change.before, VALUE_LIMIT), display_value(change.after, VALUE_LIMIT)
    path = show_text(change.path)
    if change.change == "changed":
        return f"{path} {old} → {new}"
    return f"{path} {new}" if change.change == "added" else f"{path} {old} removed"


def _prefix(found: PrefixBreak) -> str:
    index = found.from_index if found.to_index is None else found.to_index
    number = (index or 0) + 1
    where = {
        "model": "another model",
        "tools": f"tool {number}",
        "system": f"the system prompt, character {found.offset + 1}",
        "messages": f"message {number}, character {found.offset + 1}",
    }[found.section]
    return (
        f"Prefix: broken at {where}; paid again ~{found.repaid_tokens} tokens "
        f"of ~{found.uncached_tokens} behind it (estimate)"
    )


def _tokens(known: TokenDelta, estimate: TokenDelta | None) -> str:
    if known.delta is not None:
        return f"Tokens: {known.from_tokens} → {known.to_tokens} ({known.delta:+d})"
    old, new = ("?" if count is None else str(count) for count in (known.from_tokens, known.to_tokens))
    line = f"Tokens: {old} → {new} (unknown)"
    if estimate is not None and estimate.delta is not None:
        line += f", estimate ~{estimate.from_tokens} → ~{estimate.to_tokens} ({estimate.delta:+d})"
    return line


def _painted(text: str, paint: str, color: bool) -> str:
    return f"{paint}{text}{_RESET}" if color else text
