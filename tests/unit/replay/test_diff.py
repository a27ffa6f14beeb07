"""What a diff of two contexts says, case by case."""

from __future__ import annotations

import json

import pytest

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    Part,
    RecordEvent,
    RecordEventType,
    ToolCall,
    ToolDef,
)
from unspool.replay import (
    ContextDiff,
    MessagesDiff,
    PromptDiff,
    TokenDelta,
    WordChange,
    compute_context_diff,
    hash_system_prompt,
)
from unspool.replay.words import diff_words, similarity, words_of


def event(seq: int) -> RecordEvent:
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, seq, seq * 10**8 + 7, 7)


def diff(before, after, old=None, new=None, **tokens) -> ContextDiff:
    """The diff of two lists of messages; `old` and `new` are more of the two snapshots."""
    return compute_context_diff(
        ContextSnapshotData(messages=before, **(old or {})),
        ContextSnapshotData(messages=after, **(new or {})),
        event(3),
        event(6),
        **tokens,
    )


def counts(messages: MessagesDiff) -> tuple[int, int, int, int]:
    return len(messages.added), len(messages.removed), len(messages.edited), len(messages.moved)


# --- system prompt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "digest"),
    [("hello", "2cf24dba5fb0a30e"), ("world", "486ea46224d1bb4f"), ("", "e3b0c44298fc1c14")],
)
def test_the_hash_is_the_references(prompt, digest):
    assert hash_system_prompt(prompt) == digest


def test_half_a_surrogate_pair_has_a_hash_of_its_own():
    assert hash_system_prompt("\ud800") not in (hash_system_prompt("\ud801"), hash_system_prompt("?"))


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        (["[system] a", "[user] hi"], ["[system] b", "[user] hi"], {}, {}),
        ([CtxMessage("system", "a"), "[user] hi"], [CtxMessage("system", "b"), "[user] hi"], {}, {}),
        ([CtxMessage("developer", "a")], [CtxMessage("developer", "b")], {}, {}),
        (["[user] hi"], ["[user] hi"], {"system_prompt": "a"}, {"system_prompt": "b"}),
        (["[system] a"], [], {}, {"system_prompt": "b"}),
        (["[system] a", "[user] hi"], ["[system] b", "[user] hi"], {"system_prompt": "a"}, {"system_prompt": "b"}),
        (["[user] hi", "[system] a"], ["[user] hi", "[system] b"], {}, {}),
    ],
)
def test_a_changed_prompt_is_a_prompt_change_only_wherever_it_stood(before, after, old, new):
    found = diff(before, after, old, new)
    assert found.system_prompt == PromptDiff(True, hash_system_prompt("a"), hash_system_prompt("b"))
    assert counts(found.messages) == (0, 0, 0, 0)
    assert found.prompt_words == [WordChange("removed", "a"), WordChange("added", "b")]
    assert not found.is_empty


def test_prompts_that_came_in_different_ways_are_the_same():
    found = diff(["[system] a", "[user] hi"], [CtxMessage("user", "hi")], {}, {"system_prompt": "a"})
    assert found.system_prompt == PromptDiff(False, hash_system_prompt("a"), hash_system_prompt("a"))
    assert (found.messages.from_count, found.messages.to_count) == (2, 1)
    assert found.is_empty


def test_without_a_prompt_there_is_no_hash():
    assert diff(["[user] hi"], ["[user] hi"]).system_prompt == PromptDiff(False, "", "")


def test_a_later_system_message_is_a_message():
    found = diff(
        [CtxMessage("system", "a"), CtxMessage("user", "hi")],
        [CtxMessage("system", "a"), CtxMessage("user", "hi"), CtxMessage("system", "stop now")],
    )
    assert found.messages.added == ["[system] stop now"]
    assert not found.system_prompt.changed


# --- messages --------------------------------------------------------------------------------------------------------


def test_appended_messages_are_added_and_nothing_else():
    found = diff(["[user] a"], ["[user] a", "[assistant] b", "[tool] c"])
    assert found.messages == MessagesDiff(["[assistant] b", "[tool] c"], [], [], [], 1, 3)
    assert found.prefix_break is None
    assert [(step.op, step.from_index, step.to_index, step.count) for step in found.script] == [
        ("keep", 0, 0, 1),
        ("add", None, 1, 1),
        ("add", None, 2, 1),
    ]


def test_numbers_and_times_are_those_of_the_events():
    found = diff([], [])
    assert (found.from_seq_num, found.to_seq_num) == (3, 6)
    assert (found.from_timestamp, found.to_timestamp) == (300_000_007, 600_000_007)
    assert (found.requested_from, found.requested_to) == (3, 6)


def test_one_message_edited_at_the_front_is_one_edit():
    rest = [f"[user] message {number}" for number in range(3)]
    found = diff(["[user] find the whale in the sea", *rest], ["[user] find the white whale in the sea", *rest])
    assert counts(found.messages) == (0, 0, 1, 0)
    edit = found.messages.edited[0]
    assert (edit.from_index, edit.to_index, edit.role, edit.fields) == (0, 0, "user", ["content"])
    assert edit.words == [
        WordChange("equal", "[user] find the "),
        WordChange("added", "white "),
        WordChange("equal", "whale in the sea"),
    ]


def test_a_message_gone_from_the_middle_is_one_removal():
    found = diff(["[user] a", "[assistant] b", "[user] c"], ["[user] a", "[user] c"])
    assert found.messages == MessagesDiff([], ["[assistant] b"], [], [], 3, 2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[user] step 1", "[user] step 2"),
        ("[user] same words here", "[assistant] same words here"),
        ("[user] one", "[user] two"),
        ("[user] !!!", "[user] ???"),
    ],
)
def test_messages_that_have_little_in_common_are_not_edits(before, after):
    assert diff([before], [after]).messages == MessagesDiff([after], [before], [], [], 1, 1)


def test_another_result_of_the_same_call_is_an_edit_however_it_differs():
    found = diff([CtxMessage("tool", "four", "c1")], [CtxMessage("tool", "nothing at all", "c1")])
    assert counts(found.messages) == (0, 0, 1, 0)


def test_long_stretches_where_all_changed_are_edited_in_place():
    old = [f"[user] question {n} about the river {n * 7} in the north" for n in range(40)]
    new = [text.replace("north", "south") for text in old]
    assert counts(diff(old, new).messages) == (0, 0, 40, 0)
    assert counts(diff(old, ["[user] first of all", *new]).messages) == (1, 0, 40, 0)
    assert counts(diff(old, new[5:]).messages) == (0, 5, 35, 0)


def test_long_texts_that_are_nearly_equal_are_edits():
    text = "[tool] " + " ".join(f"row {n}" for n in range(100))
    found = diff([f"{text} end", "[user] x"], [f"{text} stop", "[user] y"])
    assert counts(found.messages) == (1, 1, 1, 0)
    assert found.messages.edited[0].words[-2:] == [WordChange("removed", "end"), WordChange("added", "stop")]


def test_edits_do_not_cross_each_other():
    """The more similar pair is the edit; the other could only be one by crossing it."""
    found = diff(
        ["[user] red green blue sea", "[user] one two three four"],
        ["[user] one two three five", "[user] red green blue lake or land"],
    )
    assert counts(found.messages) == (1, 1, 1, 0)
    assert found.messages.edited[0].after == "[user] one two three five"


def test_an_equal_message_at_another_place_has_moved():
    found = diff(["[tool] x", "[user] a", "[user] b"], ["[user] a", "[user] b", "[tool] x"])
    assert counts(found.messages) == (0, 0, 0, 1)
    moved = found.messages.moved[0]
    assert (moved.from_index, moved.to_index, moved.text) == (0, 2, "[tool] x")


def test_indexes_are_those_of_the_snapshots_list():
    found = diff(["[system] s", "[tool] x", "[user] a", "[user] b"], ["[user] a", "[user] b", "[tool] x"])
    assert (found.messages.moved[0].from_index, found.messages.moved[0].to_index) == (1, 2)
    assert [(step.op, step.from_index, step.to_index, step.count) for step in found.script] == [
        ("move_out", 1, 2, 1),
        ("keep", 2, 0, 2),
        ("move_in", 1, 2, 1),
    ]


def test_strings_and_structured_messages_compare():
    assert diff(["[user] a", "no role"], [CtxMessage("user", "a"), CtxMessage("user", "no role")]).is_empty


def test_a_bracket_that_names_no_role_is_text():
    found = diff([], ["[1, 2] are the inputs", "[note] keep", "[user]x"])
    assert found.messages.added == ["[1, 2] are the inputs", "[note] keep", "[user]x"]
    assert diff(["[note] keep"], [CtxMessage("user", "[note] keep")]).is_empty


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (CtxMessage("tool", "a b c", "c1"), CtxMessage("tool", "a b c", "c2"), ["tool_call_id"]),
        (
            CtxMessage("assistant", "look", tool_calls=[ToolCall("search", '{"q": "whale"}', "c1")]),
            CtxMessage("assistant", "look", tool_calls=[ToolCall("search", '{"q": "shark"}', "c1")]),
            ["tool_calls"],
        ),
        (
            CtxMessage("user", "see this", parts=[Part("image", None, {"url": "a"})]),
            CtxMessage("user", "see this", parts=[Part("image", None, {"url": "b"})]),
            ["parts"],
        ),
    ],
)
def test_what_the_text_does_not_show_is_an_edit_too(before, after, fields):
    found = diff([before], [after])
    assert counts(found.messages) == (0, 0, 1, 0)
    assert found.messages.edited[0].fields == fields


def test_cache_marks_unset_fields_and_derived_names_are_no_change():
    marked = Part("image", None, {"url": "a", "cache_control": {"type": "ephemeral"}, "detail": None})
    found = diff(
        [CtxMessage("user", "x", parts=[marked]), CtxMessage("tool", "r", "c1", tool_name="search")],
        [CtxMessage("user", "x", parts=[Part("image", None, {"url": "a"})]), CtxMessage("tool", "r", "c1")],
    )
    assert found.is_empty


def test_parts_that_are_no_json_compare_all_the_same():
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    for data in ({"x": {1, 2}}, {"x": "\ud800"}, nested):
        assert diff([CtxMessage("user", "", parts=[Part("other", None, data)])], ["[user] "]).messages.removed
        part = CtxMessage("user", "", parts=[Part("other", None, data)])
        assert diff([part], [part]).is_empty


def test_calls_and_parts_are_in_the_text():
    message = CtxMessage(
        "assistant",
        "look",
        tool_calls=[ToolCall("search", '{"q": 1}', "c1")],
        parts=[Part("image"), Part("reasoning", "hm")],
    )
    assert diff([], [message]).messages.added == ['[assistant] look (image) (reasoning) hm → search({"q": 1})']


def test_no_messages_at_all():
    found = compute_context_diff(ContextSnapshotData(), ContextSnapshotData(), event(1), event(2))
    assert found.is_empty
    assert found.messages == MessagesDiff([], [], [], [], 0, 0)


# --- words -----------------------------------------------------------------------------------------------------------


def words(before: str, after: str, **options) -> str:
    marks = {"equal": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
    return "".join(marks[word.op].format(word.text) for word in diff_words(before, after, **options))


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("", "", ""),
        ("", "a b", "{+a b+}"),
        ("a b", "", "[-a b-]"),
        ("the red sea", "the dead sea", "the [-red-]{+dead+} sea"),
        ("the sea", "the sea and land", "the sea{+ and land+}"),
        ("a x b y c", "a u b v c", "a [-x-]{+u+} b [-y-]{+v+} c"),
        ("reading", "reader", "[-reading-]{+reader+}"),
        ("one two", "three four", "[-one two-]{+three four+}"),
        ("鲸在海里", "鲸在河里", "鲸在[-海-]{+河+}里"),
        ("a, b", "c, d", "[-a, b-]{+c, d+}"),
        ("x = 3.14;", "x = 3.15;", "x = 3.[-14-]{+15+};"),
    ],
)
def test_changed_words_are_found(before, after, shown):
    assert words(before, after) == shown


def test_long_texts_are_compared_by_lines_and_then_not_at_all():
    lines = [f"line {number} with some words in it\n" for number in range(400)]
    changed = ["first\n", *lines[:150], "in the middle\n", *lines[160:], "last\n"]
    found = diff_words("".join(lines), "".join(changed))
    assert "".join(word.text for word in found if word.op == "added").count("line") <= 1  # where the shared end begins
    long = "\n".join(f"a {number}" for number in range(3000))
    other = "\n".join(f"{number} b" for number in range(3000))
    assert [word.op for word in diff_words(long, other)] == ["removed", "added"]


@pytest.mark.timeout(60)
def test_a_word_of_megabytes_comes_to_an_end():
    assert diff_words("x" * 2_000_000, "x" * 1_000_000 + "y")


def test_text_beyond_the_budget_is_replaced_between_its_ends():
    assert words("a b c d", "a x y d", max_chars=3) == "a [-b c-]{+x y+} d"


def test_similarity_counts_words_in_common():
    assert similarity(words_of("a b"), words_of("b, c")) == 0.5
    assert similarity(words_of(""), words_of("")) == 0
    assert similarity(words_of("鲸在海"), words_of("鲸在河")) > 0.5
    assert words_of("start " + "x " * 5000 + "end") == {"start", "x", "end"}


# --- tools, parameters, tokens ---------------------------------------------------------------------------------------


def test_tools_are_compared_by_name():
    old = [ToolDef("search", "find", {"properties": {"q": {"type": "string"}}}), ToolDef("gone"), ToolDef("same")]
    new = [
        ToolDef("search", "look", {"properties": {"q": {"type": "number"}, "n": 1}}),
        ToolDef("new"),
        ToolDef("same"),
    ]
    found = diff([], [], {"tools": old}, {"tools": new}).tools
    assert (found.added, found.removed, found.reordered) == (["new"], ["gone"], False)
    assert (found.from_count, found.to_count) == (3, 3)
    assert [(tool.name, [(one.path, one.change) for one in tool.changes]) for tool in found.changed] == [
        (
            "search",
            [("description", "changed"), ("schema.properties.q.type", "changed"), ("schema.properties.n", "added")],
        )
    ]


def test_tools_in_another_order_break_the_prefix_only():
    tools = [ToolDef("a"), ToolDef("b")]
    found = diff(["[user] hi"], ["[user] hi"], {"tools": tools}, {"tools": tools[::-1]})
    assert found.tools.reordered
    assert not any((found.tools.added, found.tools.removed, found.tools.changed))
    assert (found.prefix_break.section, found.prefix_break.to_index) == ("tools", 0)
    assert found.prefix_break.repaid_tokens == found.prefix_break.uncached_tokens > 0
    assert not found.is_empty


def test_two_tools_of_one_name_are_two():
    found = diff([], [], {"tools": [ToolDef("a")]}, {"tools": [ToolDef("a"), ToolDef("a", "again")]}).tools
    assert (found.added, found.changed) == (["a"], [])


def test_a_description_that_appears_or_goes_is_a_change():
    old, new = [ToolDef("a"), ToolDef("b", "x")], [ToolDef("a", "y"), ToolDef("b")]
    found = diff([], [], {"tools": old}, {"tools": new}).tools.changed
    assert [(tool.name, tool.changes[0].path, tool.changes[0].change) for tool in found] == [
        ("a", "description", "added"),
        ("b", "description", "removed"),
    ]


def test_model_and_parameters_are_compared_by_key():
    old = {"provider": "openai_chat", "model": "a", "params": {"temperature": 0, "stop": "x", "deep": {"on": 1}}}
    new = {"provider": "openai_chat", "model": "b", "params": {"temperature": 0.7, "top_p": None, "deep": {"on": True}}}
    assert [(one.path, one.change, one.before, one.after) for one in diff([], [], old, new).params] == [
        ("model", "changed", "a", "b"),
        ("temperature", "changed", 0, 0.7),
        ("stop", "removed", "x", None),
        ("deep.on", "changed", 1, True),
        ("top_p", "added", None, None),
    ]


def test_token_counts_are_the_snapshots_else_the_callers_else_unknown():
    assert diff([], [], {"tokens": 10}, {"tokens": 30}).token_delta == TokenDelta(10, 30, 20)
    assert diff([], [], {"tokens": 10}, from_tokens=1, to_tokens=5).token_delta == TokenDelta(10, 5, -5)
    assert diff([], []).token_delta == TokenDelta(None, None, None)
    assert diff([], [], {"tokens": 10}).token_delta == TokenDelta(10, None, None)


def test_where_counts_are_unknown_there_is_an_estimate():
    found = diff(["[user] " + "x" * 33], ["[user] " + "x" * 33, "[user] " + "y" * 33])
    assert found.token_estimate == TokenDelta(10, 20, 10)
    assert diff([], [], {"tokens": 1}, {"tokens": 2}).token_estimate is None


def test_other_counts_alone_are_a_change():
    assert not diff([], [], {"tokens": 1}, {"tokens": 2}).is_empty
    assert diff([], [], {"tokens": 2}, {"tokens": 2}).is_empty


def test_what_is_not_all_the_model_saw_is_noted():
    assert diff([], [], {"partial": "no body"}).notes == ["#003 is not all the model saw: no body"]


# --- prefix ----------------------------------------------------------------------------------------------------------


def test_a_changed_prompt_makes_all_behind_it_be_paid_again():
    messages = ["[user] " + "x" * 93, "[assistant] " + "y" * 88]
    found = diff(messages, messages, {"system_prompt": "be nice"}, {"system_prompt": "be good"}).prefix_break
    assert (found.section, found.from_index, found.to_index, found.offset) == ("system", None, None, 3)
    assert (found.repaid_tokens, found.uncached_tokens) == (50, 51)
    assert found.estimated


def test_the_estimate_is_scaled_to_what_the_provider_counted():
    messages = ["[user] " + "x" * 93]
    found = diff(messages, messages, {"system_prompt": "a" * 100}, {"system_prompt": "b" * 100, "tokens": 1000})
    assert (found.prefix_break.repaid_tokens, found.prefix_break.uncached_tokens) == (500, 1000)


def test_an_inserted_message_breaks_at_its_place_and_only_the_old_ones_are_paid_again():
    tail = "[user] " + "x" * 393
    found = diff(["[user] a", tail], ["[user] a", "[assistant] " + "y" * 388, tail]).prefix_break
    assert (found.section, found.from_index, found.to_index) == ("messages", 1, 1)
    assert (found.repaid_tokens, found.uncached_tokens) == (100, 200)


def test_the_offset_counts_in_the_message_without_its_label():
    found = diff(["[user] find the red whale"], ["[user] find the blue whale"]).prefix_break
    assert (found.offset, found.to_index) == (9, 0)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (0, 2), (2, 2)])
def test_a_continuation_and_a_cut_break_nothing(before, after):
    messages = ["[user] a", "[assistant] b", "[user] c"]
    assert diff(messages[:before], messages[:after]).prefix_break is None


def test_another_model_has_another_cache():
    found = diff(["[user] hi"], ["[user] hi"], {"model": "a"}, {"model": "b"}).prefix_break
    assert found.section == "model"
    assert found.repaid_tokens == found.uncached_tokens > 0
    assert diff(["[user] hi"], ["[user] hi"], {"model": "a"}).prefix_break is None


def test_a_changed_tool_comes_before_a_changed_prompt():
    old = {"tools": [ToolDef("a"), ToolDef("b", "x")], "system_prompt": "p"}
    new = {"tools": [ToolDef("a"), ToolDef("b", "y")], "system_prompt": "q"}
    found = diff(["[user] hi"], ["[user] hi"], old, new).prefix_break
    assert (found.section, found.from_index, found.to_index) == ("tools", 1, 1)


def test_a_tool_that_is_gone_breaks_where_it_was():
    found = diff(["[user] hi"], ["[user] hi"], {"tools": [ToolDef("a")]}, {"tools": []}).prefix_break
    assert (found.section, found.from_index, found.to_index) == ("tools", 0, None)


# --- wire form and speed ---------------------------------------------------------------------------------------------


def test_the_wire_form_has_the_seeds_keys_in_nanoseconds():
    wire = json.loads(diff(["[user] a"], ["[user] b", "[user] a"], {"tokens": 3}, {"tokens": 5}).to_json())
    seed = {
        "from_seq_num": 3,
        "to_seq_num": 6,
        "from_timestamp": 300_000_007,
        "to_timestamp": 600_000_007,
        "system_prompt": {"changed": False, "from_hash": "", "to_hash": ""},
        "messages": {
            "added": ["[user] b"],
            "removed": [],
            "edited": [],
            "moved": [],
            "from_count": 1,
            "to_count": 2,
        },
        "token_delta": {"from_tokens": 3, "to_tokens": 5, "delta": 2},
    }
    assert {key: wire[key] for key in seed} == seed
    assert list(wire)[:7] == list(seed)


@pytest.mark.timeout(60)
def test_2000_messages_of_two_texts_are_compared():
    """The worst for algorithms whose time grows with the number of differences: they would not come to an end."""
    old = [f"[user] {'a' if n * n % 7 % 2 else 'b'}" for n in range(2000)]
    new = [f"[user] {'a' if n * n * n % 11 % 2 else 'b'}" for n in range(2000)]
    found = diff(old, new)
    assert found.messages.from_count == found.messages.to_count == 2000
