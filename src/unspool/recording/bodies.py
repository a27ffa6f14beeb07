"""Where the bodies and headers of one event go while it is written."""

from __future__ import annotations

import hashlib

from unspool.events import Body
from unspool.recording.heads import HeadWriter
from unspool.recording.pool import KEY_LENGTH, PoolWriter

__all__ = ["BodyStore"]


class BodyStore:
    """What `Recorder.write_with_bodies` offers: `put` for bodies, `heads.store` for methods, URLs and headers."""

    def __init__(self, pool: PoolWriter, heads: HeadWriter) -> None:
        self._pool = pool
        self.heads = heads

    def put(self, data: bytes, *, is_json: bool = False, encoding: str | None = None) -> Body:
        """Store a body as one piece and give the reference to it.

        Args:
            is_json: it may be JSON, and then shares its long strings with messages.
            encoding: the content-encoding it travelled in.
        """
        digest = hashlib.sha256(data).hexdigest()
        key = digest[:KEY_LENGTH]
        if is_json and data[:1] in (b"{", b"["):
            self._pool.put_json(data, cut="all", key=key)
        elif data:
            self._pool.put_bytes(data, key=key)
        return Body(size=len(data), sha256=digest, encoding=encoding)
