"""A recording at a glance: who made it, what it adds up to, what is damaged."""

from __future__ import annotations

import shlex
from typing import Any

from unspool.cli import amounts
from unspool.cli.listing import Tally, Totals
from unspool.cli.ls import state_text
from unspool.cli.prices import prices_for
from unspool.cli.removal import size_of
from unspool.cli.runs import descendants
from unspool.cli.terminal import bold, red
from unspool.durations import format_duration
from unspool.events import RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.text import show_text

__all__ = ["overview_json", "overview_text"]

_DAMAGE_MAX = 10


def overview_json(store: Store, reader: RecordReader) -> dict[str, Any]:
    """All that is known of the recording, for a program."""
    metadata = reader.metadata
    return {
        "metadata": metadata,
        "totals": _totals(store, reader).to_dict(),
        "folder": str(reader.record_dir),
        "bytes": size_of(reader.record_dir),
        "children": [one.record_id for one in _children(store, metadata)],
        "damage": reader.damage,
    }


def overview_text(store: Store, reader: RecordReader, *, color: bool) -> str:
    """The same for a person. No final newline."""
    metadata = reader.metadata
    rows = [*_who(store, reader), *_sums(_totals(store, reader))]
    damage = reader.damage
    rows.append(("Damage", "none" if not damage else red(amounts.counted(len(damage), "place"), color)))
    lines = [f"{bold(f'{label:<12}', color)} {text}" for label, text in rows if text]
    lines += [f"  {show_text(str(one))}" for one in damage[:_DAMAGE_MAX]]
    if len(damage) > _DAMAGE_MAX:
        lines.append(f"  … and {len(damage) - _DAMAGE_MAX} more: unspool show {metadata.record_id} --json")
    return "\n".join(lines)


def _totals(store: Store, reader: RecordReader) -> Totals:
    sums = Tally(prices_for(store))
    sums.add_recording(reader)
    return sums.result()


def _children(store: Store, metadata: RecordMetadata) -> list[RecordMetadata]:
    mine = [one for one in descendants(store, metadata.record_id) if one.parent == metadata.record_id]
    return sorted(mine, key=lambda one: one.pid)


def _who(store: Store, reader: RecordReader) -> list[tuple[str, str]]:
    metadata = reader.metadata
    os_process = f" (OS process {metadata.os_pid}{_on(metadata)})" if metadata.os_pid else ""
    children = [
        f"PID {one.pid} ({one.role}) {show_text(one.intent, 60)}".rstrip() for one in _children(store, metadata)
    ]
    parent = f"PID {amounts.count(metadata.parent_pid)} ({show_text(metadata.parent)})" if metadata.parent else ""
    if metadata.forked_at is not None:
        parent = f"forked from {parent} at event {metadata.forked_at}"
    versions = [
        f"Python {metadata.python}" if metadata.python else "",
        f"unspool {metadata.unspool}" if metadata.unspool else "",
    ]
    return [
        ("Recording", show_text(metadata.record_id)),
        ("PID", f"{metadata.pid}{os_process}{', a worker' if metadata.role == 'worker' else ''}"),
        ("Intent", show_text(metadata.intent)),
        ("State", state_text(metadata)),
        ("Time", _time(metadata)),
        ("Parent", parent),
        ("Children", "\n             ".join(children)),
        ("Command", show_text(shlex.join(metadata.command or []))),
        ("Directory", show_text(metadata.cwd or "")),
        ("Made by", ", ".join(filter(None, versions))),
        ("Imported", _imported(metadata)),
        ("Trace", show_text(metadata.trace_id or "")),
        ("Folder", f"{show_text(str(reader.record_dir))} ({amounts.bytes_text(size_of(reader.record_dir))})"),
    ]  # fmt: skip


def _imported(metadata: RecordMetadata) -> str:
    """The file a run was imported from, and what that file does not have."""
    origin = metadata.extra.get("imported")
    if not isinstance(origin, dict):
        return ""
    missing = origin.get("missing")
    words = ", ".join(str(word) for word in missing) if isinstance(missing, list) else ""
    said = f"{origin.get('format', 'unknown')}, from {origin.get('source', 'unknown')}"
    return show_text(said) + (f"\n             not in the file: {show_text(words)}" if words else "")


def _on(metadata: RecordMetadata) -> str:
    return f" on {show_text(metadata.host)}" if metadata.host else ""


def _time(metadata: RecordMetadata) -> str:
    start = metadata.start_time
    if start is None:
        return amounts.UNKNOWN
    took = "still running"
    if metadata.end_time is not None:
        took = f"took {format_duration(int((metadata.end_time - start).total_seconds() * 1e9))}"
    elif state_text(metadata) != "running":
        took = "its end is not known"
    return f"{start:%Y-%m-%d %H:%M:%S} UTC, {amounts.age(amounts.seconds_since(start))} ago, {took}"


def _sums(totals: Totals) -> list[tuple[str, str]]:
    tokens = amounts.UNKNOWN
    if totals.tokens is not None:
        cached = f" ({totals.cached_tokens:,} cached)" if totals.cached_tokens else ""
        tokens = f"{totals.input_tokens or 0:,} in{cached}, {totals.output_tokens or 0:,} out"
    if totals.tokens_unknown:
        tokens += f"; {amounts.counted(totals.tokens_unknown, 'call')} did not say"
    cost = amounts.cost(totals.cost)
    if totals.cost_unknown:
        cost += f"; {amounts.counted(totals.cost_unknown, 'call')} of unknown price"
    return [
        ("Events", f"{totals.events:,}" + (f", {totals.lost:,} LOST" if totals.lost else "")),
        ("Steps", f"{totals.steps:,}"),
        ("Calls", f"{amounts.counted(totals.calls, 'model call')}, {amounts.counted(totals.tools, 'tool call')}"),
        ("Tokens", tokens),
        ("Cost", cost),
        ("Errors", f"{totals.errors:,}"),
    ]
