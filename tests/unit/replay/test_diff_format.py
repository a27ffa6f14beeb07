"""How a diff is shown."""

from __future__ import annotations

import json

from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType, ToolDef
from unspool.replay import (
    ContextDiff,
    EditedMessage,
    MessagesDiff,
    MovedMessage,
    PrefixBreak,
    PromptDiff,
    TokenDelta,
    ToolChange,
    ToolsDiff,
    ValueChange,
    WordChange,
    compute_context_diff,
    format_context_diff,
    format_context_diff_json,
)

RULE = "─" * 37


def made(**parts) -> ContextDiff:
    usual = {
        "from_seq_num": 3,
        "to_seq_num": 6,
        "from_timestamp": 300_000_000,
        "to_timestamp": 1_800_000_000,
        "system_prompt": PromptDiff(False, "h1", "h1"),
        "messages": MessagesDiff(from_count=5, to_count=5),
        "token_delta": TokenDelta(100, 100, 0),
    }
    return ContextDiff(**(usual | parts))


def lines(**parts) -> list[str]:
    text = format_context_diff(made(**parts))
    assert text.endswith("\n")
    return text.splitlines()


def test_the_references_layout():
    diff = made(
        system_prompt=PromptDiff(True, "h1", "h2"),
        messages=MessagesDiff(["[user] new", "[tool] more"], ["[user] old"], from_count=5, to_count=8),
        token_delta=TokenDelta(100, 250, 150),
    )
    assert format_context_diff(diff) == (
        "Context Diff: #003 → #006 (+0.3s → +1.8s)\n"
        f"{RULE}\n"
        "System Prompt: changed (h1 → h2)\n"
        "Messages: 5 → 8 (+3)\n"
        "  + [user] new\n"
        "  + [tool] more\n"
        "  - [user] old\n"
        "Tokens: 100 → 250 (+150)\n"
    )


def test_nothing_changed():
    assert lines() == ["Context Diff: #003 → #006 (+0.3s → +1.8s)", RULE, "No changes detected."]
    assert lines(token_delta=TokenDelta())[-1] == "No changes detected."


def test_deltas_are_signed():
    shown = lines(messages=MessagesDiff([], ["x"], from_count=5, to_count=4))
    assert shown[2:] == [
        "System Prompt: unchanged (hash=h1)",
        "Messages: 5 → 4 (-1)",
        "  - x",
        "Tokens: 100 → 100 (+0)",
    ]
    assert "Messages: 5 → 5 (+0)" in lines(token_delta=TokenDelta(3, 1, -2))
    assert lines(token_delta=TokenDelta(3, 1, -2))[-1] == "Tokens: 3 → 1 (-2)"


def test_no_prompt_has_no_hash():
    shown = lines(system_prompt=PromptDiff(True, "", "h2"))
    assert shown[2] == "System Prompt: changed (none → h2)"
    assert lines(system_prompt=PromptDiff(), params=[ValueChange("n", "added", None, 1)])[2].endswith("(hash=none)")


def test_an_edited_message_shows_its_words():
    words = [WordChange("equal", "[user] the"), WordChange("removed", " red"), WordChange("added", " blue")]
    edit = EditedMessage(0, 0, "user", "[user] the red", "[user] the blue", ["content"], words)
    assert "  ~ [user] the[- red-]{+ blue+}" in lines(messages=MessagesDiff(edited=[edit]))


def test_what_the_words_do_not_show_is_named():
    words = [WordChange("equal", "[tool] x")]
    edit = EditedMessage(0, 0, "tool", "[tool] x", "[tool] x", ["tool_call_id", "parts"], words)
    assert "  ~ [tool] x (tool_call_id, parts changed)" in lines(messages=MessagesDiff(edited=[edit]))


def test_a_moved_message_shows_both_places_counted_from_1():
    shown = lines(messages=MessagesDiff(moved=[MovedMessage(2, 6, "[tool] x")]))
    assert "  > [tool] x (message 3 → 7)" in shown


def test_tools_and_parameters():
    tools = ToolsDiff(
        ["new"],
        ["old"],
        [ToolChange("same", [ValueChange("schema.q", "changed", "a", 1)])],
        True,
        from_count=2,
        to_count=2,
    )
    params = [
        ValueChange("model", "changed", "a", "b"),
        ValueChange("top_p", "added", None, 1),
        ValueChange("stop", "removed", ["x"]),
    ]
    shown = lines(tools=tools, params=params)
    assert shown[4:-1] == [
        "Tools: 2 → 2 (+0)",
        "  + new",
        "  - old",
        '  ~ same: schema.q "a" → 1',
        "  > in another order",
        "Parameters:",
        '  ~ model "a" → "b"',
        "  + top_p 1",
        '  - stop ["x"] removed',
    ]


def test_the_break_of_the_prefix_is_an_estimate():
    added = MessagesDiff(["x"])
    for found, where in (
        (PrefixBreak("messages", 2, 2, 11, 40, 90), "message 3, character 12"),
        (PrefixBreak("system", None, None, 4, 40, 90), "the system prompt, character 5"),
        (PrefixBreak("tools", 1, None, 0, 40, 90), "tool 2"),
        (PrefixBreak("tools", 1, 0, 0, 40, 90), "tool 1"),
        (PrefixBreak("model", None, None, 0, 40, 90), "another model"),
    ):
        shown = lines(messages=added, prefix_break=found)
        assert f"Prefix: broken at {where}; paid again ~40 tokens of ~90 behind it (estimate)" in shown


def test_unknown_tokens_are_said_to_be_unknown():
    added = MessagesDiff(["x"])
    assert lines(messages=added, token_delta=TokenDelta())[-1] == "Tokens: ? → ? (unknown)"
    shown = lines(messages=added, token_delta=TokenDelta(7), token_estimate=TokenDelta(10, 30, 20))
    assert shown[-1] == "Tokens: 7 → ? (unknown), estimate ~10 → ~30 (+20)"


def test_what_was_asked_for_is_shown_where_it_is_not_what_was_used():
    shown = lines(requested_from=5, requested_to=6, notes=["#003 is not all the model saw: no\nbody"])
    assert shown[2:] == [
        "Asked for #005; the context in force there is of #003",
        r"Note: #003 is not all the model saw: no\nbody",
        "No changes detected.",
    ]


def test_nothing_said_acts_on_the_terminal():
    evil = "\x1b[2J\n\u202e"
    snapshots = [
        ContextSnapshotData(
            messages=[CtxMessage("user", f"see {evil} this {number} here"), CtxMessage(evil, evil * number)],
            system_prompt=evil + str(number),
            tools=[ToolDef(evil, str(number)), ToolDef(f"{evil}{number}")],
            params={evil: evil * number},
            model=f"{evil}{number}",
            partial=evil,
        )
        for number in (1, 2)
    ]
    event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 1, 0, 7)
    diff = compute_context_diff(*snapshots, event, event)
    text = format_context_diff(diff)
    assert not {"\x1b", "\u202e"} & set(text)
    assert len(text.splitlines()) == text.count("\n") < 20
    assert "\x1b" not in format_context_diff_json(diff)


def test_long_texts_are_cut_around_what_changed():
    shown = lines(messages=MessagesDiff(["[user] " + "x" * 1000]))
    assert len(shown[4]) == 204
    assert shown[4].endswith("...")
    words = [
        WordChange("equal", "[user] begin " + "a" * 500),
        WordChange("added", "NEW"),
        WordChange("equal", "b" * 500),
        WordChange("removed", "OLD"),
        WordChange("equal", "c" * 500),
    ]
    edit = EditedMessage(0, 0, "user", "", "", ["content"], words)
    line = lines(messages=MessagesDiff(edited=[edit]))[4]
    assert line.startswith("  ~ [user] begin aaaa")
    assert "a{+NEW+}b" in line
    assert "b[-OLD-]c" in line
    assert line.endswith("...")
    assert len(line) < 200


def test_many_changed_words_are_cut():
    words = [WordChange(op, "word ") for _ in range(500) for op in ("removed", "equal")]
    line = lines(messages=MessagesDiff(edited=[EditedMessage(0, 0, "user", "", "", ["content"], words)]))[4]
    assert len(line) < 1000
    assert line.endswith("...")


def test_colour_is_only_there_when_asked_for():
    diff = made(messages=MessagesDiff(["[user] a"], ["[user] b"], [], [MovedMessage(0, 1, "[user] c")]))
    plain, coloured = format_context_diff(diff), format_context_diff(diff, color=True)
    assert "\x1b" not in plain
    assert "\x1b[32m  + [user] a\x1b[0m" in coloured
    assert "\x1b[91m  - [user] b\x1b[0m" in coloured
    for code in ("\x1b[32m", "\x1b[91m", "\x1b[36m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_json_has_milliseconds_and_the_exact_nanoseconds():
    diff = made(from_timestamp=300_999_999, messages=MessagesDiff(["x"], from_count=5, to_count=6))
    document = json.loads(format_context_diff_json(diff, color=True))
    assert list(document)[:6] == [
        "from_seq_num", "to_seq_num", "from_timestamp_ms", "from_timestamp_ns", "to_timestamp_ms", "to_timestamp_ns",
    ]  # fmt: skip
    assert (document["from_timestamp_ms"], document["from_timestamp_ns"]) == (300, 300_999_999)
    assert document["to_timestamp_ms"] == 1800
    assert document["messages"] == {
        "added": ["x"], "removed": [], "edited": [], "moved": [], "from_count": 5, "to_count": 6,
    }  # fmt: skip
    assert document["token_delta"] == {"from_tokens": 100, "to_tokens": 100, "delta": 0}
    assert document["system_prompt"] == {"changed": False, "from_hash": "h1", "to_hash": "h1"}
