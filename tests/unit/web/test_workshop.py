"""What is worked out in the background: once, shared, and never passed off as newer than it is."""

from __future__ import annotations

import threading

import pytest

from unspool.web.workshop import Workshop

WAIT_S = 30.0


def test_the_same_question_is_worked_out_once():
    workshop = Workshop(wait_s=WAIT_S)
    made = []
    for _ in range(3):
        found = workshop.ask("key", 1, lambda: made.append(1) or "result")
        assert (found.value, found.is_current) == ("result", True)
    assert made == [1]


def test_a_page_that_does_not_wait_gets_nothing_yet_and_the_next_one_all():
    workshop = Workshop(wait_s=WAIT_S)
    go_on = threading.Event()

    def work() -> str:
        assert go_on.wait(WAIT_S)
        return "done"

    found = workshop.ask("key", 1, work, wait_s=0.0)
    assert (found.value, found.is_current) == (None, False)
    go_on.set()
    assert workshop.ask("key", 1, work).value == "done"


def test_while_a_newer_result_is_made_the_older_one_is_given_as_such():
    workshop = Workshop(wait_s=WAIT_S)
    assert workshop.ask("key", 1, lambda: "old").value == "old"
    go_on = threading.Event()

    def work() -> str:
        assert go_on.wait(WAIT_S)
        return "new"

    found = workshop.ask("key", 2, work)
    assert (found.value, found.is_current) == ("old", False)
    # Files that grow while it goes on do not make it begin again.
    found = workshop.ask("key", 3, lambda: pytest.fail("it is under way already"), wait_s=0.0)
    assert (found.value, found.is_current) == ("old", False)
    go_on.set()
    assert workshop.ask("key", 2, work, wait_s=WAIT_S).value == "new"
    assert workshop.ask("key", 3, lambda: "newest", wait_s=WAIT_S).value == "newest"


def test_a_failure_is_told_and_tried_again():
    workshop = Workshop(wait_s=WAIT_S)

    def fail() -> str:
        raise ValueError("no index")

    with pytest.raises(ValueError, match="no index"):
        workshop.ask("key", 1, fail)
    assert workshop.ask("key", 1, lambda: "well").value == "well"


def test_what_is_ordered_is_there_when_it_is_asked_for():
    workshop = Workshop(wait_s=WAIT_S)
    workshop.order("key", 1, lambda: "ordered")
    assert workshop.ask("key", 1, lambda: pytest.fail("it was ordered")).value == "ordered"


def test_what_is_ordered_for_later_is_made_at_once_for_whoever_asks_before():
    workshop = Workshop(wait_s=WAIT_S)
    workshop.order("key", 1, lambda: "later", after_s=3600)
    assert workshop.ask("key", 1, lambda: "now").value == "now"
    begun = threading.Event()
    workshop.order("soon", 1, begun.set, after_s=0.001)
    assert begun.wait(WAIT_S)
