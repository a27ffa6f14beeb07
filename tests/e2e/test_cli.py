"""An agent from its start to its inspection, with nothing but the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"

AGENT = """
import subprocess, sys
import unspool

@unspool.tool
def search(query: str) -> list[str]:
    return [query.upper(), "two"]

@unspool.tool
def broken(query: str) -> str:
    raise LookupError(f"nothing about {query}")

print("first:", search("trains")[0], flush=True)
sys.stdin.readline()
try:
    broken("planes")
except LookupError as error:
    print("failed:", error, flush=True)
with unspool.spawn("helper", intent="look again"):
    search("inside")
subprocess.run([sys.executable, "-c", "import unspool; unspool.tool(print)('from a worker')"], check=True)
"""


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("UNSPOOL_RUN", "COLUMNS", "NO_COLOR")
    }
    return {**inherited, "UNSPOOL_STORE": str(tmp_path / "store"), "PYTHONPATH": str(SOURCE)}


@pytest.fixture
def unspool(environment):
    def run(*args: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "unspool", *args],
            input=input,
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )

    return run


@pytest.fixture
def script(tmp_path) -> str:
    path = tmp_path / "agent.py"
    path.write_text(AGENT)
    return str(path)


def start(*args: str, environment) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "unspool", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_record_list_watch_show_replay_and_remove(unspool, script):
    done = unspool("run", "--name", "trains", "--", sys.executable, script, input="go\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["first: TRAINS", "failed: nothing about planes", "from a worker"]
    assert done.stderr.startswith("unspool: recorded 1-")
    assert "0 model calls, 4 tool calls, 1 error, 3 processes" in done.stderr

    rows = json.loads(unspool("ls", "--json").stdout)
    assert [(row["pid"], row["parent_pid"], row["role"], len(row["workers"])) for row in rows] == [
        (2, 1, "agent", 0),
        (1, None, "agent", 1),
    ]
    assert rows[1]["intent"] == "trains"
    assert rows[1]["tools"] == 3
    table = unspool("ls").stdout.splitlines()
    assert table[2].startswith(rows[1]["record_id"])
    assert table[2].endswith("trains (+1 worker)")

    assert unspool("ps").stdout == ""
    assert [row["pid"] for row in json.loads(unspool("ps", "--all", "--json").stdout)] == [1, 2, 3]

    lines = unspool("strace", "1", "-e", "tool").stdout.splitlines()
    assert ["search" in lines[0], "broken" in lines[1], len(lines)] == [True, True, 2]
    followed = unspool("strace", "1", "-f", "-e", "tool").stdout.splitlines()
    assert [line[:9] for line in followed] == ["[pid   1]", "[pid   1]", "[pid   2]", "[pid   3]"]

    error = json.loads(unspool("strace", "1", "--errors", "-e", "tool", "--json").stdout)
    shown = unspool("show", f"1@{error['seq_num']}")
    assert "nothing about planes" in shown.stdout

    replayed = unspool("replay", "1", input="next-error\nwhere\n")
    assert replayed.returncode == 0
    assert f"(#{error['seq_num']:03d})" in replayed.stdout

    assert unspool("rm", "--yes", "1").returncode == 0
    assert json.loads(unspool("ls", "--json").stdout) == []


def test_watch_a_running_agent(environment, script, unspool):
    """Order only: what is recorded is seen before the agent goes on, and the watcher ends with the agent."""
    with start("run", "--", sys.executable, script, environment=environment) as agent:
        assert agent.stdout is not None
        assert agent.stdin is not None
        assert agent.stdout.readline() == "first: TRAINS\n"
        (row,) = json.loads(unspool("ps", "--json").stdout)
        assert (row["pid"], row["state"]) == (1, "running")
        assert unspool("rm", "--yes", "1").returncode == 1
        with start("strace", "1", "-f", environment=environment) as watcher:
            assert watcher.stdout is not None
            assert watcher.stderr is not None
            assert watcher.stderr.readline() == "[strace] attached to PID 1 (state: running)\n"
            assert "state: created → running" in watcher.stdout.readline()
            assert "/dev/tool/search" in watcher.stdout.readline()
            agent.stdin.write("go\n")
            agent.stdin.flush()
            assert "/dev/tool/broken" in watcher.stdout.readline()
            rest, said = watcher.stdout.read(), watcher.stderr.read()
            assert watcher.wait(timeout=60) == 0
        assert "[pid   2]" in rest
        assert "[pid   3]" in rest
        assert said.count("attached to PID") == 2
        assert said.count("detached from PID") == 3
        assert agent.stderr is not None
        assert "unspool: recorded 1-" in agent.stderr.read()


def test_the_program_and_the_module_are_the_same_command(environment, unspool):
    program = Path(sys.executable).with_name("unspool")
    if not program.exists():
        pytest.skip("unspool is not installed in this environment")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout == unspool("--help").stdout
