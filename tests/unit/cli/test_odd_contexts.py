"""`unspool ctx` and `unspool growth` on contexts that are odd, empty, huge or wrong; the same ones as profiles."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unspool.context import ContextData, analyze_context, predict_growth
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    Part,
    RecordEvent,
    RecordEventType,
    TokenSnapshot,
    ToolCall,
)
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

from made_contexts import Talk

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 300}}
COMMANDS = (
    ["ctx", "1"],
    ["ctx", "1", "--all"],
    ["ctx", "1", "--leaked"],
    ["growth", "1"],
    ["growth", "1", "--budget", "1"],
    ["growth", "1", "--budget", "100k", "--max-steps", "3"],
)


def no_output_yet(talk: Talk) -> None:
    talk.user("Find the bug.").send()


def only_refused(talk: Talk) -> None:
    talk.user("Find the bug.").ask("", error="overloaded").ask("", error="overloaded")


def only_images(talk: Talk) -> None:
    for _ in range(3):
        talk.user([IMAGE, IMAGE]).ask("")


def empty_strings(talk: Talk) -> None:
    talk.system = ""
    for _ in range(5):
        talk.user("").use("", "", given="")
    talk.ask("")


def no_messages(talk: Talk) -> None:
    talk.system = None
    talk.ask("hello").messages.clear()
    talk.ask("hello")


def ten_megabytes(talk: Talk) -> None:
    talk.user("Read it.").use("read", "some words of it " * 600_000, say="I read.").ask("Done.")


def unknown_roles(talk: Talk) -> None:
    for role in ("critic", "Tool", "", "🤖", "a" * 300):
        talk.messages.append({"role": role, "content": "what I think of it: src/a.py:88"})
        talk.ask("It is src/a.py:88.")
    talk.messages += [{"content": "without a role"}, {"role": 7, "content": 9}, "no message", None, [1]]  # type: ignore[list-item]
    talk.ask("ok")


def other_scripts(talk: Talk) -> None:
    talk.system = "あなたは助手です。🧑‍🚀"
    talk.user("¿Qué dice el registro? ما الذي يقوله السجل؟ 👩‍👩‍👧‍👦")
    for text in (
        "日本語のログ行 48213",
        "سجل الأخطاء ١٢٣",
        "ошибка в файле",
        "👍🏽" * 200,
        "e\u0301" * 300,
        "\u202eabc\x1b[2J",
    ):
        talk.use("lesen", text * 20, say=text, given={"of": text})
    talk.ask("完了 ✅")


def shrinking(talk: Talk) -> None:
    for number in range(12):
        talk.use("read", f"line {number} " * 200, say="on", given={"of": str(number)})
    for _ in range(6):
        del talk.messages[:3]
        talk.ask("less", keep=False)


def single_step(talk: Talk) -> None:
    talk.user("One question.").ask("One answer.")


def not_counted(talk: Talk) -> None:
    talk.is_counted = False
    talk.user("Find it.")
    for number in range(4):
        talk.use("search", f"found {number} " * 50, say="hm")
    talk.ask()


RUNS: list[Callable[[Talk], None]] = [
    no_output_yet, only_refused, only_images, empty_strings, no_messages, ten_megabytes, unknown_roles, other_scripts,
    shrinking, single_step, not_counted,
]  # fmt: skip


@pytest.mark.parametrize("make", RUNS)
def test_every_view_of_an_odd_run(invoke, store, make, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    talk = Talk(store.records, store.next_pid())
    make(talk)
    talk.close()
    # Megabytes are looked at once each way.
    commands = (["ctx", "1", "--leaked"], ["growth", "1"]) if make is ten_megabytes else COMMANDS
    for command in commands:
        result = invoke(*command)
        assert result.exit_code == 0, (command, result.output)
        assert not any(ord(char) < 32 for char in result.stdout if char != "\n"), command
        if make is not ten_megabytes:
            json.loads(invoke(*command, "--json").stdout)
    document = json.loads(invoke("ctx", "1", "--json").stdout)
    parts = sum(document["categories"].values()) + document["unseen"]
    assert parts == document["tokens"] == sum(block["tokens"] or 0 for block in document["blocks"]) + document["unseen"]


@pytest.mark.parametrize("make", [no_output_yet, single_step])
def test_what_cannot_be_forecast_says_why(invoke, store, make):
    talk = Talk(store.records, store.next_pid())
    make(talk)
    talk.close()
    text = invoke("growth", "1", "--budget", "1M").stdout
    assert "Forecast" in text
    assert "none: " in text or "full after" in text or "does not fill up" in text


def test_counts_in_wrong_order(invoke, store):
    """Answers that come in another order than their calls, numbers that jump, and clocks that run backwards."""
    recorder = Recorder(store.records, store.next_pid(), "by hand")
    messages = [CtxMessage("user", "a question " * 50)]
    for number in (5, 2, 9):
        messages = [*messages, CtxMessage("assistant", f"answer {number}"), CtxMessage("user", "more " * 40)]
        data = ContextSnapshotData(messages=messages, model="gpt-5", provider="openai_chat")
        recorder.write_event(
            RecordEvent(
                RecordEventType.CONTEXT_SNAPSHOT, 0, 10**12 // number, 1, context=data, call=number, step=number
            )
        )
    for number, tokens in ((9, 300), (2, 200), (5, 100), (77, 1)):
        llm = LLMResponseData("gpt-5", tokens, 5, text="ok")
        recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, 10**9 * number, 1, llm=llm, call=number))
    recorder.close()
    for command in COMMANDS:
        result = invoke(*command)
        assert result.exit_code == 0, result.output


# --- the same as profiles and predictions ----------------------------------------------------------------------------

PROFILES: dict[str, list[CtxMessage]] = {
    "nothing": [],
    "no output yet": [CtxMessage("user", "a"), CtxMessage("tool", "b" * 500, "c1")],
    "only images": [CtxMessage("user", "", parts=[Part("image", data={"url": "data:..."})]) for _ in range(4)],
    "empty strings": [CtxMessage("", ""), CtxMessage("assistant", "", tool_calls=[ToolCall("", "", "")])] * 3,
    "ten megabytes": [
        CtxMessage("user", "go"),
        CtxMessage("tool", "x y " * 2_500_000, "c1"),
        CtxMessage("assistant", "ok"),
    ],
    "unknown roles": [CtxMessage(role, "text of it") for role in ("critic", "TOOL", "🤖", "\x1b[2J", "a" * 999)],
    "other scripts": [CtxMessage("user", text * 30) for text in ("漢字", "سجل", "ошибка", "👩‍👩‍👧‍👦", "e\u0301")],
    "results before their calls": [
        CtxMessage("tool", "early", "c1"),
        CtxMessage("assistant", "", tool_calls=[ToolCall("read", "{}", "c1")]),
        CtxMessage("tool", "late", "c1"),
    ],
}


@pytest.mark.parametrize(("used", "budget"), [(0, 0), (1, 0), (7, 1), (10**9, 10**9)])
@pytest.mark.parametrize("name", PROFILES)
def test_profiles_sum_whatever_they_hold(name: str, used: int, budget: int) -> None:
    found = analyze_context(ContextData("be brief" if used else "", PROFILES[name]), 1, 1, used, budget)
    buckets: Any = found.classification
    total = sum(getattr(buckets, one).tokens for one in ("active", "warm", "cold", "leaked"))
    assert total == found.total_tokens
    assert used in (0, found.total_tokens)
    json.loads(found.to_json())


@pytest.mark.parametrize(
    ("history", "compactions"),
    [
        ([], []),
        ([TokenSnapshot(1, 500)], []),
        ([TokenSnapshot(3, 900), TokenSnapshot(1, 300), TokenSnapshot(2, 600)], []),
        ([TokenSnapshot(1, 900), TokenSnapshot(2, 600), TokenSnapshot(3, 300)], [2, 3]),
        ([TokenSnapshot(1, 0), TokenSnapshot(2, 0)], []),
        ([TokenSnapshot(1, 500), TokenSnapshot(1, 100), TokenSnapshot(1, 700)], []),
    ],
)
@pytest.mark.parametrize("budget", [0, 1, 1_000])
def test_any_history_has_a_prediction(history: list[TokenSnapshot], compactions: list[int], budget: int) -> None:
    found = predict_growth(1, 700, budget, 3, 0, history)
    assert found.compactions == compactions
    assert 0 <= found.est_low <= found.est_remaining <= found.est_high
    assert [one.step for one in found.history] == sorted(one.step for one in history)
    if budget <= 700:
        assert (found.est_remaining, bool(found.note)) == (0, True)
