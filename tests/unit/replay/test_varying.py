"""Pieces of text that are not the same in each run."""

from __future__ import annotations

import pytest

from unspool.replay.varying import varying_pieces

TIMES = [
    ("2026-01-02", "2026-01-03"),
    ("2026-01-02T10:20:30Z", "2026-01-02T10:20:31Z"),
    ("2026-01-02 10:20:30.123456+00:00", "2026-01-02 10:20:31.5+00:00"),
    ("10:20:30", "10:20:31"),
    ("9:05 PM", "9:06 PM"),
    ("1767225600", "1767225601"),
    ("1767225600123", "1767225600124"),
    ("1767225600.25", "1767225601.5"),
    ("Jan 2, 2026", "Jan 3, 2026"),
    ("2 January 2026", "3 January 2026"),
    ("02/01/2026", "03/01/2026"),
]
IDS = [
    ("bf007548-a4bd-49f1-b831-19c0a96c1191", "d31e275b-c48f-4446-8ae0-870800f5b99b"),
    ("0x7fcc75572090", "0x7fd2eb718050"),
    ("19b29124eda5", "39e2d4b06f02"),
    ("call_A1b2C3d4E5", "call_Z9y8X7w6V5"),
    ("/tmp/tmpab12/x", "/tmp/tmpzz/x"),
]


@pytest.mark.parametrize(("before", "after"), TIMES)
def test_a_time_is_known_as_one(before: str, after: str) -> None:
    assert {kind for kind, _, _ in varying_pieces(f"now: {before}.", f"now: {after}.")} == {"clock"}


@pytest.mark.parametrize(("before", "after"), IDS)
def test_an_id_is_known_as_one(before: str, after: str) -> None:
    assert {kind for kind, _, _ in varying_pieces(f"<{before}>", f"<{after}>")} == {"random"}


def test_other_numbers_are_numbers() -> None:
    assert varying_pieces("took 0.25 s", "took 1.5 s") == [("number", "0.25", "1.5")]


def test_several_in_one_text_are_told_apart() -> None:
    before, after = (f"at {time} in {seconds} s" for time, seconds in (("10:20:30", "0.1"), ("10:20:31", "0.2")))
    assert [kind for kind, _, _ in varying_pieces(before, after)] == ["clock", "number"]


@pytest.mark.parametrize(("before", "after"), [("yes 1", "no 2"), ("same", "same"), ("1 and 2", "1"), ("a", "b")])
def test_a_text_that_differs_otherwise_has_none(before: str, after: str) -> None:
    assert varying_pieces(before, after) == []
