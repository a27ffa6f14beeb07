"""The contexts of a run as blocks: each message once, in the conversation it belongs to."""

from __future__ import annotations

from pathlib import Path

from made_contexts import Talk, tool

from unspool.context.composition import compose
from unspool.context.reading import read_run
from unspool.events import ContextSnapshotData, CtxMessage, LLMResponseData, Part, RecordEvent, RecordEventType
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder

LONG = " ".join(f"word{number}" for number in range(200))


def worked(talk: Talk, steps: int = 4) -> Talk:
    talk.user("Find the bug.")
    for number in range(steps):
        talk.use("search", f"{LONG} {number}", say=f"Looking at {number}", given={"of": str(number)})
    return talk.ask("Found it.")


def test_a_message_is_one_block_however_often_it_is_sent(tmp_path: Path) -> None:
    run = read_run(worked(Talk(tmp_path)).close())
    assert [len(call.messages) for call in run.calls] == [2, 4, 6, 8, 10]
    assert len(run.blocks) == 10
    assert run.conversations == [[0, 1, 2, 3, 4]]
    last = run.calls[-1]
    assert [block.number for block in last.messages] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert all(block.last == 4 for block in last.messages)


def test_results_are_named_by_their_calls_and_answers_by_the_call_that_gave_them(tmp_path: Path) -> None:
    run = read_run(worked(Talk(tmp_path)).close())
    results = [block for block in run.blocks if block.is_tool_result]
    assert {block.name for block in results} == {"search"}
    answers = [block for block in run.blocks if block.category == "assistant"]
    assert [block.said_by for block in answers] == [0, 1, 2, 3]


def test_parts_sum_to_the_providers_count(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    talk.tools = [tool("search"), tool("write")]
    run = read_run(worked(talk).close())
    for call in run.calls:
        found = compose(call)
        assert sum(share.tokens for share in found.shares) + found.unseen == call.tokens == found.total
        assert call.is_counted
        assert sum(found.by_category().values()) == found.total - found.unseen


def test_the_split_is_near_the_truth_the_provider_knows(tmp_path: Path) -> None:
    run = read_run(worked(Talk(tmp_path), 8).close())
    assert run.calibration.error is not None
    assert run.calibration.error < 0.02
    assert sum(compose(run.calls[-1]).by_category()[kind] for kind in ("tool results",)) > 0.8 * run.calls[-1].tokens


def test_a_call_without_a_count_gets_one_from_the_others(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    for number in range(4):
        talk.is_counted = number != 2
        talk.use("search", f"{LONG} {number}", say="next", given={"of": str(number)})
    run = read_run(talk.ask().close())
    middle = (run.calls[1].tokens + run.calls[3].tokens) / 2
    assert not run.calls[2].is_counted
    assert abs(run.calls[2].tokens - middle) < 0.05 * middle


def test_an_edited_history_goes_on_in_its_conversation(tmp_path: Path) -> None:
    talk = worked(Talk(tmp_path), 3)
    talk.messages[2] = {**talk.messages[2], "content": "[cleared]"}
    run = read_run(talk.user("And now?").ask().close())
    assert run.conversations == [[0, 1, 2, 3, 4]]
    assert run.rewritten == [4]
    # Only the cleared message, the last answer and the question are new.
    assert [block.text for block in run.blocks if block.first == 4] == ["[cleared]", "Found it.", "And now?"]


def test_a_summary_in_place_of_the_history_is_a_compaction(tmp_path: Path) -> None:
    talk = worked(Talk(tmp_path), 3)
    summary = f"So far: {LONG}"
    talk.user("Sum up.").ask(summary)
    talk.messages = []
    run = read_run(talk.user(f"This goes on from an earlier conversation. {summary}").ask().close())
    assert run.conversations == [[0, 1, 2, 3, 4, 5]]
    assert run.rewritten == [5]


def test_another_task_with_the_same_system_prompt_is_another_conversation(tmp_path: Path) -> None:
    talk = worked(Talk(tmp_path), 2)
    talk.messages = []
    run = read_run(talk.user("Write a poem.").ask().close())
    assert run.conversations == [[0, 1, 2], [3]]


def test_a_clock_in_the_system_prompt_does_not_make_conversations(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    for number in range(4):
        talk.system = f"It is 10:0{number}. Be brief."
        talk.use("search", f"{LONG} {number}", say="next")
    run = read_run(talk.close())
    assert run.conversations == [[0, 1, 2, 3]]


def test_cache_marks_that_move_make_no_new_messages(tmp_path: Path) -> None:
    talk = Talk(tmp_path, provider="anthropic", model="claude-sonnet-4-5")
    for number in range(4):
        for message in talk.messages:
            for block in message["content"]:
                block.pop("cache_control", None)
        mark = {"cache_control": {"type": "ephemeral"}}
        talk.messages.append({"role": "user", "content": [{"type": "text", "text": f"{LONG} {number}", **mark}]})
        talk.send().answer("ok", keep=False)
        talk.messages.append({"role": "assistant", "content": [{"type": "text", "text": "ok"}]})
    run = read_run(talk.close())
    assert len([block for block in run.blocks if block.category == "user"]) == 4
    assert len(run.conversations) == 1


def test_a_refused_call_is_not_paid(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    talk.send().answer("", error="overloaded")
    talk.ask()
    run = read_run(talk.close())
    assert [call.is_paid for call in run.calls] == [False, True]


def test_a_call_in_flight_has_no_answer_yet(tmp_path: Path) -> None:
    talk = worked(Talk(tmp_path), 1).user("More.").send()
    run = read_run(talk.read())
    assert run.calls[-1].answer is None
    assert run.calls[-1].tokens > run.calls[-2].tokens
    talk.close()


def by_hand(folder: Path, contexts: list[list[CtxMessage]], counts: list[int | None]) -> RecordReader:
    recorder = Recorder(folder, 1, "by hand")
    for number, (messages, tokens) in enumerate(zip(contexts, counts, strict=True), start=1):
        data = ContextSnapshotData(messages=list(messages), system_prompt="Be brief.")
        recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number, 1, context=data, call=number))
        llm = LLMResponseData("m", tokens, 5, text="ok")
        recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, number, 1, llm=llm, call=number))
    recorder.close()
    return RecordReader(recorder.record_dir)


def test_odd_contexts_are_read(tmp_path: Path) -> None:
    """No output yet, only images, empty strings, unknown roles, other scripts, large texts."""
    image = CtxMessage("user", "", parts=[Part("image", data={"url": "data:image/png;base64,AAAA"})])
    odd = [
        CtxMessage("", ""),
        CtxMessage("oracle", "🜁🜂🜃 " * 50),
        CtxMessage("user", "日本語のテキスト" * 100),
        CtxMessage("tool", "\ud800 half of a pair", tool_call_id="nobody"),
        CtxMessage("user", "x" * 2_000_000),
    ]
    run = read_run(by_hand(tmp_path, [[image], [image, *odd], []], [None, 3, 10]))
    for call in run.calls:
        found = compose(call)
        assert sum(share.tokens for share in found.shares) + found.unseen == call.tokens
    assert "images" in compose(run.calls[0]).by_category()


def test_a_recording_without_calls(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1, "idle")
    recorder.close()
    run = read_run(RecordReader(recorder.record_dir))
    assert run.calls == []
    assert run.conversations == []


def test_a_tokenizer_that_is_here_is_used(tmp_path: Path) -> None:
    reader = worked(Talk(tmp_path)).close()
    asked: list[str] = []

    def counters(model: str):  # type: ignore[no-untyped-def]
        asked.append(model)
        return len

    run = read_run(reader, counters)
    assert set(asked) == {"gpt-5"}
    user = next(block for block in run.blocks if block.category == "user")
    assert sum(share for _, share in user.shares) == 4 + len("Find the bug.")
