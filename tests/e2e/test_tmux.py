"""A real terminal: an agent runs in one, and `unspool strace` follows it from another."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unspool.demo.server import ModelServer

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux")

# Waits for a file between its calls, so that the test and not the clock decides how far it is.
AGENT = """
import os, pathlib, sys, time
import unspool
from openai import OpenAI

@unspool.tool
def look_up(word: str) -> str:
    return word.upper()

client = OpenAI()
gate = pathlib.Path(sys.argv[1])
for turn in range(3):
    client.chat.completions.create(model="echo", messages=[{"role": "user", "content": f"turn {turn}"}])
    print(f"agent: done with turn {turn}", flush=True)
    while not (gate / str(turn)).exists():
        time.sleep(0.005)
    look_up(f"word-{turn}")
"""


class Terminal:
    """A tmux server of its own, with one window per program."""

    def __init__(self, socket: Path, env: dict[str, str]) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self._env = env

    def run(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], env=self._env, capture_output=True, text=True, check=True)
        return done.stdout

    def open(self, name: str, command: str) -> None:
        started = subprocess.run([*self._tmux, "has-session"], env=self._env, capture_output=True).returncode == 0
        verb = ["new-window", "-d"] if started else ["new-session", "-d", "-x", "120", "-y", "40", "-s", "unspool"]
        self.run(*verb, "-n", name, "bash --norc --noprofile")
        self.type(name, command, "Enter")

    def type(self, name: str, *keys: str) -> None:
        self.run("send-keys", "-t", f"unspool:{name}", *keys)

    def screen(self, name: str) -> str:
        return self.run("capture-pane", "-p", "-J", "-t", f"unspool:{name}")

    def wait(self, name: str, shown: str | Callable[[str], bool], seconds: float = 30) -> str:
        """The screen once it shows what is waited for."""
        fits = shown if callable(shown) else lambda text: shown in text
        end = time.monotonic() + seconds
        while not fits(screen := self.screen(name)):
            assert time.monotonic() < end, f"{name} never showed it:\n{screen}"
            time.sleep(0.02)
        return screen


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("UNSPOOL_", "TMUX"))},
        "UNSPOOL_STORE": str(tmp_path / "store"),
        "OPENAI_API_KEY": "sk-none",
        "TERM": "xterm-256color",
    }
    # A socket's path is limited to about a hundred bytes, which pytest's folders can exceed.
    socket = Path(f"/tmp/unspool-{os.getpid()}-{time.monotonic_ns()}")
    found = Terminal(socket, env)
    with ModelServer() as server:
        env["OPENAI_BASE_URL"] = f"{server.url}/v1"
        try:
            yield found
        finally:
            subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True)


def test_strace_in_another_terminal_follows_a_running_agent(terminal: Terminal, tmp_path: Path) -> None:
    agent, gate = tmp_path / "agent.py", tmp_path / "gate"
    agent.write_text(AGENT)
    gate.mkdir()
    unspool = f"{shlex.quote(sys.executable)} -m unspool"
    terminal.open("agent", f"{unspool} run --name demo-agent -- {shlex.quote(sys.executable)} {agent} {gate}")
    terminal.wait("agent", "agent: done with turn 0")

    terminal.open("watch", f"clear; {unspool} strace last")
    first = terminal.wait("watch", "LLMCall(")
    assert "attached to PID 1 (state: running)" in first
    assert "word-0" not in first

    (gate / "0").touch()
    terminal.wait("watch", "look_up")
    terminal.wait("watch", lambda screen: screen.count("LLMCall(") == 2)
    assert "agent: done with turn 2" not in terminal.screen("agent")

    terminal.open("ps", f"clear; {unspool} ps")
    assert re.search(r"demo-agent", terminal.wait("ps", "demo-agent"))

    (gate / "1").touch()
    (gate / "2").touch()
    ended = terminal.wait("watch", "detached from PID 1")
    assert ended.count("LLMCall(") == 3
    assert ended.index("WORD-0") < ended.index("WORD-1") < ended.index("WORD-2")
    assert "3 model calls, 3 tool calls" in terminal.wait("agent", "Next: unspool replay 1")


def test_the_line_debugger_steps_forwards_and_backwards_at_a_prompt(terminal: Terminal, tmp_path: Path) -> None:
    agent, gate = tmp_path / "agent.py", tmp_path / "gate"
    agent.write_text(AGENT)
    gate.mkdir()
    for turn in range(3):
        (gate / str(turn)).touch()
    unspool = f"{shlex.quote(sys.executable)} -m unspool"
    terminal.open("agent", f"{unspool} run -- {shlex.quote(sys.executable)} {agent} {gate}")
    terminal.wait("agent", "Next: unspool replay 1")

    terminal.open("replay", f"clear; {unspool} replay --line last")
    terminal.wait("replay", "replay> ")
    terminal.type("replay", "goto call:2", "Enter")
    at_call = terminal.wait("replay", lambda screen: "msgs=" in screen)
    terminal.type("replay", "next", "Enter")
    terminal.wait("replay", lambda screen: screen.count("LLMCall") > at_call.count("LLMCall"))
    terminal.type("replay", "Enter")  # an empty line repeats the motion
    terminal.wait("replay", "llm: model=echo")
    terminal.type("replay", "prev", "Enter")
    terminal.type("replay", "context", "Enter")
    terminal.wait("replay", "turn 1")
    terminal.type("replay", "quit", "Enter")
    terminal.wait("replay", lambda screen: screen.rstrip().endswith(("$", "#")))
