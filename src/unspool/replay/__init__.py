"""Step through a recording, forwards and backwards, compare its contexts, take one out to fork it."""

from __future__ import annotations

from unspool.replay.alignment import EditedMessage, MessagesDiff, MovedMessage, ScriptStep
from unspool.replay.debugger import LineDebugger
from unspool.replay.diff import ContextDiff, PromptDiff, TokenDelta, compute_context_diff, hash_system_prompt
from unspool.replay.diff_format import format_context_diff, format_context_diff_json
from unspool.replay.fork import ForkContext, ForkMessage
from unspool.replay.format import format_replay_event, format_replay_list, format_replay_summary
from unspool.replay.prefix import PrefixBreak
from unspool.replay.prompt import PipedInput, TerminalInput
from unspool.replay.restore import SnapshotRestorer
from unspool.replay.session import ReplayListItem, ReplaySession
from unspool.replay.settings import ToolChange, ToolsDiff, ValueChange
from unspool.replay.snapshots import SnapshotFinder
from unspool.replay.words import WordChange

__all__ = [
    "ContextDiff",
    "EditedMessage",
    "ForkContext",
    "ForkMessage",
    "LineDebugger",
    "MessagesDiff",
    "MovedMessage",
    "PipedInput",
    "PrefixBreak",
    "PromptDiff",
    "ReplayListItem",
    "ReplaySession",
    "ScriptStep",
    "SnapshotFinder",
    "SnapshotRestorer",
    "TerminalInput",
    "TokenDelta",
    "ToolChange",
    "ToolsDiff",
    "ValueChange",
    "WordChange",
    "compute_context_diff",
    "format_context_diff",
    "format_context_diff_json",
    "format_replay_event",
    "format_replay_list",
    "format_replay_summary",
    "hash_system_prompt",
]
