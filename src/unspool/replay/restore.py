"""Take the context of one point out of a recording."""

from __future__ import annotations

from unspool.errors import NoSnapshot
from unspool.events import CtxMessage, RecordEvent, RecordEventType
from unspool.replay.fork import ForkContext, ForkMessage
from unspool.replay.messages import seen_context
from unspool.replay.reader import Reader
from unspool.replay.snapshots import SnapshotFinder, peek

__all__ = ["SnapshotRestorer"]


class SnapshotRestorer:
    """Restores contexts from a recording, which it only reads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def restore_context(self, seq: int) -> ForkContext:
        """The context in force at an event: that of the last snapshot at or before it, ready to be changed.

        Roles, tool calls and the ids that tie results to them are kept where the recording has them; the reference's
        recordings hold texts `[role] content`, and no ids. Looks at the events before `seq` for the intent.

        Raises:
            SeqNotFound: the recording has no such event.
            NoSnapshot: no context was recorded at or before it.
        """
        position = self._reader.index_of(seq)
        snapshot = self._snapshot(seq)
        data = snapshot.context
        if data is None:
            raise NoSnapshot(f"fork: the context snapshot #{snapshot.seq_num:03d} is empty", seq_num=seq)
        seen = seen_context(data)
        metadata = self._reader.metadata
        return ForkContext(
            original_pid=metadata.pid,
            seq_num=seq,
            intent=self._intent(position) or metadata.intent,
            system_prompt=seen.system_prompt or "",
            messages=[_fork_message(message.message) for message in seen.messages],
            snapshot_seq_num=snapshot.seq_num,
            provider=data.provider,
            model=data.model,
            tools=list(data.tools or ()),
            params=dict(data.params or {}),
            partial=data.partial,
        )

    def _snapshot(self, seq: int) -> RecordEvent:
        try:
            return SnapshotFinder(self._reader.events()).find_nearest_before(seq)
        except NoSnapshot as exc:
            raise NoSnapshot(f"fork: {exc}", seq_num=seq) from exc

    def _intent(self, position: int) -> str | None:
        """The intent that the last `Spawn` at or before a position gave this process; None if there is none.

        The reference writes a process's own `Spawn` into its recording. In ours a `Spawn` is the start of a sub-agent
        by this process, and names its PID in the argument `pid` (capture/api.py); its intent is the sub-agent's.
        """
        events = self._reader.events()
        for index in range(position, -1, -1):
            bare = peek(events, index)
            if bare.type != RecordEventType.SYSCALL or bare.syscall is None or bare.syscall.syscall != "Spawn":
                continue
            whole = events[index].syscall
            args = (whole.args or {}) if whole is not None else {}
            intent, spawned = args.get("intent"), args.get("pid", self._reader.metadata.pid)
            if isinstance(intent, str) and spawned == self._reader.metadata.pid:
                return intent
        return None


def _fork_message(message: CtxMessage) -> ForkMessage:
    # Copies, so that an edit of the fork does not reach an event somebody else holds.
    return ForkMessage(
        role=message.role,
        content=message.content,
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name,
        tool_calls=list(message.tool_calls) if message.tool_calls else None,
        parts=list(message.parts) if message.parts else None,
    )
