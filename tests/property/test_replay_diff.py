"""The diff of any two contexts: a true and minimal script, whatever the texts."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.events import ContextSnapshotData, CtxMessage, Part, RecordEvent, RecordEventType, ToolCall, ToolDef
from unspool.replay import compute_context_diff, format_context_diff, format_context_diff_json, sequence
from unspool.replay.messages import seen_context
from unspool.replay.sequence import common_subsequence, shared_ends, shared_prefix
from unspool.replay.words import diff_words

# Few words and roles, so that messages repeat, resemble each other and move; any text beside them.
WORDS = st.lists(st.sampled_from(["red", "green", "blue", "sea", "鲸", "a,b"]), max_size=5).map(" ".join)
TEXT = st.one_of(WORDS, st.text(max_size=20), st.text(st.characters(), max_size=10))
ROLE = st.sampled_from(["user", "assistant", "tool", "system", "developer", "odd role"])
CALLS = st.none() | st.lists(st.builds(ToolCall, WORDS, WORDS, st.none() | st.sampled_from("xy")), max_size=2)
PARTS = st.none() | st.lists(
    st.builds(Part, st.sampled_from(["image", "file"]), st.none() | WORDS, st.dictionaries(WORDS, st.none() | TEXT)),
    max_size=2,
)
MESSAGE = st.builds(CtxMessage, ROLE, TEXT, st.none() | st.sampled_from("xy"), st.none(), CALLS, PARTS)
STRING = st.one_of(TEXT, st.builds("[{}] {}".format, ROLE, TEXT))
MESSAGES = st.lists(st.one_of(STRING, MESSAGE, st.builds(CtxMessage, st.just("user"), WORDS)), max_size=14)
SNAPSHOT = st.builds(
    ContextSnapshotData,
    messages=MESSAGES,
    system_prompt=st.none() | TEXT,
    tools=st.none() | st.lists(st.builds(ToolDef, WORDS, st.none() | WORDS, st.none() | st.dictionaries(WORDS, WORDS))),
    params=st.none() | st.dictionaries(WORDS, st.integers(0, 2) | st.dictionaries(WORDS, st.booleans(), max_size=2)),
    tokens=st.none() | st.integers(0, 10**6),
    provider=st.none() | st.just("openai_chat"),
    model=st.none() | st.sampled_from(["a", "b"]),
    partial=st.none() | TEXT,
)


def event(seq: int) -> RecordEvent:
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, seq, seq * 10**8, 7)


def diff_of(before: ContextSnapshotData, after: ContextSnapshotData):
    return compute_context_diff(before, after, event(3), event(6))


def longest(first, second) -> int:
    """The textbook: Wagner & Fischer's table."""
    row = [0] * (len(second) + 1)
    for one in first:
        above, row = row, [0]
        for j, other in enumerate(second):
            row.append(above[j] + 1 if one == other else max(above[j + 1], row[j]))
    return row[-1]


# --- sequences -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=40),
    st.lists(st.integers(0, 4), max_size=40),
    st.sampled_from([1 << 28, 0, 50]),
)
def test_a_common_subsequence_is_one_and_the_longest(first, second, memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "_MAX_BITS", memory)
        pairs = common_subsequence(first, second)
    assert all(first[i] == second[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))
    assert len(pairs) == longest(first, second)


@settings(deadline=None)
@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_shared_ends_are_equal_and_do_not_overlap(first, second):
    start, end = shared_ends(first, second)
    assert first[:start] == second[:start]
    assert start + end <= min(len(first), len(second))
    assert end == 0 or first[-end:] == second[-end:]


@settings(deadline=None)
@given(st.text("ab", max_size=30), st.text("ab", max_size=30))
def test_the_shared_prefix_is_the_longest(first, second):
    length = shared_prefix(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]


# --- words -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(TEXT, TEXT, st.none() | st.integers(0, 20))
def test_words_make_up_both_texts(before, after, max_chars):
    words = diff_words(before, after, max_chars=max_chars)
    assert "".join(word.text for word in words if word.op != "added") == before
    assert "".join(word.text for word in words if word.op != "removed") == after
    assert all(word.text for word in words)
    assert all(one.op != other.op for one, other in pairwise(words))


@settings(deadline=None)
@given(TEXT)
def test_equal_texts_have_no_changed_words(text):
    assert all(word.op == "equal" for word in diff_words(text, text))


# --- messages --------------------------------------------------------------------------------------------------------


def apply(diff, before: ContextSnapshotData, after: ContextSnapshotData) -> list[str]:
    """What the script makes of the first conversation, with nothing but the diff's own texts for what is new."""
    texts = {message.index: message.text for message in seen_context(before).messages}
    theirs = {message.index: message for message in seen_context(after).messages}
    added, edited = iter(diff.messages.added), iter(diff.messages.edited)
    removed = iter(diff.messages.removed)
    result: list[str] = []
    position = [message.index for message in seen_context(before).messages]
    reads = iter(position)
    for step in diff.script:
        if step.op == "keep":
            for offset in range(step.count):
                assert next(reads) == step.from_index + offset
                kept = theirs[step.to_index + offset]
                mine = seen_context(before).messages[position.index(step.from_index + offset)]
                assert kept.key == mine.key
                result.append(kept.text)
        elif step.op == "add":
            assert step.from_index is None
            result.append(next(added))
        elif step.op == "remove":
            assert step.to_index is None
            assert texts[next(reads)] == next(removed)
        elif step.op == "edit":
            edit = next(edited)
            assert next(reads) == step.from_index == edit.from_index
            assert texts[edit.from_index] == edit.before
            assert "".join(word.text for word in edit.words if word.op != "removed") == edit.after
            result.append(edit.after)
        elif step.op == "move_out":
            assert next(reads) == step.from_index
        else:
            assert step.op == "move_in"
            result.append(theirs[step.to_index].text)
    assert [next(rest, None) for rest in (added, edited, removed, reads)] == [None] * 4
    return result


@settings(deadline=None)
@given(SNAPSHOT, SNAPSHOT)
def test_the_script_makes_the_second_conversation_out_of_the_first(before, after):
    diff = diff_of(before, after)
    assert apply(diff, before, after) == [message.text for message in seen_context(after).messages]


@settings(deadline=None)
@given(SNAPSHOT, SNAPSHOT)
def test_as_many_messages_as_possible_are_kept(before, after):
    old, new = seen_context(before).messages, seen_context(after).messages
    messages = diff_of(before, after).messages
    kept = longest([message.key for message in old], [message.key for message in new])
    changed = len(messages.edited) + len(messages.moved)
    assert len(messages.removed) + changed == len(old) - kept
    assert len(messages.added) + changed == len(new) - kept
    assert (messages.from_count, messages.to_count) == (len(before.messages), len(after.messages))


@settings(deadline=None)
@given(SNAPSHOT, SNAPSHOT)
def test_nothing_added_is_also_removed(before, after):
    diff = diff_of(before, after)
    old, new = seen_context(before).messages, seen_context(after).messages
    gone = {old[[m.index for m in old].index(step.from_index)].key for step in diff.script if step.op == "remove"}
    come = {new[[m.index for m in new].index(step.to_index)].key for step in diff.script if step.op == "add"}
    assert not gone & come


@settings(deadline=None)
@given(SNAPSHOT, SNAPSHOT)
def test_backwards_it_counts_the_same(before, after):
    there, back = diff_of(before, after), diff_of(after, before)
    assert there.is_empty == back.is_empty
    assert there.messages.from_count == back.messages.to_count
    assert there.system_prompt.changed == back.system_prompt.changed
    assert there.system_prompt.from_hash == back.system_prompt.to_hash
    assert there.token_delta.delta is None or there.token_delta.delta == -back.token_delta.delta
    assert sorted(there.tools.added) == sorted(back.tools.removed)
    assert len(there.params) == len(back.params)
    delta = len(there.messages.added) - len(there.messages.removed)
    assert delta == len(back.messages.removed) - len(back.messages.added)
    assert (there.prefix_break is None) == (back.prefix_break is None)


@settings(deadline=None)
@given(SNAPSHOT)
def test_a_context_does_not_differ_from_itself(snapshot):
    diff = diff_of(snapshot, snapshot)
    assert diff.is_empty
    assert diff.prefix_break is None
    assert all(step.op == "keep" for step in diff.script)


@settings(deadline=None)
@given(MESSAGES, st.none() | TEXT, st.booleans())
def test_a_changed_system_prompt_is_in_no_list(messages, field, as_string):
    old, new = (f"[system] {text}" if as_string else CtxMessage("system", text) for text in ("be terse", "be wordy"))
    before, after = (ContextSnapshotData(messages=[head, *messages], system_prompt=field) for head in (old, new))
    diff = diff_of(before, after)
    assert diff.system_prompt.changed
    assert not any((diff.messages.added, diff.messages.removed, diff.messages.edited, diff.messages.moved))


@settings(deadline=None)
@given(SNAPSHOT, SNAPSHOT)
def test_what_is_paid_again_is_part_of_what_is_behind_the_break(before, after):
    diff = diff_of(before, after)
    found = diff.prefix_break
    if found is None:
        return
    assert 0 <= found.repaid_tokens <= found.uncached_tokens
    assert found.offset >= 0
    if diff.token_delta.to_tokens is not None:
        assert found.uncached_tokens <= diff.token_delta.to_tokens
    if found.section == "messages":
        assert found.from_index is not None
        assert found.to_index is not None


@settings(deadline=None, max_examples=60)
@given(SNAPSHOT, SNAPSHOT, st.booleans())
def test_any_diff_has_a_text_and_two_json_forms(before, after, color):
    diff = diff_of(before, after)
    text = format_context_diff(diff, color)
    assert text.endswith("\n")
    assert all(char.isprintable() or char in "\n\x1b\u3000\xa0" or ord(char) > 0x7F for char in text)
    assert color or "\x1b" not in text
    wire, shown = json.loads(diff.to_json()), json.loads(format_context_diff_json(diff, color))
    assert wire["messages"] == shown["messages"]
    for name in ("added", "removed", "edited", "moved"):
        assert isinstance(wire["messages"][name], list)
