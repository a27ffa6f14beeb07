"""Keeping a fork of which one request was sent: a recording of what came before it, and of what the model said.

It stands beside the forks that were run: `unspool log` draws it, `diff`, `show` and the views open it. What came before
the point is taken over as it was recorded, marked as served, so that costs count only what was sent.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from unspool import __version__
from unspool.capture.answers import HttpEnd, outcome_of
from unspool.capture.credentials import clean_headers, clean_url
from unspool.errors import StoreError
from unspool.events import (
    ContextSnapshotData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    StateChangeData,
    SyscallEventData,
)
from unspool.providers import PROVIDERS, vendor
from unspool.recording.lanes import Conversation
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import BodyStore, Recorder
from unspool.replay.forkplan import ForkPlan
from unspool.replay.livecall import LiveAnswer, LiveRequest
from unspool.serving.edits import KeptEdits, read_kept, write_kept
from unspool.store import Store, new_hex_id

__all__ = ["keep_sent_fork"]

_AGENT: Final = "00000001"  # the span of a process as a whole
_SHOWN_EDITS: Final = ("set_system", "model", "params", "changes")
_PINNED: Final = "nondet.jsonl"
# What a process needs to be run again, from the recording that is forked.
_LAUNCH: Final = ("role", "command", "cwd", "python", "env", "env_names", "launched", "launched_in", "packages")


def keep_sent_fork(
    store: Store, reader: RecordReader, plan: ForkPlan, request: LiveRequest, answer: LiveAnswer
) -> RecordMetadata:
    """Write the recording of a fork that was sent.

    Args:
        reader: of the recording the fork leaves.
        request: what was sent; its credentials are not kept.

    Raises:
        StoreError: it cannot be written.
    """
    source = reader.metadata
    offset = plan.point.snapshot.timestamp
    fields: dict[str, Any] = {name: getattr(source, name) for name in _LAUNCH}
    fields |= {
        "start_time": datetime.now(UTC) - timedelta(microseconds=(offset + answer.duration) // 1000),
        "parent": source.record_id,
        "parent_pid": source.pid,
        "forked_at": plan.point.seq_num,
        "trace_id": new_hex_id(),
        "unspool": __version__,
        "extra": {"edits": _short(plan.edits.to_plan())},
    }
    recorder = Recorder(store.ensure().records, store.next_pid(), source.intent, fields=fields)
    try:
        writing = _Writing(recorder, reader)
        writing.prefix(plan.point.seq_num)
        writing.exchange(plan, request, answer)
        writing.state(offset + answer.duration, "the fork was made for this one answer")
        kept = [*read_kept(reader.record_dir), KeptEdits(plan.edits.to_plan(), plan.point.snapshot.call)]
        write_kept(recorder.record_dir, kept)
        _copy_pins(reader, recorder)
    except (OSError, ValueError, TypeError, msgspec.DecodeError) as exc:  # also what a damaged recording may hold
        raise StoreError(f"the fork could not be kept whole in {store.path}: {exc}") from exc
    finally:
        recorder.stop()
    return recorder.metadata


def _short(edits: dict[str, Any]) -> dict[str, Any]:
    """What the fork changes, as `unspool log` shows it."""
    return {name: edits[name] for name in _SHOWN_EDITS if edits.get(name)}


def _copy_pins(reader: RecordReader, recorder: Recorder) -> None:
    """Clock and random values, so that the fork can be run again; like all of them for this user only."""
    with contextlib.suppress(FileNotFoundError):
        target = recorder.record_dir / _PINNED
        target.touch(mode=0o600)
        shutil.copyfile(reader.record_dir / _PINNED, target)


class _Writing:
    """The new recording while it is written."""

    def __init__(self, recorder: Recorder, reader: RecordReader) -> None:
        self._recorder, self._reader = recorder, reader
        self._base = reader.metadata.span_base or ""
        self._conversations: dict[int | None, Conversation] = {}
        self._calls: dict[int | None, int | None] = {}  # numbers there, and here: lost events leave gaps there
        self._steps: dict[int | None, int | None] = {}

    # --- what came before --------------------------------------------------------------------------------------------

    def prefix(self, until: int) -> None:
        """Take over the events before one, and the ends of the model calls that had begun by then."""
        for event in self._before(until):
            self._take(event)

    def _before(self, until: int) -> Iterator[RecordEvent]:
        begun: set[int | None] = set()
        for event in self._reader.bare_events():
            if event.seq_num < until:
                if event.context is not None:
                    begun.add(event.call)
                elif event.llm is not None:
                    begun.discard(event.call)
                yield event
            elif not begun:
                return
            elif event.call in begun and (event.llm is not None or _is_model_call(event)):
                if event.llm is not None:
                    begun.discard(event.call)
                yield event

    def _take(self, bare: RecordEvent) -> None:
        data = bare.context
        is_request = data is not None and data.request is not None and data.messages is None
        is_answer = bare.llm is not None and bare.llm.response is not None
        event = bare if is_request or is_answer else self._reader.whole(bare)
        event = msgspec.structs.replace(
            event,
            pid=self._recorder.pid,
            span_id=self._own(event.span_id),
            parent_span_id=self._own(event.parent_span_id),
            trace_id=None,
            call=self._calls.get(event.call, event.call),
            step=self._steps.get(event.call, event.step),
            lane=None if is_request else event.lane,
            origin=None if event.state is not None else "served",
        )
        if is_request:
            self._take_request(event, bare)
        elif is_answer:
            self._take_answer(event)
        elif event.syscall is not None and (event.syscall.request is not None or event.syscall.response is not None):
            self._take_http(event, event.syscall)
        else:
            self._recorder.write_event(event)

    def _own(self, span: str | None) -> str | None:
        """A span id as this recording has it: whole ids of the source lose what is the source's."""
        return span.removeprefix(self._base) if span is not None and self._base else span

    def _take_request(self, event: RecordEvent, bare: RecordEvent) -> None:
        old = bare.context
        assert old is not None
        assert old.request is not None
        body = self._reader.body(old.request.body) if old.request.body is not None else None
        head = self._reader.with_head(old.request)
        event.context = ContextSnapshotData(
            provider=old.provider,
            model=old.model,
            partial=old.partial,
            request=HttpRequest(method=head.method, url=head.url, headers=head.headers, client=head.client),
        )
        self._snapshot(event, body, bare.call)

    def _snapshot(self, event: RecordEvent, body: bytes | None, number: int | None) -> RecordEvent:
        assert event.context is not None
        provider = PROVIDERS.get(event.context.provider or "")
        key = provider.array_keys[0] if provider is not None and provider.array_keys else None
        systems = provider.system_keys if provider is not None else ()
        written, cut = self._recorder.write_request(event, body, key, systems)
        self._calls[number], self._steps[number] = written.call, written.step
        if cut is not None:
            self._conversations[written.call] = cut.conversation
        return written

    def _take_answer(self, event: RecordEvent) -> None:
        data = event.llm
        assert data is not None
        assert data.response is not None
        old = self._reader.with_head(data.response)
        body = self._reader.body(old.body) if old.body is not None else None
        new = msgspec.structs.replace(old, head=None, vary=None, body=None)
        event.llm = msgspec.structs.replace(data, response=new)
        encoding = old.body.encoding if old.body is not None else None
        self._answer(event, new, body, encoding)

    def _answer(self, event: RecordEvent, response: HttpResponse, body: bytes | None, encoding: str | None) -> None:
        is_stream = any("event-stream" in value for name, value in response.headers or () if name == "content-type")

        def prepare(bodies: BodyStore) -> None:
            if body is not None:
                response.body = bodies.put(body, is_json=not is_stream, is_stream=is_stream, encoding=encoding)
            bodies.heads.store(response)

        self._recorder.write_with_bodies(event, prepare)
        conversation = self._conversations.get(event.call)
        if conversation is not None:
            conversation.busy, conversation.failed = False, event.llm is not None and event.llm.error is not None

    def _take_http(self, event: RecordEvent, data: SyscallEventData) -> None:
        old_request, old_response = data.request, data.response
        sent = self._reader.body(old_request.body) if old_request is not None and old_request.body is not None else None
        came = (
            self._reader.body(old_response.body) if old_response is not None and old_response.body is not None else None
        )
        request = _headed(self._reader.with_head(old_request)) if old_request is not None else None
        response = _headed(self._reader.with_head(old_response)) if old_response is not None else None
        event.syscall = msgspec.structs.replace(data, request=request, response=response)

        def prepare(bodies: BodyStore) -> None:
            for message, body in ((request, sent), (response, came)):
                if message is not None:
                    if body:
                        message.body = bodies.put(body, is_json=True)
                    bodies.heads.store(message)

        self._recorder.write_with_bodies(event, prepare)

    # --- what was sent -----------------------------------------------------------------------------------------------

    def exchange(self, plan: ForkPlan, request: LiveRequest, answer: LiveAnswer) -> None:
        """The request of the fork, and what the model said to it."""
        provider = PROVIDERS[plan.point.provider]
        old = plan.point.snapshot
        at = old.timestamp
        url = clean_url(request.url)
        span = self._own(old.span_id) or f"{1 << 31:08x}"

        def event(kind: RecordEventType, when: int) -> RecordEvent:
            number = self._calls.get(old.call, old.call)
            step = self._steps.get(old.call, old.step)
            return RecordEvent(
                type=kind, seq_num=0, timestamp=when, pid=self._recorder.pid, call=number, step=step, task=old.task,
                at=old.at, span_id=span, parent_span_id=self._own(old.parent_span_id), origin="live",
            )  # fmt: skip

        snapshot = event(RecordEventType.CONTEXT_SNAPSHOT, at)
        asked = plan.context.model
        snapshot.context = ContextSnapshotData(
            provider=provider.name,
            model=asked,
            request=HttpRequest(method=request.method, url=url, headers=clean_headers(plan.point.headers)),
        )
        self._snapshot(snapshot, request.body, old.call)
        content_type = next((value for name, value in answer.headers if name.lower() == "content-type"), None)
        said = outcome_of(provider, HttpEnd(url, answer.status, None, answer.body, content_type, None, None))
        call = event(RecordEventType.SYSCALL, at)
        call.syscall = SyscallEventData(
            syscall="LLMCall",
            args={
                "path": f"/dev/llm/{vendor(provider, url)}/{asked or 'unknown'}",
                "messages": len(plan.context.messages),
            },
            result=said.result,
            err=said.err,
            duration=answer.duration,
            error=said.error,
        )
        self._recorder.write_event(call)
        ended = event(RecordEventType.LLM_RESPONSE, at + answer.duration)
        headers = [(name.lower(), value) for name, value in clean_headers(answer.headers)]
        response = HttpResponse(status=answer.status, headers=headers, complete=True)
        data: LLMResponseData = said.data(asked)
        data.response = response
        ended.llm = data
        self._answer(ended, response, answer.body, None)

    def state(self, at: int, reason: str) -> None:
        """The end of the process."""
        self._recorder.write_event(
            RecordEvent(
                type=RecordEventType.STATE_CHANGE, seq_num=0, timestamp=at, pid=self._recorder.pid,
                state=StateChangeData("running", "dead", reason), span_id=_AGENT,
            )
        )  # fmt: skip


def _is_model_call(event: RecordEvent) -> bool:
    return event.syscall is not None and event.syscall.syscall == "LLMCall"


def _headed(message: Any) -> Any:
    """A message with its own head, to be stored anew."""
    return msgspec.structs.replace(message, head=None, vary=None, body=None)
