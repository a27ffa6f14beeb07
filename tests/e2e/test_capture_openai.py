"""The OpenAI SDK, unmodified, in a process of its own: what it did is what was recorded."""

from __future__ import annotations

import pytest
from capture_harness import Outcome, assert_same_bytes, assert_whole, observe

pytest.importorskip("openai")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return observe("openai_calls", tmp_path_factory.mktemp("openai") / "store")


def test_the_program_does_not_notice(outcome: Outcome) -> None:
    assert outcome.recorded.lines == outcome.plain.lines
    assert b"unspool" not in outcome.recorded.stderr
    assert outcome.plain.code == outcome.recorded.code == 0


def test_nothing_is_lost(outcome: Outcome) -> None:
    assert outcome.recording.metadata.lost_events == 0
    assert outcome.recording.metadata.status == "completed"
    assert_whole(outcome.recording.calls)
    assert len(outcome.recording.calls) == len(outcome.recording.snapshots())


def test_a_snapshot_is_on_disk_before_its_request_leaves(outcome: Outcome) -> None:
    assert outcome.snapshot_counts
    assert [requests for requests, snapshots in outcome.snapshot_counts if snapshots < requests] == []


def test_bodies_are_those_on_the_wire(outcome: Outcome) -> None:
    sent = [call for call in outcome.recording.calls if call.user_text != "refused"]
    assert_same_bytes([(call.request_body, call.response, call.response_body) for call in sent], outcome.wire)


@pytest.mark.parametrize(
    "scenario",
    ["plain", "raw_response", "raw_stream", "streamed", "streamed_with_helper", "zipped", "deflated_stream",
     "zipped_stream", "responses", "responses_streamed", "async_plain", "async_streamed"],
)  # fmt: skip
def test_the_answer_is_recorded_whole(outcome: Outcome, scenario: str) -> None:
    call = outcome.call(scenario)
    llm, syscall = call.answer.llm, call.syscall.syscall
    assert llm is not None
    assert syscall is not None
    assert (llm.partial, llm.error, syscall.err) == (None, None, "")
    assert llm.text is not None
    assert llm.text.startswith(f"echo: {scenario} [")
    assert llm.text in str(outcome.recorded.facts()[scenario]) or scenario.startswith("raw")
    assert llm.model is not None
    assert llm.model.startswith("echo")
    assert llm.finish_reason in ("stop", "completed")
    assert llm.request_id is not None
    assert llm.response_id is not None
    assert call.response is not None
    assert call.response.complete
    context = call.snapshot.context
    assert context is not None
    assert context.system_prompt == "be brief" or scenario == "responses_streamed"


@pytest.mark.parametrize("scenario", ["zipped", "zipped_stream", "deflated_stream"])
def test_the_encoding_of_the_wire_is_noted(outcome: Outcome, scenario: str) -> None:
    response = outcome.call(scenario).response
    assert response is not None
    assert response.body is not None
    assert response.body.encoding == ("deflate" if scenario.startswith("deflated") else "gzip")


def test_streams_keep_their_pieces(outcome: Outcome) -> None:
    call = outcome.call("streamed")
    assert call.response is not None
    assert call.response.chunks is not None
    assert sum(call.response.chunks[::2]) == len(call.response_body or b"")
    assert len(call.response.chunks) // 2 >= 3


def test_usage_is_the_providers_or_unknown(outcome: Outcome) -> None:
    def tokens(scenario: str) -> tuple[int | None, ...]:
        llm = outcome.call(scenario).answer.llm
        assert llm is not None
        return llm.request_tokens, llm.response_tokens, llm.cached_tokens, llm.reasoning_tokens

    facts = outcome.recorded.facts()
    known = tokens("plain")
    assert known[0] is not None
    assert known[1] is not None
    assert known[0] + known[1] == facts["plain"][1]  # type: ignore[index]
    assert tokens("streamed")[:2] != (None, None)
    assert tokens("streamed_without_usage") == (None, None, None, None)
    assert tokens("no_usage") == (None, None, None, None)
    assert tokens("cached_and_reasoning")[2] == facts["cached_and_reasoning"]
    assert tokens("cached_and_reasoning")[3]
    assert tokens("cut_stream")[:2] == (None, None)
    assert tokens("half_read")[:2] == (None, None)


@pytest.mark.parametrize("scenario", ["tool_calls", "tool_calls_streamed", "responses_tools"])
def test_tool_calls(outcome: Outcome, scenario: str) -> None:
    call = outcome.call(scenario)
    assert call.answer.llm is not None
    asked = [[one.name, one.arguments] for one in call.answer.llm.tool_calls or []]
    assert asked == outcome.recorded.facts()[scenario]
    assert call.snapshot.context is not None
    assert [tool.name for tool in call.snapshot.context.tools or []] == ["add"]


@pytest.mark.parametrize(
    ("scenario", "statuses"),
    [("retried", [429, 429, 200]), ("server_error", [500, 500]), ("async_retried", [500, 500, 200])],
)
def test_retries_are_calls_of_their_own_in_one_step(outcome: Outcome, scenario: str, statuses: list[int]) -> None:
    calls = outcome.calls(scenario)
    assert [call.response.status for call in calls if call.response is not None] == statuses
    assert [call.snapshot.context.retry for call in calls if call.snapshot.context] == [False] + [True] * (
        len(calls) - 1
    )
    assert len({call.snapshot.step for call in calls}) == 1
    numbers = [call.snapshot.call for call in calls]
    assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + len(calls)))
    for call, status in zip(calls, statuses, strict=True):
        assert call.syscall.syscall is not None
        assert call.syscall.syscall.err.startswith(f"{status} " if status != 200 else "")
        assert bool(call.syscall.syscall.err) == (status != 200)


@pytest.mark.parametrize(
    ("scenario", "status", "said"),
    [
        ("bad_request", 400, "400 "),
        ("html_page", 502, "502 "),
        ("responses_error", 400, "400 "),
        ("malformed", 200, ""),
        ("error_in_stream", 200, ""),
        ("timed_out", None, "ReadTimeout"),
        ("async_timed_out", None, "ReadTimeout"),
        ("refused", None, "ConnectError"),
        ("cut_body", 200, "RemoteProtocolError"),
        ("cut_stream", 200, "RemoteProtocolError"),
        ("async_cut_stream", 200, "RemoteProtocolError"),
        ("async_cancelled_waiting", None, "CancelledError"),
    ],
)
def test_failures_are_recorded_as_errors(outcome: Outcome, scenario: str, status: int | None, said: str) -> None:
    call = outcome.call(scenario)
    assert call.syscall.syscall is not None
    assert call.answer.llm is not None
    assert said in call.syscall.syscall.err
    assert call.answer.llm.error is not None
    assert call.syscall.syscall.err
    assert (call.response.status if call.response is not None else None) == status


@pytest.mark.parametrize(
    "scenario",
    ["malformed_stream", "half_read", "abandoned", "never_read", "async_half_read", "async_abandoned",
     "async_cancelled", "client_closed", "open_at_exit"],
)  # fmt: skip
def test_a_stream_left_half_way_is_recorded_as_far_as_it_came(outcome: Outcome, scenario: str) -> None:
    call = outcome.call(scenario)
    assert call.response is not None
    assert call.answer.llm is not None
    if scenario == "client_closed":
        return  # how far it comes is a matter of timing; the bytes are compared above
    assert not call.response.complete
    assert call.response.ended
    assert call.answer.llm.partial or call.answer.llm.error
    assert bool(call.response_body) == (scenario != "never_read")


def test_a_chain_kept_by_the_provider_is_marked(outcome: Outcome) -> None:
    first, second = outcome.calls("responses_chained")
    assert first.snapshot.context is not None
    assert second.snapshot.context is not None
    assert first.snapshot.context.partial is None
    assert second.snapshot.context.partial is not None


def test_model_calls_hide_their_own_sockets(outcome: Outcome) -> None:
    assert [event.syscall.args for event in outcome.recording.syscalls("Connect") if event.syscall] == []


def test_every_scenario_was_run(outcome: Outcome) -> None:
    assert {call.user_text.split()[0] for call in outcome.recording.calls} == set(outcome.plain.facts())
