"""From recordings to what can be served: every exchange and tool call of a run tree, in order of their start."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from unspool.errors import CorruptRecording, NoSnapshot, RecordingNotFound
from unspool.events import Body, HttpRequest, HttpResponse, RecordEvent, RecordEventType, RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.recording.tree import companions, descendants
from unspool.serving.edits import read_edits
from unspool.serving.edits.kept import EDITS_NAME, read_kept
from unspool.serving.fingerprint import request_key
from unspool.serving.plan import Offer, Plan, Source, Target
from unspool.serving.tools import MCP, TOOL_CALL, tool_offer
from unspool.store import Store

__all__ = ["collect_offers", "make_plan", "open_tree", "source_of"]

_NO_TIME = datetime(1, 1, 1, tzinfo=UTC)
_IN_FLIGHT = "it was in flight when the recording ended"
_NO_ANSWER = "the recording ended before its response was written"
_NO_REQUEST = "its request is not recorded"
_NO_BODY = "its response body is not recorded"


def open_tree(store: Store, record_id: str) -> list[RecordReader]:
    """Readers of a recording and of all that its processes started, the root first; the caller closes them.

    Where its command started several programs, all of them belong to it, and the first of them is the root.

    Raises:
        CorruptRecording, UnsupportedFormat, StoreError: one of them cannot be read.
    """
    first, *others = companions(store, record_id)
    members = [*others, *(one for root in (first, *others) for one in descendants(store, root.record_id))]
    members.sort(key=lambda one: (one.start_time or _NO_TIME, one.pid))
    readers: list[RecordReader] = []
    try:
        for name in (first.record_id, *(one.record_id for one in members)):
            readers.append(RecordReader(store.records / name, live=True))  # noqa: PERF401 - closed if one fails
    except BaseException:
        for reader in readers:
            reader.close()
        raise
    return readers


def make_plan(
    readers: Sequence[RecordReader], *, target: tuple[str, int] | None = None, **rules: Any
) -> tuple[Plan, list[Offer]]:
    """The plan and the offers of a rerun of the first recording, or of a fork.

    Args:
        readers: the run tree, the root first, as `open_tree` gives it.
        target: record id and seq_num where a fork leaves the recording: the model call of the last snapshot at or
            before it. Offers are then that call and what started before it, in all of the tree.
        rules: fields of `Plan`.

    Raises:
        NoSnapshot: no model call was recorded at or before the target.
        RecordingNotFound: the target is in none of the recordings.
        CorruptRecording: the edits a fork was made with cannot be read.
    """
    offers = collect_offers(readers)
    root = readers[0]
    ids = {reader.metadata.record_id for reader in readers}
    plan = Plan(root=root.metadata.record_id, sources=[source_of(reader, ids) for reader in readers], **rules)
    if target is not None:
        plan.target = _target(readers, offers, *target)
        offers = [offer for offer in offers if offer.number <= plan.target.offer]
    plan.inherited = _inherited(root, plan.target)
    return plan, offers


def _inherited(root: RecordReader, target: Target | None) -> list[dict[str, Any]]:
    """The edits of the forks that made the recording; those only that begin at or before the target.

    Raises:
        CorruptRecording: they cannot be read.
    """
    try:
        kept = read_kept(root.record_dir)
        for one in kept:
            read_edits(one.edits)  # what a process of the rerun could not read would stop it there
    except (OSError, ValueError, msgspec.DecodeError) as exc:
        raise CorruptRecording(root.record_dir, f"{EDITS_NAME} cannot be read: {exc}") from exc
    in_root = target is not None and target.record_id == root.metadata.record_id
    return [
        one.edits
        for one in kept
        if one.edits is not None and (target is None or not in_root or one.call is None or one.call <= target.call)
    ]


def source_of(reader: RecordReader, record_ids: Collection[str]) -> Source:
    """What a plan says of one recording of a tree; `record_ids` are all of the tree."""
    metadata = reader.metadata
    return Source(
        record_id=metadata.record_id,
        path=str(reader.record_dir.absolute()),
        parent=metadata.parent if metadata.parent in record_ids else None,
        role=metadata.role,
        intent=metadata.intent,
        command=metadata.command or [],
    )


def _target(readers: Sequence[RecordReader], offers: list[Offer], record_id: str, seq_num: int) -> Target:
    reader = next((one for one in readers if one.metadata.record_id == record_id), None)
    if reader is None:
        raise RecordingNotFound(record_id, readers[0].record_dir.parent)
    reader.index_of(seq_num)
    calls = [one for one in offers if one.kind == "llm" and one.record_id == record_id and one.snapshot is not None]
    before = [one for one in calls if (one.snapshot or 0) <= seq_num]
    if not before:
        raise NoSnapshot(f"no model call found before SeqNum {seq_num} in {record_id}", seq_num=seq_num)
    found = max(before, key=lambda one: one.snapshot or 0)
    return Target(record_id=record_id, offer=found.number, seq_num=found.snapshot or 0, call=found.call or 0)


# --- offers ----------------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """An offer without its number."""

    started: int  # ns of the Unix epoch
    order: int
    ended: int | None
    offer: Offer
    parent_span: str | None


def collect_offers(readers: Iterable[RecordReader]) -> list[Offer]:
    """Every exchange and tool call of these recordings, numbered from 1 in order of start. No body is parsed."""
    found: list[_Found] = []
    parents: dict[str, str | None] = {}  # span -> the span around it
    for order, reader in enumerate(readers):
        found += _of_recording(reader, order, parents)
    found.sort(key=lambda one: (one.started, one.order, one.offer.snapshot or one.offer.syscall or 0))
    tools: dict[str, int] = {}
    for number, one in enumerate(found, 1):
        one.offer.number = number
        if one.offer.kind == "tool" and one.offer.span is not None:
            tools[one.offer.span] = number
    for one in found:
        one.offer.inside = _enclosing_tool(one.parent_span, parents, tools)
    _mark_unordered(found)
    return [one.offer for one in found]


def _of_recording(reader: RecordReader, order: int, parents: dict[str, str | None]) -> list[_Found]:
    metadata = reader.metadata
    begun = _epoch_ns(metadata)
    if metadata.span_base is not None:
        parents[metadata.span_base + "00000001"] = metadata.parent_span_id
    heads = _Heads(reader)
    found: list[_Found] = []
    calls: dict[tuple[str | None, int | None], _Call] = {}
    for event in reader.bare_events():
        call = event.syscall
        if event.type is RecordEventType.CONTEXT_SNAPSHOT:
            calls[event.span_id, event.call] = _Call(event)
        elif event.type is RecordEventType.LLM_RESPONSE:
            if (known := calls.get((event.span_id, event.call))) is not None:
                known.answer = event
        elif call is not None:
            if event.span_id is not None:
                parents[event.span_id] = event.parent_span_id
            if call.syscall == "LLMCall":
                if (known := calls.get((event.span_id, event.call))) is not None:
                    known.syscall = event
            elif call.syscall in (TOOL_CALL, MCP):
                offer = tool_offer(reader, event)
                offer.span = event.span_id
                found.append(_found(event, begun, order, event.timestamp + call.duration, offer))
            elif call.syscall == "HTTP":
                offer = _http_offer(reader, event, heads)
                found.append(_found(event, begun, order, event.timestamp + call.duration, offer))
    for one in calls.values():
        ended = one.answer.timestamp if one.answer is not None else None
        parent = one.syscall if one.syscall is not None else one.snapshot
        found.append(_found(parent, begun, order, ended, _model_offer(reader, one, heads)))
    return found


def _found(event: RecordEvent, begun: int, order: int, ended: int | None, offer: Offer) -> _Found:
    offer.started, offer.ended = begun + event.timestamp, None if ended is None else begun + ended
    if event.syscall is not None and event.syscall.ttft is not None:
        offer.answered = offer.started + event.syscall.ttft
    return _Found(offer.started, order, offer.ended, offer, event.parent_span_id)


def _epoch_ns(metadata: RecordMetadata) -> int:
    if metadata.start_time is None:
        return 0
    return (metadata.start_time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


class _Call:
    """The events of one model call."""

    __slots__ = ("answer", "snapshot", "syscall")

    def __init__(self, snapshot: RecordEvent) -> None:
        self.snapshot = snapshot
        self.syscall: RecordEvent | None = None
        self.answer: RecordEvent | None = None


def _model_offer(reader: RecordReader, call: _Call, heads: _Heads) -> Offer:
    snapshot, syscall, answer = call.snapshot, call.syscall, call.answer
    data = snapshot.context
    assert data is not None
    request = data.request
    if syscall is not None and syscall.syscall is not None and syscall.syscall.request is not None:
        request = syscall.syscall.request  # a body that was sent as a stream is known only at the end
    offer = Offer(
        number=0,
        kind="llm",
        record_id=reader.metadata.record_id,
        task=snapshot.task or "0",
        syscall=syscall.seq_num if syscall is not None else None,
        snapshot=snapshot.seq_num,
        response=answer.seq_num if answer is not None else None,
        call=snapshot.call,
        at=snapshot.at,
        name=data.model or "",
        retry=data.retry,
    )
    _describe_request(offer, request, heads)
    if offer.unservable is not None:
        return offer
    if answer is None or answer.llm is None:
        offer.unservable = _IN_FLIGHT if syscall is None else _NO_ANSWER
    elif answer.llm.response is not None:
        offer.unservable = _why_not(answer.llm.response)
    elif answer.llm.error is None:
        offer.unservable = _NO_BODY
    return offer


def _http_offer(reader: RecordReader, event: RecordEvent, heads: _Heads) -> Offer:
    data = event.syscall
    assert data is not None
    offer = Offer(
        number=0,
        kind="http",
        record_id=reader.metadata.record_id,
        task=event.task or "0",
        syscall=event.seq_num,
        call=event.call,
        at=event.at,
        name=str(data.args.get("path", "")).removeprefix("/dev/net/"),
    )
    _describe_request(offer, data.request, heads)
    if offer.unservable is not None:
        return offer
    if data.response is not None:
        offer.unservable = _why_not(data.response)
    elif data.error is None:
        offer.unservable = _NO_BODY
    return offer


def _describe_request(offer: Offer, request: HttpRequest | None, heads: _Heads) -> None:
    method, url = heads.of(request)
    if request is None or method is None or url is None:
        offer.unservable = _NO_REQUEST
        return
    offer.key = request_key(method, url, is_model_call=offer.kind == "llm")
    body = request.body
    if body is None:
        return
    if body.missing is not None:
        offer.unservable = f"its request body is not recorded: {body.missing}"
    elif body.size:
        offer.sha256 = body.sha256


def _why_not(response: HttpResponse) -> str | None:
    body: Body | None = response.body
    if response.ended is not None and response.ended.startswith("not seen"):
        return f"its response body is not recorded: {response.ended}"
    if body is None:
        return _NO_BODY
    if body.missing is not None:
        return f"its response body is not recorded: {body.missing}"
    return None


class _Heads:
    """Methods and URLs of requests; a head that many requests share is read once."""

    def __init__(self, reader: RecordReader) -> None:
        self._reader = reader
        self._known: dict[str, tuple[str | None, str | None]] = {}

    def of(self, request: HttpRequest | None) -> tuple[str | None, str | None]:
        if request is None:
            return None, None
        if request.head is None:
            return request.method, request.url
        known = self._known.get(request.head)
        if known is None:
            whole = self._reader.with_head(msgspec.structs.replace(request, vary=None))
            known = self._known[request.head] = (whole.method, whole.url)
        vary = request.vary or {}
        return vary.get("0", known[0]), vary.get("1", known[1])


# --- what stands around and beside an offer --------------------------------------------------------------------------


def _enclosing_tool(span: str | None, parents: dict[str, str | None], tools: dict[str, int]) -> int | None:
    seen = 0
    while span is not None and seen < len(parents) + 1:  # a damaged file must not close a circle
        if span in tools:
            return tools[span]
        span = parents.get(span)
        seen += 1
    return None


def _mark_unordered(found: list[_Found]) -> None:
    """Say where the order of a place means nothing: its model calls ran beside each other."""
    places: dict[tuple[str, str], list[_Found]] = defaultdict(list)
    for one in found:
        if one.offer.kind == "llm":
            places[one.offer.record_id, one.offer.task].append(one)
    for calls in places.values():
        latest = 0
        overlap = False
        for one in calls:
            overlap = overlap or one.started < latest
            latest = max(latest, one.ended if one.ended is not None else one.started)
        if overlap:
            for one in calls:
                one.offer.unordered = True
