"""`unspool growth`, and the limits of `unspool run` as they are written on the command line."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from pathlib import Path

import click
import pytest

from unspool.cli.limit_options import TOKENS, limits_from
from unspool.cli.run import run

if "made_contexts" not in sys.modules:  # importable under pytest's importlib mode
    _spec = importlib.util.spec_from_file_location(
        "made_contexts", Path(__file__).parents[1] / "context" / "made_contexts.py"
    )
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["made_contexts"] = _module
    _spec.loader.exec_module(_module)

from made_contexts import Talk

LONG = " ".join(f"word{number}" for number in range(200))


def grown(store, steps: int, model: str = "gpt-5") -> Talk:
    talk = Talk(store.records, store.next_pid(), model=model).user("Find the bug.")
    for number in range(steps):
        talk.use("search", f"{LONG} {number}", say=f"Looking at {number}", given={"of": str(number)})
    return talk


def text_of(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_report(invoke, store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    grown(store, 8).close()
    text = text_of(invoke("growth", "1"))
    assert "of 400,000" in text
    assert "the model's context window" in text
    assert "Growth a step" in text
    assert "full after" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_long_run_shows_its_beginning_its_compactions_and_its_end(invoke, store):
    talk = grown(store, 20)
    talk.messages = [talk.messages[0], {"role": "user", "content": "Summary: nothing."}, *talk.messages[-2:]]
    for number in range(20):
        talk.use("search", f"{LONG} again {number}", say="more", given={"of": f"x{number}"})
    talk.close()
    text = text_of(invoke("growth", "1"))
    assert "1 compaction, at step 21" in text
    assert text.count("…") == 2
    assert len([line for line in text.splitlines() if "█" in line]) <= 14


def test_json(as_json, store):
    grown(store, 8).close()
    found = as_json("growth", "1", "--budget", "20k", "--max-steps", "100")
    prediction = found["prediction"]
    assert prediction["context_budget"] == 20_000
    assert prediction["est_low"] <= prediction["est_remaining"] <= prediction["est_high"]
    assert prediction["predict_exhaust"] is True
    assert [turn["step"] for turn in found["turns"]] == list(range(1, 9))
    assert found["context_window"] == 400_000


def test_an_unknown_window_gives_no_forecast_and_says_so(invoke, store):
    grown(store, 4, model="my-own-7b").close()
    text = text_of(invoke("growth", "1"))
    assert "the context window of this model is not known" in " ".join(text.split())
    assert "--budget" in text


def test_a_full_context_is_critical(invoke, store):
    grown(store, 8).close()
    text = text_of(invoke("growth", "1", "--budget", "4k"))
    assert "CRITICAL" in text


@pytest.mark.parametrize("budget", ["0", "-5", "ten", "1.2.3", "", "k"])
def test_a_budget_that_is_none(invoke, store, budget):
    grown(store, 2).close()
    result = invoke("growth", "1", "--budget", budget)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_follow_says_each_step_of_an_ended_run_once(invoke, store):
    grown(store, 5).close()
    lines = text_of(invoke("growth", "1", "--follow")).splitlines()
    assert [line.split()[1] for line in lines] == ["1", "2", "3", "4", "5"]
    documents = [json.loads(line) for line in text_of(invoke("growth", "1", "--follow", "--json")).splitlines()]
    assert [one["step"] for one in documents] == [1, 2, 3, 4, 5]


def test_follow_ends_with_the_run(invoke, store):
    talk = grown(store, 3)
    done: list[str] = []
    follower = threading.Thread(target=lambda: done.append(text_of(invoke("growth", "1", "--follow"))))
    follower.start()
    talk.use("search", LONG, say="one more")
    talk.close()
    follower.join(timeout=30)
    assert not follower.is_alive()
    assert [line.split()[1] for line in done[0].splitlines()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "tokens"), [("200k", 200_000), ("1.5M", 1_500_000), ("12_000", 12_000), ("1", 1), ("3 k", 3_000)]
)
def test_amounts_of_tokens(text, tokens):
    assert TOKENS.convert(text, None, None) == tokens


def parsed(*options: str):
    context = run.make_context("run", [*options, "--", "true"])
    names = ("budget", "warn", "on_critical", "max_cost", "max_steps", "max_time")
    return limits_from({name: context.params[name] for name in names})


def test_without_options_nothing_is_watched():
    assert parsed().is_empty


def test_limits_as_they_are_written():
    limits = parsed("--budget", "200k", "--warn", "70%", "--on-critical", "pause", "--max-time", "20m")
    assert (limits.budget, limits.warn, limits.on_critical, limits.max_time) == (200_000, 0.7, "pause", 1_200)
    assert parsed("--warn", "0.9").on_critical == "warn"
    assert parsed("--max-cost", "2.5").on_critical is None


@pytest.mark.parametrize(
    "options", [("--warn", "180%"), ("--warn", "much"), ("--max-time", "soon"), ("--max-steps", "0"), ("--budget", "0")]
)
def test_limits_that_are_none(options):
    with pytest.raises(click.UsageError):
        parsed(*options)
