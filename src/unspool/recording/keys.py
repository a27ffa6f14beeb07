"""Keys of pool entries: the beginning of the SHA-256 of their bytes, in base64url.

What an agent sends or gets has a key of 22 characters, so that nobody can make two texts that are taken for one
another. What only the recorder makes (heads, lists, templates) has one of 11, which guards against damage. A digest
stands in full (43 characters) where a body is verified; everything that reads events sees it as 64 hex characters.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode

__all__ = ["KEY_LENGTH", "OWN_LENGTH", "digest_of_hex", "key_of_hex", "own_key", "piece_key"]

KEY_LENGTH = 22
OWN_LENGTH = 11


def piece_key(data: bytes) -> str:
    """The key of an entry with these bytes."""
    return urlsafe_b64encode(hashlib.sha256(data).digest())[:KEY_LENGTH].decode("ascii")


def own_key(data: bytes) -> str:
    """The key of an entry with these bytes that the recorder made up."""
    return piece_key(data)[:OWN_LENGTH]


def digest_of_hex(digest: str) -> str:
    """A SHA-256 as it is written: 43 characters for 64 of hex.

    Raises:
        ValueError: it is no hex.
    """
    return urlsafe_b64encode(bytes.fromhex(digest))[:43].decode("ascii")


def key_of_hex(digest: str) -> str:
    """The key of the entry with this SHA-256; one that no entry has if it is no hex."""
    try:
        return digest_of_hex(digest)[:KEY_LENGTH]
    except ValueError:
        return ""
