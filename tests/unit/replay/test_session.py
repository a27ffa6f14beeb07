"""The cursor moves as told, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_fakes import Events, MemoryReader, agent_run, answer, snapshot, state, syscall

from unspool.errors import ReplayBoundary, SeqNotFound
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    ErrorData,
    Part,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
)
from unspool.replay import ReplayListItem, ReplaySession


def session_over(events) -> ReplaySession:
    return ReplaySession(MemoryReader(events))


@pytest.fixture
def session() -> ReplaySession:
    return session_over(agent_run())


def test_it_starts_before_the_first_event(session):
    assert session.position() == (-1, 8)
    with pytest.raises(ReplayBoundary, match=r"no current event \(not started\)"):
        session.current()
    with pytest.raises(ReplayBoundary, match="already at beginning"):
        session.prev()
    assert session.list(3) == []
    assert session.position() == (-1, 8)


def test_next_visits_all_events_and_stays_at_the_last(session):
    assert [session.next().seq_num for _ in range(8)] == list(range(1, 9))
    with pytest.raises(ReplayBoundary, match="already at end"):
        session.next()
    assert session.position() == (7, 8)
    assert session.current().seq_num == 8


def test_prev_visits_them_backwards_and_stays_at_the_first(session):
    session.goto(8)
    assert [session.prev().seq_num for _ in range(7)] == list(range(7, 0, -1))
    with pytest.raises(ReplayBoundary, match="already at beginning"):
        session.prev()
    assert session.position() == (0, 8)


def test_an_empty_recording_has_nowhere_to_go():
    session = session_over([])
    for move in (session.next, session.prev, session.current, session.next_step, session.prev_step, session.next_error):
        with pytest.raises(ReplayBoundary):
            move()
    assert session.position() == (-1, 0)
    assert session.list(0) == []


def test_goto_needs_exactly_that_number(session):
    sparse = session_over([syscall(2), syscall(5)])
    assert sparse.goto(5).seq_num == 5
    for missing in (0, 1, 3, 6, -1):
        with pytest.raises(SeqNotFound, match=f"event with SeqNum {missing} not found"):
            sparse.goto(missing)
    assert sparse.position() == (1, 2)


@pytest.mark.parametrize(
    ("seq", "context", "listed"),
    [(1, 2, [1, 2, 3]), (4, 1, [3, 4, 5]), (8, 2, [6, 7, 8]), (4, 0, [4]), (4, 100, [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_list_is_clipped_to_the_ends_and_marks_the_cursor(session, seq, context, listed):
    session.goto(seq)
    items = session.list(context)
    assert [item.event.seq_num for item in items] == listed
    assert [item.event.seq_num for item in items if item.is_cursor] == [seq]
    assert all(isinstance(item, ReplayListItem) for item in items)


def test_list_refuses_a_negative_context_even_before_the_start(session):
    with pytest.raises(ValueError, match="negative"):
        session.list(-1)


def test_steps_are_context_snapshots(session):
    assert session.next_step().seq_num == 2
    assert session.next_step().seq_num == 6
    with pytest.raises(ReplayBoundary, match="already at end"):
        session.next_step()
    assert session.current().seq_num == 6
    session.goto(8)
    assert session.prev_step().seq_num == 6
    assert session.prev_step().seq_num == 2
    with pytest.raises(ReplayBoundary, match="already at beginning"):
        session.prev_step()
    assert session.current().seq_num == 2


def test_calls_and_steps_have_numbers(session):
    assert session.goto_call(2).seq_num == 6
    assert session.goto_call(1).seq_num == 2
    assert session.goto_step(2).seq_num == 6
    for goto in (session.goto_call, session.goto_step):
        for missing in (0, 3):
            with pytest.raises(ReplayBoundary, match=f"no (call|step) {missing}"):
                goto(missing)
    assert session.current().seq_num == 6


def test_a_retry_is_a_call_and_no_step():
    session = session_over(
        [
            snapshot(1, "a", call=1, step=1),
            snapshot(2, "a", retry=True, call=2, step=1),
            snapshot(3, "b", call=3, step=2),
        ]
    )
    assert session.goto_call(2).seq_num == 2
    assert session.goto_step(1).seq_num == 1
    assert session.goto_step(2).seq_num == 3


def test_recordings_without_numbers_are_counted():
    session = session_over([snapshot(1, "a"), syscall(2), snapshot(3, "a", retry=True), snapshot(4, "b")])
    assert session.goto_call(2).seq_num == 3
    assert session.goto_step(2).seq_num == 4
    with pytest.raises(ReplayBoundary):
        session.goto_step(3)


def test_find_goes_round_and_ignores_case(session):
    found = [session.find("WHALE").seq_num for _ in range(4)]
    assert found == [2, 4, 5, 2]


def test_find_from_a_place(session):
    assert session.find("whale", 4).seq_num == 5
    assert session.find("whale", 100).seq_num == 2
    with pytest.raises(ValueError, match="negative"):
        session.find("whale", -1)


def test_find_finds_the_only_match_again_and_fails_without_moving(session):
    assert session.find("white").seq_num == 8
    assert session.find("white").seq_num == 8
    with pytest.raises(ReplayBoundary, match="no event mentions 'kraken'"):
        session.find("kraken")
    assert session.current().seq_num == 8
    with pytest.raises(ValueError, match="empty"):
        session.find("")


ODD_CONTEXT = RecordEvent(
    RecordEventType.CONTEXT_SNAPSHOT,
    1,
    0,
    7,
    context=ContextSnapshotData(
        messages=[
            "[user] summary",
            CtxMessage("tool", "out", tool_call_id="call_9", tool_name="grep"),
            CtxMessage(
                "assistant", "", tool_calls=[ToolCall("edit", '{"file": "x.py"}')], parts=[Part("image", "cat")]
            ),
        ],
        system_prompt="be brief",
    ),
)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (syscall(1, "Spawn", {"n": {"deep": [1, {"x": "needle"}]}}), "needle"),
        (syscall(1, "Spawn", {"status": 404}), "404"),
        (syscall(1, "Spawn", {"flag": True}), "true"),
        (syscall(1, "Spawn", {"needle": 1}), "needle"),
        (syscall(1, result="a needle"), "needle"),
        (syscall(1, err="needle broke"), "needle"),
        (
            RecordEvent(RecordEventType.SYSCALL, 1, 0, 7, syscall=SyscallEventData("X", error=ErrorData("needle"))),
            "needle",
        ),
        (ODD_CONTEXT, "summary"),
        (ODD_CONTEXT, "call_9"),
        (ODD_CONTEXT, "grep"),
        (ODD_CONTEXT, "x.py"),
        (ODD_CONTEXT, "cat"),
        (ODD_CONTEXT, "BE BRIEF"),
        (answer(1, "the needle"), "needle"),
        (answer(1, error=ErrorData("rate_limit", "slow down")), "slow"),
        (state(1, reason="needle"), "needle"),
    ],
)
def test_everything_an_event_says_can_be_found(event, text):
    assert session_over([event]).find(text).seq_num == 1


def test_errors_are_failed_calls_and_failed_answers():
    events = [syscall(1), syscall(2, err="x"), answer(3), answer(4, error=ErrorData("overloaded")), state(5)]
    session = session_over(events)
    assert session.next_error().seq_num == 2
    assert session.next_error().seq_num == 4
    with pytest.raises(ReplayBoundary, match="no error"):
        session.next_error()
    assert session.current().seq_num == 4


def test_a_million_events_are_not_read_to_move_the_cursor():
    events = Events(lambda index: syscall(index + 1), 1_000_000)
    session = session_over(events)
    session.goto(999_999)
    session.next()
    session.prev()
    session.current()
    session.list(5)
    assert session.position() == (999_998, 1_000_000)
    assert events.asked < 20


def test_a_growing_recording_can_be_followed():
    events = [syscall(1)]
    session = session_over(events)
    session.next()
    with pytest.raises(ReplayBoundary):
        session.next()
    events.append(syscall(2))
    assert session.next().seq_num == 2
    assert session.position() == (1, 2)


@given(
    st.lists(st.sampled_from(["s", "c"]), max_size=12),
    st.lists(st.one_of(st.sampled_from(["next", "prev", "next_step", "prev_step"]), st.integers(-1, 14)), max_size=30),
)
def test_any_walk_agrees_with_a_list(kinds, moves):
    events = [snapshot(n) if kind == "c" else syscall(n) for n, kind in enumerate(kinds, start=1)]
    session, cursor = session_over(events), -1
    steps = [n for n, kind in enumerate(kinds) if kind == "c"]
    for move in moves:
        target = {
            "next": cursor + 1 if cursor + 1 < len(events) else None,
            "prev": cursor - 1 if cursor > 0 else None,
            "next_step": next((n for n in steps if n > cursor), None),
            "prev_step": next((n for n in reversed(steps) if n < cursor), None),
        }.get(move, move - 1 if isinstance(move, int) and 0 < move <= len(events) else None)
        go = (lambda move=move: session.goto(move)) if isinstance(move, int) else getattr(session, move)
        if target is None:
            with pytest.raises((ReplayBoundary, SeqNotFound)):
                go()
        else:
            assert go() == events[target]
            cursor = target
        assert session.position() == (cursor, len(events))
