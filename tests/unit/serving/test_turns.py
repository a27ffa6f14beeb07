"""Answers come in the recorded order, whatever order they are asked for in."""

from __future__ import annotations

import asyncio
import threading

import pytest

from unspool.serving.plan import Offer
from unspool.serving.turns import Turns


def offer(number: int, started: int, answered: int | None, task: str = "") -> Offer:
    task = task or f"0.{number}"
    return Offer(number, "llm", "r", task=task, started=started, answered=answered, ended=answered)


class Desk:
    """Turns of some offers, and which of those were asked for."""

    def __init__(self, *offers: Offer) -> None:
        self.offers = {one.number: one for one in offers}
        self.asked: set[int] = set()
        self.missed: list[int] = []
        self.turns = Turns(offers, lambda one: one.number in self.asked, lambda one: self.missed.append(one.number))


def test_one_after_the_other_nobody_waits() -> None:
    desk = Desk(offer(1, 0, 10, "0"), offer(2, 20, 30, "0"), offer(3, 40, 50, "0"))
    for number in (1, 2, 3):
        desk.asked.add(number)
        assert desk.turns.arrive(desk.offers[number]) is None


@pytest.mark.parametrize("arrival", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_tasks_resume_in_the_order_of_their_answers(arrival: tuple[int, ...]) -> None:
    desk = Desk(offer(1, 0, 30), offer(2, 1, 10), offer(3, 2, 20))
    given = []

    async def ask(number: int) -> None:
        desk.asked.add(number)
        turn = desk.turns.arrive(desk.offers[number])
        if turn is not None:
            await turn.async_wait()
        given.append(number)

    async def main() -> None:
        await asyncio.gather(*map(ask, arrival))

    asyncio.run(main())
    assert given == [2, 3, 1]
    assert desk.missed == []


def test_threads_resume_in_the_order_of_their_answers() -> None:
    desk = Desk(offer(1, 0, 30), offer(2, 1, 10), offer(3, 2, 20))
    given = []

    def ask(number: int) -> None:
        desk.asked.add(number)
        turn = desk.turns.arrive(desk.offers[number])
        if turn is not None:
            turn.wait()
        given.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == [1, 2, 3]
    assert desk.missed == []


def test_what_never_comes_is_named_once_and_holds_up_nobody_any_more() -> None:
    desk = Desk(offer(1, 0, 30), offer(2, 1, 10), offer(3, 40, 60), offer(4, 41, 50))
    desk.asked.add(2)
    turn = desk.turns.arrive(desk.offers[2])
    assert turn is not None
    turn.wait()
    assert desk.missed == [1]
    desk.asked.add(3)
    assert desk.turns.arrive(desk.offers[3]) is None


def test_the_own_task_is_not_waited_for() -> None:
    """It cannot ask while it waits: what it did not ask was left out, and is noticed elsewhere."""
    desk = Desk(offer(1, 0, 10, "0"), offer(2, 5, 20, "0"))
    desk.asked.add(2)
    assert desk.turns.arrive(desk.offers[2]) is None


def test_a_cancelled_task_frees_the_way() -> None:
    desk = Desk(offer(1, 0, 10), offer(2, 1, 20), offer(3, 2, 5))
    given = []

    async def ask(number: int) -> None:
        desk.asked.add(number)
        turn = desk.turns.arrive(desk.offers[number])
        if turn is not None:
            await turn.async_wait()
        given.append(number)

    async def main() -> None:
        first, second = asyncio.create_task(ask(1)), asyncio.create_task(ask(2))
        await asyncio.sleep(0)
        first.cancel()
        await ask(3)
        await second

    asyncio.run(main())
    assert given == [3, 2]
