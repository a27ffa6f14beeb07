"""Texts in tokens without a tokenizer: near the real ones, and never more than a moment's work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.tokens import estimate_tokens


# Counts of o200k_base, OpenAI's tokenizer.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("You are a helpful assistant. Answer in one sentence, and say so if you do not know.", 20),
        ("def total(prices: list[float]) -> float:\n    return sum(price for price in prices if price > 0)\n", 26),
        ('{"city": "Paris", "population": 2102650, "mayor": null, "districts": [1, 2, 3]}', 33),
        ("2026-03-04T12:30:01.204Z INFO worker-3 request id=9f31c2aa took 118 ms\n" * 10, 330),
    ],
)
def test_texts_of_agents_are_near_their_count(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == pytest.approx(tokens, rel=0.15)


def test_nothing_is_nothing_and_something_is_one_at_least() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("a") == 1
    assert estimate_tokens("\x00") == 1


@given(st.text(max_size=200))
def test_any_text_has_a_count_and_half_a_surrogate_is_no_error(text: str) -> None:
    assert estimate_tokens(text + "\ud800") >= 1
    assert estimate_tokens(text) >= bool(text)


def test_a_long_text_is_near_the_sum_of_its_pieces() -> None:
    """Of long texts samples are looked at, which must see both halves of one that changes."""
    prose, numbers = "The result of the search is in the table below.\n" * 8_000, "48213, 9917, 20.5, 7\n" * 20_000
    apart = estimate_tokens(prose) + estimate_tokens(numbers)
    assert estimate_tokens(prose + numbers) == pytest.approx(apart, rel=0.03)
    assert estimate_tokens(prose) == pytest.approx(80 * estimate_tokens(prose[:4_800]), rel=0.02)


@pytest.mark.parametrize("char", "x. 1A\nß日🜁")
def test_a_long_run_of_one_character_is_no_more_than_its_characters(char: str) -> None:
    assert 1 <= estimate_tokens(char * 3_000) <= 6_100
