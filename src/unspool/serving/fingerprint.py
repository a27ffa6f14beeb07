"""When two requests are the same: byte for byte, or in all that matters.

The key of a request is its method and its path with the query, credentials left out; the host counts only for requests
that are no model calls, so that a recording can be served wherever the model was reached. The body counts as bytes, or
in its canonical form: JSON with sorted keys, a multipart form with its random boundary replaced.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final
from urllib.parse import urlsplit

__all__ = ["body_digest", "canonical_digest", "request_key"]

_REDACTED: Final = "=REDACTED"
_BOUNDARY_MAX: Final = 70  # RFC 2046 section 5.1.1


def request_key(method: str, url: str, *, is_model_call: bool) -> str:
    """What a request must have in common with a recorded one besides its body.

    Args:
        url: as it is recorded: the values of credentials are replaced already.
    """
    try:
        parts = urlsplit(url)
        host, path, query = parts.netloc.rpartition("@")[2].lower(), parts.path or "/", parts.query
    except ValueError:
        return f"{method.upper()} {url}"
    if query:
        # A credential may be given in one run and not in the other (a key in the query, a header instead).
        query = "&".join(pair for pair in query.split("&") if not pair.endswith(_REDACTED))
    where = path if is_model_call else f"{parts.scheme}://{host}{path}"
    return f"{method.upper()} {where}?{query}" if query else f"{method.upper()} {where}"


def body_digest(body: bytes) -> str | None:
    """The SHA-256 of a body as the recording has it; None for an empty one."""
    return hashlib.sha256(body).hexdigest() if body else None


def canonical_digest(body: bytes) -> str | None:
    """The SHA-256 of the canonical form of a body; None for an empty one."""
    return body_digest(_canonical(body))


def _canonical(body: bytes) -> bytes:
    start = body[:1]
    if start in (b"{", b"["):
        try:
            return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode("ascii")
        except (ValueError, RecursionError):
            return body
    if body.startswith(b"--"):
        boundary = body[2:].partition(b"\r\n")[0]
        if boundary and len(boundary) <= _BOUNDARY_MAX and body.rstrip().endswith(b"--" + boundary + b"--"):
            return body.replace(boundary, b"boundary")
    return body
