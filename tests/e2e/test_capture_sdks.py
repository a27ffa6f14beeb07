"""The Anthropic and Google SDKs, unmodified, in processes of their own: what they did is what was recorded."""

from __future__ import annotations

import json

import pytest
from capture_harness import Outcome, assert_same_bytes, assert_whole, observe


@pytest.fixture(scope="module")
def anthropic(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    pytest.importorskip("anthropic")
    return observe("anthropic_calls", tmp_path_factory.mktemp("anthropic") / "store")


@pytest.fixture(scope="module")
def gemini(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    pytest.importorskip("google.genai")
    return observe("gemini_calls", tmp_path_factory.mktemp("gemini") / "store")


@pytest.fixture(params=["anthropic", "gemini"])
def outcome(request: pytest.FixtureRequest) -> Outcome:
    found: Outcome = request.getfixturevalue(request.param)
    return found


def test_the_program_does_not_notice(outcome: Outcome) -> None:
    assert outcome.recorded.lines == outcome.plain.lines
    assert outcome.recorded.code == outcome.plain.code == 0
    assert b"unspool" not in outcome.recorded.stderr


def test_everything_is_recorded_before_it_leaves_and_byte_for_byte(outcome: Outcome) -> None:
    assert outcome.recording.metadata.lost_events == 0
    assert_whole(outcome.recording.calls)
    assert len(outcome.recording.calls) == len(outcome.recording.snapshots())
    assert [requests for requests, snapshots in outcome.snapshot_counts if snapshots < requests] == []
    sent = [call for call in outcome.recording.calls if call.user_text != "refused"]
    assert_same_bytes([(call.request_body, call.response, call.response_body) for call in sent], outcome.wire)
    assert {call.user_text.split()[0] for call in outcome.recording.calls} == set(outcome.plain.facts())
    assert outcome.recording.syscalls("Connect") == []


def check_answer(outcome: Outcome, scenario: str, provider: str) -> None:
    call = outcome.call(scenario)
    llm, context = call.answer.llm, call.snapshot.context
    assert llm is not None
    assert context is not None
    assert (llm.partial, llm.error, llm.text) == (None, None, llm.text)
    assert (llm.text or "").startswith(f"echo: {scenario} [")
    assert (llm.text or "") in json.dumps(outcome.recorded.facts()[scenario])
    assert (context.provider, context.system_prompt) == (provider, "be brief")
    assert llm.request_tokens is not None
    assert llm.response_tokens is not None
    assert call.response is not None
    assert call.response.complete


@pytest.mark.parametrize(
    "scenario",
    ["plain", "streamed", "streamed_with_helper", "thinking_and_cache", "zipped", "zipped_stream", "async_plain",
     "async_streamed"],
)  # fmt: skip
def test_anthropic_answers(anthropic: Outcome, scenario: str) -> None:
    check_answer(anthropic, scenario, "anthropic")
    llm = anthropic.call(scenario).answer.llm
    assert llm is not None
    assert llm.finish_reason is not None
    assert llm.request_id is not None


def test_anthropic_usage(anthropic: Outcome) -> None:
    facts = anthropic.recorded.facts()
    plain, cached = anthropic.call("plain").answer.llm, anthropic.call("thinking_and_cache").answer.llm
    assert plain is not None
    assert cached is not None
    assert [plain.request_tokens, plain.response_tokens] == facts["plain"][1:]  # type: ignore[index]
    assert cached.cached_tokens == facts["thinking_and_cache"][1]  # type: ignore[index]
    assert cached.reasoning


@pytest.mark.parametrize("scenario", ["tool_calls", "tool_calls_streamed"])
def test_anthropic_tool_calls(anthropic: Outcome, scenario: str) -> None:
    llm = anthropic.call(scenario).answer.llm
    assert llm is not None
    asked = [[call.name, json.loads(call.arguments)] for call in llm.tool_calls or []]
    assert asked == anthropic.recorded.facts()[scenario]


@pytest.mark.parametrize(("scenario", "statuses"), [("retried", [529, 529, 200]), ("server_error", [500, 500])])
def test_anthropic_retries(anthropic: Outcome, scenario: str, statuses: list[int]) -> None:
    calls = anthropic.calls(scenario)
    assert [call.response.status for call in calls if call.response is not None] == statuses
    assert [call.snapshot.context.retry for call in calls if call.snapshot.context] == [False] + [True] * (
        len(calls) - 1
    )
    assert len({call.snapshot.step for call in calls}) == 1


@pytest.mark.parametrize(
    ("scenario", "said"),
    [("bad_request", "400 "), ("timed_out", "ReadTimeout"), ("malformed", ""), ("refused", "ConnectError"),
     ("cut_stream", "RemoteProtocolError"), ("error_in_stream", "")],
)  # fmt: skip
def test_anthropic_failures(anthropic: Outcome, scenario: str, said: str) -> None:
    call = anthropic.call(scenario)
    assert call.syscall.syscall is not None
    assert call.answer.llm is not None
    assert said in call.syscall.syscall.err
    assert call.syscall.syscall.err
    assert call.answer.llm.error is not None


@pytest.mark.parametrize("scenario", ["half_read", "abandoned", "async_cancelled", "open_at_exit"])
def test_anthropic_streams_left_half_way(anthropic: Outcome, scenario: str) -> None:
    call = anthropic.call(scenario)
    assert call.response is not None
    assert call.answer.llm is not None
    assert not call.response.complete
    assert call.response_body
    assert call.answer.llm.partial or call.answer.llm.error


@pytest.mark.parametrize("scenario", ["plain", "streamed", "zipped_stream", "async_plain", "async_streamed"])
def test_gemini_answers(gemini: Outcome, scenario: str) -> None:
    check_answer(gemini, scenario, "gemini")


def test_gemini_tools_errors_and_a_stream_left_half_way(gemini: Outcome) -> None:
    called = gemini.call("tool_calls").answer.llm
    assert called is not None
    asked = [[call.name, json.loads(call.arguments)] for call in called.tool_calls or []]
    assert asked == gemini.recorded.facts()["tool_calls"]
    for scenario, status in (("bad_request", "400 "), ("server_error", "500 "), ("malformed", "")):
        syscall = gemini.calls(scenario)[0].syscall.syscall
        assert syscall is not None
        assert syscall.err
        assert syscall.err.startswith(status)
    half = gemini.call("half_read")
    assert half.response is not None
    assert not half.response.complete
    assert half.response_body
