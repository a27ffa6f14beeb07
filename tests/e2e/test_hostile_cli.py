"""A hostile recording on the command line: no command passes on anything that acts on a terminal."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from capture_hostile import ACTING, NASTY_LINE, environment, record_hostile

from unspool.cli.main import cli
from unspool.recording.address import newest_first
from unspool.recording.reader import RecordReader
from unspool.store import Store

pytest.importorskip("urllib3")

_UNSPOOL = [sys.executable, "-m", "unspool"]
_REPLAY = (
    "next\nprint\ncontext\nnext-error\nprint\nfind W\nwhere\nlist\ninfo\ndiff call:1 call:2\nstep-next\nprint\nquit\n"
)

# Every command that prints something of a recording, or of several; `test_no_command_is_left_out` sees to it.
COMMANDS = [
    "ls", "ls --flat", "ls --json", "ls onmouseover",
    "ps -a", "ps -a --json",
    "show 1", "show 1@2", "show 1@call:1", "show 1@call:2", "show 1@call:3", "show 1@call:3 --json", "show 2",
    "show 1 --json",
    "strace 1 -f --no-follow", "strace 1 -f -v --no-follow", "strace 1 -c", "strace 1 --errors", "strace 1 --json",
    "replay 1 --line", "replay 1 --json",
    "log 1", "log 1 --json",
    "blame 1", "blame 1 --by time", "blame 1 --by tokens", "blame 1 --by cost", "blame 1 --by errors", "blame 1 2",
    "blame 1 --group tool", "blame 1 --json",
    "flame 1", "flame 1 --by tokens", "flame 1 --json",
    "ctx 1", "ctx 1@call:2 --all", "ctx 1 --leaked", "ctx 1 --without 3", "ctx 1 --json",
    "growth 1", "growth 1 --json",
    "trace ls", "trace ls --json", "trace show 1", "trace show 1 --json",
    "diff 1 2", "diff 1@call:1 1@call:2", "diff 1@call:1 1@call:2 --json", "diff 1 2 --json",
    "fork 1@call:2 --dry-run --append user:hello", "fork 1@call:1 --dry-run --append user:hello --json",
    "doctor -- {python} -c pass",
    "export 1 --format jsonl -o -", "export 1 --format otlp-json --messages -o -", "export 1 --format chrome -o -",
    "export 1 --format speedscope -o -", "export 1 --format html -o -",
    "gc --keep 0 --dry-run", "gc --keep 0 --dry-run --json", "rm 1 --json",
    "report 1 -o {target}", "bisect 1 --check true --yes",
]  # fmt: skip
_RECORDING = {"doctor"}  # these record a run of their own
# Nothing of a recording goes through these, or a test beside this one asks them.
_ELSEWHERE = {"rerun", "run", "top", "import", "serve", "web", "demo", "model-server", "completion"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return record_hostile(tmp_path_factory.mktemp("hostile"))


def test_no_command_is_left_out() -> None:
    asked = {command.split()[0] for command in COMMANDS}
    assert asked | _ELSEWHERE == set(cli.list_commands(None))  # type: ignore[arg-type]
    assert not asked & _ELSEWHERE


def test_all_of_it_was_recorded(hostile: Store) -> None:
    """Names with halves of surrogate pairs, and addresses inside of addresses, cost nothing of the recording."""
    root, child = sorted(newest_first(hostile), key=lambda one: one.pid)
    assert (root.lost_events, child.lost_events) == (0, 0)
    with RecordReader(hostile.records / child.record_id) as reader:
        assert sum(event.context is not None for event in reader.events()) == 2
    with RecordReader(hostile.records / root.record_id) as reader:
        asked = [event.syscall for event in reader.events() if event.syscall is not None]
    assert [one.syscall for one in asked].count("LLMCall") == 3
    [fetched] = [one for one in asked if one.syscall == "HTTP"]
    assert fetched.args["path"].startswith("/dev/net/127.0.0.1:")
    [exec_] = [one for one in asked if one.syscall == "Exec"]
    assert "\x1b[35;45;7m" in exec_.args["argv"][-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_nothing_that_acts(command: str, hostile: Store, tmp_path: Path) -> None:
    words = [word.format(python=sys.executable, target=tmp_path / "x.html") for word in command.split()]
    at = words.index("--") if "--" in words else len(words)
    # Tests come in any order: each sees the store as it was made.
    path = shutil.copytree(hostile.path, tmp_path / "store") if words[0] in _RECORDING else hostile.path
    done = subprocess.run(
        [*_UNSPOOL, *words[:at], "--store", path, *words[at:]],
        input=_REPLAY.encode(), capture_output=True, env=environment(), cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip
    for stream in (done.stdout, done.stderr):
        shown = stream.decode("utf-8")  # valid, too: a strict terminal shows all of it
        found = ACTING.search(shown)
        assert found is None, repr(shown[max(0, found.start() - 80) : found.end() + 20])
        assert "Traceback" not in shown
        assert "defect of unspool" not in shown, shown
    assert done.stdout or done.stderr
    if "--json" in words and done.returncode == 0:
        for line in done.stdout.splitlines():
            json.loads(line)


@pytest.mark.parametrize("command", ["ls", "show 1", "strace 1 --no-follow", "blame 1", "ctx 1", "log 1", "growth 1"])
def test_in_colour_the_only_sequences_are_ours(command: str, hostile: Store, tmp_path: Path) -> None:
    done = subprocess.run(
        [*_UNSPOOL, "--color", "always", *command.split(), "--store", hostile.path],
        capture_output=True, env=environment(), cwd=tmp_path, timeout=60, check=True,
    )  # fmt: skip
    shown = done.stdout.decode("utf-8")
    assert "\x1b[" in shown
    assert "\x1b[35;45;7m" not in shown
    ours = re.sub("\x1b\\[[0-9;]*m", "", shown)
    assert ACTING.search(ours) is None


def test_a_rerun_is_identical_and_its_report_harmless(hostile: Store, tmp_path: Path) -> None:
    """What the program itself prints passes unchanged, as in any run; with --json standard output is the report's."""
    copied = shutil.copytree(hostile.path, tmp_path / "store")
    done = subprocess.run(
        [*_UNSPOOL, "rerun", "1", "--json", "--store", copied],
        capture_output=True, env=environment(), stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    shown = done.stdout.decode("utf-8")
    assert ACTING.search(shown) is None
    report = json.loads(shown)
    assert (report["status"], report["exchanges"]) == ("identical", report["same_bytes"])
    assert report["exchanges"] >= 6


def test_the_exact_bytes_are_exact(hostile: Store) -> None:
    """`--raw` is the one way to the bytes as they were: somebody asked for them, into a file."""
    done = subprocess.run(
        [*_UNSPOOL, "show", "1@call:1", "--raw", "request", "--store", hostile.path], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["messages"][1]["role"] == NASTY_LINE
