"""Recorded tool calls as offers: what each must be asked with, and which of them a call of the rerun may take.

A tool call is known by its path and its arguments. A request of an MCP session is known by its method, the address of
the server and its parameters: its server says who it is only in the answer to the first of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from unspool.events import RecordEvent
from unspool.recording.lines import is_plain, revive, to_wire
from unspool.recording.reader import RecordReader
from unspool.serving.plan import Offer

__all__ = [
    "MCP",
    "SESSION",
    "TOOL_CALL",
    "Place",
    "ToolShelf",
    "arguments_digest",
    "covered",
    "differing_arguments",
    "is_allowed_live",
    "mcp_asked",
    "mcp_key",
    "tool_offer",
    "tool_offers",
]

TOOL_CALL: Final = "ToolCall"
MCP: Final = "MCP"  # a request of an MCP session that is no tool call
SESSION: Final = "/dev/session/"  # the path of such requests, before the server's name

# They only say which client asks, in which version of the protocol.
_HANDSHAKES: Final = frozenset(("initialize", "server/discover", "connect"))
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")


# --- offers ----------------------------------------------------------------------------------------------------------


def tool_offers(reader: RecordReader) -> list[Offer]:
    """The tool calls and MCP requests of a recording, in the order of their events. Their `number` is 0."""
    return [
        tool_offer(reader, event)
        for event in reader.bare_events()
        if event.syscall is not None and event.syscall.syscall in (TOOL_CALL, MCP)
    ]


def tool_offer(reader: RecordReader, event: RecordEvent) -> Offer:
    """The offer of one event, as it is on disk; its `number` is 0."""
    whole = reader.whole(event)
    call = whole.syscall
    assert call is not None
    args = call.args
    path = str(args.get("path", ""))
    if call.syscall == MCP:
        method = str(args.get("method", ""))
        key, arguments = mcp_key(method, str(args.get("server", ""))), mcp_asked(method, args.get("input"))
    else:
        key, arguments = path, args.get("input")
    return Offer(
        number=0,
        kind="tool",
        record_id=reader.record_id,
        task=whole.task or "0",
        syscall=whole.seq_num,
        at=whole.at,
        name=path,
        key=key,
        sha256=arguments_digest(arguments),
    )


def mcp_key(method: str, server: str) -> str:
    """The key of a request of an MCP session; `server` is the command line or URL it was reached by."""
    return f"{method} {server}"


def mcp_asked(method: str, params: Any) -> Any:
    """The parameters by which a request of an MCP session is known."""
    return {} if method in _HANDSHAKES else params


def arguments_digest(arguments: Any) -> str:
    """SHA-256 of the canonical JSON of arguments, as they are or as a reader gives them."""
    return hashlib.sha256(_canonical(arguments).encode("ascii")).hexdigest()


def _canonical(arguments: Any) -> str:
    if not is_plain(arguments):
        # What was read back has lost some marks, what was never written has none yet: both end up the same.
        arguments = _without_addresses(to_wire(revive(to_wire(arguments), lambda _: None)))
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))


def _without_addresses(value: Any) -> Any:
    """The text of an object without the place it had in memory, which is another in every run."""
    if isinstance(value, dict):
        if len(value) == 1:
            # An object's text, as it was written, or marked once more after it was read.
            inner = value.get("$dict", value)
            text = inner.get("$repr") if isinstance(inner, dict) and len(inner) == 1 else None
            if isinstance(text, str):
                return {"$repr": _ADDRESS.sub("0x", text)}
        return {name: _without_addresses(item) for name, item in value.items()}
    return [_without_addresses(item) for item in value] if isinstance(value, list) else value


def differing_arguments(recorded: Any, asked: Any) -> dict[str, dict[str, Any]]:
    """The arguments that are not equal, each with what was `recorded` and what is `asked`; absent ones are left out."""
    before = recorded if isinstance(recorded, dict) else {"": recorded}
    now = asked if isinstance(asked, dict) else {"": asked}
    out: dict[str, dict[str, Any]] = {}
    for name in [*before, *(name for name in now if name not in before)]:
        sides = {side: to_wire(one[name]) for side, one in (("recorded", before), ("asked", now)) if name in one}
        if len(sides) < 2 or _canonical(before[name]) != _canonical(now[name]):
            out[name] = sides
    return out


# --- rules -----------------------------------------------------------------------------------------------------------


def is_allowed_live(path: str, names: Iterable[str]) -> bool:
    """Whether a tool may run for real: it is named by its name, by its path, by a folder of it, by `mcp` or by `*`."""
    tail = path.rpartition("/")[2]
    is_mcp = path.startswith(("/dev/mcp/", SESSION))
    return any(
        name in ("*", path, tail) or (name == "mcp" and is_mcp) or (name.endswith("/") and path.startswith(name))
        for name in names
    )


# --- matching --------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a tool is called from: the recording that is replayed there, the task, and whether inside another tool."""

    record_id: str | None
    task: str
    in_tool: bool = False


class ToolShelf:
    """The tool offers of a rerun, found by what is asked for."""

    def __init__(self, offers: Iterable[Offer]) -> None:
        self._by_call: dict[tuple[str, str | None], list[Offer]] = defaultdict(list)
        self._by_key: dict[str, list[Offer]] = defaultdict(list)
        for offer in sorted((one for one in offers if one.kind == "tool"), key=lambda one: one.number):
            self._by_call[offer.key, offer.sha256].append(offer)
            self._by_key[offer.key].append(offer)

    def candidates(self, place: Place, key: str, sha256: str) -> list[Offer]:
        """Offers of this very call: of the same place first, then of the same recording, then in recorded order."""
        return sorted(self._by_call.get((key, sha256), ()), key=lambda offer: _distance(offer, place))

    def alike(self, place: Place, key: str) -> list[Offer]:
        """Offers with this key and any arguments, the nearest first."""
        return sorted(self._by_key.get(key, ()), key=lambda offer: _distance(offer, place))


def _distance(offer: Offer, place: Place) -> tuple[bool, bool, bool, int]:
    # What a served tool did inside is not asked for again: its calls are no answer to equal ones made outside.
    stranger = offer.record_id != place.record_id
    return place.in_tool != (offer.inside is not None), stranger, stranger or offer.task != place.task, offer.number


# --- what a served call stands for -----------------------------------------------------------------------------------


def covered(offers: Iterable[Offer], served: Iterable[int]) -> set[int]:
    """Numbers of the offers that were made inside a tool call which was served: nobody can ask for them.

    Args:
        offers: all offers of the rerun.
        served: numbers of those that were served. A tool call that ran for real is none of them.
    """
    done = set(served)
    by_number = {offer.number: offer for offer in offers}
    out: set[int] = set()
    for offer in by_number.values():
        around, seen = offer.inside, {offer.number}
        while around is not None and around not in seen:
            seen.add(around)
            if around in done:
                out.add(offer.number)
                break
            around = by_number[around].inside if around in by_number else None
    return out - done
