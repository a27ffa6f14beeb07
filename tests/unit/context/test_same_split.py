"""What a message takes is one number: in the profile of a context, in its costs, and in the blame of its run."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from made_contexts import Talk, tool

from unspool.context.calls import Block, Run
from unspool.context.composition import compose
from unspool.context.reading import read_run
from unspool.recording.reader import RecordReader
from unspool.trace.carried import CarriedCost, carried_cost
from unspool.trace.from_recording import recorded_trace

NUMBERS = "\n".join(f"2026-03-{day:02d} charge ch_{day * 7919:x} {day * 13}.50 EUR ok" for day in range(1, 200))
PROSE = "The customer wrote that the parcel came late and that the box was open. " * 12
CITED = [{"type": "url_citation", "url_citation": {"url": "https://x", "title": "X"}}]


def both(reader: RecordReader) -> tuple[Run, CarriedCost]:
    return read_run(reader), carried_cost(recorded_trace([reader]))


def results(run: Run) -> dict[str, Block]:
    return {block.name: block for block in run.blocks if block.is_tool_result}


def worked(talk: Talk) -> Talk:
    """A run like the demo's: tools, a long log of numbers, a refused call, a question at the end."""
    talk.tools = [tool("payment_log"), tool("get_ticket", "Read a ticket. " * 10)]
    talk.user("Why was the customer charged twice?")
    talk.use("get_ticket", PROSE, say="I read the ticket.")
    talk.use("payment_log", NUMBERS, say="Now the charges.")
    talk.send().answer("", error="429 Too Many Requests")
    return talk.ask("Twice on the third.").user("And then?").ask("A refund.")


def test_the_profile_and_the_blame_name_the_same_tokens(tmp_path: Path) -> None:
    run, carried = both(worked(Talk(tmp_path)).close())
    blocks = results(run)
    entries = {entry.producer.name: entry for entry in carried.entries if entry.producer.kind == "tool"}
    assert blocks.keys() == entries.keys() == {"payment_log", "get_ticket"}
    for name, block in blocks.items():
        assert entries[name].tokens == pytest.approx(block.weight, abs=0.5)
        for call in run.calls:
            shown = {id(one): tokens for one, tokens in compose(call).by_block()}
            assert shown.get(id(block)) in (None, round(entries[name].tokens))


def test_a_result_takes_what_the_counts_grew_by(tmp_path: Path) -> None:
    """A log of numbers has other tokens a character than prose: each is as long as the counts say."""
    talk = worked(Talk(tmp_path))
    run = read_run(talk.close())
    counted = [call for call in run.calls if call.is_counted]
    for before, call in itertools.pairwise(counted):
        new = [block for block in call.messages if block not in before.messages]
        assert sum(block.weight for block in new) == pytest.approx(call.tokens - before.tokens, abs=1)
    assert len({call.unseen for call in counted}) == 1
    assert all(call.factor == pytest.approx(1.0, abs=1e-3) for call in run.calls)


def searched(talk: Talk) -> Talk:
    """In the second of four calls the provider reads 12,000 tokens of pages."""
    talk.more = {"web_search_options": {}}
    talk.user("How high is it?").ask("It is 3,747 m high.").user(f"Look it up. {PROSE}")
    talk.unseen += 12_000
    talk.send().answer("Britannica says 3,747 m.", marks=CITED)
    talk.unseen -= 12_000
    return talk.user("Thank you. And 2 + 2?").ask("4").user("And 3 + 3?").ask("6")


def test_pages_that_the_provider_searched_are_a_block_of_their_own(tmp_path: Path) -> None:
    run, carried = both(searched(Talk(tmp_path)).close())
    first, second, third, last = run.calls
    assert second.beyond == "a search ran at the provider"
    assert [call.beyond for call in (first, third, last)] == [None, None, None]
    assert second.unseen == pytest.approx(12_040, abs=150)
    assert max(call.unseen for call in (first, third, last)) < 150
    # The visible messages are no dearer for it, here or later.
    visible = sum(tokens for _, tokens in compose(second).by_block())
    assert visible + second.unseen == second.tokens
    assert visible < 400
    [own] = [entry for entry in carried.entries if entry.producer.kind == "provider"]
    assert own.producer.name == "not in the requests"
    assert own.sent_tokens == pytest.approx(sum(call.unseen for call in run.calls), abs=2)
    assert sum(entry.sent_tokens for entry in carried.entries) == pytest.approx(sum(call.tokens for call in run.calls))


def test_a_count_with_pages_predicts_no_other_call(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    talk.more = {"web_search_options": {}}
    talk.unseen = 12_000
    talk.user("How high is it?").send().answer("Very high.", marks=CITED)
    talk.unseen, talk.is_counted = 40, False
    run = read_run(talk.user("And 2 + 2?").ask("4").close())
    assert not run.calls[1].is_counted
    assert run.calls[1].tokens < 200
