"""A limit on the cost of live calls, kept by several processes."""

from __future__ import annotations

import threading
from pathlib import Path

from unspool.serving.spending import Price, note_cost, price_of, why_no_more

CHEAP = Price("openai/m", 1.0, 2.0, 0.5, 1.5)
LONG = Price("openai/m", 10.0, 20.0, 5.0, 15.0, above=100)
OTHER = Price("openai/m-2026", 3.0, 3.0, 3.0, 3.0, request=7.0)


def test_the_price_is_that_of_the_first_known_model_and_of_the_length_of_the_prompt() -> None:
    prices = [CHEAP, LONG, OTHER]
    assert price_of(prices, ("openai/m", "openai/m-2026"), 100) is CHEAP
    assert price_of(prices, ("openai/m", "openai/m-2026"), 101) is LONG
    assert price_of(prices, ("openai/unknown", "openai/m-2026"), 0) is OTHER
    assert price_of(prices, ("anthropic/m",), 5) is None


def test_what_a_call_costs() -> None:
    assert CHEAP.cost(10, 3, 4, 2) == 4 * 1.0 + 4 * 0.5 + 2 * 1.5 + 3 * 2.0
    assert OTHER.cost(0, 0, 0, 0) == 7.0


def test_calls_are_allowed_until_the_limit_is_spent(tmp_path: Path) -> None:
    assert why_no_more(tmp_path, 1.0) is None
    assert "the limit is $0" in (why_no_more(tmp_path, 0.0) or "")
    threads = [threading.Thread(target=note_cost, args=(tmp_path, 0.25)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert why_no_more(tmp_path, 1.0) is None
    note_cost(tmp_path, 0.25)
    assert "$1.0000" in (why_no_more(tmp_path, 1.0) or "")


def test_a_cost_that_is_not_known_ends_it(tmp_path: Path) -> None:
    note_cost(tmp_path, None)
    assert "not known" in (why_no_more(tmp_path, 1000.0) or "")
