"""What no file says is unknown in every text: a run imported without times has none, and no number stands for them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from unspool.cli.causes import one_line

DATA = Path(__file__).parents[2] / "data" / "imports" / "trajectories"
MADE_UP = re.compile(r"\b\d+(\.\d+)?(µs|ms|s)\b")


@pytest.fixture
def imported(tmp_path, invoke, store) -> str:
    """A conversation of two agents, of which nobody wrote down when anything happened."""
    log = {
        "question": "how many?",
        "question_ID": "q",
        "mistake_agent": "Coder",
        "mistake_step": "1",
        "history": [
            {"role": "human", "content": "how many?"},
            *({"role": "user", "name": "Coder", "content": f"print({number})"} for number in range(40)),
            {"role": "Orchestrator (-> Coder)", "content": "done"},
        ],
    }
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    done = invoke("import", str(path))
    assert done.exit_code == 0, done.output
    return "1"


@pytest.mark.parametrize(
    "words",
    [
        ["blame"],
        ["blame", "--by", "time"],
        ["blame", "--by", "errors"],
        ["trace", "show"],
        ["trace", "show", "--critical"],
        ["show"],
        ["flame"],
    ],
)
def test_no_command_makes_up_a_time(invoke, imported, words):
    done = invoke(*words, imported)
    assert done.exit_code == 0, done.output
    assert not MADE_UP.search(done.stdout), done.stdout


def test_that_there_are_none_is_said(invoke, imported):
    assert "No times are known." in invoke("blame", imported).stdout
    shown = invoke("trace", "show", imported, "--critical").stdout
    assert "no times" in shown.splitlines()[0]
    assert "there is no critical path" in shown
    listed = invoke("trace", "ls").stdout.splitlines()
    assert listed[1].split()[2] == "?"


def test_two_runs_without_times_are_not_compared_by_them(invoke, store):
    done = invoke("import", str(DATA / "tau_bench_two_runs.json.gz"))
    assert done.exit_code == 0, done.output
    table = invoke("diff", "1", "2").stdout.splitlines()
    assert next(line.split() for line in table if line.startswith("Time")) == ["Time", "?", "?"]
    compared = invoke("blame", "1", "2").stdout
    assert not MADE_UP.search(compared)
    assert "The times of one of them are not known." in compared


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("429 Too Many Requests", "429 Too Many Requests"),
        ("=========== test session starts ===========\nplatform", "=== test session starts === platform"),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1\npkg.ValidationError: one field\n  gone\nSee x',
            "pkg.ValidationError: one field",
        ),
        ("", ""),
    ],
)
def test_an_error_on_one_line_keeps_what_tells(message, line):
    assert one_line(message) == line
