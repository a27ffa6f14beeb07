"""The tree of runs: which run was forked or run again from which, and how it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from unspool.catalog.catalog import Catalog
from unspool.catalog.sums import Totals, total
from unspool.cli import amounts
from unspool.cli.ls import state_text
from unspool.cli.runs import Run, runs
from unspool.cli.terminal import bold, dim, red
from unspool.durations import format_duration
from unspool.errors import CorruptRecording, SeqNotFound, StoreError
from unspool.events import RecordMetadata
from unspool.recording.address import is_fork
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.text import display_value, show_text

__all__ = ["Node", "edit_texts", "format_history", "history", "node_json", "sum_up"]

_TEXT_LIMIT = 100
_MODELS_MAX = 3


@dataclass
class Sums:
    """What a run adds up to."""

    totals: Totals
    models: list[str]


@dataclass
class Node:
    """A run, and the forks and kept reruns of it, newest first.

    Attributes:
        origin: record id it was forked from or runs again; None for an original.
        origin_gone: that recording is not in the store any more.
        origin_call: the number of the model call it was forked at, if the origin can still be asked.
        edits: what the fork changed, in words; empty if that is not recorded.
        sums: filled in by `sum_up`.
    """

    run: Run
    origin: str | None = None
    origin_gone: bool = False
    origin_call: int | None = None
    edits: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    sums: Sums | None = None

    @property
    def root(self) -> RecordMetadata:
        return self.run.root

    def tree(self) -> Iterator[Node]:
        """This node and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.children


def history(store: Store, metadata: Iterable[RecordMetadata] | None = None) -> list[Node]:
    """The originals, each with what came from it; the one with the newest run in its tree first.

    Args:
        metadata: of all recordings, the newest first, if the caller has it; read from the recordings otherwise.
    """
    every = runs(store, metadata)  # newest first
    owners = {one.record_id: run.root.record_id for run in every for one in run.records}
    nodes = {run.root.record_id: Node(run, origin=_origin(run.root)) for run in every}
    top: list[Node] = []
    for node in nodes.values():
        node.edits = edit_texts(node.root.extra.get("edits"))
        above = nodes.get(owners.get(node.origin or "", ""))
        node.origin_gone = node.origin is not None and above is None
        # A run has a lower number than what came from it; a damaged file must not close a circle.
        if above is not None and above.root.pid < node.root.pid:
            above.children.append(node)
        else:
            top.append(node)
    order = {record_id: number for number, record_id in enumerate(nodes)}
    for node in nodes.values():
        node.children.sort(key=lambda one: _newest(one, order))
    return sorted(top, key=lambda one: _newest(one, order))


def _newest(node: Node, order: dict[str, int]) -> int:
    return min(order[one.root.record_id] for one in node.tree())


def _origin(root: RecordMetadata) -> str | None:
    return root.parent if is_fork(root) else root.rerun_of


def sum_up(catalog: Catalog, node: Node) -> None:
    """Fill in what one run adds up to, and at which call it was forked."""
    sums = catalog.sums(one.record_id for one in node.run.records)
    models = dict.fromkeys(model for one in sums for model in one.models)
    node.sums = Sums(total(sums, catalog.book), list(models))
    if is_fork(node.root) and not node.origin_gone and node.origin is not None:
        node.origin_call = _call_at(catalog.store, node.origin, node.root.forked_at or 0)


def _call_at(store: Store, record_id: str, seq_num: int) -> int | None:
    try:
        with RecordReader(store.records / record_id, live=True) as reader:
            return reader.events().bare(reader.index_of(seq_num)).call
    except (CorruptRecording, SeqNotFound, StoreError):
        return None


# --- what a fork changed ---------------------------------------------------------------------------------------------


def edit_texts(edits: Any) -> list[str]:
    """What the metadata of a fork says was changed, one short text each: texts as they are, or the edits of a plan."""
    if isinstance(edits, list):
        return [one if isinstance(one, str) else display_value(one, _TEXT_LIMIT) for one in edits]
    if isinstance(edits, str):
        return [edits]
    if not isinstance(edits, dict):
        return []
    found: list[str] = []
    if edits.get("set_system") is not None:
        found.append(f"system prompt: {edits['set_system']}")
    if edits.get("model"):
        found.append(f"model: {edits['model']}")
    params = edits.get("params")
    found += [f"{name} = {display_value(value, _TEXT_LIMIT)}" for name, value in _pairs(params)]
    changes = edits.get("changes")
    found += [_change_text(one) for one in (changes if isinstance(changes, list) else ()) if isinstance(one, dict)]
    if edits.get("response") is not None:
        found.append("another answer")
    return found


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return [(str(key), item) for key, item in value.items()] if isinstance(value, dict) else []


def _change_text(change: dict[str, Any]) -> str:
    label = change.get("label") or "a message"
    if change.get("kind") == "replace":
        return f"{label}: {change.get('text', '')}"
    if change.get("kind") == "remove":
        return f"without {label}"
    said = change.get("said")
    texts = [f"[{one.get('role')}] {one.get('text')}" for one in said if isinstance(one, dict)] if said else []
    return f"after {label}: {' '.join(texts)}"


# --- as text and as JSON ---------------------------------------------------------------------------------------------


def format_history(nodes: Sequence[Node], *, color: bool) -> str:
    """The trees as `git log --graph` draws them: what came from a run stands above it. No final newline.

    `*` is a run; a line goes down from it to the run it came from. Every node must have been summed up.
    """
    lines: list[str] = []
    for number, top in enumerate(nodes):
        if number and (top.children or nodes[number - 1].children):
            lines.append("")
        # What is still to be drawn, the next last: a whole subtree, a run itself, a line. No recursion: forks of forks
        # may be long chains.
        waiting: list[tuple[str, Node, bool] | str] = [("", top, True)]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                lines.append(item)
                continue
            prefix, node, whole = item
            if not whole:
                lines += _node_lines(prefix, node, is_top=node is top, color=color)
                continue
            waiting.append((prefix, node, False))
            for place, child in reversed(list(enumerate(node.children))):
                if place:
                    waiting.append(prefix + "|/")
                waiting.append((prefix + ("| " if place else ""), child, True))
    return "\n".join(lines)


def _node_lines(prefix: str, node: Node, *, is_top: bool, color: bool) -> Iterator[str]:
    head, *rest = _texts(node, color)
    yield f"{prefix}* {head}"
    below = prefix + ("  " if is_top else "| ")
    yield from (f"{below}{line}" for line in rest)


def _texts(node: Node, color: bool) -> Iterator[str]:
    root, sums = node.root, node.sums
    assert sums is not None
    totals = sums.totals
    calls = amounts.counted(totals.calls, "call") + (f" ({totals.served} served)" if totals.served else "")
    state = state_text(root)
    parts = [
        f"{amounts.age(amounts.seconds_since(root.start_time))} ago",
        _took(root),
        _models(sums.models),
        calls,
        amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        red(state, color) if root.exit_code or state in ("interrupted", "stopped") else state,
    ]
    if totals.errors:
        parts.append(amounts.counted(totals.errors, "error"))
    intent = f"  {show_text(root.intent, _TEXT_LIMIT)}" if root.intent else ""
    yield f"{bold(show_text(root.record_id), color)}  {', '.join(part for part in parts if part)}{intent}"
    if node.origin is not None:
        yield "  " + dim(_came_from(node), color)
    yield from (f"  {show_text(text, _TEXT_LIMIT)}" for text in node.edits)


def _came_from(node: Node) -> str:
    origin = show_text(node.origin or "")
    gone = " (that recording is gone)" if node.origin_gone else ""
    if not is_fork(node.root):
        return f"rerun of {origin}{gone}"
    place = f"event {node.root.forked_at}"
    if node.origin_call is not None:
        place = f"call {node.origin_call} ({place})"
    return f"forked from {origin}{gone} at {place}"


def _took(root: RecordMetadata) -> str:
    if root.start_time is None or root.end_time is None:
        return ""
    return f"took {format_duration(max(int((root.end_time - root.start_time).total_seconds() * 1e9), 0))}"


def _models(models: Sequence[str]) -> str:
    more = f" +{len(models) - _MODELS_MAX}" if len(models) > _MODELS_MAX else ""
    return " ".join(show_text(model, 40) for model in models[:_MODELS_MAX]) + more


def node_json(node: Node) -> dict[str, Any]:
    """A run for a program; `origin` says what it came from, so that the tree can be built again."""
    root, sums = node.root, node.sums
    assert sums is not None
    return {
        "record_id": root.record_id,
        "pid": root.pid,
        "intent": root.intent,
        "status": root.status,
        "exit_code": root.exit_code,
        "start_time": root.start_time,
        "end_time": root.end_time,
        "command": root.command,
        "origin": node.origin,
        "origin_gone": node.origin_gone,
        "kind": "fork" if is_fork(root) else "rerun" if root.rerun_of is not None else "original",
        "forked_at": root.forked_at,
        "forked_at_call": node.origin_call,
        "edits": root.extra.get("edits"),
        "models": sums.models,
        "processes": [one.record_id for one in node.run.records],
        **sums.totals.to_dict(),
    }
