"""How many tokens a document in a message takes: by its pages, or by the text that its base64 holds."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any, Final

from unspool.tokens.text import Count

__all__ = ["document_tokens"]

# Text and picture of a page. Anthropic: 1,500 to 3,000 a page ("PDF support", docs.claude.com), Gemini: 258 ("Document
# understanding", ai.google.dev), OpenAI: the text and an image of each page.
_PER_PAGE: Final = {"anthropic": 2_000, "gemini": 258, "openai": 1_200}
_PER_PAGE_ELSEWHERE: Final = 1_500
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_BASE64: Final = re.compile(r"(?:data:[\w.+/-]+;base64,)?([A-Za-z0-9+/_=\s-]+)\Z")
_LEAST: Final = 64  # characters; a shorter string is a name


def document_tokens(data: Any, count: Count, family: str) -> int:
    """Tokens of the documents that a provider's JSON holds in base64; 0 where it holds none that can be read."""
    pending, total, looked = [data], 0, 0
    while pending and looked < 100:
        looked += 1
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and len(value) >= _LEAST:
            total += _tokens(value, count, family)
    return total


def _tokens(text: str, count: Count, family: str) -> int:
    found = _BASE64.match(text)
    if found is None:
        return 0
    letters = found[1]
    try:
        raw = b64decode(letters, altchars=b"-_" if "-" in letters or "_" in letters else None)
    except ValueError:
        return 0
    if raw.startswith(b"%PDF"):
        # Pages in compressed object streams cannot be counted without taking the file apart: one at least.
        return max(len(_PAGE.findall(raw)), 1) * _PER_PAGE.get(family, _PER_PAGE_ELSEWHERE)
    try:
        return count(raw.decode())
    except UnicodeDecodeError:
        return 0
