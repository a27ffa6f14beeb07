"""What is in use is decided by who refers to it, and every verdict has its evidence."""

from __future__ import annotations

import json

import pytest

from unspool.context import BlockVerdict, ContextData, analyze_context
from unspool.context.temperature import ACTIVE_OUTPUTS, ENOUGH_OUTPUTS, WARM_OUTPUTS
from unspool.events import CtxMessage, Part, ToolCall

FILLER = "Thinking about it some more."
PAGE = (
    "The harvest ledger closed at 48,213.50 on the third shipment.\n"
    "See src/warehouse/pallets.py:88 and the function reconcile_pallet_counts for the routine.\n"
    "Crates were misrouted through Rotterdam by an overloaded dispatcher.\n"
)


def call(name: str, call_id: str, **arguments: object) -> CtxMessage:
    return CtxMessage("assistant", "", tool_calls=[ToolCall(name, json.dumps(arguments), call_id)])


def result(text: str, call_id: str) -> CtxMessage:
    return CtxMessage("tool", text, call_id)


def said(*texts: str) -> list[CtxMessage]:
    return [CtxMessage("assistant", text) for text in texts]


def verdicts(messages: list[CtxMessage], system_prompt: str = "") -> list[BlockVerdict]:
    return analyze_context(ContextData(system_prompt, messages), 1, 1, 0, 0).evidence


def one_result(text: str, *outputs: str) -> BlockVerdict:
    messages = [CtxMessage("user", "Why?"), call("fetch", "c1", q="x"), result(text, "c1"), *said(*outputs)]
    return verdicts(messages)[2]


def test_a_result_nobody_refers_to_has_leaked():
    verdict = one_result(PAGE, *[FILLER] * ENOUGH_OUTPUTS)
    assert verdict.state == "leaked"
    assert verdict.reason == "none of the 3 outputs since it arrived refers to it"
    assert verdict.leak == "unused"


@pytest.mark.parametrize("text", ["x" * 900, "word " * 200, "漢字仮名交じり文" * 50, PAGE])
def test_a_useless_result_has_leaked_whatever_its_length_and_script(text):
    # D 67: length is no measure, 900 bytes nobody needs are as useless as 1,001.
    assert one_result(text, *[FILLER] * 6).state == "leaked"


@pytest.mark.parametrize(
    ("output", "how"),
    [
        ('It says "were misrouted through Rotterdam by an overloaded dispatcher".', "quoted"),
        ("Next is src/warehouse/pallets.py then.", "path named"),
        ("The fix goes into pallets.py:90.", "path named"),
        ("reconcile_pallet_counts is wrong.", "identifier named"),
        ("So reconcilePalletCounts is wrong.", "identifier named"),
        ("So we reconcile pallet counts too late.", "identifier named"),
        ("That is 48213.5 in all.", "number given"),
        ("Our dispatcher misrouted Rotterdam once again.", "its words used"),
    ],
)
def test_a_result_is_used_by_any_mark_it_brought(output, how):
    verdict = one_result(PAGE, FILLER, output, FILLER)
    assert verdict.state == "active"
    assert verdict.reason == f"{how} in message 4"
    assert verdict.last_used_by == 4
    assert verdict.quote


def test_arguments_of_tool_calls_are_outputs_too():
    messages = [
        call("fetch", "c1"),
        result(PAGE, "c1"),
        call("open", "c2", path="src/warehouse/pallets.py", line=88),
        result("gone", "c2"),
        *said(*[FILLER] * 2),
    ]
    assert verdicts(messages)[1].last_used_by == 2


def test_a_long_result_quoted_in_every_answer_has_not_leaked():
    # D 67: a 1,001-byte result still quoted is in use however old it is.
    text = "zebra crossing protocol " + "padding text here " * 80
    verdict = one_result(text, *["By the zebra crossing protocol padding text here it holds."] * 20)
    assert (verdict.state, verdict.last_used_by) == ("active", 22)


def test_its_call_id_counts_as_a_reference():
    messages = [call("fetch", "call_77a"), result(PAGE, "call_77a"), *said(FILLER, "See call_77a for it.", FILLER)]
    assert verdicts(messages)[1].state == "active"


def test_what_the_model_asked_for_itself_proves_nothing():
    # The path is in the answer because it was in the call.
    text = "src/app/handlers.py\n1 import os\n2 import sys\n"
    messages = [
        call("read", "c1", path="src/app/handlers.py"),
        result(text, "c1"),
        *said(*["I have looked at src/app/handlers.py now."] * 4),
    ]
    assert verdicts(messages)[1].state == "leaked"


def test_what_the_instructions_say_proves_nothing():
    messages = [call("fetch", "c1"), result(PAGE, "c1"), *said(*["Always reconcile_pallet_counts."] * 4)]
    assert verdicts(messages)[1].state == "active"
    assert verdicts(messages, "Remember reconcile_pallet_counts.")[2].state == "leaked"


def test_what_a_later_instruction_said_first_proves_nothing_either():
    messages = [
        *said(FILLER),
        CtxMessage("system", "Remember reconcile_pallet_counts."),
        call("fetch", "c1"),
        result(PAGE, "c1"),
        *said(*["Always reconcile_pallet_counts."] * 4),
    ]
    assert verdicts(messages)[3].state == "leaked"


def test_what_many_messages_hold_proves_nothing_of_one():
    pages = [
        message
        for number in range(5)
        for message in (
            call("fetch", f"c{number}", n=number),
            result(f"{'abcdefgh'[number] * 9} tag_of_all is in this text too {number}", f"c{number}"),
        )
    ]
    assert {one.state for one in verdicts([*pages, *said(*["It is tag_of_all."] * 4)])[1::2][:5]} == {"leaked"}


def test_a_word_or_two_by_chance_are_no_reference():
    text = PAGE + "Further remarks about weather, gardens, furniture and painting follow below this line."
    assert one_result(text, "The weather is fine.", "Nice gardens here.", FILLER, FILLER).state == "leaked"


def test_a_short_answer_is_used_by_few_words():
    assert one_result("The capital is Paris", FILLER, "Its capital: Paris.", FILLER).state == "active"


def test_the_newest_results_are_active():
    messages = [CtxMessage("user", "Go"), call("fetch", "c1"), result(PAGE, "c1"), result("more" * 500, "c2")]
    assert [one.state for one in verdicts(messages)] == ["active"] * 4
    assert verdicts(messages)[2].reason == "no output since it arrived"


@pytest.mark.parametrize("outputs", range(1, ENOUGH_OUTPUTS))
def test_too_few_outputs_condemn_nobody(outputs):
    verdict = one_result(PAGE, *[FILLER] * outputs)
    assert verdict.state == "active"
    assert "too few to judge" in verdict.reason


@pytest.mark.parametrize("text", ["ok", "Done.", "true", "File written", "", "---------", "🎉" * 300])
def test_acknowledgements_and_the_unrecognisable_are_not_leaked(text):
    assert one_result(text, *[FILLER] * 20).state == "cold"


def test_heat_falls_with_the_outputs_since_the_last_use():
    use = "reconcile_pallet_counts it is."
    for after, state in [
        (0, "active"),
        (ACTIVE_OUTPUTS - 1, "active"),
        (ACTIVE_OUTPUTS, "warm"),
        (WARM_OUTPUTS - 1, "warm"),
        (WARM_OUTPUTS, "cold"),
        (60, "cold"),
    ]:
        assert one_result(PAGE, use, *[FILLER] * after).state == state


def test_a_duplicate_leaks_and_the_later_copy_stays():
    messages = [
        call("read", "c1", path="a"),
        result(PAGE, "c1"),
        *said("So 48,213.50 it is."),
        call("run", "c2", command="cat a"),
        result(f"\n{PAGE}", "c2"),
    ]
    found = verdicts(messages)
    assert found[1].state == "leaked"
    assert found[1].reason == "duplicate: message 4 holds the same"
    assert found[1].leak == "duplicate"
    assert found[1].last_used_by == 2
    assert found[4].state == "active"


def test_what_is_said_after_a_copy_came_is_read_from_the_copy():
    messages = [
        call("read", "c1", path="a"),
        result(PAGE, "c1"),
        call("run", "c2", command="cat a"),
        result(PAGE, "c2"),
        *said(*["So 48,213.50 by reconcile_pallet_counts."] * 3),
    ]
    assert [verdicts(messages)[at].state for at in (1, 3)] == ["leaked", "active"]


def test_short_findings_that_agree_are_not_copies():
    messages = [call("a", "c1"), result("No matches found", "c1"), call("b", "c2"), result("No matches found", "c2")]
    assert verdicts([*messages, *said(FILLER)])[1].state != "leaked"


def test_equal_images_are_copies():
    shot = [Part("image", data={"url": "data:image/png;base64,AAAA"})]
    messages = [
        call("shot", "c1", n=1),
        CtxMessage("tool", "", "c1", parts=shot),
        call("shot", "c2", n=2),
        CtxMessage("tool", "", "c2", parts=list(shot)),
    ]
    assert [one.state for one in verdicts(messages)] == ["active", "leaked", "active", "active"]


def test_the_same_call_again_supersedes_what_it_gave_before():
    messages = [
        call("read", "c1", path="a.py", limit=5),
        result("old content of the file", "c1"),
        *said(FILLER),
        CtxMessage("assistant", "", tool_calls=[ToolCall("read", '{"limit":5, "path" : "a.py"}', "c2")]),
        result("new content of the file", "c2"),
        *said(FILLER),
    ]
    found = verdicts(messages)
    assert found[1].state == "leaked"
    assert found[1].reason == "superseded: read was called again, message 4"
    assert found[1].leak == "superseded"
    assert found[4].state == "active"


@pytest.mark.parametrize("again", [{"path": "b.py"}, {"path": "a.py", "limit": 5}])
def test_other_arguments_are_another_call(again):
    messages = [
        call("read", "c1", path="a.py"),
        result("old content", "c1"),
        call("read", "c2", **again),
        result("new content", "c2"),
        *said(FILLER),
    ]
    assert verdicts(messages)[1].state != "leaked"


def test_a_superseded_result_still_referred_to_is_in_use():
    messages = [
        call("total", "c1"),
        result("The total was 48,213 before.", "c1"),
        call("total", "c2"),
        result("The total is 51,977 now.", "c2"),
        *said("It went from 48,213 to 51,977."),
    ]
    assert [verdicts(messages)[at].state for at in (1, 3)] == ["active", "active"]


@pytest.mark.parametrize(
    "failure", ["Error: file not found", "  Traceback (most recent call last):\n…", "", "timed out"]
)
def test_a_failed_repeat_supersedes_nothing(failure):
    messages = [
        call("read", "c1", path="a"),
        result(PAGE, "c1"),
        *said("So 48,213.50 it is."),
        call("read", "c2", path="a"),
        result(failure, "c2"),
    ]
    assert verdicts(messages)[1].state == "active"


def test_an_id_used_again_belongs_to_the_call_before_the_result():
    messages = [
        call("read", "c", path="a"),
        result("content of a, quite long and unlike any other", "c"),
        call("read", "c", path="b"),
        result("content of b, quite long and unlike any other", "c"),
        *said(FILLER),
    ]
    assert verdicts(messages)[1].state == "active"


def test_a_call_is_in_use_while_its_result_is():
    messages = [call("fetch", "c1"), result(PAGE, "c1"), *said(*[FILLER] * 8, "It is 48,213.50.")]
    found = verdicts(messages)
    assert (found[0].state, found[0].reason) == ("active", "its result, message 1, is active")


def test_users_and_outputs_are_never_leaked():
    messages = [CtxMessage("user", PAGE), *said(PAGE.upper()), CtxMessage("observer", PAGE), *said(*[FILLER] * 30)]
    assert {one.state for one in verdicts(messages)[:3]} == {"cold"}


def test_instructions_are_always_active():
    messages = [CtxMessage("developer", "Be brief."), *said(*[FILLER] * 30)]
    found = verdicts(messages, "You are careful.")
    assert found[0] == BlockVerdict(None, "system", found[0].tokens, "active", "the system prompt is always active")
    assert found[1].state == "active"


@pytest.mark.parametrize(
    "text",
    [
        "Привет, отчёт о складе: задержка в Роттердаме на 48213 рублей",
        "仓库报告：鹿特丹的托盘延误了很多天，需要重新核对",
    ],
)
def test_other_scripts_are_recognised(text):
    assert one_result(text, FILLER, f"→ {text}", FILLER).state == "active"


def test_nothing_said_yet_is_all_active():
    messages = [CtxMessage("user", ""), CtxMessage("user", "", parts=[Part("image", data="AAAA")])]
    assert {one.state for one in verdicts(messages)} == {"active"}
