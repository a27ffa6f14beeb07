"""The snapshot in force at a point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_fakes import Events, snapshot, syscall

from unspool.errors import NoSnapshot
from unspool.replay import SnapshotFinder


@pytest.mark.parametrize(("seq", "found"), [(3, 3), (4, 3), (6, 3), (7, 7), (8, 7), (10**12, 7)])
def test_the_nearest_at_or_before_also_for_numbers_that_do_not_exist(seq, found):
    events = [syscall(1), snapshot(3), syscall(5), snapshot(7), syscall(9)]
    assert SnapshotFinder(events).find_nearest_before(seq).seq_num == found


@pytest.mark.parametrize(
    ("events", "seq"), [([], 5), ([syscall(1)], 5), ([syscall(1), snapshot(3)], 2), ([snapshot(1)], -1)]
)
def test_without_one_it_says_so(events, seq):
    with pytest.raises(NoSnapshot, match=f"no context snapshot found before SeqNum {seq}") as caught:
        SnapshotFinder(events).find_nearest_before(seq)
    assert caught.value.seq_num == seq


def test_whether_there_are_any():
    assert not SnapshotFinder([]).has_snapshots()
    assert not SnapshotFinder([syscall(1)]).has_snapshots()
    assert SnapshotFinder([syscall(1), snapshot(2)]).has_snapshots()


def test_it_looks_at_few_events_of_many():
    events = Events(lambda i: snapshot(i + 1) if i % 10 == 0 else syscall(i + 1), 1_000_000)
    assert SnapshotFinder(events).find_nearest_before(777_777).seq_num == 777_771
    assert events.asked < 50


def test_a_sequence_that_can_give_bare_events_is_asked_for_those():
    class Bare(Events):
        def bare(self, index: int):
            return self.make(index)

    events = Bare(lambda i: snapshot(i + 1) if i == 0 else syscall(i + 1), 100)
    assert SnapshotFinder(events).find_nearest_before(100).seq_num == 1
    assert SnapshotFinder(events).has_snapshots()
    assert events.asked == 1


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), unique_by=lambda pair: pair[0]), st.integers(-2, 65))
def test_it_agrees_with_a_plain_search(numbers, seq):
    events = [snapshot(n) if is_snapshot else syscall(n) for n, is_snapshot in sorted(numbers)]
    expected = max((n for n, is_snapshot in numbers if is_snapshot and n <= seq), default=None)
    if expected is None:
        with pytest.raises(NoSnapshot):
            SnapshotFinder(events).find_nearest_before(seq)
    else:
        assert SnapshotFinder(events).find_nearest_before(seq).seq_num == expected
