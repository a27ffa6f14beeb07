"""How many tokens an image takes, by its size.

Anthropic: width × height / 750, at most about 1,600 ("Vision", docs.claude.com). OpenAI: 85, and 170 for each tile of
512 × 512 ("Images and vision", platform.openai.com). Gemini: 258, larger ones for each tile of 768 × 768 ("Understand
and count tokens", ai.google.dev).
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any, Final

from unspool.events import Part

__all__ = ["image_tokens"]

_UNKNOWN: Final = {"openai": 765, "gemini": 258}  # a middling one of 1,024 × 1,024
_UNKNOWN_ELSEWHERE: Final = 1_000
_PIXELS_PER_TOKEN: Final = 750
_LEAST, _MOST = 85, 1_600
_IMAGE_HEAD: Final = 4 * 16_384  # characters of base64 within which a JPEG says its size
_BASE64: Final = re.compile(r"(?:data:image/[\w.+-]+;base64,)?([A-Za-z0-9+/_-]{40,})")


def image_tokens(part: Part, family: str = "") -> int:
    """By its size where the image is in the message, else what a middling one takes.

    Args:
        family: `openai`, `gemini` or `anthropic`, whose rules are known; others count as Anthropic does.
    """
    size = _image_size(part.data)
    if size is None:
        return _UNKNOWN.get(family, _UNKNOWN_ELSEWHERE)
    width, height = max(size[0], 1), max(size[1], 1)
    if family == "openai":
        if isinstance(part.data, dict) and '"detail":"low"' in str(part.data).replace(" ", "").replace("'", '"'):
            return 85
        shrunk = min(2_048 / max(width, height), 768 / min(width, height), 1.0)
        return 85 + 170 * -(-int(width * shrunk) // 512) * -(-int(height * shrunk) // 512)
    if family == "gemini":
        return 258 if max(width, height) <= 384 else 258 * -(-width // 768) * -(-height // 768)
    return min(max(-(-width * height // _PIXELS_PER_TOKEN), _LEAST), _MOST)


def _image_size(data: Any) -> tuple[int, int] | None:
    """Width and height of an image in a provider's JSON; None where it is not there, or in no known form."""
    pending, looked = [data], 0
    while pending and looked < 100:
        looked += 1
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and (found := _BASE64.match(value, 0, _IMAGE_HEAD + 100)):
            text = found[1][:_IMAGE_HEAD]
            try:
                raw = b64decode(text[: len(text) // 4 * 4], altchars=b"-_" if "-" in text or "_" in text else None)
            except ValueError:
                continue
            if size := _size_in_head(raw):
                return size
    return None


def _size_in_head(raw: bytes) -> tuple[int, int] | None:
    if raw.startswith(b"\x89PNG") and raw[12:16] == b"IHDR":
        return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")
    if raw.startswith(b"GIF8"):
        return int.from_bytes(raw[6:8], "little"), int.from_bytes(raw[8:10], "little")
    if not raw.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(raw) and raw[at] == 0xFF:  # the segments of a JPEG, up to the one that begins the frame
        if 0xC0 <= raw[at + 1] <= 0xCF and raw[at + 1] not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(raw[at + 7 : at + 9], "big"), int.from_bytes(raw[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None
