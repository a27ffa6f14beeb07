"""Events come back as they were written, whatever is in them and whoever writes at the same time."""

from __future__ import annotations

import tempfile
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    Part,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
    ToolCall,
)
from unspool.recording import Recorder, RecordReader

# With lone surrogates, which text() alone leaves out.
texts = st.text(st.characters(exclude_categories=[]), max_size=20) | st.sampled_from(
    ["x" * 1025, "\ud800" * 1100, "$ref"]
)
keys = texts | st.sampled_from(["$float", "$int", "$bytes", "$repr", "$ref", "$dict", "type", "seq_num"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**2100)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
messages = st.builds(
    CtxMessage,
    role=st.sampled_from(["user", "assistant", "tool"]) | texts,
    content=texts,
    tool_call_id=st.none() | texts,
    tool_name=st.none() | texts,
    tool_calls=st.none() | st.lists(st.builds(ToolCall, name=texts, arguments=texts, id=st.none() | texts), max_size=2),
    parts=st.none() | st.lists(st.builds(Part, kind=texts, text=st.none() | texts, data=values), max_size=2),
)


def same(left, right) -> bool:
    """Equal and of equal types all the way down: True is not 1, and 1 is not 1.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(keys, values, max_size=4), values, texts)
def test_args_and_results_come_back_equal_and_of_equal_type(args, result, err):
    with tempfile.TemporaryDirectory() as folder, Recorder(folder, 1, "x") as recorder:
        data = SyscallEventData(syscall="X", args=args, result=result, err=err)
        recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 1, 1, syscall=data, at=err))
        event = RecordReader(recorder.record_dir, live=True, strict=True).event(1)
        assert same(event.syscall.args, args)
        assert same(event.syscall.result, result)
        assert (event.syscall.err, event.at) == (err, err)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(messages | texts, max_size=4), min_size=1, max_size=4), st.dictionaries(keys, values, max_size=3)
)
def test_messages_and_params_come_back_whole(contexts, params):
    with tempfile.TemporaryDirectory() as folder, Recorder(folder, 1, "x") as recorder:
        for given_messages in contexts:
            context = ContextSnapshotData(messages=given_messages, params=params)
            recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 1, 1, context=context))
        reader = RecordReader(recorder.record_dir, live=True, strict=True)
        for event, given_messages in zip(reader.events(), contexts, strict=True):
            assert event.context.messages == given_messages
            assert same(event.context.params, params)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["call", "long", "messages", "state", "odd"]), max_size=12), min_size=2, max_size=6
    )
)
def test_under_any_interleaving_numbers_and_lines_agree_and_nothing_is_lost(plans):
    def event(kind: str, mark: list[int]) -> RecordEvent:
        made = RecordEvent(RecordEventType.SYSCALL, 0, 1, 1, task=f"{mark[0]}.{mark[1]}")
        if kind == "messages":
            made.type = RecordEventType.CONTEXT_SNAPSHOT
            made.context = ContextSnapshotData(messages=[CtxMessage("user", f"{n}") for n in range(mark[1])])
        elif kind == "state":
            made.type = RecordEventType.STATE_CHANGE
            made.state = StateChangeData("running", "dead", "")
        else:
            result = {"call": mark, "long": ["y" * 5000, mark], "odd": [b"x", mark]}[kind]
            made.syscall = SyscallEventData(syscall=kind, result=result)
        return made

    with tempfile.TemporaryDirectory() as folder, Recorder(folder, 1, "x") as recorder:
        numbers: dict[str, int] = {}

        def work(thread: int, plan: list[str]) -> None:
            for turn, kind in enumerate(plan):
                made = event(kind, [thread, turn])
                numbers[made.task] = recorder.write_event(made)

        threads = [threading.Thread(target=work, args=item) for item in enumerate(plans)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total = sum(map(len, plans))
        reader = RecordReader(recorder.record_dir, live=True, strict=True)
        found = list(reader.bare_events())
        assert [one.seq_num for one in found] == list(range(1, total + 1)), "in the order of the lines"
        assert {one.task: one.seq_num for one in found} == numbers
        assert recorder.event_count == total
        for one in reader.events():
            if one.context is not None:
                assert len(one.context.messages) == int(one.task.split(".")[1])
