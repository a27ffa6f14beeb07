"""What events refer to: messages, bodies, headers and long texts, fetched from the pool and parsed.

Nothing here raises for missing or damaged pieces: a message is shown as missing, a body is None, and `damage` says so.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from unspool.events import (
    Body,
    Context,
    ContextSnapshotData,
    CtxMessage,
    HttpRequest,
    HttpResponse,
    LLMResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
)
from unspool.providers import PROVIDERS, request_id
from unspool.recording.damage import Damage
from unspool.recording.eventlog import EventLog
from unspool.recording.heads import restore_head
from unspool.recording.keys import key_of_hex
from unspool.recording.lines import decode_message, revive
from unspool.recording.pool import POOL_NAME, PoolReader, keys_in

__all__ = ["Contents", "parse_summary"]


class Contents:
    """Restores what the events of one recording refer to."""

    def __init__(self, log: EventLog, pool: PoolReader) -> None:
        self._log = log
        self._pool = pool
        self._bad_bodies: dict[str, Damage] = {}

    @property
    def damage(self) -> list[Damage]:
        """Bodies that were asked for and could not be given."""
        return list(self._bad_bodies.values())

    def fill(self, event: RecordEvent) -> None:
        """Replace the references in an event by what they refer to, in place."""
        if event.syscall is not None:
            data = event.syscall
            args = revive(data.args, self._pool.get_string)
            data.args = args if isinstance(args, dict) else data.args  # a damaged line may mark all of it
            data.result = revive(data.result, self._pool.get_string)
            data.request = self._whole(data.request)
            data.response = self._whole(data.response)
        elif event.context is not None:
            self._fill_context(event.context)
        elif event.llm is not None and event.llm.response is not None:
            self._fill_llm(event, event.llm)

    def _fill_context(self, data: ContextSnapshotData) -> None:
        if data.params is not None:
            data.params = revive(data.params, self._pool.get_string)
        for tool in data.tools or ():
            tool.schema = revive(tool.schema, self._pool.get_string)
        if data.messages is not None:
            data.request = self._whole(data.request)
        elif data.request is not None:
            context = self.context(data)
            data.request = self._whole(data.request)
            data.messages = list(context.messages)
            data.system_prompt = context.system_prompt
            data.tools, data.params = context.tools, context.params
            data.partial = context.partial
        elif data.message_list is not None:
            data.messages, missing = self._messages(data)
            data.message_list = None  # the messages stand in its place
            data.partial = data.partial or _missing_messages(missing)

    def _fill_llm(self, event: RecordEvent, data: LLMResponseData) -> None:
        if data.text is None:
            answer = self.response(event)
            if answer is not None:
                data.text, data.tool_calls, data.reasoning = answer.text, answer.tool_calls, answer.reasoning
                data.response_id = data.response_id or answer.response_id
        response = data.response = self._whole(data.response)
        data.request_id = data.request_id or request_id(response.headers or ())

    def with_head(self, message: Any) -> Any:
        """A copy of an HTTP message with its head."""
        return self._whole(message)

    def _whole(self, message: Any) -> Any:
        """An HTTP message with its head; None stays None."""
        if message is not None:
            message = msgspec.structs.replace(message)
            restore_head(message, self._pool)
        return message

    # --- contexts ----------------------------------------------------------------------------------------------------

    def context(self, data: ContextSnapshotData) -> Context:
        """The context of one snapshot, as the provider's wire format gives it."""
        if data.request is not None and data.messages is None:
            return self._requested_context(data, data.request)
        found, missing = self._messages(data)
        messages = [message if isinstance(message, CtxMessage) else parse_summary(message) for message in found]
        system = data.system_prompt
        if system is None:
            system = next((message.content for message in messages if message.role == "system"), None)
        return Context(
            messages=messages,
            system_prompt=system,
            tools=data.tools or [],
            params=data.params or {},
            model=data.model,
            provider=data.provider,
            partial=data.partial or _missing_messages(missing),
        )

    def emptied_request(self, data: ContextSnapshotData) -> bytes | None:
        """The request body with its messages left out; None if it is not there, or was not cut at its messages.

        Costs nothing for the messages, however many there are.
        """
        body = data.request.body if data.request is not None else None
        if body is None or body.rope is None:
            return None
        return self._pool.join_from(body.rope, sys.maxsize)

    def _requested_context(self, data: ContextSnapshotData, request: HttpRequest) -> Context:
        provider = PROVIDERS.get(data.provider or "")
        body = self.body(request.body) if request.body is not None else None
        if provider is None or body is None:
            why = (request.body.missing if request.body is not None else None) or "the request body is missing"
            return Context(messages=[], model=data.model, provider=data.provider, partial=why)
        context = provider.parse_request(self._whole(request).url or "", body)
        context.partial = context.partial or data.partial
        return context

    def _messages(self, data: ContextSnapshotData) -> tuple[list[CtxMessage | str], int]:
        """The messages of a snapshot without a body, and how many of them are missing."""
        if data.messages is not None:
            return data.messages, 0
        if data.message_list is None:
            return [], 0
        elements = self._pool.elements(data.message_list)
        if elements is None:
            return [CtxMessage(role="unknown", content="(the list of messages is damaged)")], 1
        messages: list[CtxMessage | str] = []
        missing = 0
        for item in elements.items:
            piece = self._pool.item(item)
            try:
                messages.append(decode_message(piece or b""))
            except ValueError:
                messages.append(CtxMessage(role="unknown", content="(missing message)"))
                missing += 1
        return messages, missing

    # --- responses and bodies ----------------------------------------------------------------------------------------

    def response(self, event: RecordEvent) -> LLMResponse | None:
        """What the model answered, parsed from the recorded body; None if there is no body."""
        data = event.llm
        if data is None or data.response is None or data.response.body is None:
            return None
        snapshot = self.snapshot_of_call(event)
        asked = snapshot.context if snapshot is not None else None
        provider = PROVIDERS.get((asked.provider or "") if asked is not None else "")
        body = self.body(data.response.body)
        if provider is None or body is None or asked is None:
            return None
        response: HttpResponse = self._whole(data.response)
        content_type = next((v for k, v in response.headers or [] if k.lower() == "content-type"), None)
        url = (self._whole(asked.request).url if asked.request is not None else None) or ""
        return provider.parse_response(url, body, content_type, response.status, response.complete)

    def snapshot_of_call(self, event: RecordEvent) -> RecordEvent | None:
        """The snapshot (as on disk) of the model call an event belongs to."""
        position = self._log.index_of(event.seq_num) if event.call is not None else None
        while position is not None and position >= 0:
            candidate = self._log.at(position)
            if candidate.type is RecordEventType.CONTEXT_SNAPSHOT and candidate.call == event.call:
                return candidate
            position -= 1
        return None

    def body(self, body: Body) -> bytes | None:
        """The bytes of a body, checked against their hash; None if they are missing or damaged."""
        if body.sha256 is None:
            return None
        data: bytes | None = b""
        if body.rope is not None:
            data = self._pool.join(body.rope)
        elif body.size:
            data = self._pool.get(key_of_hex(body.sha256))
        if data is not None and hashlib.sha256(data).hexdigest() == body.sha256:
            return data
        reason = "a piece of it is missing" if data is None else "its bytes do not fit their hash"
        self._bad_bodies.setdefault(body.sha256, Damage(POOL_NAME, 0, 0, f"body {body.sha256[:12]}…: {reason}"))
        return None

    # --- references --------------------------------------------------------------------------------------------------

    def missing_references(self, event: RecordEvent) -> list[str]:
        """Keys that an event, as it is on disk, refers to and the pool does not have. Does not read their entries."""
        return [key for key in _references(event) if key not in self._pool]


def _references(event: RecordEvent) -> Iterator[str]:
    messages: list[HttpRequest | HttpResponse | None] = []
    if event.syscall is not None:
        yield from _string_references(event.syscall.args, 0)
        yield from _string_references(event.syscall.result, 0)
        messages += [event.syscall.request, event.syscall.response]
    elif event.context is not None:
        if event.context.message_list is not None:
            yield event.context.message_list
        messages.append(event.context.request)
    elif event.llm is not None:
        messages.append(event.llm.response)
    for message in messages:
        if message is None:
            continue
        if message.head is not None:
            yield message.head
        body = message.body
        if body is None or body.sha256 is None:
            continue
        if body.rope is not None:
            yield from keys_in(body.rope)
        elif body.size:
            yield key_of_hex(body.sha256)


def _string_references(value: Any, depth: int) -> Iterator[str]:
    if type(value) is dict:
        if len(value) == 1 and type(key := value.get("$ref")) is str:
            yield key
        if len(value) == 1 and type(escaped := value.get("$dict")) is dict:
            value = escaped  # a dict that only looks like a mark
        value = list(value.values())
    if type(value) is list and depth < 250:  # more than a writer nests
        for item in value:
            if type(item) is dict or type(item) is list:
                yield from _string_references(item, depth + 1)


def _missing_messages(count: int) -> str | None:
    if not count:
        return None
    return "a message is missing from the pool" if count == 1 else f"{count} messages are missing from the pool"


def parse_summary(text: str) -> CtxMessage:
    """A message from the reference's string `[role] text`; text in another form is a user's.

    A role is one lower-case word: a user's text that starts with "[1, 2] " or "[TODO] " has none.
    """
    if text.startswith("["):
        role, found, content = text[1:].partition("] ")
        if found and role.islower() and role.replace("_", "").replace("-", "").isalpha():
            return CtxMessage(role=role, content=content)
    return CtxMessage(role="user", content=text)
