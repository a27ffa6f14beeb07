"""Tokenizers that are installed and whose data is on this machine already. Nothing is downloaded.

`tiktoken` for OpenAI's models, if the encoding's file is in its cache; `tokenizers` for open models, if Hugging Face's
cache holds the model's `tokenizer.json`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from unspool.tokens.text import Count

__all__ = ["counter_for"]

_URL: Final = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_FILES: Final = {"o200k_harmony": "o200k_base"}  # encodings whose file has another name
_LONGEST: Final = 1 << 16  # characters encoded at once: a run of one letter takes the square of its length


@functools.lru_cache(maxsize=64)
def counter_for(model: str) -> Count | None:
    """Counts a text as the model's tokenizer does; None if it is not here."""
    return _of_openai(model) or _of_hugging_face(model)


def _of_openai(model: str) -> Count | None:
    if not _cache_folder().is_dir() or find_spec("tiktoken") is None:
        return None  # asked first: the library takes long to import
    tiktoken: Any = import_module("tiktoken")
    try:
        name = tiktoken.encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:  # not one of theirs
        return None
    file = _cached_file(_URL.format(_FILES.get(name, name)))
    if file is None:
        return None
    loading: Any = import_module("tiktoken.load")
    read = loading.read_file
    loading.read_file = _refuse  # a damaged file would be fetched anew
    try:
        encoding = tiktoken.get_encoding(name)
    except (OSError, ValueError):
        return None
    finally:
        loading.read_file = read

    def count(text: str) -> int:
        pieces = (text[start : start + _LONGEST] for start in range(0, len(text), _LONGEST))
        return sum(len(encoding.encode_ordinary(piece)) for piece in pieces)

    return count


def _refuse(path: str) -> bytes:
    raise OSError(f"{path} is not on this machine, and nothing is downloaded")


def _cache_folder() -> Path:
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    return Path(folder or os.path.join(tempfile.gettempdir(), "data-gym-cache"))


def _cached_file(url: str) -> Path | None:
    """Where tiktoken keeps a file: under the SHA-1 of its URL (tiktoken/load.py, `read_file_cached`)."""
    file = _cache_folder() / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    return file if file.is_file() else None


def _of_hugging_face(model: str) -> Count | None:
    if "/" not in model or ".." in model or find_spec("tokenizers") is None:
        return None
    home = os.environ.get("HF_HUB_CACHE") or os.path.join(
        os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface"), "hub"
    )
    snapshots = Path(home) / f"models--{model.replace('/', '--')}" / "snapshots"
    try:
        files = sorted(snapshots.glob("*/tokenizer.json"))
    except (OSError, ValueError):  # a name that no folder can have
        return None
    if not files:
        return None
    tokenizers: Any = import_module("tokenizers")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(files[-1]))
    except Exception:  # noqa: BLE001 - the library raises bare exceptions for a file it cannot read
        return None
    # Half a surrogate pair is no text to it.
    return lambda text: len(tokenizer.encode(_whole(text), add_special_tokens=False).ids)


def _whole(text: str) -> str:
    """The text with a replacement character for what is no letter: halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()
