"""The steps of a recorded run, in the form in which suspects are looked for."""

from __future__ import annotations

from trace_recordings import Tape

from unspool.events import CtxMessage, ToolCall
from unspool.trace.from_recording import recorded_trace
from unspool.trace.turns import suspect_steps, turns_of

USER = CtxMessage("user", "What is the population of the capital of Australia?")
ASKED = ToolCall("lookup", '{"city": "Sydney-Harbour", "atlas": "Atlas-1911"}', id="c1")


def wrong_run(tape: Tape) -> None:
    """The first answer takes the wrong city; a tool looks it up; the others go on with it."""
    tape.model(10, messages=[USER], text="The capital is Sydney-Harbour.", tool_calls=[ASKED])
    tape.tool(25, name="lookup", args={"city": "Sydney-Harbour"}, result={"Sydney-Harbour": 5231147})
    said = CtxMessage("assistant", "The capital is Sydney-Harbour.", tool_calls=[ASKED])
    told = CtxMessage("tool", '{"Sydney-Harbour": 5231147}', tool_call_id="c1")
    tape.model(40, messages=[USER, said, told], text="Sydney-Harbour has 5231147, by Atlas-1911.")
    tape.end(60, "exited: ValueError: wrong")


def test_each_thing_said_is_one_turn_in_the_order_of_time(tmp_path):
    tape = Tape(tmp_path)
    wrong_run(tape)
    turns = turns_of(recorded_trace([tape.read()]))
    assert [(turn.speaker, turn.given) for _, turn in turns] == [
        ("user", True),
        ("test", False),
        ("lookup", True),
        ("test", False),
    ]
    assert turns[1][1].asks == ["lookup"]
    assert "Atlas-1911" in turns[1][1].text
    assert "5231147" in turns[2][1].text
    assert [span.kind for span, _ in turns] == ["llm", "llm", "tool", "llm"]


def test_what_the_last_answer_rests_on_comes_first(tmp_path):
    tape = Tape(tmp_path)
    wrong_run(tape)
    found = suspect_steps(recorded_trace([tape.read()]))
    assert [span.attributes["unspool.call"] for span, _, _ in found] == [1, 2]
    assert "the last answer does" in found[0][2].reasons


def test_a_tool_that_failed_is_trouble_whatever_its_words(tmp_path):
    tape = Tape(tmp_path)
    tape.model(10, messages=[USER], text="alpha one")
    tape.model(30, messages=[USER], text="beta two")
    tape.tool(45, name="store", err="ZeroDivisionError: division by zero")
    tape.model(60, messages=[USER], text="gamma three")
    tape.end(80)
    found = suspect_steps(recorded_trace([tape.read()]))
    assert found[0][0].attributes["unspool.call"] == 2
    assert found[0][2].reasons == ["trouble right after it"]


def test_a_single_step_is_no_choice(tmp_path):
    tape = Tape(tmp_path)
    tape.model(10, messages=[USER], text="alpha one")
    tape.end(30)
    assert suspect_steps(recorded_trace([tape.read()])) == []


def test_examples_are_nobodys_decision(tmp_path):
    tape = Tape(tmp_path)
    tape.model(10, messages=[CtxMessage("assistant", "an example"), USER], text="alpha one")
    tape.end(30)
    turns = turns_of(recorded_trace([tape.read()]))
    assert [(turn.speaker, turn.given) for _, turn in turns] == [("assistant", True), ("user", True), ("test", False)]
