"""Blame of agents as they run: the demo, one that fails, one that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"

AGENT = """
import os, signal, subprocess, sys
import unspool

@unspool.tool
def search(query):
    return "nothing for " + query

@unspool.tool
def broken(query):
    raise LookupError("no index " + query)

@unspool.tool
def die():
    os.kill(os.getpid(), signal.SIGKILL)

for _ in range(4):
    search("trains")
with unspool.spawn("worker", intent="look deeper"):
    (die if sys.argv[1] == "die" else lambda: broken("planes"))()
"""


@pytest.fixture
def unspool(tmp_path):
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("UNSPOOL_RUN", "COLUMNS", "NO_COLOR")
    }
    environment = {**inherited, "UNSPOOL_STORE": str(tmp_path / "store"), "PYTHONPATH": str(SOURCE)}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "unspool", *args]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)

    return run


def test_the_demo_is_explained(unspool):
    """The slow tool, the result that is dear because it is sent again and again, and what failed on the way."""
    assert unspool("demo").returncode == 0
    found = json.loads(unspool("blame", "last", "--json").stdout)
    tools = [row for row in found["rollups"]["tool"] if row["kind"] == "tool"]
    assert tools[0]["name"] in ("track_parcel", "ask_investigator")
    assert next(one for one in found["rollups"]["call"] if one["kind"] == "tool")["name"] == "track_parcel"
    dearest = found["carried"]["entries"][0]
    assert (dearest["kind"], dearest["name"]) == ("tool", "payment_log")
    assert dearest["sends"] > 4
    assert dearest["carried_usd"] > 0.5 * found["summary"]["total_cost_usd"]
    assert found["carried"]["unread_tokens"] == 0
    reasons = [one["reason"] for one in found["retries"]]
    assert any("429" in reason for reason in reasons)
    assert any("no answer within 2 s" in reason for reason in reasons)
    assert any(segment["proven"] for segment in found["critical_segments"])
    text = unspool("blame", "last").stdout
    assert "Slow   tool track_parcel" in text
    assert "Dear   one result of payment_log" in text
    assert "exchange_rate: TimeoutError" in text


def test_a_failure_is_traced_to_its_origin(unspool, tmp_path):
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    assert unspool("run", "--", sys.executable, str(script), "fail").returncode == 1
    text = unspool("blame", "last").stdout
    assert "Wrong  tool broken: LookupError: no index planes" in text
    assert "made fail: look deeper → spawn worker" in text
    assert "search ×4 with the same arguments and results" in text


def test_a_killed_agent_shows_what_it_was_doing(unspool, tmp_path):
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    unspool("run", "--", sys.executable, str(script), "die")
    found = json.loads(unspool("blame", "last", "--json").stdout)
    assert [one["name"] for one in found["unfinished"]] == ["die"]
    assert "killed in tool die" in unspool("blame", "last").stdout
    assert "◌ die" in unspool("trace", "show", "last").stdout
