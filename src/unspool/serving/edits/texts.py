"""The text within a message's content: a string, or a list of typed parts of which some are text."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from unspool.providers.wire import as_list, as_object, as_text, first_of

__all__ = ["plain_text", "with_text"]


def plain_text(content: Any) -> str:
    """The texts of a content, a line each."""
    if isinstance(content, str):
        return content
    values = [content] if isinstance(content, dict) else as_list(content)
    texts = (as_text(value) or as_text(first_of(as_object(value), "text", "refusal")) for value in values)
    return "\n".join(text for text in texts if text)


def with_text(content: Any, text: str, kinds: Collection[str], kind: str, *, at: int = 0) -> Any:
    """`content` with another text: the first text part says it, other text parts go, all other parts stay.

    Args:
        kinds: the types of text parts.
        kind: the type of a part that is made because there was none.
        at: where that is put.
    """
    if not isinstance(content, list):
        return text
    parts: list[Any] = []
    said = False
    for value in content:
        if isinstance(value, str) or as_object(value).get("type") in kinds:
            if not said:
                parts.append(text if isinstance(value, str) else {**value, "text": text})
            said = True
        elif as_object(value).get("type") != "refusal":
            parts.append(value)
    if not said:
        parts.insert(at, {"type": kind, "text": text})
    return parts
