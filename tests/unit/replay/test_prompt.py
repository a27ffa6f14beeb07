"""Where commands come from."""

from __future__ import annotations

import stat

import pytest

from unspool.replay import PipedInput, TerminalInput
from unspool.replay import prompt as prompt_module


def test_piped_lines_lose_their_newlines_and_end():
    source = PipedInput(iter(["next\n", "prev\r\n", ""]))
    assert [source.read_line("ignored") for _ in range(3)] == ["next", "prev", ""]
    with pytest.raises(EOFError):
        source.read_line("")


def test_a_terminal_is_asked_with_the_prompt(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "next")
    with TerminalInput() as source:
        assert source.read_line("replay> ") == "next"
    assert asked == ["replay> "]


@pytest.mark.skipif(prompt_module._readline is None, reason="this Python has no readline")
def test_the_history_survives_and_is_private(tmp_path):
    readline = prompt_module._readline
    history = tmp_path / "history"
    readline.clear_history()
    with TerminalInput(history):
        readline.add_history("find secret")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    readline.clear_history()
    with TerminalInput(history):
        assert readline.get_history_item(1) == "find secret"
    readline.clear_history()


def test_a_history_that_cannot_be_kept_costs_nothing_else(tmp_path):
    with TerminalInput(tmp_path / "no such folder" / "history"):
        pass
