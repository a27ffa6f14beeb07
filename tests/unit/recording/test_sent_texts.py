"""What calls sent whose input is one text, not a list of messages: every provider has such a form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unspool.context.reading import read_run
from unspool.events import (
    ContextSnapshotData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.providers import PROVIDERS
from unspool.recording.lines import encode_json
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.trace.carried import carried_cost
from unspool.trace.fitted import prompts_of
from unspool.trace.from_recording import recorded_trace
from unspool.trace.turns import turns_of

TEXT = "Tell me about the refund policy of the office shop. " * 100
RULES = "Be good and short."
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "responses, input": ("openai_responses", {"instructions": RULES, "input": TEXT}),
    "responses, list": ("openai_responses", {"instructions": RULES, "input": [{"role": "user", "content": TEXT}]}),
    "gemini, text": ("gemini", {"systemInstruction": RULES, "contents": TEXT}),
    "gemini, one content": ("gemini", {"contents": {"role": "user", "parts": [{"text": TEXT}]}}),
    "gemini, list": ("gemini", {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}),
    "anthropic": ("anthropic", {"system": RULES, "messages": [{"role": "user", "content": TEXT}]}),
    "chat": ("openai_chat", {"messages": [{"role": "system", "content": RULES}, {"role": "user", "content": TEXT}]}),
}


def recorded(folder: Path, provider: str, body: dict[str, Any], tokens: int = 1500) -> RecordReader:
    """One call with this body."""
    recorder = Recorder(folder, 1, "test")
    known = PROVIDERS[provider]
    request = HttpRequest(method="POST", url=f"http://model.example/v1{known.suffixes[0]}", headers=[])
    snapshot = RecordEvent(type=RecordEventType.CONTEXT_SNAPSHOT, seq_num=0, timestamp=1, pid=1, span_id="00000002")
    snapshot.context = ContextSnapshotData(provider=provider, model="m", request=request)
    written, _ = recorder.write_request(
        snapshot, encode_json({"model": "m", **body}), known.array_keys[0], known.system_keys
    )
    for kind, fields in (
        (RecordEventType.SYSCALL, {"syscall": SyscallEventData("LLMCall", {"path": "/dev/llm/x/m"}, "ok", "", 5)}),
        (RecordEventType.LLM_RESPONSE, {"llm": LLMResponseData("m", tokens, 10, response=HttpResponse(status=200))}),
    ):
        event = RecordEvent(type=kind, seq_num=0, timestamp=2, pid=1, call=written.call, span_id="00000002", **fields)
        recorder.write_event(event)
    recorder.close()
    return RecordReader(recorder.record_dir)


@pytest.mark.parametrize("form", FORMS)
def test_no_part_of_the_input_is_lost(tmp_path, form):
    trace = recorded_trace([recorded(tmp_path, *FORMS[form])])
    found = carried_cost(trace)
    assert found.unread_tokens == 0
    tokens = {entry.producer.name: entry.sent_tokens for entry in found.entries}
    assert sum(tokens.values()) == pytest.approx(1500)
    assert tokens["user messages"] > 800
    if RULES in str(FORMS[form][1]):
        assert 3 <= tokens["system prompt"] < 40
    assert [turn.text for _, turn in turns_of(trace) if turn.speaker == "user"] == [TEXT]


@pytest.mark.parametrize("form", FORMS)
def test_the_blame_and_the_profile_read_the_same(tmp_path, form):
    reader = recorded(tmp_path, *FORMS[form])
    [prompt] = prompts_of(recorded_trace([reader]).processes[0]).calls
    [call] = read_run(reader).calls
    assert sum(sum(one.weights) for one in prompt.sent.added) > 800
    assert (prompt.tokens, prompt.weight) == (call.tokens, call.weight)


def test_a_text_that_is_gone_is_input_that_cannot_be_read(tmp_path):
    reader = recorded(tmp_path, *FORMS["responses, input"])
    (reader.record_dir / "messages.jsonl").unlink()
    reader.close()
    found = carried_cost(recorded_trace([RecordReader(reader.record_dir)]))
    assert found.unread_tokens == found.input_tokens == 1500
    assert found.entries == []
