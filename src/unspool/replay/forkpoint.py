"""The model call a fork leaves its recording at: its request and answer as bytes, and what later requests lean on."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from unspool.errors import NoSnapshot, UsageError
from unspool.events import ContextSnapshotData, HttpRequest, LLMResponse, RecordEvent
from unspool.providers.responses_stream import assemble_items
from unspool.providers.sse import read_stream
from unspool.providers.wire import as_list, as_object, as_text, decode_json
from unspool.recording.reader import RecordReader
from unspool.replay.snapshots import SnapshotFinder
from unspool.serving.edits import DIALECTS, JsonObject, Turn, items_of, state_of

__all__ = ["ForkPoint", "Kept", "kept_state", "point_of"]


class ForkPoint(Struct):
    """A recorded model call, taken out to be changed and sent again.

    Attributes:
        asked: the event that was asked for; the call's snapshot is `snapshot`.
        provider, method, url, headers, body: of the request; credentials are not in it.
        answer: the recorded answer, None if none came; `answer_event` is its event.
        status, answer_headers, answer_body: of the recorded response; 0, none and empty if none came.
    """

    record_id: str
    asked: int
    snapshot: RecordEvent
    provider: str
    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    answer: LLMResponse | None = None
    answer_event: RecordEvent | None = None
    status: int = 0
    answer_headers: list[tuple[str, str]] = []
    answer_body: bytes = b""

    @property
    def seq_num(self) -> int:
        """The number of the snapshot."""
        return self.snapshot.seq_num

    @property
    def notes(self) -> list[str]:
        """What is worth saying about the point itself."""
        if self.asked == self.seq_num:
            return []
        call = "" if self.snapshot.call is None else f", model call {self.snapshot.call}"
        return [f"#{self.asked:03d} is no model call: the fork is at #{self.seq_num:03d}{call}, the last one before it"]


def point_of(reader: RecordReader, seq: int) -> ForkPoint:
    """The call of the last snapshot at or before an event.

    Raises:
        SeqNotFound: the recording has no such event.
        NoSnapshot: no model call was recorded at or before it.
        UsageError: its request cannot be sent again: its bytes are not recorded, or its form is not known.
    """
    reader.index_of(seq)
    try:
        snapshot = SnapshotFinder(reader.events()).find_nearest_before(seq)
    except NoSnapshot as exc:
        raise NoSnapshot(
            f"{reader.record_id} has no model call at or before #{seq:03d}, so there is nothing to fork there. "
            f"List its calls with: unspool strace {reader.record_id} -e context",
            seq_num=seq,
        ) from exc
    data = snapshot.context
    where = f"#{snapshot.seq_num:03d} of {reader.record_id}"
    if data is None or data.request is None:
        raise UsageError(
            f"the request of {where} is not recorded, only its messages: it can be looked at, but not forked"
        )
    if data.provider not in DIALECTS:
        known = ", ".join(sorted(DIALECTS))
        raise UsageError(f"the request of {where} is of the form {data.provider!r}; fork knows: {known}")
    body = None if data.request.body is None else reader.body(data.request.body)
    if body is None:
        why = (data.request.body.missing if data.request.body else None) or "pieces of it are missing or damaged"
        raise UsageError(f"the request of {where} cannot be sent again: {why}")
    if not data.request.url:
        raise UsageError(f"the request of {where} cannot be sent again: its URL is missing or damaged")
    point = ForkPoint(
        record_id=reader.record_id,
        asked=seq,
        snapshot=snapshot,
        provider=data.provider,
        method=data.request.method or "POST",
        url=data.request.url,
        headers=list(data.request.headers or []),
        body=body,
    )
    _add_answer(reader, point)
    return point


def _add_answer(reader: RecordReader, point: ForkPoint) -> None:
    event = _answer_of(reader, point.snapshot)
    if event is None or event.llm is None:
        return
    point.answer_event, response = event, event.llm.response
    point.answer = reader.response_of(event)
    if response is not None:
        point.status, point.answer_headers = response.status, list(response.headers or [])
        point.answer_body = (reader.body(response.body) if response.body is not None else None) or b""


def _answer_of(reader: RecordReader, snapshot: RecordEvent) -> RecordEvent | None:
    """The answer to a call, whole. Recordings without numbers of calls: the next one."""
    for event in reader.bare_events(reader.index_of(snapshot.seq_num) + 1):
        if event.llm is not None and event.call == snapshot.call:
            return reader.whole(event)
        if event.context is not None and snapshot.call is None:
            return None
    return None


# --- state that providers keep ---------------------------------------------------------------------------------------


class Kept(Struct):
    """State at a provider that recorded calls made or lean on: see `Edits.turns` and `Edits.states`."""

    turns: dict[str, Turn] = {}
    states: list[str] = []


def kept_state(reader: RecordReader, point: ForkPoint) -> Kept:
    """What the calls before a fork left with the provider. Looks at the requests of the same form up to the point."""
    states: list[str] = []
    calls: list[tuple[RecordEvent, JsonObject]] = []
    for bare in reader.bare_events():
        if bare.seq_num > point.seq_num:
            break
        if bare.context is None or bare.context.provider != point.provider:
            continue
        found = _document(reader, bare.context)
        if found is None:
            continue
        url, document = found
        state = state_of(document, point.provider, url)
        if state is not None and state not in states:
            states.append(state)
        calls.append((bare, document))
    if not states or point.provider != "openai_responses":
        return Kept(states=states)
    turns: dict[str, Turn] = {}
    for snapshot, document in calls[:-1]:  # the last one is the call that is forked
        turn = _turn(reader, snapshot, document)
        if turn is not None:
            turns[turn[0]] = turn[1]
    return Kept(turns, states)


def _document(reader: RecordReader, data: ContextSnapshotData) -> tuple[str, JsonObject] | None:
    if data.request is None or data.request.body is None:
        return None
    body = reader.body(data.request.body)
    try:
        return None if body is None else (_url(reader, data.request), JsonObject(body))
    except ValueError:
        return None


def _url(reader: RecordReader, request: HttpRequest) -> str:
    return reader.with_head(request).url or ""


def _turn(reader: RecordReader, snapshot: RecordEvent, document: JsonObject) -> tuple[str, Turn] | None:
    """The id of the response of a call, and the items of the call; None if it got none."""
    answer = _answer_of(reader, snapshot)
    response = answer.llm.response if answer is not None and answer.llm is not None else None
    body = reader.body(response.body) if response is not None and response.body is not None else None
    if body is None:
        return None
    identity, output, whole = _output(body)
    if identity is None:
        return None
    previous = as_text(document.get("previous_response_id"))
    items = [decode_json(raw) for raw in items_of(document)]
    return identity, Turn(previous, [*items, *output], None if whole else "whose answer is not recorded to its end")


def _output(body: bytes) -> tuple[str | None, list[Any], bool]:
    """Id and items of a Responses answer, and whether it came to its end."""
    stream = read_stream(body, None)
    if stream is None:
        try:
            document = as_object(decode_json(body))
        except ValueError:
            return None, [], False
        return as_text(document.get("id")), as_list(document.get("output")), True
    responses = [response for item in stream.items if (response := as_object(item.get("response")))]
    if not responses:
        return None, [], False
    output = as_list(responses[-1].get("output")) or assemble_items(stream.items)
    return as_text(responses[-1].get("id")), output, responses[-1].get("status") in ("completed", "incomplete")
