"""Looking at one call after another of a run with a memory finds what a fresh look at each finds."""

from __future__ import annotations

import pytest
from bench_web import write_run

from unspool.cli.ctx_view import Costs
from unspool.cli.prices import Prices
from unspool.context.charges import Charges
from unspool.context.lives import live
from unspool.context.memory import Memory, Texts
from unspool.context.reading import read_run
from unspool.events import CtxMessage
from unspool.recording.reader import RecordReader
from unspool.store import Store


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run with compactions, its reader, and prices."""
    store = Store(tmp_path_factory.mktemp("memory") / "store").ensure()
    name, _ = write_run(store, calls=210, events=1_260)
    with RecordReader(store.records / name) as reader:
        run = read_run(reader)
        assert run.rewritten
        yield run, reader, Costs(reader, Prices())


def found(lives):
    return [(one.state, one.reason, one.leak, one.uses, one.fate, one.gone_at, one.part) for one in lives.lives]


def test_lives_are_the_same_with_a_memory_in_any_order_of_calls(recorded):
    run, reader, costs = recorded

    def answer_of(call):
        return reader.response_of(call.answer)

    memory = Memory()
    for position in (209, 12, 160, 0, 151, 208):
        call = run.calls[position]
        fresh, kept = live(run, call, answer_of, costs), live(run, call, answer_of, costs, memory=memory)
        assert found(kept) == found(fresh)
        for one, other in zip(kept.lives, fresh.lives, strict=True):
            assert one.charge == pytest.approx(other.charge, rel=1e-9, abs=1e-12)
            assert one.wasted == pytest.approx(other.wasted, rel=1e-9, abs=1e-12)


def test_the_charge_of_one_block_alone_is_that_among_all(recorded):
    run, _, costs = recorded
    charges = Charges(run.calls, costs)
    asked = [(block, position) for block in run.blocks[::7] for position in (0, 40, 155, 209)]
    together = Charges(run.calls, costs).since(asked)
    assert any(charge.cached and charge.usd for charge in together.values())
    for block, position in asked:
        expected = together[id(block), position]
        assert charges.alone(block, position) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_marks_asked_for_later_are_found_in_texts_read_before():
    texts, message = Texts(), CtxMessage("tool", "src/app/main.py holds refresh_token")
    texts.ask_for({"src/app/main.py"})
    assert texts.held(message, {"src/app/main.py"})[0] == {"src/app/main.py"}
    texts.ask_for({"refreshtoken"})
    assert texts.held(message, {"refreshtoken"})[0] == {"refreshtoken"}
    assert texts.held(message, {"refreshtoken", "src/app/main.py"})[0] == {"refreshtoken", "src/app/main.py"}
