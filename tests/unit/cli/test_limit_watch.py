"""The watch over the limits of a run: what it cannot count is said and left out; when it fails nobody waits for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli_events import model_call
from msgspec import structs

from unspool.capture import gate as asking
from unspool.capture.gate import Asked
from unspool.capture.guard import guard
from unspool.cli import limit_ledger
from unspool.cli.gate import Gate
from unspool.cli.launch import Launch
from unspool.cli.limit_ledger import Ledger
from unspool.cli.limit_options import Limits
from unspool.cli.limits import LimitWatch
from unspool.cli.prices import prices_for
from unspool.demo.server import ModelServer

# Damages its own recording after the second call, as a person or another program may.
AGENT = """
import glob, sys
import httpx

url, line = sys.argv[1:3]
with httpx.Client(trust_env=False, timeout=60) as client:
    for turn in range(5):
        body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"turn {turn}"}]}
        assert client.post(url + "/v1/chat/completions", json=body).status_code == 200
        print("answered", flush=True)
        if turn == 1:
            [events] = glob.glob(sys.argv[3] + "/records/*/events.jsonl")
            with open(events, "a") as file:
                file.write(line + chr(10))
"""
DAMAGE = (
    '{"type":"llm_response","seq_num":99,"timestamp":%s,"pid":1,"call":2,'
    '"llm":{"model":"gpt-4.1-mini","request_tokens":%s,"response_tokens":5}}'
)


@pytest.fixture
def launch(store) -> Launch:
    """A command that can be started, whose recordings are made by hand."""
    return Launch([sys.executable, "-c", "import time; time.sleep(600)"], store=store, name=None, audit=())


def ledger_of(launch: Launch, **limits) -> Ledger:
    return Ledger(launch, Limits(**limits), prices_for(launch.store))


# --- what cannot be counted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--max-cost", "3"], DAMAGE % ("9" * 29, 5)),
        (["--max-cost", "3", "--on-critical", "warn"], DAMAGE % (9, "1" + "0" * 400)),
    ],
)
def test_an_event_that_no_clock_or_context_has_ends_no_limits(unspool, tmp_path, store, options, line):
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    with ModelServer() as server:
        program = [sys.executable, str(script), server.url, line, str(store.path)]
        done = unspool("run", "--budget", "1000", *options, "--", *program)
    assert (done.returncode, done.stdout.count("answered")) == (0, 5), done.stderr
    assert "Traceback" not in done.stderr
    assert "timed out" not in done.stderr  # no call waited for a watch that was gone
    assert done.stderr.count("not all of 1-") <= 1
    with ModelServer() as server:
        program = [sys.executable, str(script), server.url, line, str(tmp_path / "again")]
        done = unspool("run", "--max-steps", "3", *options, "--store", tmp_path / "again", "--", *program)
    assert (done.returncode, done.stdout.count("answered")) == (143, 3), done.stderr
    assert "--max-steps is 3" in done.stderr


def test_money_is_counted_at_a_time_that_no_calendar_has(launch, make, capsys):
    events = model_call(1)
    dear = [*events[:2], structs.replace(events[2], timestamp=10**28)]
    for run in (events, dear):
        make(*run, trace_id=launch.trace_id)
    ledger = ledger_of(launch, max_cost=1.0)
    assert len(ledger.look()) == 2
    each = ledger_of(launch, max_cost=1.0)._prices.cost("openai", "gpt-4.1-mini", input_tokens=1000, output_tokens=100)
    assert ledger.cost == pytest.approx(2 * each)
    assert capsys.readouterr().err == ""
    ledger.close()


def test_a_fault_in_one_event_is_said_once_and_the_others_count(launch, make, capsys, monkeypatch):
    def fault(_prices, path, data, _at):
        if data.request_tokens == 1:
            raise ZeroDivisionError(f"no price for \x1b[31m{path}")
        return 0.5

    monkeypatch.setattr(limit_ledger, "answer_cost", fault)
    bad = [*model_call(1, read=1), *model_call(2, read=1), *model_call(3)]
    name = make(*bad, trace_id=launch.trace_id).record_id
    make(*model_call(1), trace_id=launch.trace_id)
    ledger = ledger_of(launch, max_cost=1.0)
    for _ in range(3):
        ledger.look()
    assert (ledger.steps, ledger.cost, len(ledger.answered)) == (4, 1.0, 4)
    said = capsys.readouterr().err
    assert said == (
        f"unspool: not all of {name} counts for the limits of this run: "
        "ZeroDivisionError: no price for \\x1b[31m/dev/llm/openai/gpt-4.1-mini\n"
    )
    ledger.close()


def test_a_store_that_cannot_be_listed_is_said_once_and_looked_at_again(launch, make, capsys, monkeypatch):
    make(*model_call(1), trace_id=launch.trace_id)
    ledger = ledger_of(launch, max_steps=5)
    ledger.look()
    with monkeypatch.context() as patched:
        patched.setattr(launch, "records", lambda: int("nobody thought of it"))
        assert len(ledger.look()) == len(ledger.look()) == 1
    make(*model_call(1), trace_id=launch.trace_id)
    assert (len(ledger.look()), ledger.steps) == (2, 2)
    assert capsys.readouterr().err.count("counts for the limits") == 1
    ledger.close()


# --- a watch that fails ----------------------------------------------------------------------------------------------


class Failing(LimitWatch):
    """One that meets what nobody thought of, from its first look on; nothing is asked before that."""

    def _look(self):
        raise RuntimeError("nobody\nthought of it")


SAID = "unspool: the limits of this run cannot be watched any more: RuntimeError: nobody\\nthought of it. "


def test_where_the_watch_has_failed_calls_leave_at_once(launch, capsys):
    faults = guard.faults
    with Gate() as gate:
        with Failing(launch, Limits(max_steps=5), gate=gate) as watch:
            for call in range(1, 4):
                assert asking.ask(gate.address, Asked("1-x", call)) is None
            watch._thread.join(60)
            assert not Path(gate.address).exists()
    assert guard.faults == faults  # a call that had waited in vain would have said so
    assert capsys.readouterr().err == SAID + "Nothing limits this run from here on.\n"


def test_a_watch_that_fails_without_a_gate_says_so(launch, capsys):
    with Failing(launch, Limits(max_time=600.0)) as watch:
        watch._thread.join(60)
    assert capsys.readouterr().err == SAID + "Nothing limits this run from here on.\n"


def test_where_a_limit_had_been_reached_a_watch_that_fails_ends_the_command_and_lets_nothing_leave(launch, capsys):
    launch.start()
    assert launch.process is not None
    try:
        with Gate() as gate:
            watch = Failing(launch, Limits(max_steps=5), gate=gate)
            watch._is_over = True
            with watch:
                for call in (6, 7):
                    held = asking.ask(gate.address, Asked("1-x", call))
                    assert held is not None
                    asking.noted(held)
                    held.close()
                assert launch.process.wait(60) == -15
    finally:
        if launch.process.poll() is None:
            launch.process.kill()
            launch.process.wait()
    assert capsys.readouterr().err == SAID + "It was over its limit and is ended.\n"
