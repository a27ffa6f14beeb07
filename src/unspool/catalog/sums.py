"""What a recording adds up to: counted once, event by event, and priced whenever it is asked for.

The counts do not depend on a user's own prices. Calls are grouped by model; a group keeps its tokens, for own prices,
and its US dollars by the public lists, which are worked out call by call because they depend on the time and the length
of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from unspool.durations import later
from unspool.events import LLMResponseData, RecordEvent, RecordEventType

__all__ = ["LLM_PREFIX", "TOOL_PREFIXES", "Counter", "Group", "PriceBook", "Rates", "Sums", "Totals", "total"]

LLM_PREFIX: Final = "/dev/llm/"
TOOL_PREFIXES: Final = ("/dev/tool/", "/dev/mcp/")
_NOT_PUBLIC: Final = 0
_BY_ANSWERED: Final = 1
_BY_ASKED: Final = 2


class Rates(Protocol):
    """Prices of one model that hold at any time and for any length."""

    def cost(self, input_tokens: int, output_tokens: int, cached: int = 0, cache_write: int = 0) -> float | None:
        """US dollars for so many tokens; None if the counts contradict each other."""


class PriceBook(Protocol):
    """Where prices come from; the catalog knows no price list itself."""

    @property
    def public_version(self) -> str:
        """Changes when the public prices may have."""

    def own(self, vendor: str, model: str) -> Rates | None:
        """What the user says a model costs; None if nothing is said."""

    def public_cost(self, vendor: str, model: str, data: LLMResponseData, at: datetime | None) -> float | None:
        """US dollars for one answered call by the public lists; None if they do not have the model.

        Args:
            data: the answer, whose token counts are known.
            at: when the call was made; None for now.
        """


class Group(msgspec.Struct, array_like=True):
    """Calls of one model: `answered` is what the answer called it, `asked` what the request did.

    `by` says which of the two the public lists know (1: answered, 2: asked, 0: neither), `usd` what they make of it.
    """

    vendor: str
    answered: str
    asked: str
    by: int = _NOT_PUBLIC
    calls: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    usd: float = 0.0


class Sums(msgspec.Struct, array_like=True):
    """Counts of one recording, up to its event number `events`, with what counting goes on from.

    `answered` are the answers that were sent for and not served, whatever is known of them; `counted` those of which
    tokens are known; `unpriced` those that no price list can price. `path` and `paths` are those of calls in flight.
    """

    events: int = 0
    calls: int = 0
    answers: int = 0
    snapshots: int = 0
    tool_calls: int = 0
    errors: int = 0
    served: int = 0
    answered: int = 0
    counted: int = 0
    input: int = 0
    output: int = 0
    cached: int | None = None
    tokens_unknown: int = 0
    unpriced: int = 0
    lost: int = 0
    groups: list[Group] = []
    models: list[str] = []
    tools: list[str] = []
    path: str = ""
    paths: dict[int, str] = {}
    last: int = 0  # the timestamp of the last event counted


@dataclass
class Totals:
    """Sums over one or more recordings.

    `tokens` and `cost` are None where nothing is known; `tokens_unknown` and `cost_unknown` count the answered calls
    that the sums leave out, which makes them lower bounds. Tokens and cost are of what was sent: the `served` calls,
    which a recording answered, are in `calls` and in no other sum.
    """

    events: int = 0
    steps: int = 0
    calls: int = 0
    tools: int = 0
    errors: int = 0
    lost: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cached_tokens: int | None = None
    tokens: int | None = 0
    cost: float | None = 0.0
    tokens_unknown: int = 0
    cost_unknown: int = 0
    served: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; the cost names its unit."""
        document = asdict(self)
        document["cost_usd"] = document.pop("cost")
        return document


class Counter:
    """Counts one recording.

    Args:
        book: public prices.
        start: when the recording began.
        sums: counts to go on with; they are changed.
    """

    def __init__(self, book: PriceBook, start: datetime | None, sums: Sums | None = None) -> None:
        self.sums = sums if sums is not None else Sums()
        self._book = book
        self._start = start
        self._groups = {(one.vendor, one.answered, one.asked, one.by): one for one in self.sums.groups}
        self._models = dict.fromkeys(self.sums.models)
        self._tools = dict.fromkeys(self.sums.tools)

    def add(self, event: RecordEvent) -> None:
        """Count one event."""
        sums = self.sums
        sums.events += 1
        sums.last = event.timestamp
        if event.syscall is not None:
            data = event.syscall
            path = data.args.get("path")
            if data.err and data.syscall != "Span":  # what fails inside of one is counted where it fails
                sums.errors += 1
            if not isinstance(path, str):
                return
            if path.startswith(TOOL_PREFIXES):
                sums.tool_calls += 1
                _note(self._tools, sums.tools, path.partition("/dev/")[2].partition("/")[2])
            elif path.startswith(LLM_PREFIX):
                _note(self._models, sums.models, path.removeprefix(LLM_PREFIX).partition("/")[2])
                sums.path = path
                if event.call is not None:
                    sums.paths[event.call] = path
        elif event.llm is not None:
            sums.answers += 1
            self._add_answer(event, event.llm)
        elif event.type is RecordEventType.CONTEXT_SNAPSHOT:
            if event.call is not None:
                sums.calls += 1
            if event.context is None or not event.context.retry:
                sums.snapshots += 1

    def _add_answer(self, event: RecordEvent, data: LLMResponseData) -> None:
        sums = self.sums
        path = sums.paths.pop(event.call, "") if event.call is not None else sums.path
        if event.origin == "served":
            sums.served += 1
            return
        if data.request_tokens is None and data.response_tokens is None:
            if data.error is None:
                sums.answered += 1
                sums.tokens_unknown += 1
                sums.unpriced += 1
            return
        sums.answered += 1
        sums.counted += 1
        sums.input += data.request_tokens or 0
        sums.output += data.response_tokens or 0
        if data.cached_tokens is not None:
            sums.cached = (sums.cached or 0) + data.cached_tokens
        if data.request_tokens is None or data.response_tokens is None:
            sums.tokens_unknown += 1
        vendor, _, asked = path.removeprefix(LLM_PREFIX).partition("/")
        if not vendor or not _can_be_priced(data):
            sums.unpriced += 1
        else:
            self._add_to_group(event, data, vendor, asked)

    def _add_to_group(self, event: RecordEvent, data: LLMResponseData, vendor: str, asked: str) -> None:
        start = self._start
        at = later(start, event.timestamp)
        answered = data.model or ""
        # The answer names the exact version; a gateway may answer with a name of its own.
        by = _BY_ANSWERED
        usd = self._book.public_cost(vendor, answered, data, at) if answered else None
        if usd is None:
            by = _BY_ASKED
            usd = self._book.public_cost(vendor, asked, data, at) if asked else None
        if usd is None:
            by = _NOT_PUBLIC
        key = (vendor, answered, asked, by)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(*key)
            self.sums.groups.append(group)
        group.calls += 1
        group.input += data.request_tokens or 0
        group.output += data.response_tokens or 0
        group.cached += data.cached_tokens or 0
        group.cache_write += data.cache_write_tokens or 0
        group.usd += usd or 0.0


def _note(known: dict[str, None], names: list[str], name: str) -> None:
    if name not in known:
        known[name] = None
        names.append(name)


def _can_be_priced(data: LLMResponseData) -> bool:
    """Whether both counts are there and nothing contradicts them; then a sum of calls can be priced as one."""
    if data.request_tokens is None or data.response_tokens is None:
        return False
    cached, written = data.cached_tokens or 0, data.cache_write_tokens or 0
    return min(data.request_tokens - cached - written, data.response_tokens, cached, written) >= 0


def total(every: Iterable[Sums], book: PriceBook) -> Totals:
    """The sums of these recordings together; None where calls were answered and nothing is known about them."""
    found = Totals()
    answered = counted = priced = 0
    read = written = 0
    cost = 0.0
    for one in every:
        found.events += one.events
        # A call in flight has a snapshot and no answer; recordings by others have answers and no numbered snapshots.
        found.calls += max(one.calls, one.answers)
        found.steps += one.snapshots
        found.tools += one.tool_calls
        found.errors += one.errors
        found.lost += one.lost
        found.served += one.served
        found.tokens_unknown += one.tokens_unknown
        found.cost_unknown += one.unpriced
        answered += one.answered
        counted += one.counted
        read += one.input
        written += one.output
        if one.cached is not None:
            found.cached_tokens = (found.cached_tokens or 0) + one.cached
        for group in one.groups:
            usd = _price(group, book)
            if usd is None:
                found.cost_unknown += group.calls
            else:
                priced += group.calls
                cost += usd
    is_known = counted or not answered
    found.input_tokens = read if is_known else None
    found.output_tokens = written if is_known else None
    found.tokens = read + written if is_known else None
    found.cost = cost if priced or not answered else None
    return found


def _price(group: Group, book: PriceBook) -> float | None:
    """US dollars for the calls of a group: for each name of the model the user's own price, then the public one."""
    for by, model in ((_BY_ANSWERED, group.answered), (_BY_ASKED, group.asked)):
        if not model:
            continue
        if (own := book.own(group.vendor, model)) is not None:
            return own.cost(group.input, group.output, group.cached, group.cache_write)
        if group.by == by:
            return group.usd
    return None
