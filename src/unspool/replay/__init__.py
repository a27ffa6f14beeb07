"""Step through a recording, forwards and backwards."""

from __future__ import annotations

from unspool.replay.debugger import LineDebugger
from unspool.replay.format import format_replay_event, format_replay_list, format_replay_summary
from unspool.replay.prompt import PipedInput, TerminalInput
from unspool.replay.session import ReplayListItem, ReplaySession
from unspool.replay.snapshots import SnapshotFinder

__all__ = [
    "LineDebugger",
    "PipedInput",
    "ReplayListItem",
    "ReplaySession",
    "SnapshotFinder",
    "TerminalInput",
    "format_replay_event",
    "format_replay_list",
    "format_replay_summary",
]
