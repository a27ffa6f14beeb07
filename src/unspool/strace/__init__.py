"""The line view of an agent's events, live from a channel or afterwards from a recording."""

from __future__ import annotations

from unspool.strace.attach import aattach, attach
from unspool.strace.format import format_event, format_event_json
from unspool.strace.lines import format_record_event, record_event_json
from unspool.strace.options import Options, default_options
from unspool.strace.stats import StatsRow, StraceStats, format_stats
from unspool.text import truncate_string

__all__ = [
    "Options",
    "StatsRow",
    "StraceStats",
    "aattach",
    "attach",
    "default_options",
    "format_event",
    "format_event_json",
    "format_record_event",
    "format_stats",
    "record_event_json",
    "truncate_string",
]
