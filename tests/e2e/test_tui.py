"""The full-screen views in a real terminal: tmux sends the keys and says what is on the screen."""

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
from unspool.recording.recorder import Recorder

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed: apt-get install tmux")

UNSPOOL = f"{shlex.quote(sys.executable)} -m unspool"

AGENT = """
import pathlib, sys, time
import unspool
from openai import OpenAI

@unspool.tool
def look_up(word: str) -> str:
    if word == "word-1":
        raise LookupError("no such word: \\x1b[2Jword-1")
    return word.upper()

client = OpenAI()
gate = pathlib.Path(sys.argv[1])
messages = [{"role": "system", "content": "be brief"}]
for turn in range(3):
    messages.append({"role": "user", "content": f"turn {turn}"})
    answer = client.chat.completions.create(model="echo", messages=messages)
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    try:
        look_up(f"word-{turn}")
    except LookupError:
        pass
    while not (gate / str(turn)).exists():
        time.sleep(0.005)
print("agent: end")
"""


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, socket: Path, env: dict[str, str]) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self._env = env

    def _run(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], env=self._env, capture_output=True, text=True, check=True).stdout

    def open(self, command: str, size: tuple[int, int]) -> None:
        """Run a command; the window ends with it."""
        columns, rows = map(str, size)
        shell = f"{command}; echo; echo ended with $?; exec cat"
        self._run("new-session", "-d", "-s", "unspool", "-x", columns, "-y", rows, shell)

    def type(self, *keys: str) -> None:
        self._run("send-keys", "-t", "unspool", *keys)

    def screen(self) -> str:
        return self._run("capture-pane", "-p", "-t", "unspool")

    def painted(self) -> str:
        """The screen with its colours."""
        return self._run("capture-pane", "-p", "-e", "-t", "unspool")

    def resize(self, size: tuple[int, int]) -> None:
        self._run("resize-window", "-t", "unspool", "-x", str(size[0]), "-y", str(size[1]))

    def wait(self, shown: str | Callable[[str], bool], seconds: float = 30) -> str:
        """The screen once it shows what is waited for."""
        fits = shown if callable(shown) else lambda text: shown in text
        end = time.monotonic() + seconds
        while not fits(screen := self.screen()):
            assert time.monotonic() < end, f"never shown: {shown}\n{screen}"
            time.sleep(0.02)
        return screen


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UNSPOOL_", "TMUX")) and name not in ("NO_COLOR", "COLUMNS", "LINES", "COLORFGBG")
    }
    kept |= {"UNSPOOL_STORE": str(tmp_path / "store"), "OPENAI_API_KEY": "sk-none", "TERM": "xterm-256color"}
    with ModelServer() as server:
        yield kept | {"OPENAI_BASE_URL": f"{server.url}/v1"}


@pytest.fixture
def terminal(env: dict[str, str]) -> Iterator[Terminal]:
    # A socket's path is limited to about a hundred bytes, which pytest's folders can exceed.
    socket = Path(f"/tmp/unspool-{os.getpid()}-{time.monotonic_ns()}")
    try:
        yield Terminal(socket, env)
    finally:
        subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True)


def agent_words(tmp_path: Path, gates: int) -> list[str]:
    agent, gate = tmp_path / "agent.py", tmp_path / "gate"
    agent.write_text(AGENT)
    gate.mkdir()
    for turn in range(gates):
        (gate / str(turn)).touch()
    return [sys.executable, "-m", "unspool", "run", "--name", "tui-agent", "--", sys.executable, str(agent), str(gate)]


@pytest.fixture
def recorded(tmp_path: Path, env: dict[str, str]) -> None:
    subprocess.run(agent_words(tmp_path, 3), env=env, check=True, capture_output=True)


def cursor_on(number: int) -> Callable[[str], bool]:
    return lambda screen: re.search(rf"^►.? +{number} ", screen, re.MULTILINE) is not None


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
def test_the_debugger_steps_searches_and_shows_each_pane(
    recorded: None, terminal: Terminal, size: tuple[int, int]
) -> None:
    terminal.open(f"{UNSPOOL} replay last", size)
    terminal.wait("[1 context]")
    terminal.type("s")
    terminal.wait(cursor_on(2))
    terminal.type("Down", "Down")
    terminal.wait(cursor_on(4))
    terminal.type("2")
    terminal.wait(lambda screen: "[2 exchange]" in screen and "answer #004" in screen)
    terminal.type("e")
    terminal.wait(lambda screen: re.search("^►.*✗tool", screen, re.MULTILINE) is not None)
    terminal.wait("\\x1b[2Jword-1")  # written out, not obeyed
    terminal.type("3")
    terminal.wait(lambda screen: "Context Diff" in screen and "(+2)" in screen)
    terminal.type("4")
    terminal.wait(lambda screen: "[4 tree]" in screen and "✗ look_up" in screen)
    terminal.type("5")
    terminal.wait(lambda screen: "[5 fill]" in screen and "context window unknown" in screen)
    terminal.type("/")
    terminal.type("-l", "WORD-2")
    terminal.type("Enter")
    terminal.wait(lambda screen: re.search("^►.*WORD-2", screen, re.MULTILINE) is not None)
    terminal.type("?")
    terminal.wait("next step: the next model call")
    terminal.type("q")
    terminal.type("q")
    terminal.wait("ended with 0")


def test_an_address_with_a_point_opens_there_and_the_window_may_change(recorded: None, terminal: Terminal) -> None:
    terminal.open(f"{UNSPOOL} replay last@call:2", (80, 24))
    terminal.wait(lambda screen: "new in this call" in screen and "step 2 call 2" in screen)
    terminal.resize((160, 48))
    terminal.wait(lambda screen: "│[1 context]" in screen)
    terminal.resize((60, 15))
    terminal.wait(lambda screen: "│[1 context]" not in screen and "[1 context]" in screen)


def test_without_colour_everything_is_still_said(recorded: None, terminal: Terminal) -> None:
    terminal.open(f"NO_COLOR=1 {UNSPOOL} replay last", (80, 24))
    terminal.wait("[1 context]")
    terminal.type("e")
    terminal.wait(lambda screen: re.search("^►.*✗tool", screen, re.MULTILINE) is not None)
    terminal.type("4", "T")
    terminal.wait("NO_COLOR is set")
    # Attributes such as reverse are no colours; 30 to 49 and 90 to 107 are.
    sent = [
        int(number)
        for codes in re.findall("\x1b\\[([0-9;]*)m", terminal.painted())
        for number in codes.split(";")
        if number
    ]
    assert not [number for number in sent if number in (*range(30, 39), *range(40, 49), *range(90, 108))]


def test_a_fork_is_edited_run_and_opened_beside_its_parent(recorded: None, terminal: Terminal) -> None:
    terminal.open(f"{UNSPOOL} replay last@call:2", (100, 30))
    terminal.wait("new in this call")
    terminal.type("f")
    terminal.wait("--run")
    terminal.type("-l", "replace Turn the other way.")
    terminal.type("Enter")
    terminal.wait(lambda screen: "--replace-last 'Turn the other way.' --run" in screen and "Changed:" in screen)
    terminal.type("C-g")  # the call alone
    terminal.wait("Press any key to go back.")
    terminal.type("Space")
    terminal.wait("--run")
    terminal.type("-l", "run")
    terminal.type("Enter")
    terminal.wait("would run for real: look_up")
    terminal.type("y", "Enter")
    terminal.wait(lambda screen: "Press any key to go back." in screen.partition("Next: unspool diff")[2])
    terminal.type("Space")
    terminal.wait("fork of 1-")
    terminal.wait(lambda screen: "[6 parent]" in screen and "here they part" in screen and "its parent 1-" in screen)
    terminal.type("Tab", "End", "Enter")  # the last step of the fork has a counterpart: the parent opens at it
    terminal.wait(lambda screen: "fork of" not in screen and "[1 context]" in screen)
    terminal.type("q")
    terminal.wait("fork of 1-")
    terminal.type("Tab", "/")
    terminal.type("-l", "Turn the other way")
    terminal.type("Enter")
    terminal.type("q")
    terminal.wait(lambda screen: "fork of" not in screen and "call 2" in screen)


def test_line_mode_is_there_on_request_and_without_textual(recorded: None, terminal: Terminal) -> None:
    without = "import sys; sys.modules['textual'] = None; from unspool.cli.main import main; main()"
    terminal.open(
        f"{UNSPOOL} replay --line last; {shlex.quote(sys.executable)} -c {shlex.quote(without)} replay last", (100, 30)
    )
    terminal.wait("replay>")
    terminal.type("quit", "Enter")
    terminal.wait(lambda screen: "pip install 'unspool[tui]'" in screen and screen.count("replay>") == 2)


def test_a_hundred_thousand_events_open_at_their_end(env: dict[str, str], terminal: Terminal) -> None:
    from unspool.events import RecordEvent, RecordEventType, SyscallEventData

    records = Path(env["UNSPOOL_STORE"]) / "records"
    with Recorder(records, 1, "many") as recorder:
        for number in range(100_000):
            args = {"path": "/dev/tool/search", "input": {"q": f"word-{number}"}}
            data = SyscallEventData("ToolCall", args, result="x", duration=1)
            recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, number * 1000, 1, syscall=data))
    terminal.open(f"{UNSPOOL} replay 1", (80, 24))
    terminal.wait(cursor_on(1))
    terminal.type("G")
    terminal.wait(cursor_on(100_000))
    terminal.type("PageUp", "PageUp", "k")
    terminal.wait(lambda screen: "►" in screen and not cursor_on(100_000)(screen))
    terminal.type(":")
    terminal.type("-l", "54321")
    terminal.type("Enter")
    terminal.wait(cursor_on(54_321))


def test_top_shows_a_running_agent_and_opens_it_while_it_runs(
    env: dict[str, str], terminal: Terminal, tmp_path: Path
) -> None:
    words = agent_words(tmp_path, 0)
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as agent:
        try:
            terminal.open(f"{UNSPOOL} top", (120, 24))
            terminal.wait(lambda screen: "1 running" in screen and "tui-agent" in screen)
            terminal.type("Enter")
            terminal.wait(lambda screen: "● recording" in screen and "following" in screen)
            (tmp_path / "gate" / "0").touch()
            terminal.wait(lambda screen: "step 2" in screen)
            for turn in (1, 2):
                (tmp_path / "gate" / str(turn)).touch()
            terminal.wait("completed")
            terminal.type("q")
            terminal.wait("0 running, 1 ended")
            terminal.type("q")
            terminal.wait("ended with 0")
        finally:
            agent.kill()
