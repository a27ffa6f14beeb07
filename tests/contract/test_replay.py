"""The contract of `unspool.replay`, sentence by sentence."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from unspool import replay
from unspool.errors import NoSnapshot, ReplayBoundary, SeqNotFound, UnspoolError
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    RecordStatus,
    StateChangeData,
    SyscallEventData,
)
from unspool.recording import Recorder, RecordReader
from unspool.replay import (
    ContextDiff,
    ForkContext,
    ForkMessage,
    MessagesDiff,
    PromptDiff,
    ReplayListItem,
    ReplaySession,
    SnapshotFinder,
    SnapshotRestorer,
    TokenDelta,
    compute_context_diff,
    format_context_diff,
    format_context_diff_json,
    format_replay_event,
    format_replay_list,
    format_replay_summary,
    hash_system_prompt,
)

PID = 7


def syscall(name="Open", *, seq=0, ts=0, args=None, result=None, err="", duration=0):
    data = SyscallEventData(name, args or {}, result, err, duration)
    return RecordEvent(RecordEventType.SYSCALL, seq, ts, PID, syscall=data)


def snapshot(messages, *, seq=0, ts=0, system_prompt=None, tokens=None):
    data = ContextSnapshotData(messages=messages, system_prompt=system_prompt, tokens=tokens)
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, seq, ts, PID, context=data)


def llm(model="gpt", req=10, resp=5, *, seq=0, ts=0):
    return RecordEvent(RecordEventType.LLM_RESPONSE, seq, ts, PID, llm=LLMResponseData(model, req, resp))


def state(before="running", after="zombie", reason="exit", *, seq=0, ts=0):
    return RecordEvent(RecordEventType.STATE_CHANGE, seq, ts, PID, state=StateChangeData(before, after, reason))


@pytest.fixture
def record(tmp_path):
    """Writes events with a Recorder and opens them."""
    readers = []

    def make(*events, intent="do it"):
        recorder = Recorder(tmp_path / str(len(readers)), PID, intent)
        with recorder:
            for event in events:
                recorder.write_event(event)
        readers.append(RecordReader(tmp_path / str(len(readers)) / recorder.record_id))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


@pytest.fixture
def session(record):
    """Five events: call, context, answer, context, state."""
    return ReplaySession(
        record(
            syscall("Open", ts=100_000_000, args={"path": "/x"}, result="ok", duration=2_000_000),
            snapshot([CtxMessage("user", "hello")], ts=300_000_000, system_prompt="be good", tokens=100),
            llm(ts=900_000_000),
            snapshot([CtxMessage("user", "hello"), CtxMessage("assistant", "hi")], ts=1_800_000_000, tokens=150),
            state(ts=2_000_000_000),
        )
    )


@pytest.fixture
def reference_reader(tmp_path):
    """A folder as the reference writes it."""

    def make(*events, **metadata):
        folder = tmp_path / "7-1700000000"
        folder.mkdir()
        meta = {
            "record_id": "7-1700000000",
            "pid": PID,
            "intent": "the metadata's",
            "start_time": "2024-01-01T00:00:00.5+02:00",
            "end_time": "2024-01-01T00:00:10.9+02:00",
            "event_count": len(events),
            "status": "stopped",
            **metadata,
        }
        (folder / "metadata.json").write_text(json.dumps(meta, indent=2))
        lines = [
            json.dumps({"seq_num": seq, "timestamp": seq * 10**9, "pid": PID, **event})
            for seq, event in enumerate(events, 1)
        ]
        (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return RecordReader(folder)

    return make


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("ReplaySession", "ReplayListItem", "SnapshotFinder", "SnapshotRestorer", "ForkContext", "ForkMessage"),
        *("compute_context_diff", "ContextDiff", "MessagesDiff", "PromptDiff", "TokenDelta", "hash_system_prompt"),
        *("format_context_diff", "format_context_diff_json", "format_replay_event", "format_replay_list"),
        "format_replay_summary",
    ],
)
def test_every_name_of_the_contract_is_public(name):
    assert name in replay.__all__
    assert getattr(replay, name) is not None


# --- ReplaySession ---------------------------------------------------------------------------------------------------


def test_the_cursor_starts_at_minus_1_and_position_is_cursor_and_total(session):
    assert session.position() == (-1, 5)


def test_position_is_a_tuple(session):
    index, total = session.position()
    assert (index, total) == (-1, 5)


def test_current_not_started_is_a_replay_boundary_that_says_so(session):
    with pytest.raises(ReplayBoundary, match=r"no current event \(not started\)"):
        session.current()


def test_next_walks_all_events_and_then_says_already_at_end_without_moving(session):
    assert [session.next().seq_num for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(ReplayBoundary, match="already at end"):
        session.next()
    assert session.position() == (4, 5)
    assert session.current().seq_num == 5


@pytest.mark.parametrize("steps", [0, 1])
def test_prev_at_the_first_event_and_not_started_says_already_at_beginning_without_moving(session, steps):
    for _ in range(steps):
        session.next()
    before = session.position()
    with pytest.raises(ReplayBoundary, match="already at beginning"):
        session.prev()
    assert session.position() == before


def test_prev_goes_back_one(session):
    session.goto(3)
    assert session.prev().seq_num == 2
    assert session.position() == (1, 5)


def test_goto_gives_the_event_with_exactly_that_seq_and_sets_the_cursor(session):
    assert session.goto(4).seq_num == 4
    assert session.position() == (3, 5)
    assert session.current().seq_num == 4


@pytest.mark.parametrize("seq", [0, -1, 6, 10**30])
def test_goto_an_unknown_seq_is_seq_not_found_and_the_cursor_stays(session, seq):
    session.goto(2)
    with pytest.raises(SeqNotFound, match=f"event with SeqNum {seq} not found"):
        session.goto(seq)
    assert session.position() == (1, 5)


def test_an_empty_recording_has_no_next_prev_current_and_list(record):
    session = ReplaySession(record())
    assert session.position() == (-1, 0)
    for move, text in (
        (session.next, "already at end"),
        (session.prev, "already at beginning"),
        (session.current, "no current event"),
    ):
        with pytest.raises(ReplayBoundary, match=text):
            move()
    assert session.list(5) == []


def test_changing_an_event_given_does_not_change_the_recording(session):
    session.next().syscall.args["path"] = "changed"
    assert session.current().syscall.args == {"path": "/x"}
    session.goto(2).context.messages.clear()
    assert len(session.current().context.messages) == 1


def test_list_is_empty_if_not_started(session):
    assert session.list(3) == []


@pytest.mark.parametrize(
    ("seq", "context", "seqs"),
    [(1, 1, [1, 2]), (3, 1, [2, 3, 4]), (5, 2, [3, 4, 5]), (3, 0, [3]), (2, 100, [1, 2, 3, 4, 5])],
)
def test_list_is_cut_at_the_ends_and_flags_exactly_the_cursor(session, seq, context, seqs):
    session.goto(seq)
    items = session.list(context)
    assert [item.event.seq_num for item in items] == seqs
    assert [item.event.seq_num for item in items if item.is_cursor] == [seq]
    assert session.position() == (seq - 1, 5)


def test_a_negative_context_is_a_value_error_d39(session):
    with pytest.raises(ValueError, match="negative"):
        session.list(-1)
    session.next()
    with pytest.raises(ValueError, match="negative"):
        session.list(-1)


def test_next_step_and_prev_step_move_between_context_snapshots(session):
    assert session.next_step().seq_num == 2
    assert session.next_step().seq_num == 4
    with pytest.raises(ReplayBoundary):
        session.next_step()
    assert session.position() == (3, 5)
    assert session.prev_step().seq_num == 2
    with pytest.raises(ReplayBoundary):
        session.prev_step()
    assert session.position() == (1, 5)


def test_prev_step_from_the_end_and_when_not_started(session):
    with pytest.raises(ReplayBoundary):
        session.prev_step()
    session.goto(5)
    assert session.prev_step().seq_num == 4


def test_errors_are_unspool_errors():
    assert all(issubclass(kind, UnspoolError) for kind in (ReplayBoundary, SeqNotFound, NoSnapshot))


def test_a_recording_of_the_reference_replays(reference_reader):
    reader = reference_reader(
        {"type": "syscall", "syscall": {"syscall": "Spawn", "args": {"intent": "first"}, "duration": 5_000_000}},
        {"type": "context_snapshot", "context": {"messages": ["[system] rules", "[user] a", "plain"]}},
        {"type": "llm_response", "llm": {"model": "m", "request_tokens": 0, "response_tokens": 9}},
        {"type": "state_change", "state": {"from_state": "running", "to_state": "zombie", "reason": ""}},
    )
    session = ReplaySession(reader)
    assert [format_replay_event(session.next()) for _ in range(4)] == [
        '[#001 +1.0s] syscall: Spawn(intent="first") (5ms)',
        "[#002 +2.0s] context: msgs=3",
        "[#003 +3.0s] llm: model=m req=0tok resp=9tok",
        "[#004 +4.0s] state: running → zombie",
    ]
    fork = session.fork()
    assert (fork.intent, fork.system_prompt) == ("first", "rules")
    assert [(one.role, one.content) for one in fork.messages] == [("user", "a"), ("user", "plain")]
    assert format_replay_summary(reader.metadata, reader.event_count).splitlines()[4] == "Duration:    10s"


# --- diffs of a session ----------------------------------------------------------------------------------------------


def test_diff_uses_the_nearest_snapshots_and_says_what_was_asked(session):
    diff = session.diff(3, 5)
    assert (diff.from_seq_num, diff.to_seq_num) == (2, 4)
    assert (diff.requested_from, diff.requested_to) == (3, 5)
    assert (diff.from_timestamp, diff.to_timestamp) == (300_000_000, 1_800_000_000)
    assert session.position() == (-1, 5)


def test_diff_keeps_the_order_also_backwards(session):
    diff = session.diff(4, 2)
    assert (diff.from_seq_num, diff.to_seq_num) == (4, 2)
    assert diff.messages.removed == ["[assistant] hi"]
    assert diff.messages.added == []
    assert diff.token_delta == TokenDelta(150, 100, -50)


@pytest.mark.parametrize("pair", [(3, 6), (9, 3), (0, 3), (3, -1)])
def test_diff_with_a_seq_the_recording_lacks_is_seq_not_found(session, pair):
    with pytest.raises(SeqNotFound):
        session.diff(*pair)


def test_diff_before_the_first_snapshot_is_no_snapshot_prefixed_diff(session):
    with pytest.raises(NoSnapshot, match=r"diff: no context snapshot found before SeqNum 1"):
        session.diff(1, 4)


def test_diff_without_any_snapshot_says_so(record):
    session = ReplaySession(record(syscall(), syscall()))
    with pytest.raises(NoSnapshot, match="no context snapshots available in this recording"):
        session.diff(1, 2)


def test_diff_from_cursor_is_the_diff_from_the_event_at_the_cursor(session):
    session.goto(3)
    assert session.diff_from_cursor(5).to_json() == session.diff(3, 5).to_json()
    assert session.position() == (2, 5)


def test_diff_from_cursor_and_fork_not_started_are_replay_boundaries(session):
    with pytest.raises(ReplayBoundary):
        session.diff_from_cursor(4)
    with pytest.raises(ReplayBoundary):
        session.fork()


# --- snapshots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seq", "found"), [(2, 2), (3, 2), (4, 2), (5, 5), (6, 5), (1000, 5)])
def test_find_nearest_before_gives_the_greatest_snapshot_not_after_any_number(seq, found):
    events = [syscall(seq=1), snapshot(["[user] a"], seq=2), syscall(seq=3), snapshot([], seq=5)]
    assert SnapshotFinder(events).find_nearest_before(seq).seq_num == found


@pytest.mark.parametrize("seq", [1, 0, -5])
def test_find_nearest_before_without_one_is_no_snapshot(seq):
    events = [syscall(seq=1), snapshot(["[user] a"], seq=2)]
    with pytest.raises(NoSnapshot, match=f"no context snapshot found before SeqNum {seq}"):
        SnapshotFinder(events).find_nearest_before(seq)


def test_a_finder_over_nothing_has_no_snapshots():
    finder = SnapshotFinder([])
    assert finder.has_snapshots() is False
    with pytest.raises(NoSnapshot, match="no context snapshot found before SeqNum 3"):
        finder.find_nearest_before(3)


def test_has_snapshots_is_true_with_any():
    assert SnapshotFinder([syscall(seq=1), snapshot([], seq=2)]).has_snapshots() is True
    assert SnapshotFinder([syscall(seq=1)]).has_snapshots() is False


# --- compute_context_diff --------------------------------------------------------------------------------------------


def compare(old, new, **settings):
    """A diff of hand-made snapshots of strings or messages; settings are `old_*` and `new_*`."""
    sides = []
    for side, messages, seq, ts in (("old", old, 3, 300_000_000), ("new", new, 6, 1_800_000_000)):
        extra = {key[4:]: value for key, value in settings.items() if key.startswith(side)}
        data = ContextSnapshotData(messages, **extra)
        sides.append((data, RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, seq, ts, 1, context=data)))
    (a, a_event), (b, b_event) = sides
    return compute_context_diff(a, b, a_event, b_event)


def test_seqs_and_timestamps_come_from_the_events_also_by_keyword():
    a, b = ContextSnapshotData(messages=["[user] a"]), ContextSnapshotData(messages=["[user] b b b"])
    diff = compute_context_diff(
        from_snapshot=a, to_snapshot=b, from_event=snapshot([], seq=3, ts=5), to_event=snapshot([], seq=1, ts=2)
    )
    assert isinstance(diff, ContextDiff)
    assert (diff.from_seq_num, diff.to_seq_num, diff.from_timestamp, diff.to_timestamp) == (3, 1, 5, 2)


def test_appended_messages_are_added_in_order_and_counts_are_list_lengths():
    diff = compare(["[user] a"], ["[user] a", "[assistant] b", "[user] c"])
    assert diff.messages.added == ["[assistant] b", "[user] c"]
    assert diff.messages.removed == []
    assert (diff.messages.from_count, diff.messages.to_count) == (1, 3)


def test_messages_diff_takes_its_fields_in_the_order_of_the_contract():
    diff = MessagesDiff(["a"], ["r"], [], [], 1, 2)
    assert (diff.added, diff.removed, diff.edited, diff.moved, diff.from_count, diff.to_count) == (
        ["a"],
        ["r"],
        [],
        [],
        1,
        2,
    )


def test_an_edited_message_is_one_entry_of_edited_and_in_neither_list_d33():
    old = ["[user] please read the file main.py now", "[assistant] b", "[user] c"]
    new = ["[user] please read the file other.py now", "[assistant] b", "[user] c"]
    messages = compare(old, new).messages
    assert len(messages.edited) == 1
    assert messages.added == []
    assert messages.removed == []
    assert messages.moved == []


def test_a_deleted_middle_message_is_one_removal_d33():
    old = [f"[user] message number {word}" for word in ("alpha", "beta", "gamma")]
    messages = compare(old, [old[0], old[2]]).messages
    assert messages.removed == [old[1]]
    assert messages.added == messages.edited == messages.moved == []


def test_a_moved_message_is_in_neither_list():
    old = ["[user] one", "[assistant] two", "[user] three", "[assistant] four"]
    messages = compare(old, [*old[1:], old[0]]).messages
    assert len(messages.moved) == 1
    assert messages.added == messages.removed == messages.edited == []


@pytest.mark.parametrize("form", ["field", "string", "message"])
def test_a_changed_system_prompt_is_a_prompt_change_only(form):
    if form == "field":
        diff = compare(["[user] a"], ["[user] a"], old_system_prompt="one", new_system_prompt="two")
    elif form == "string":
        diff = compare(["[system] one", "[user] a"], ["[system] two", "[user] a"])
    else:
        diff = compare(
            [CtxMessage("system", "one"), CtxMessage("user", "a")],
            [CtxMessage("system", "two"), CtxMessage("user", "a")],
        )
    assert diff.system_prompt == PromptDiff(True, hash_system_prompt("one"), hash_system_prompt("two"))
    assert diff.messages.added == diff.messages.removed == diff.messages.edited == diff.messages.moved == []


def test_an_unchanged_prompt_has_both_hashes():
    diff = compare([], [], old_system_prompt="p", new_system_prompt="p")
    assert diff.system_prompt == PromptDiff(False, hash_system_prompt("p"), hash_system_prompt("p"))


@pytest.mark.parametrize(
    ("old", "new", "delta"), [(100, 150, 50), (150, 100, -50), (5, 5, 0), (None, 5, None), (None, None, None)]
)
def test_token_delta_is_of_the_snapshots_counts_and_unknown_is_none_d34(old, new, delta):
    diff = compare([], [], old_tokens=old, new_tokens=new)
    assert diff.token_delta == TokenDelta(old, new, delta)


@pytest.mark.parametrize("messages", [[], None])
def test_empty_snapshots_compare(messages):
    diff = compare(messages, messages)
    assert diff.messages == MessagesDiff()
    assert "No changes detected." in format_context_diff(diff)


def test_diff_json_has_the_seeds_keys_with_nanoseconds():
    data = json.loads(compare(["[user] a"], ["[user] a", "[user] b"], old_tokens=1, new_tokens=4).to_json())
    assert (data["from_seq_num"], data["to_seq_num"]) == (3, 6)
    assert (data["from_timestamp"], data["to_timestamp"]) == (300_000_000, 1_800_000_000)
    assert data["system_prompt"] == {"changed": False, "from_hash": "", "to_hash": ""}
    assert data["token_delta"] == {"from_tokens": 1, "to_tokens": 4, "delta": 3}
    messages = data["messages"]
    assert {key: messages[key] for key in ("added", "removed", "from_count", "to_count")} == {
        "added": ["[user] b"],
        "removed": [],
        "from_count": 1,
        "to_count": 2,
    }


def test_lists_of_a_diff_on_the_wire_are_never_null():
    messages = json.loads(compare(None, None).to_json())["messages"]
    assert messages["added"] == messages["removed"] == messages["edited"] == messages["moved"] == []


def test_format_context_diff_json_has_truncated_milliseconds_and_exact_ns_beside():
    diff = compute_context_diff(
        ContextSnapshotData([]), ContextSnapshotData([]), snapshot([], seq=1, ts=1_999_999), snapshot([], seq=2, ts=5)
    )
    data = json.loads(format_context_diff_json(diff))
    assert (data["from_timestamp_ms"], data["to_timestamp_ms"]) == (1, 0)
    assert (data["from_timestamp_ns"], data["to_timestamp_ns"]) == (1_999_999, 5)
    assert "from_timestamp" not in data
    assert "to_timestamp" not in data
    assert {"from_seq_num", "to_seq_num", "system_prompt", "messages", "token_delta"} <= data.keys()
    assert list(data)[:4] == ["from_seq_num", "to_seq_num", "from_timestamp_ms", "from_timestamp_ns"]


@pytest.mark.parametrize(
    ("text", "digest"),
    [("hello", "2cf24dba5fb0a30e"), ("world", "486ea46224d1bb4f"), ("", "e3b0c44298fc1c14")],
)
def test_hash_system_prompt_is_the_first_8_bytes_of_sha256_as_hex(text, digest):
    assert hash_system_prompt(text) == digest == hashlib.sha256(text.encode()).hexdigest()[:16]


# --- format_context_diff ---------------------------------------------------------------------------------------------


def test_format_context_diff_header_and_rule_of_37():
    lines = format_context_diff(compare([], [])).split("\n")
    assert lines == ["Context Diff: #003 → #006 (+0.3s → +1.8s)", "─" * 37, "No changes detected.", ""]


def test_format_context_diff_of_a_change_to_the_character():
    diff = compare(
        ["[user] q", "[assistant] completely different"],
        ["[user] q", "[tool] zzz"],
        old_system_prompt="p",
        new_system_prompt="p",
        old_tokens=10,
        new_tokens=30,
    )
    text = format_context_diff(diff)
    assert f"System Prompt: unchanged (hash={hash_system_prompt('p')})\n" in text
    assert "Messages: 2 → 2 (+0)\n  + [tool] zzz\n  - [assistant] completely different\n" in text
    assert text.endswith("Tokens: 10 → 30 (+20)\n")


def test_format_context_diff_says_a_changed_prompt_by_its_hashes():
    text = format_context_diff(compare([], [], old_system_prompt="hello", new_system_prompt="world"))
    assert "System Prompt: changed (2cf24dba5fb0a30e → 486ea46224d1bb4f)\n" in text
    assert "No changes detected." not in text


@pytest.mark.parametrize(("old", "new", "text"), [(5, 5, "(+0)"), (5, 3, "(-2)"), (5, 6, "(+1)")])
def test_deltas_are_signed_and_zero_is_plus_0(old, new, text):
    diff = compare(["[user] a"], ["[user] a", "[user] xyz"], old_tokens=old, new_tokens=new)
    assert f"Tokens: {old} → {new} {text}\n" in format_context_diff(diff)


def test_a_token_change_alone_is_a_change():
    assert "No changes detected." not in format_context_diff(compare([], [], old_tokens=1, new_tokens=2))


def test_the_diff_text_shows_what_was_asked_where_another_snapshot_was_used_d35(session):
    text = format_context_diff(session.diff(3, 5))
    assert text.startswith("Context Diff: #002 → #004 (")
    assert "#003" in text
    assert "#005" in text


# --- fork ------------------------------------------------------------------------------------------------------------


def test_restore_context_gives_pid_the_requested_seq_intent_prompt_and_messages(session, record):
    fork = session.fork_at(3)
    assert (fork.original_pid, fork.seq_num, fork.intent, fork.system_prompt) == (PID, 3, "do it", "be good")
    assert fork.messages == [ForkMessage("user", "hello")]
    assert session.position() == (-1, 5)


def test_fork_is_fork_at_the_cursor_which_stays(session):
    session.goto(5)
    assert session.fork() == session.fork_at(5)
    assert session.position() == (4, 5)


@pytest.mark.parametrize("seq", [0, 6, -1])
def test_fork_at_an_unknown_seq_is_seq_not_found(session, seq):
    with pytest.raises(SeqNotFound):
        session.fork_at(seq)


def test_fork_before_any_snapshot_is_no_snapshot_prefixed_fork(session):
    with pytest.raises(NoSnapshot, match=r"^fork: no context snapshot found before SeqNum 1"):
        session.fork_at(1)


def test_the_intent_is_that_of_the_last_spawn_at_or_before_seq(record):
    restorer = SnapshotRestorer(
        record(
            syscall("Spawn", args={"intent": "first"}),
            snapshot(["[user] a"]),
            syscall("Spawn", args={"intent": "second"}),
            syscall("Spawn", args={"intent": "third"}),
        )
    )
    assert [restorer.restore_context(seq).intent for seq in (2, 3, 4)] == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("text", "role", "content"),
    [
        ("[assistant] b", "assistant", "b"),
        ("[tool] [x] y", "tool", "[x] y"),
        ("no brackets", "user", "no brackets"),
        ("[user]", "user", "[user]"),
        ("[user] ", "user", ""),
        ("[1, 2] are inputs", "user", "[1, 2] are inputs"),
        ("", "user", ""),
    ],
)
def test_a_string_message_is_parsed_by_its_role(record, text, role, content):
    fork = SnapshotRestorer(record(snapshot(["[system] s", text]))).restore_context(1)
    assert fork.messages == [ForkMessage(role, content)]


def test_a_system_string_is_the_prompt_and_not_a_message(record):
    fork = SnapshotRestorer(record(snapshot(["[user] a", "[system] late", "[user] b"]))).restore_context(1)
    assert fork.system_prompt == "late"
    assert [one.content for one in fork.messages] == ["a", "b"]


def test_tool_call_ids_of_structured_messages_survive_d36(record):
    fork = SnapshotRestorer(record(snapshot([CtxMessage("tool", "42", "call_1")]))).restore_context(1)
    assert fork.messages == [ForkMessage("tool", "42", "call_1")]


def test_set_system_prompt_leaves_no_trace_of_the_old_one(record):
    fork = SnapshotRestorer(record(snapshot(["[system] old words", "[user] a"]))).restore_context(1)
    fork.set_system_prompt("new")
    assert fork.system_prompt == "new"
    assert b"old words" not in fork.to_json()


def fork_of(*contents):
    return ForkContext(1, 2, "i", "", [ForkMessage("user", content) for content in contents])


def test_append_message_takes_any_role():
    fork = fork_of("a")
    fork.append_message("whoever", "text")
    assert fork.messages[-1] == ForkMessage("whoever", "text")


@pytest.mark.parametrize(("n", "left"), [(0, ["a", "b", "c"]), (1, ["a", "b"]), (3, []), (99, [])])
def test_remove_last_messages_removes_n_or_all(n, left):
    fork = fork_of("a", "b", "c")
    fork.remove_last_messages(n)
    assert [one.content for one in fork.messages] == left


def test_remove_last_messages_of_a_negative_number_is_a_value_error_d39():
    fork = fork_of("a")
    with pytest.raises(ValueError, match="negative"):
        fork.remove_last_messages(-1)
    assert len(fork.messages) == 1


def test_replace_last_message_keeps_the_role_and_does_nothing_when_empty():
    fork = ForkContext(1, 2, "i", "", [ForkMessage("tool", "old", "id1")])
    fork.replace_last_message("new")
    assert fork.messages == [ForkMessage("tool", "new", "id1")]
    empty = fork_of()
    empty.replace_last_message("x")
    assert empty.messages == []


def test_forks_do_not_share_their_default_messages():
    first, second = ForkContext(1, 1), ForkContext(1, 1)
    first.append_message("user", "a")
    assert second.messages == []


def test_fork_json_has_the_five_keys_and_omits_an_empty_tool_call_id():
    fork = ForkContext(
        7, 3, "i", "s", [ForkMessage("user", "a"), ForkMessage("tool", "b", "c1"), ForkMessage("user", "", "")]
    )
    data = json.loads(fork.to_json())
    assert [data[key] for key in ("original_pid", "seq_num", "intent", "system_prompt")] == [7, 3, "i", "s"]
    assert data["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "tool", "content": "b", "tool_call_id": "c1"},
        {"role": "user", "content": ""},
    ]


def test_summary_has_its_lines_and_the_prompt_in_bytes_only_if_there_is_one():
    fork = ForkContext(7, 3, "do", "é", [ForkMessage("user", "abcd")])
    lines = fork.summary().splitlines()
    assert lines[:5] == ["Original PID: 7", "SeqNum: 3", "Intent: do", "Messages: 1", "System Prompt: len:2"]
    assert lines[5].startswith("Tokens (est): ~")
    assert "System Prompt" not in fork_of("a").summary()


# --- format_replay_event ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            syscall("Open", seq=3, ts=1_250_000_000, args={"path": "/x", "intent": "i"}),
            '[#003 +1.2s] syscall: Open("/x")',
        ),
        (syscall("Spawn", seq=12, args={"intent": "i"}), '[#012 +0.0s] syscall: Spawn(intent="i")'),
        (syscall("Kill", seq=1234, args={"pid": 3}), "[#1234 +0.0s] syscall: Kill()"),
        (syscall("Read", seq=1, result="data"), "[#001 +0.0s] syscall: Read() → data"),
        (syscall("Read", seq=1, result=True), "[#001 +0.0s] syscall: Read() → true"),
        (syscall("Read", seq=1, result="data", err="boom"), "[#001 +0.0s] syscall: Read() → err=boom"),
        (syscall("Read", seq=1, result=3, duration=1_500_000), "[#001 +0.0s] syscall: Read() → 3 (1ms)"),
        (syscall("Read", seq=1, duration=850_000), "[#001 +0.0s] syscall: Read() (850µs)"),
        (syscall("Read", seq=1, duration=5_000_000_000), "[#001 +0.0s] syscall: Read() (5.00s)"),
        (llm("gpt", 10, 5, seq=2, ts=10**9), "[#002 +1.0s] llm: model=gpt req=10tok resp=5tok"),
        (snapshot(["a", "b"], seq=4), "[#004 +0.0s] context: msgs=2"),
        (state("a", "b", "why", seq=5), "[#005 +0.0s] state: a → b (why)"),
        (state("a", "b", "", seq=5), "[#005 +0.0s] state: a → b"),
    ],
)
def test_format_replay_event_to_the_character(event, text):
    assert format_replay_event(event) == text
    if event.syscall is None:
        assert format_replay_event(event, verbose=True) == text


def test_format_replay_event_verbose_has_sorted_args_result_err_and_always_duration_d40():
    event = syscall("Open", seq=1, args={"b": 2, "a": "x"}, result="r", err="e", duration=0)
    assert format_replay_event(event, True) == (
        "[#001 +0.0s] syscall: Open\n  a=x\n  b=2\n  result=r\n  err=e\n  duration=0µs"
    )


@pytest.mark.parametrize("kind", list(RecordEventType))
def test_a_missing_payload_is_no_data(kind):
    for verbose in (False, True):
        assert format_replay_event(RecordEvent(kind, 1, 0, 1), verbose).endswith("(no data)")


def test_an_unknown_type_says_so():
    event = RecordEvent("bogus", 1, 0, 1)
    assert format_replay_event(event) == "[#001 +0.0s] bogus: (unknown event type)"


def test_the_type_names_the_payload():
    data = SyscallEventData("Open")
    assert format_replay_event(RecordEvent("bogus", 1, 0, 1, data)) == "[#001 +0.0s] bogus: (unknown event type)"
    assert format_replay_event(RecordEvent("llm_response", 1, 0, 1, data)) == "[#001 +0.0s] llm: (no data)"


@pytest.mark.parametrize("verbose", [False, True])
def test_a_syscall_without_args_is_shown(verbose):
    assert "syscall: Open" in format_replay_event(syscall("Open", seq=1, args=None), verbose)
    event = RecordEvent(RecordEventType.SYSCALL, 1, 0, 1, SyscallEventData("Open", None))
    assert "syscall: Open" in format_replay_event(event, verbose)


def test_controls_in_events_are_escaped():
    event = syscall("Open", seq=1, args={"path": "\x1b[2J"}, result="a\nb")
    assert "\x1b" not in format_replay_event(event)
    assert "\n" not in format_replay_event(event)


# --- format_replay_list and _summary ---------------------------------------------------------------------------------


def test_format_replay_list_of_nothing_is_empty():
    assert format_replay_list([]) == ""


def test_format_replay_list_to_the_character():
    items = [
        ReplayListItem(syscall("Open", seq=1, ts=100_000_000), False),
        ReplayListItem(llm("gpt", seq=2, ts=200_000_000), True),
        ReplayListItem(event=snapshot(["a"], seq=3, ts=10**10), is_cursor=False),
        ReplayListItem(event=state("a", "b", seq=4)),
    ]
    assert format_replay_list(items).split("\n") == [
        "  [#001] +0.1s  syscall   Open",
        "► [#002] +0.2s  llm_response  gpt",
        "  [#003] +10.0s  context_snapshot  msgs=1",
        "  [#004] +0.0s  state_change  a → b",
    ]


def test_the_list_of_a_session_marks_the_cursor(session):
    session.goto(2)
    lines = format_replay_list(session.list(5)).split("\n")
    assert [line.startswith("► ") for line in lines] == [False, True, False, False, False]


def test_format_replay_summary_has_six_lines_with_values_at_column_13_and_the_number_passed():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    metadata = RecordMetadata("1-x", 5, "do", start, start + timedelta(seconds=3.9), 99, RecordStatus.STOPPED)
    assert format_replay_summary(metadata, 42).split("\n") == [
        "Record ID:   1-x",
        "PID:         5",
        "Intent:      do",
        "Events:      42",
        "Duration:    3s",
        "Status:      stopped",
    ]


@pytest.mark.parametrize("unset", [None, datetime(1, 1, 1, tzinfo=UTC)])
def test_the_duration_is_na_if_either_time_is_unset(unset):
    some = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    for times in ((unset, some), (some, unset), (unset, unset)):
        metadata = RecordMetadata("1-x", 5, "do", *times)
        assert "Duration:    N/A" in format_replay_summary(metadata, 0).split("\n")


def test_every_formatter_takes_color_and_is_plain_without():
    event, diff = syscall(seq=1, err="boom"), compare([], ["[user] a"])
    metadata = RecordMetadata("1-x", 5, "do")
    shown = {
        format_replay_event: (event,),
        format_replay_list: ([ReplayListItem(event, True)],),
        format_replay_summary: (metadata, 1),
        format_context_diff: (diff,),
    }
    for function, arguments in shown.items():
        assert "\x1b" not in function(*arguments)
        assert "\x1b[" in function(*arguments, color=True)
    assert json.loads(format_context_diff_json(diff, color=True))
