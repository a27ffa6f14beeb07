"""Looking for a text in everything a recording holds, without taking the recording apart.

The files are searched as they are: a text is there as JSON writes it, and inside a recorded body as JSON inside JSON.
Upper and lower case are alike for the letters of ASCII.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from unspool.text import show_text

__all__ = ["Needle"]

_FILES: Final = ("messages.jsonl", "events.jsonl")
_CHUNK: Final = 8 << 20
_AROUND: Final = 60  # bytes shown on each side of what was found


class Needle:
    """A text to look for in many recordings."""

    def __init__(self, text: str) -> None:
        forms: dict[bytes, None] = {}
        for ascii_only in (False, True):
            once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
            for inner in (once, json.dumps(once, ensure_ascii=False)[1:-1]):
                forms.setdefault(inner.encode("utf-8", "replace"))
        self._longest = max(map(len, forms))
        self._pattern = re.compile(b"|".join(re.escape(form) for form in forms), re.IGNORECASE)

    def find(self, folder: Path) -> str | None:
        """What stands around the first place in the recording's files; None if it is nowhere in them."""
        for name in _FILES:
            try:
                with open(folder / name, "rb") as file:
                    tail = b""
                    while chunk := file.read(_CHUNK):
                        block = tail + chunk
                        if match := self._pattern.search(block):
                            return _excerpt(block, match.start(), match.end())
                        tail = block[-(self._longest + _AROUND) :]
            except OSError:
                continue  # not there, or removed meanwhile
        return None


def _excerpt(block: bytes, start: int, end: int) -> str:
    first = block.rfind(b"\n", max(start - _AROUND, 0), start) + 1 or max(start - _AROUND, 0)
    last = block.find(b"\n", end, end + _AROUND)
    text = block[first : last if last >= 0 else end + _AROUND].decode("utf-8", "ignore")
    # Undo the escapes of JSON inside JSON, so that a person sees words and not backslashes.
    return show_text(re.sub(r"\\+n", " ", text).replace("\\", ""), 2 * _AROUND + 200)
