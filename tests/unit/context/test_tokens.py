"""Estimates follow the script; shares sum to the whole."""

from __future__ import annotations

import pytest

from unspool.context.tokens import apportion, estimate_message, estimate_tokens
from unspool.events import CtxMessage


def test_no_text_has_no_tokens_and_any_text_has_one():
    assert estimate_tokens("") == 0
    assert estimate_tokens("a") == estimate_tokens(" ") == 1


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        # What the tokenizers of OpenAI and Anthropic give, in round numbers.
        ("The quick brown fox jumps over the lazy dog. " * 10, 90, 130),
        ("人工智能正在改变世界的每一个角落" * 10, 110, 200),
        ("Быстрая коричневая лиса перепрыгивает ленивую собаку " * 10, 150, 300),
        ("🎉🚀" * 10, 30, 60),
        ("1234567890" * 10, 34, 80),
        ("def f(x):\n    return {'a': [x[0], x[1]]}\n" * 10, 100, 220),
    ],
)
def test_the_estimate_is_near_for_any_script(text, least, most):
    # D 70: length / 4 is 0 for short texts, a third of the truth for Chinese, half of it for code.
    assert least <= estimate_tokens(text) <= most


def test_a_message_has_a_frame():
    assert estimate_message(CtxMessage("user", "")) > 0


@pytest.mark.parametrize(
    ("weights", "total", "shares"),
    [
        ([], 5, []),
        ([1, 1, 1], 10, [4, 3, 3]),
        ([0, 0], 3, [2, 1]),
        ([5, 3, 2], 1, [1, 0, 0]),
        ([1, 2, 7], 0, [0, 0, 0]),
        ([1, 10**18], 10**18 + 1, [1, 10**18]),
    ],
)
def test_shares_sum_to_the_total(weights, total, shares):
    assert apportion(weights, total) == shares
