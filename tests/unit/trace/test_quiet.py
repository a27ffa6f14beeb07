"""The garbage collector while much is made."""

from __future__ import annotations

import gc

import pytest

from unspool.trace import quiet


@pytest.mark.parametrize(("least", "looked_at"), [(10, False), (1_000_000, True)])
def test_what_was_made_is_not_looked_at_at_once_if_it_is_much(monkeypatch, least, looked_at):
    monkeypatch.setattr(quiet, "_MANY", least)
    gc.collect()
    with quiet.gc_paused():
        made = [[] for _ in range(5000)]
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    young = {id(one) for generation in (0, 1) for one in gc.get_objects(generation)}
    assert (id(made[0]) in young) is looked_at
    assert all(gc.is_tracked(one) for one in made[:3])


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with quiet.gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
