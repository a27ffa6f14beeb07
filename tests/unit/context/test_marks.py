"""What a text can be recognised by, and how surely."""

from __future__ import annotations

import pytest

from unspool.context.marks import Spoken, held_marks, number_key, number_strength


@pytest.mark.parametrize(
    ("number", "strength"),
    [
        ("7", 0.0),
        ("3,000,000", 0.0),  # one digit that says anything
        ("42", 0.25),
        ("1.5", 0.25),
        ("404", 0.9),
        ("2024", 0.3),
        ("2024.5", 1.0),
        ("8081", 1.0),
        ("48,213.50", 1.0),
    ],
)
def test_a_number_proves_by_its_significant_digits(number, strength):
    assert number_strength(number) == strength


def test_a_number_has_one_spelling():
    assert {number_key(text) for text in ("48,213", "48213", "48213.00", "048213")} == {"#48213"}
    assert number_key("0") == number_key("0.0") == "#0"
    assert number_key("2024-05-15") == "#2024-05-15"


@pytest.mark.parametrize(
    ("said", "stood"),
    [
        ("src/auth.py:88", "see ./src/auth.py"),
        ("auth.py", "/home/me/src/auth.py:12:3 E501"),
        ("mia_li_3668", '{"user": "mia_li_3668"}'),
        ("HAT069", "flight_number: HAT069,"),
        ("rate-limit-42b", "[rate-limit-42b]"),
        ("a@example.org", "<a@example.org>"),
        ("the max retries", "maxRetries = 3 # MAX_RETRIES"),
        ("d41d8cd98f00b204e9800998ecf8427e", "md5 d41d8cd98f00b204e9800998ecf8427e"),
        ("2024-05-15", "on 2024-05-15."),
        ("zebra", r'{"text": "line one\nzebra\tline"}'),
        ("x" * 30, "x" * 30),
    ],
)
def test_what_was_said_is_found_where_it_stood(said, stood):
    spoken = Spoken(said)
    found, _ = held_marks(stood, set(spoken.all_keys()))
    assert any(spoken.get(key) for key in found)


@pytest.mark.parametrize(
    "text", ["and/or", "e.g. this", "can not", "some thing", "it is in the a b", "12 of 7", "", "…"]
)
def test_little_words_are_no_proof(text):
    spoken = Spoken(text)
    strengths = [mark.strength for key in spoken.all_keys() if (mark := spoken.get(key)) is not None]
    assert all(strength < 0.5 for strength in strengths)


def test_how_many_tokens_a_text_has_is_counted_once_each():
    assert held_marks("one two two three", set()) == (set(), 3)
