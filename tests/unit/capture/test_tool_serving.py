"""Tools in a rerun, in this process: the call that asks, and the answer it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import unspool
from unspool.capture import rerun
from unspool.capture.runtime import runtime
from unspool.serving.journal import Entry, read_journal
from unspool.serving.offers import make_plan, open_tree
from unspool.serving.plan import write_plan
from unspool.serving.stage import Stage
from unspool.store import Store


class Bench:
    """A store with one recording, and a stage made of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = folder / "store"
        self.folder = folder / "rerun"
        self.ran: list[object] = []
        self._monkeypatch = monkeypatch

    def record(self) -> unspool.record:
        return unspool.record("bench", store=self.store)

    def stage(self, record_id: str | None, **rules: object) -> None:
        assert record_id is not None
        readers = open_tree(Store(self.store), record_id)
        plan, offers = make_plan(readers, **rules)  # type: ignore[arg-type]
        for reader in readers:
            reader.close()
        self.folder.mkdir()
        write_plan(self.folder, plan, offers)
        self._monkeypatch.setattr(rerun, "_stage", Stage(self.folder))

    def journal(self) -> list[Entry]:
        return [entry for entry in read_journal(self.folder) if entry.kind in ("tool", "divergence")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield Bench(tmp_path, monkeypatch)
    assert not runtime.armed


def test_a_method_is_served_without_its_object(bench: Bench) -> None:
    class Kit:
        @unspool.tool
        def double(self, number: int) -> list[int]:
            bench.ran.append(number)
            return [number] * 2

    with bench.record() as first:
        assert Kit().double(3) == [3, 3]
    bench.stage(first.record_id)
    with bench.record():
        served = Kit().double(number=3)
    assert (served, bench.ran) == ([3, 3], [3])
    served.append(4)  # it is the caller's own, as it was
    assert [(entry.match, entry.path) for entry in bench.journal()] == [("served", "/dev/tool/double")]


def test_equal_calls_get_their_answers_in_order(bench: Bench) -> None:
    answers = iter("abcdef")

    @unspool.tool
    def draw() -> str:
        return next(answers)

    with bench.record() as first:
        assert [draw(), draw(), draw()] == ["a", "b", "c"]
    bench.stage(first.record_id)
    with bench.record():
        assert [draw(), draw(), draw()] == ["a", "b", "c"]
    assert next(answers) == "d"


def test_a_live_tool_asks_for_what_it_did_inside(bench: Bench) -> None:
    @unspool.tool
    def inner(word: str) -> str:
        bench.ran.append(word)
        return word.upper()

    @unspool.tool
    def outer(word: str) -> str:
        bench.ran.append(f"outer {word}")
        return inner(word)

    with bench.record() as first:
        assert [outer("a"), inner("a")] == ["A", "A"]
    bench.stage(first.record_id, live_tools=["outer"])
    bench.ran.clear()
    with bench.record():
        assert [outer("a"), inner("a")] == ["A", "A"]
    assert bench.ran == ["outer a"]
    assert [(entry.match, entry.offer) for entry in bench.journal()] == [("live", 1), ("served", 2), ("served", 3)]


def test_an_async_generator_is_served_item_by_item(bench: Bench) -> None:
    @unspool.tool
    async def count(limit: int):
        for number in range(limit):
            bench.ran.append(number)
            yield number

    async def first_two() -> list[int]:
        got = []
        numbers = count(5)
        async for number in numbers:
            got.append(number)
            if number == 1:
                break
        await numbers.aclose()
        return got

    with bench.record() as first:
        assert asyncio.run(first_two()) == [0, 1]
    bench.stage(first.record_id)
    with bench.record() as second:
        assert asyncio.run(first_two()) == [0, 1]
    assert bench.ran == [0, 1]
    with unspool.load(second.record_id, store=bench.store) as reader:
        [event] = [one for one in reader.events() if one.syscall is not None]
    assert event.syscall is not None
    assert (event.syscall.result, event.syscall.err, event.origin) == ([0, 1], "", "served")


def test_a_generator_that_returned_something_runs(bench: Bench) -> None:
    @unspool.tool
    def count():
        bench.ran.append("ran")
        yield 1
        return "the end"

    def through():
        return (yield from count())

    def end_of(generator: Iterator[int]) -> object:
        while True:
            try:
                next(generator)
            except StopIteration as end:
                return end.value

    with bench.record() as first:
        assert end_of(through()) == "the end"
    bench.stage(first.record_id)
    with bench.record():
        assert end_of(through()) == "the end"
    [entry] = bench.journal()
    assert entry.match == "live"
    assert "its result was a generator that returned a builtins.str" in (entry.reason or "")
    assert bench.ran == ["ran", "ran"]


def test_a_missing_recording_is_a_reason_to_run(bench: Bench, tmp_path: Path) -> None:
    @unspool.tool
    def once() -> int:
        bench.ran.append(1)
        return 1

    with bench.record() as first:
        once()
    bench.stage(first.record_id)
    assert first.record_dir is not None
    first.record_dir.rename(tmp_path / "elsewhere")
    with bench.record():
        assert once() == 1
    [entry] = bench.journal()
    assert (entry.match, bench.ran) == ("live", [1, 1])
    assert (entry.reason or "").startswith("its recorded result cannot be read")
