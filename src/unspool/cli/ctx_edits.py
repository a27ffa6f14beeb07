"""Blocks that are left out, as the edits of a fork."""

from __future__ import annotations

from collections.abc import Sequence

from unspool.context.calls import Block, Call, Run
from unspool.context.whatif import Dropped
from unspool.errors import UsageError
from unspool.recording.reader import RecordReader
from unspool.replay.forkplan import ForkOptions, ForkPlan, draft_of, plan_fork
from unspool.replay.forkpoint import kept_state, point_of
from unspool.replay.restore import SnapshotRestorer
from unspool.serving.edits import Draft, Line, Replace

__all__ = ["answered_from", "holds", "plan_from", "plan_without"]


def holds(call: Call, dropped: Dropped) -> bool:
    """Whether the request of a call has a block."""
    return any(block is dropped.life.block for block in call.messages)


def answered_from(run: Run, call: Call, dropped: Dropped) -> Call | None:
    """The first answered call of a conversation that a block is gone from and that had held it; None if there is none.

    Args:
        call: any call of the conversation.
    """
    if dropped.at is None:
        return None
    calls = run.conversation_of(call)
    return next((one for one in calls if one.position >= dropped.at and _is_whole(one) and holds(one, dropped)), None)


def _is_whole(call: Call) -> bool:
    return call.llm is not None and call.llm.error is None and call.llm.partial is None


def plan_without(reader: RecordReader, call: Call, blocks: Sequence[Dropped]) -> ForkPlan:
    """A fork at a call without these blocks, which its request has.

    Raises:
        UsageError: its request is not recorded, or a block is no message of it.
    """
    where = point_of(reader, call.seq_num)
    draft = draft_of(where, kept_state(reader, where), ForkOptions())
    for one in blocks:
        _line_of(draft, call, one.life.block).text = one.text
    return plan_fork(where, draft, ForkOptions(), SnapshotRestorer(reader).restore_context(where.seq_num))


def plan_from(reader: RecordReader, places: Sequence[tuple[Dropped, Call]]) -> ForkPlan:
    """A fork at the first of these calls in which every block goes at its own: after as many outputs as had read it.

    Args:
        places: blocks and the calls they are gone from, the first call first.

    Raises:
        UsageError: as `plan_without`.
    """
    first = places[0][1]
    plan = plan_without(reader, first, [one for one, call in places if call is first])
    for one, call in places:
        if call is first:
            continue
        where = point_of(reader, call.seq_num)
        draft = draft_of(where, kept_state(reader, where), ForkOptions())
        line = _line_of(draft, call, one.life.block)
        line.text = one.text
        behind = draft.lines[draft.lines.index(line) + 1 :]
        outputs = sum(later.role == "assistant" for later in behind)
        for change in draft.edits().changes:
            assert isinstance(change, Replace), "nothing but a text was changed"
            change.after = outputs
            plan.edits.changes.append(change)
    return plan


def _line_of(draft: Draft, call: Call, block: Block) -> Line:
    message = block.message
    if message is None or block.category == "system":
        raise UsageError(f"{block.key} is no message. Try another prompt with: unspool fork --set-system … --send")
    place = sum(one.category != "system" for one in call.messages[: _place_of(call, block)])
    lines = [line for line in draft.lines if line.message is not None]
    line = lines[place] if place < len(lines) else None
    if line is not None and line.message is not None and line.message.content == message.content:
        return line
    for one in lines:
        known = one.message
        if known is not None and (known.content, known.tool_call_id) == (message.content, message.tool_call_id):
            return one
    raise UsageError(f"{block.key} cannot be told apart in the request of {call.name}")


def _place_of(call: Call, block: Block) -> int:
    return next(index for index, one in enumerate(call.messages) if one is block)
