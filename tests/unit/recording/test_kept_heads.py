"""Calls that keep some of what calls before them sent: what that comes to, and how far one has to look for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.events import ContextSnapshotData, CtxMessage, LLMResponseData, RecordEvent, RecordEventType
from unspool.recording.prompts import Prompt
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.trace.fitted import prompts_of
from unspool.trace.from_recording import recorded_trace


def prompts_with(folder: Path, contexts: list[list[str]]) -> list[Prompt]:
    """The prompts of a run whose calls sent these texts."""
    with Recorder(folder, 1, "") as recorder:
        for call, texts in enumerate(contexts, 1):
            messages = [CtxMessage("user", text) for text in texts]
            asked = ContextSnapshotData(messages=messages, provider="openai_chat", model="gpt-4o")
            said = LLMResponseData("gpt-4o", 10 * sum(map(len, texts)) + 5, 5)
            for kind, data in ((RecordEventType.CONTEXT_SNAPSHOT, {"context": asked}),
                               (RecordEventType.LLM_RESPONSE, {"llm": said})):  # fmt: skip
                recorder.write_event(RecordEvent(kind, 0, call, 1, call=call, step=call, lane=1, **data))
    with RecordReader(recorder.record_dir) as reader:
        [process] = recorded_trace([reader]).processes
        return prompts_of(process).calls


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.lists(st.text("abc ", min_size=1, max_size=9), max_size=3)), min_size=1)
)
def test_the_first_elements_come_to_what_each_of_them_does(changes: list[tuple[int, list[str]]]) -> None:
    contexts: list[list[str]] = []
    for kept, added in changes:  # each keeps some of the one before, and adds to it
        contexts.append([*(contexts[-1] if contexts else ["begin"])[:kept], *added] or ["again"])
    with tempfile.TemporaryDirectory() as folder:
        for prompt in prompts_with(Path(folder), contexts):
            for count in range(prompt.count + 1):
                at = prompt
                while at.before is not None and count <= at.kept:
                    at = at.before
                expected = at.ends[count - at.kept - 1] if count and at.ends else (0.0, 0.0)
                assert prompt.end_of(count) == expected
                assert prompt.weight_of(count) == (at.reach[count - at.kept - 1] if count and at.reach else 0.0)


def test_a_head_that_all_calls_keep_is_found_at_once(tmp_path: Path) -> None:
    """Otherwise the work would grow with the square of the calls."""
    prompts = prompts_with(tmp_path, [["be brief", f"question {number}"] for number in range(200)])
    assert {prompt.kept for prompt in prompts[1:]} == {1}
    for prompt in prompts[1:]:
        assert prompt.up is prompts[0]
