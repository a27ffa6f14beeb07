"""The longest common subsequence, where memory and size matter; its truth is in property/test_replay_diff.py."""

from __future__ import annotations

import pytest

from unspool.replay import sequence
from unspool.replay.sequence import common_subsequence


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [("", "", 0), ("abc", "", 0), ("abc", "abc", 3), ("abc", "xyz", 0), ("abcabba", "cbabac", 4), ("aab", "ab", 2)],
)
def test_known_lengths(first, second, length):
    assert len(common_subsequence(first, second)) == length


def test_with_little_memory_the_work_is_halved_and_the_result_as_long(monkeypatch):
    first = [n * n % 31 for n in range(300)]
    second = [n * n * n % 31 for n in range(280)]
    whole = common_subsequence(first, second)
    monkeypatch.setattr(sequence, "_MAX_BITS", 100)
    halved = common_subsequence(first, second)
    assert len(halved) == len(whole)
    assert all(first[i] == second[j] for i, j in halved)
    assert halved == sorted(halved)


@pytest.mark.timeout(60)
def test_many_differences_come_to_an_end():
    first = [n * n % 7 for n in range(5000)]
    second = [n * n * n % 11 % 7 for n in range(5000)]
    assert common_subsequence(first, second)
