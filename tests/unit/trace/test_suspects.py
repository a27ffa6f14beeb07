"""The order in which to look at the steps of a run that went wrong."""

from __future__ import annotations

from unspool.trace.suspects import Turn, suspects

RUN = [
    Turn("user", "What is the population of the capital of Australia?", given=True),
    Turn("planner", "First the capital, then how many live there."),
    Turn("expert", "The capital of Australia is Sydney, found in Atlas-1911 on page 4711."),
    Turn("terminal", "Sydney 5231147 as of Atlas-1911", given=True),
    Turn("checker", "Sydney has 5231147, by Atlas-1911 page 4711."),
    Turn("writer", "Sydney: 5231147."),
]


def test_what_the_rest_rests_on_comes_first():
    found = suspects(RUN)
    assert found[0].step == 2
    assert found[0].speaker == "expert"
    assert "the last answer does" in found[0].reasons


def test_what_the_world_gave_is_no_suspect():
    assert {one.step for one in suspects(RUN)} == {1, 2, 4, 5}


def test_trouble_right_after_a_step_counts():
    calm = [Turn("a", "alpha one"), Turn("b", "beta two"), Turn("c", "gamma three"), Turn("d", "delta four")]
    assert [one.step for one in suspects(calm)] == [0, 1, 2, 3]
    troubled = [*calm[:3], Turn("d", "Traceback (most recent call last)", given=True)]
    found = suspects(troubled)
    assert found[0].step == 2
    assert found[0].reasons == ["trouble right after it"]


def test_no_steps_and_empty_steps():
    assert suspects([]) == []
    assert suspects([Turn("a", "")]) == []
    assert [one.step for one in suspects([Turn("a", "one")])] == [0]


def test_the_step_whose_result_is_the_answers_number_is_suspect():
    """What is asked for decides what comes back: the tool cannot be blamed, who asked it for that can."""
    turns = [
        Turn("user", "how much do we owe?", given=True),
        Turn("agent", "first the rate", asks=["rate"]),
        Turn("rate", "1.25 as of 2018", given=True),
        Turn("agent", "and the sum", asks=["sum"]),
        Turn("other", "busy with something else"),
        Turn("sum", "411.25", given=True),
        Turn("agent", "altogether they are owed 411.25"),
    ]
    found = {one.step: one for one in suspects(turns)}
    said = "what it asked for gave the last answer its 411.25"
    assert [step for step, one in sorted(found.items()) if said in one.reasons] == [3]
    plain = {one.step: one.score for one in suspects([*turns[:6], Turn("agent", "altogether they are owed that much")])}
    assert found[3].score > plain[3]
