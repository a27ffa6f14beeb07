"""Tokenizers that are here are used, and nothing is fetched for one that is not."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from pathlib import Path

import pytest

from unspool.context import tokenizer


@pytest.fixture(autouse=True)
def _forget() -> None:
    tokenizer.counter_for.cache_clear()


def test_nothing_is_used_without_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert tokenizer.counter_for("gpt-4") is None
    assert tokenizer.counter_for("qwen/qwen3-8b") is None
    assert tokenizer.counter_for("../../etc/passwd") is None
    assert tokenizer.counter_for("") is None


@pytest.mark.skipif(importlib.util.find_spec("tiktoken") is None, reason="tiktoken is not installed")
def test_a_damaged_file_is_not_fetched_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    file = tmp_path / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    file.write_bytes(base64.b64encode(b"a") + b" 0\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert tokenizer.counter_for("gpt-4") is None
