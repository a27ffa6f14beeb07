"""Two whole runs: where they part, which steps are counterparts, what they add up to."""

from __future__ import annotations

import json
import shutil

import pytest
from replay_made_runs import MadeRun

from unspool.errors import CorruptRecording
from unspool.events import ContextSnapshotData, LLMResponseData, RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.recorder import Recorder
from unspool.replay.runs import diff_runs
from unspool.replay.runs_format import format_runs_diff, format_runs_diff_json


@pytest.fixture
def run(tmp_path):
    """Starts a recording; each has the next PID."""
    pids = iter(range(1, 100))
    return lambda **fields: MadeRun(tmp_path, next(pids), **fields)


def price(path, data, at):
    return data.request_tokens / 1000 if data.request_tokens is not None else None


def compare(first, second):
    return diff_runs([first.folder], [second.folder], price=price)


def script(diff):
    """The pairs as text: `=`, `-`, `+`, or `~` with what differs; and the names of the steps."""
    out = []
    for pair in diff.pairs:
        one = diff.first.steps[pair.first] if pair.first is not None else None
        other = diff.second.steps[pair.second] if pair.second is not None else None
        name = (one or other).name.rpartition("/")[2]
        mark = "=" if pair.is_same else "-" if other is None else "+" if one is None else "~" + ",".join(pair.differs)
        out.append(f"{mark} {name}")
    return out


def search_run(made, *results: str, system: str = "be brief", end: str = "done") -> MadeRun:
    """An agent that searches once for each result."""
    with made:
        chat = made.chat(system, "find it")
        for number, result in enumerate(results):
            chat.use("search", {"q": number}, result)
        chat.ask(end)
    return made


def test_two_runs_that_did_the_same_are_the_same_although_every_id_differs(run):
    diff = compare(search_run(run(), "a", "b"), search_run(run(), "a", "b"))
    assert diff.parting is None
    assert script(diff) == ["= gpt-4.1-mini", "= search", "= gpt-4.1-mini", "= search", "= gpt-4.1-mini"]
    text = format_runs_diff(diff)
    assert "The same from beginning to end (3 model calls, 2 tool calls)" in text


def test_they_part_where_a_tool_gave_something_else(run):
    diff = compare(search_run(run(), "a", "b", "c"), search_run(run(), "a", "B", "c", end="failed"))
    assert script(diff) == [
        "= gpt-4.1-mini", "= search", "= gpt-4.1-mini", "~response search",
        "~request gpt-4.1-mini", "= search", "~response gpt-4.1-mini",
    ]  # fmt: skip
    assert diff.parting == 3
    text = format_runs_diff(diff)
    assert "Calls 1–2 the same (2 model calls, 1 tool call)" in text
    assert "They part at search #008: the result differs" in text
    assert "    - → b\n    + → B\n" in text
    assert "Last answer of the first:  done\nLast answer of the second: failed\n" in text


def test_they_part_where_the_model_said_something_else_and_its_words_in_the_next_request_do_not_count(run):
    first, second = run(), run()
    for made, said in ((first, "I look"), (second, "let me see")):
        with made:
            chat = made.chat("be brief", "find it")
            chat.ask("hello")
            chat.say("go on")
            chat.use("search", {"q": 1}, "a", say=said)
            chat.ask("done")
    diff = compare(first, second)
    assert script(diff) == ["= gpt-4.1-mini", "~response gpt-4.1-mini", "= search", "= gpt-4.1-mini"]
    assert "They part at call 2 (openai/gpt-4.1-mini): the answer differs" in format_runs_diff(diff)


def test_an_answer_that_the_agent_changed_before_it_went_back_does_count(run):
    first, second = run(), run()
    for made in (first, second):
        with made:
            chat = made.chat("be brief", "find it")
            chat.ask("my card is 4711")
            if made is second:
                chat.messages[-1] = {"role": "assistant", "content": "my card is ****"}
            chat.say("go on")
            chat.ask("done")
    assert script(compare(first, second)) == ["= gpt-4.1-mini", "~request gpt-4.1-mini"]


def test_an_edited_system_prompt_is_a_difference_of_settings_with_the_contexts_compared(run):
    diff = compare(search_run(run(), "a", "b"), search_run(run(), "a", "b", system="be thorough"))
    assert diff.parting == 0
    settings = "~settings gpt-4.1-mini"
    assert script(diff) == [settings, "= search", settings, "= search", settings]
    assert diff.contexts is not None
    assert diff.contexts.system_prompt.changed
    text = format_runs_diff(diff)
    assert "They part at call 1 (openai/gpt-4.1-mini): the settings differ" in text
    assert "[-brief-]{+thorough+}" in text
    assert "  ~ Call 2 the same but for the settings (1 model call)" in text


def test_another_model_and_other_parameters_are_settings_too(run):
    one, other = run(), run(model="gpt-5")
    for made in (one, other):
        with made:
            made.chat("be brief", "hi").ask("hello")
    warm = run()
    with warm:
        warm.chat("be brief", "hi", temperature=1).ask("hello")
    assert script(compare(one, other)) == ["~settings gpt-4.1-mini"]
    assert script(compare(one, warm)) == ["~settings gpt-4.1-mini"]


def test_a_step_that_only_one_run_did_is_shown_alone_and_the_rest_stays_aligned(run):
    first, second = run(), run()
    for made in (first, second):
        with made:
            chat = made.chat("be brief", "find it")
            chat.use("search", {"q": 1}, "a")
            if made is second:
                chat.use("verify", {"of": "a"}, "yes")
            chat.use("search", {"q": 2}, "b")
            chat.ask("done")
    diff = compare(first, second)
    lines = script(diff)
    assert lines.count("+ verify") == 1
    assert lines.count("= search") == 2
    assert lines[-1] == "= gpt-4.1-mini"
    assert "  + verify #" in format_runs_diff(diff)


def test_a_dropped_history_is_a_difference_of_the_request(run):
    first, second = run(), run()
    for made in (first, second):
        with made:
            chat = made.chat("be brief", "one")
            chat.ask("1")
            chat.say("two")
            chat.ask("2")
            chat.say("three")
            if made is second:
                chat.messages[3:5] = []
            chat.ask("3")
    assert script(compare(first, second))[2].startswith("~request")


def test_conversations_side_by_side_align_with_their_counterparts_whoever_was_first(run):
    def fan(made: MadeRun, names: list[str]) -> MadeRun:
        with made:
            chats = [made.chat("you research", name) for name in names]
            for round_ in range(3):
                for name, chat in zip(names, chats, strict=True):
                    chat.use("search", {"q": f"{name} {round_}"}, f"{name} found {round_}")
        return made

    diff = compare(fan(run(), ["red", "green", "blue"]), fan(run(), ["blue", "red", "green"]))
    assert diff.parting is None
    assert len(diff.pairs) == 18


def test_twins_that_begin_alike_are_told_apart_by_how_they_go_on(run):
    def samples(made: MadeRun, ends: list[str]) -> MadeRun:
        with made:
            chats = [made.chat("be brief", "think of a number", task=f"0.{number}") for number, _ in enumerate(ends)]
            for chat in chats:
                chat.send()
            for chat in chats:
                chat.answer("let me think")
                chat.say("well?")
            for chat in chats:
                chat.send()
            for chat, end in zip(chats, ends, strict=True):
                chat.answer(end)
        return made

    assert compare(samples(run(), ["1", "2", "3"]), samples(run(), ["3", "1", "2"])).parting is None


def test_tool_calls_that_ran_at_the_same_time_may_end_in_any_order(run):
    first, second = run(), run()
    for made, order in ((first, ("a", "b")), (second, ("b", "a"))):
        with made:
            chat = made.chat("be brief", "find both")
            chat.ask("", [("search", "a"), ("search", "b")])
            start = made.now
            for name in order:
                made.tool("search", name, f"{name} found", call=chat.call)
                made.now = start + 1  # still within the first
            chat.ask("done")
    assert compare(first, second).parting is None


def test_a_retry_is_a_step_of_its_own(run):
    first, second = run(), run()
    for made in (first, second):
        with made:
            chat = made.chat("be brief", "hi")
            if made is second:
                chat.ask(err="overloaded", status=529)
            chat.ask("hello")
    diff = compare(first, second)
    assert sorted(script(diff)) == ["+ gpt-4.1-mini", "= gpt-4.1-mini"]
    assert diff.second.totals.errors == 1
    assert "error: overloaded" in format_runs_diff(diff)


def test_a_call_that_was_never_answered(run):
    first, second = run(), run()
    with first:
        first.chat("be brief", "hi").ask("hello")
    second.chat("be brief", "hi").send()
    second.recorder.abandon()  # as if it had been killed
    diff = compare(first, second)
    assert script(diff) == ["~response gpt-4.1-mini"]
    assert diff.second.status == "interrupted"
    text = format_runs_diff(diff)
    assert "    - → hello\n    + → no answer\n" in text
    assert "interrupted" in text


def test_empty_runs(run):
    empty, other = run(), run()
    for made in (empty, other):
        with made:
            pass
    diff = compare(empty, other)
    assert (diff.pairs, diff.parting) == ([], None)
    assert "The same from beginning to end (neither called a model or a tool)" in format_runs_diff(diff)
    full = search_run(run(), "a")
    diff = compare(empty, full)
    assert script(diff) == ["+ gpt-4.1-mini", "+ search", "+ gpt-4.1-mini"]
    assert "only the second run did this" in format_runs_diff(diff)
    assert compare(full, empty).parting == 0


def test_unrelated_runs_are_two_lists(run):
    first = search_run(run(), "a")
    second = run()
    with second:
        chat = second.chat("you are a poet", "write")
        chat.use("rhyme", {"word": "sea"}, "tree")
        chat.ask("the sea, the tree")
    diff = compare(first, second)
    assert diff.parting == 0
    covered = sorted(pair.first for pair in diff.pairs if pair.first is not None)
    assert covered == list(range(len(diff.first.steps)))
    assert "- search" in script(diff)
    assert "+ rhyme" in script(diff)


def test_how_the_runs_are_related(run):
    origin = search_run(run(), "a")
    fork = search_run(run(parent=origin.record_id, forked_at=2), "a")
    other_fork = search_run(run(parent=origin.record_id, forked_at=2), "b")
    rerun = search_run(run(rerun_of=origin.record_id), "a")
    stranger = search_run(run(), "a")
    assert compare(origin, fork).relation == "fork"
    assert compare(fork, origin).relation == "fork_of"
    assert compare(origin, rerun).relation == "rerun"
    assert compare(rerun, origin).relation == "rerun_of"
    assert compare(fork, other_fork).relation == "siblings"
    assert compare(origin, stranger).relation == ""
    assert compare(origin, origin).relation == "same"
    assert "the second is a fork of the first at event 2" in format_runs_diff(compare(origin, fork))
    assert f"both come from {origin.record_id}" in format_runs_diff(compare(fork, other_fork))


def test_processes_of_a_run_are_compared_with_their_counterparts(run):
    def tree(order: list[str]) -> list:
        root = run()
        with root:
            root.chat("you lead", "go").ask("ok")
        workers = []
        for name in order:
            worker = run(parent=root.record_id, root=root.record_id, role="worker", intent="test")
            workers.append(search_run(worker, name))
        return [root.folder, *(worker.folder for worker in workers)]

    diff = diff_runs(tree(["red", "green"]), tree(["green", "red"]))
    assert diff.parting is None
    assert diff.first.totals.model_calls == 5
    assert len(diff.first.records) == 3


def test_what_happened_inside_a_tool_that_was_served_is_no_difference(run):
    first, second = run(), run()
    for made in (first, second):
        with made:
            chat = made.chat("you lead", "go")
            chat.ask("", [("delegate", "look")])
            if made is first:
                inner = made.chat("you help", "look", task="0.1")
                inner.span, inner.around = "a" * 32, "b" * 32
                inner.ask("seen")
            origin = "served" if made is second else None
            made.tool(
                "delegate", "look", "seen", call=chat.call, span_id="b" * 32, parent_span_id="c" * 32, origin=origin
            )
            chat.say("and?")
            chat.ask("done")
    diff = compare(first, second)
    assert diff.parting is None
    assert [pair.covered for pair in diff.pairs].count(True) == 1
    assert "1 step inside tools that were served" in format_runs_diff(diff)
    assert compare(second, first).parting is None


def test_sums_and_what_is_unknown(run):
    first = search_run(run(), "a")
    second = run()
    with second:
        second.chat("be brief", "hi").ask("hello", origin="served")
        second.chat("be long", "hi").ask("hello", origin="live")
    diff = compare(first, second)
    totals = diff.first.totals
    assert (totals.input_tokens, totals.output_tokens, totals.tokens_unknown) == (60, 10, 0)
    assert totals.cost_usd == pytest.approx(0.06)
    assert (diff.second.totals.served_calls, diff.second.totals.sent_usd) == (1, pytest.approx(0.02))
    assert "$0.0400 ($0.0200 sent, 1 served)" in format_runs_diff(diff)
    unpriced = diff_runs([first.folder], [second.folder])
    assert unpriced.first.totals.cost_usd is None
    assert "Cost         ?" in format_runs_diff(unpriced)


def test_recordings_by_others_that_number_nothing(tmp_path):
    def reference(pid: int, answer: str) -> Recorder:
        recorder = Recorder(tmp_path, pid, "reference")
        messages = []
        for turn in ("one", "two"):
            messages += [f"[user] {turn}"]
            data = ContextSnapshotData(messages=list(messages), system_prompt="be brief")
            recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, len(messages), pid, context=data))
            llm = LLMResponseData("gpt-4", 10, 5, text=answer if turn == "two" else "same")
            recorder.write_event(RecordEvent(RecordEventType.LLM_RESPONSE, 0, len(messages), pid, llm=llm))
            messages += [f"[assistant] {llm.text}"]
        tool = SyscallEventData("ToolCall", {"path": "/dev/tool/search", "q": 1}, "found", "", 5)
        recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 9, pid, syscall=tool))
        recorder.close()
        return recorder

    diff = diff_runs([reference(1, "a").record_dir], [reference(2, "b").record_dir])
    assert script(diff)[:2] == ["= gpt-4", "~response gpt-4"]
    assert script(diff)[2] == "= search"


def test_damage_is_read_around_and_a_missing_root_is_an_error(run, tmp_path):
    first, second = search_run(run(), "a", "b"), search_run(run(), "a", "b")
    (second.folder / "messages.jsonl").unlink()
    diff = compare(first, second)
    assert len(diff.pairs) >= 5
    format_runs_diff(diff)
    shutil.rmtree(first.folder)
    with pytest.raises(CorruptRecording):
        compare(first, second)
    whole = search_run(run(), "a")
    gone = diff_runs([whole.folder, tmp_path / "9-gone"], [whole.folder])
    assert "9-gone" in gone.first.notes[0]
    assert "Note: " in format_runs_diff(gone)


def test_what_the_model_said_cannot_act_on_the_terminal(run):
    first, second = search_run(run(), "a\x1b[31m"), search_run(run(), "b\x1b]0;title\x07")
    text = format_runs_diff(compare(first, second))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\x1b[" in format_runs_diff(compare(first, second), color=True)


def test_the_limit_says_how_much_is_left(run):
    first = search_run(run(), *"abcdefgh")
    second = search_run(run(), *"ABCDEFGH")
    diff = compare(first, second)
    whole = format_runs_diff(diff, limit=None)
    short = format_runs_diff(diff, limit=2)
    assert "more (all of them: -n 0)" in short
    assert "more (all" not in whole
    assert len(short.splitlines()) < len(whole.splitlines())


def test_as_json(run):
    diff = compare(search_run(run(), "a"), search_run(run(), "b"))
    found = json.loads(format_runs_diff_json(diff))
    assert found["same"] is False
    assert found["shared"] == 1
    assert found["parting"] == {"first": 1, "second": 1, "same": False, "differs": ["response"], "covered": False}
    step = found["first"]["steps"][1]
    assert (step["kind"], step["name"], step["answered"]) == ("tool", "/dev/tool/search", "a")
    assert step["point"] == f"{diff.first.record_id}@{step['seq_num']}"
    assert "asked_key" not in step
    assert found["second"]["totals"]["tool_calls"] == 1
