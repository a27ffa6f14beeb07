"""`unspool ctx`."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import sys
from pathlib import Path

import pytest

from unspool.events import ContextSnapshotData, CtxMessage, LLMResponseData, RecordEvent, RecordEventType
from unspool.recording.recorder import Recorder

if "made_contexts" not in sys.modules:  # importable under pytest's importlib mode
    _spec = importlib.util.spec_from_file_location(
        "made_contexts", Path(__file__).parents[1] / "context" / "made_contexts.py"
    )
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["made_contexts"] = _module
    _spec.loader.exec_module(_module)

from cli_events import model_call
from made_contexts import Talk, tool


def text_of(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def log(lines: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return "\n".join(f"{n:04d} INFO charge ch_{rng.getrandbits(40):010x} captured" for n in range(lines))


@pytest.fixture
def leaky(store) -> str:
    """A run that reads a long log of which one line matters, and a profile nobody needs, under a clock."""
    text = log(300).replace("0123 INFO", "0123 WARN")
    charge = next(line.split()[3] for line in text.splitlines() if line.startswith("0123"))
    talk = Talk(store.records, store.next_pid())
    talk.tools = [tool("payments"), tool("profile"), tool("fly", "Flies somewhere. " * 60)]
    talk.user("Which charge is wrong?")
    for number in range(6):
        talk.system = f"You are an agent. It is 2026-05-01 10:2{number}:00. Be brief."
        if number == 0:
            talk.use("payments", text, say="I read the payments.")
        elif number == 1:
            talk.use("profile", "zebra quagga okapi " * 40, say=f"{charge} looks wrong.")
        else:
            talk.use("note", f"noted {number}", say=f"Thinking {number}.", given={"of": str(number)})
    talk.ask(f"The charge {charge} was made twice.").close()
    return charge


def test_the_report_says_what_fills_it_what_leaked_and_what_to_do(invoke, leaky, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = text_of(invoke("ctx", "1"))
    assert f"of 300 lines only line 124 is referred to, by `{leaky}`" in text.replace("\n    ", " ")
    assert "#5 result of profile" in text
    assert "a clock in the system prompt" in text
    assert re.search(r"before: .*2026-05-01 10:24:00", text)
    assert "truncate #3" in text
    assert "leave out a tool never called: fly" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_json_sums_to_the_providers_count(as_json, leaky):
    found = as_json("ctx", "1")
    assert sum(found["categories"].values()) + found["unseen"] == found["tokens"]
    held = [block["tokens"] for block in found["blocks"] if block["tokens"] is not None]
    assert sum(held) + found["unseen"] == found["tokens"]
    assert found["counted"] is True
    assert found["context_window"] == 400_000
    assert found["fit"]["error"] < 0.1
    log_block = next(block for block in found["blocks"] if block["tool"] == "payments" and block["category"] != "tools")
    assert log_block["fate"] == "mostly unused"
    assert log_block["used_part"]["lines"] == [124]
    assert log_block["uses"][-1]["quote"] == leaky
    assert log_block["paid"]["cost_usd"] > log_block["wasted"]["cost_usd"] > 0
    assert len(found["cache_breaks"]) == 5
    assert {one["kind"] for one in found["suggestions"]} >= {"truncate", "drop", "prefix", "tools"}


def test_a_point_and_the_lives_of_all_blocks(invoke, leaky):
    early = text_of(invoke("ctx", "1@call:2"))
    assert "call 2" in early
    assert "#5" not in early
    lives = text_of(invoke("ctx", "1", "--all"))
    assert sum(line.startswith("#") for line in lives.splitlines()) == 13
    assert "mostly unused" in lives


def test_without_what_leaked(invoke, as_json, leaky):
    found = as_json("ctx", "1", "--leaked")
    assert [one["block"] for one in found["dropped"]][:1] == ["#3"]
    assert found["saved_tokens"] == pytest.approx(sum(one["saved_tokens"] for one in found["dropped"]), abs=3)
    assert found["checks"] is None
    text = text_of(invoke("ctx", "1", "--leaked"))
    assert "all but 1 of 300 lines" in text
    assert "--verify asks it" in text


def test_without_named_blocks(invoke, as_json, leaky):
    found = as_json("ctx", "1", "--without", "#5", "--without", "tool:note")
    assert {one["block"] for one in found["dropped"]} == {"#5", "#7", "#9", "#11", "#13"}
    wrong = invoke("ctx", "1", "--without", "#77")
    assert wrong.exit_code == 2
    assert "no block of this conversation is '#77'" in wrong.stderr
    assert "#3, #5" in wrong.stderr


def test_verify_needs_blocks(invoke, leaky):
    result = invoke("ctx", "1", "--verify")
    assert result.exit_code == 2
    assert "--leaked or --without" in result.stderr


def test_nothing_leaked(invoke, store):
    Talk(store.records, store.next_pid()).user("Hi.").ask("Hello.").close()
    assert "Nothing leaked" in text_of(invoke("ctx", "1", "--leaked"))
    assert "Leaked" not in text_of(invoke("ctx", "1"))


def test_a_recording_without_calls_says_so(invoke, make):
    make()
    result = invoke("ctx", "1")
    assert result.exit_code == 1
    assert "no model call" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["ctx", "growth"])
def test_where_only_its_workers_called_models_they_are_named(invoke, make, command):
    root = make().record_id
    make(parent=root, role="worker")
    for _ in range(4):
        make(*model_call(1), parent=root, role="worker")
    result = invoke(command, "1")
    assert result.exit_code == 1
    named = ", ".join(f"unspool {command} {pid}" for pid in (3, 4, 5))
    assert f"Processes that it started have: {named} (and 1 more: unspool ls --flat)" in result.stderr
    assert invoke(command, "3").exit_code == 0
    assert "Processes" not in invoke(command, "2").stderr


def test_hostile_texts_do_not_reach_the_terminal(invoke, store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    recorder = Recorder(store.records, store.next_pid(), "by hand")
    evil = "\x1b[31mred\x1b]0;title\x07 src/\x1b[2J/evil.py:88 "
    messages = [
        CtxMessage("user", evil),
        CtxMessage("oracle\x1b[1m", evil * 50),
        CtxMessage("tool", evil * 200, tool_call_id="\x1b[5m", tool_name="na\x1b[31mme"),
        CtxMessage("assistant", f"see {evil}"),
        CtxMessage("user", "", parts=None),
    ]
    for number in range(1, len(messages) + 1):
        data = ContextSnapshotData(messages=messages[:number], model="mo\x1b[1mdel", system_prompt=evil)
        recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number, 1, context=data, call=number))
        llm = LLMResponseData("mo\x1b[1mdel", 900 * number, 5, text=evil)
        recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, number, 1, llm=llm, call=number))
    recorder.close()
    for options in ([], ["--all"], ["--leaked"], ["--without", "tool:na\x1b[31mme"]):
        result = invoke("ctx", "1", *options)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.stdout
        assert "\x07" not in result.stdout
    json.loads(invoke("ctx", "1", "--json").stdout)
    growth = invoke("growth", "1")
    assert growth.exit_code == 0
    assert "\x1b" not in growth.stdout


@pytest.mark.parametrize("counts", [[None, None, None], [5, 1_000_000, 2], [0, 0, 0]])
def test_counts_that_contradict_each_other_or_are_missing(invoke, store, counts):
    recorder = Recorder(store.records, store.next_pid(), "by hand")
    messages = [CtxMessage("user", "a question " * 50), CtxMessage("assistant", ""), CtxMessage("weird", "日本語 🎉")]
    for number, tokens in enumerate(counts, start=1):
        data = ContextSnapshotData(messages=messages[:number], model="m")
        recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number, 1, context=data, call=number))
        llm = LLMResponseData("m", tokens, tokens, cached_tokens=999, text="ok")
        recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, number, 1, llm=llm, call=number))
    recorder.close()
    for command in (["ctx", "1"], ["ctx", "1", "--all"], ["growth", "1"], ["growth", "1", "--budget", "10"]):
        result = invoke(*command)
        assert result.exit_code == 0, result.output


def test_what_the_provider_read_itself_is_a_line_of_its_own(invoke, store):
    talk = Talk(store.records, store.next_pid())
    talk.more = {"web_search_options": {}}
    talk.user("How high is it? " * 20).ask("I do not know.").user("Look it up.")
    talk.unseen = 12_000
    cited = [{"type": "url_citation", "url_citation": {"url": "https://x", "title": "X"}}]
    talk.send().answer("Britannica says 3,747 m.", marks=cited)
    talk.close()
    text = " ".join(text_of(invoke("ctx", "1")).split())
    added = re.search(
        r"Added by the provider: about (1[12],\d{3}) tokens that no request holds \(a search ran at the provider\)",
        text,
    )
    assert added is not None
    assert f"not in the request {added[1]}" in text
    found = json.loads(text_of(invoke("ctx", "1", "--json")))
    assert f"{found['unseen']:,}" == added[1]
    assert found["unseen_because"] == "a search ran at the provider"
    blamed = " ".join(text_of(invoke("blame", "1")).split())
    assert re.search(rf"{added[1]} ×2 not in the requests", blamed)


def by_hand(store) -> None:
    """A run whose messages are recorded and whose requests are not, as imports are."""
    recorder = Recorder(store.records, store.next_pid(), "imported")
    messages = [CtxMessage("user", "Find it."), CtxMessage("tool", "zebra quagga okapi " * 200, "c1", "profile")]
    for number in range(1, 8):
        data = ContextSnapshotData(messages=messages, model="gpt-5", provider="openai_chat")
        recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number, 1, context=data, call=number))
        llm = LLMResponseData("gpt-5", 700 + 10 * number, 5, text=f"Thinking {number}.")
        recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, number, 1, llm=llm, call=number))
        messages = [*messages, CtxMessage("assistant", f"Thinking {number}."), CtxMessage("user", f"Go on {number}.")]
    recorder.close()


def test_what_cannot_be_sent_again_is_said_once_and_makes_no_fork(invoke, as_json, store):
    by_hand(store)
    result = invoke("ctx", "1", "--leaked", "--verify")
    assert result.exit_code == 0, result.output
    assert " ".join(result.stdout.split()).count("is not recorded, only its messages") == 1
    [check] = as_json("ctx", "1", "--leaked", "--verify")["checks"]
    assert (check["proven"], check["forks"], check["outcomes"]) == (False, [], [])
    assert len(list(store.records.iterdir())) == 1
    refused = invoke("ctx", "1", "--leaked", "--verify", "--run")
    assert refused.exit_code == 2
    assert "Traceback" not in refused.stderr


def test_dropping_that_costs_more_than_it_saves_is_said_to(invoke, as_json, store):
    talk = (
        Talk(store.records, store.next_pid()).user("Find it.").use("profile", "zebra quagga okapi " * 30, say="First.")
    )
    for number in range(4):
        talk.use("search", f"finding{number} " * 400, say=f"I see finding{number}.", given={"of": str(number)})
    talk.ask("There is none.").close()
    text = " ".join(text_of(invoke("ctx", "1", "--without", "3")).split())
    assert "costs more than it saves, as it breaks the provider's cache" in text
    found = as_json("ctx", "1", "--without", "3")
    assert found["cache_refill_usd"] > found["saved_usd"]
    assert found["never_in_saved_tokens"] > found["saved_tokens"]
