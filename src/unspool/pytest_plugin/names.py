"""Where the cassette of a test is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from unspool.pytest_plugin.cassette import SUFFIX

__all__ = ["cassette_path"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")
_NAME_MAX = 100  # bytes; file systems take 255 with the suffix, people fewer


def cassette_path(test_file: Path, name: str, folder: str) -> Path:
    """`cassettes/<module>/<test>.unspool.json` beside the test's file.

    Args:
        name: of the test within its file, with its class and parameters: `TestAgent::test_it[a/b]`.
        folder: in place of `cassettes`.
    """
    readable = name.replace("::", ".")
    safe = _UNSAFE.sub("-", readable).strip("-")[:_NAME_MAX].strip(".")
    if safe != readable:
        # Two tests whose names differ in nothing but such characters have files of their own.
        safe += "-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return test_file.parent / folder / test_file.stem / (safe + SUFFIX)
