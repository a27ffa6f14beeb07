"""Where the bodies and headers of one event go while it is written."""

from __future__ import annotations

import hashlib
import re

from unspool.events import Body
from unspool.recording.heads import HeadWriter
from unspool.recording.keys import key_of_hex
from unspool.recording.poolwriter import Item, PoolWriter
from unspool.recording.templates import Templates

__all__ = ["BodyStore"]

_NO_TEXT = re.compile(r"#.*|'(?:[\w.:-]{16,64})?|=(?:true|false|null|[0-9.eE+-]{1,32}|[\w-]{12,64})", re.ASCII)


class BodyStore:
    """What `Recorder.write_with_bodies` offers: `put` for bodies, `heads.store` for methods, URLs and headers."""

    def __init__(self, pool: PoolWriter, heads: HeadWriter, templates: Templates) -> None:
        self._pool = pool
        self._templates = templates
        self.heads = heads

    def put(self, data: bytes, *, is_json: bool = False, is_stream: bool = False, encoding: str | None = None) -> Body:
        """Store a body as one piece and give the reference to it.

        Args:
            is_json: it may be JSON, and then shares its long strings with messages and its envelope with other bodies.
            is_stream: it is a stream of events, which share envelopes.
            encoding: the content-encoding it travelled in.
        """
        digest = hashlib.sha256(data).hexdigest()
        own: list[Item] | None = None
        if data:
            key = key_of_hex(digest)
            is_json = is_json and data[:1] in (b"{", b"[")
            # A body that is one JSON string is stored like the strings in others: parts of a rope must be no ropes.
            is_stream = is_stream and data[:1] != b'"'
            rope = None
            if is_json and not self._pool.has(key):
                rope = self._templates.json_rope(data)
            elif is_stream and not self._pool.has(key):
                rope = self._templates.stream_rope(data)
            if rope is not None and is_json and not any(map(_has_text, rope)):
                own = list(rope)  # nothing anybody would look for in the pool
            elif rope is not None:
                self._pool.put_rope(key, rope)
            elif is_json:
                self._pool.put_json(data, cut="all", key=key)
            else:
                self._pool.put_bytes(data, key=key)
        return Body(size=len(data), sha256=digest, rope=own, encoding=encoding)


def _has_text(item: Item) -> bool:
    """Whether a template's values hold more than numbers, ids and references."""
    return isinstance(item, str) or any(type(value) is str and not _NO_TEXT.fullmatch(value) for value in item[1:])
