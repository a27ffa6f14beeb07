"""What is new in each request of a recording, and under which settings it was sent, as keys that two runs share.

A request is known by the messages that its conversation did not have before, so that a key means the same in a run
with another past. Left out are the ids that providers invent, reasoning, and the model's own words where they are
repeated as it said them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from unspool.events import Context, ContextSnapshotData, CtxMessage, LLMResponse, RecordEvent, ToolCall
from unspool.providers import PROVIDERS
from unspool.recording.reader import RecordReader
from unspool.recording.sent import SentMessage
from unspool.replay.messages import without_cache_marks
from unspool.text import dump_json

__all__ = ["Asked", "AskedReader", "answer_key", "digest"]

_LANES_MAX = 64  # conversations whose messages are remembered; a writer compares with no more
_SYSTEM_ROLES = ("system", "developer")
_Key = tuple[Any, ...]


class Asked(NamedTuple):
    """One request: its conversation, keys of its new messages and its settings, the newest message not the model's.

    A conversation is a lane of the recording, or several: one that begins with messages of the conversation its task
    was in goes on with that one, such as after a cut of the history.
    """

    conversation: str
    key: str
    settings_key: str
    newest: CtxMessage | None


class _Element(NamedTuple):
    """An element of a request's message array; providers may put several messages into one."""

    keys: tuple[_Key, ...]
    messages: tuple[CtxMessage, ...]

    @property
    def is_system(self) -> bool:
        return bool(self.messages) and all(one.role in _SYSTEM_ROLES and not one.parts for one in self.messages)


class _Last(NamedTuple):
    """The last request of a conversation."""

    seq_num: int
    elements: list[_Element]
    asked: Asked


class AskedReader:
    """Reads the requests of one recording; to be given its snapshots and answers in the order of their calls."""

    def __init__(self, reader: RecordReader) -> None:
        self._reader = reader
        self._sent = reader.sent()
        self._last: dict[str, _Last] = {}  # the conversation used last at the end
        self._of_lane: dict[int | None, str] = {}
        self._of_task: dict[str | None, str] = {}
        self._known: dict[int, tuple[SentMessage, _Element]] = {}
        self._settings: dict[tuple[str | None, bytes], str] = {}
        self._said: set[Hashable] = {("assistant", "", None, (), ())}  # every answer so far, as requests repeat it
        self._ids: dict[str, str] = {}  # a provider's id of a tool call: which call of its message it is

    def answered(self, answer: LLMResponse) -> None:
        """What the model said will come back in later requests."""
        for number, call in enumerate(answer.tool_calls):
            if call.id:
                self._ids[call.id] = str(number)
        calls = _calls_key(answer.tool_calls)
        self._said.add(("assistant", answer.text, None, calls, ()))
        # Some formats have an item for the text and one for each call.
        self._said.add(("assistant", answer.text, None, (), ()))
        self._said.update(("assistant", "", None, (call,), ()) for call in calls)

    def asked(self, event: RecordEvent) -> Asked:
        """The request of a snapshot, given as it is on disk."""
        data = event.context
        assert data is not None
        elements, same_as, kept = self._elements(event, data)
        conversation = self._conversation_of(event, elements)
        before = self._last.pop(conversation, None)
        # What the recording says is kept need not be compared again.
        start = kept if before is not None and before.seq_num == same_as else 0
        asked = self._compared(before, elements, start, data, conversation)
        self._last[conversation] = _Last(event.seq_num, elements, asked)
        if len(self._last) > _LANES_MAX:
            del self._last[next(iter(self._last))]
        return asked

    def _compared(
        self, before: _Last | None, elements: list[_Element], start: int, data: ContextSnapshotData, conversation: str
    ) -> Asked:
        head = _head(elements)
        system = [element.keys for element in elements[:head]]
        settings_key = digest([self._settings_key(data), system])
        shared, dropped = head, 0
        if before is not None:
            old_head = _head(before.elements)
            # Behind the system prompts, which may be of different length.
            shared = head + _shared(
                before.elements[old_head:], elements[head:], start - head if old_head == head else 0
            )
            dropped = len(before.elements) - old_head - (shared - head)
            if shared == len(elements) and not dropped:  # sent once more, after a fault or for a second opinion
                return before.asked._replace(settings_key=settings_key)
        fresh = [key for element in elements[shared:] for key in element.keys if key not in self._said]
        messages = (one for element in reversed(elements[shared:]) for one in reversed(element.messages))
        newest = next((one for one in messages if one.role != "assistant"), None)
        return Asked(conversation, digest([fresh, dropped, data.partial]), settings_key, newest)

    def _conversation_of(self, event: RecordEvent, elements: list[_Element]) -> str:
        # Recordings by others have no lanes; there a task is one conversation.
        found = self._of_lane.get(event.lane) if event.lane is not None else None
        if found is None:
            found = self._of_task.get(event.task)
            before = self._last.get(found) if found is not None else None
            if found is None or (event.lane is not None and (before is None or not _goes_on(before, elements))):
                found = f"task {event.task or 0}" if event.lane is None else f"lane {event.lane}"
        if event.lane is not None:
            self._of_lane[event.lane] = found
        self._of_task[event.task] = found
        return found

    # --- reading -----------------------------------------------------------------------------------------------------

    def _elements(self, event: RecordEvent, data: ContextSnapshotData) -> tuple[list[_Element], int | None, int]:
        """All elements of a request, the snapshot that it shares leading ones with, and how many."""
        before = next((last for last in reversed(self._last.values()) if last.seq_num == data.prev), None)
        call = self._sent.call(event, whole=before is None)
        if call is None:
            return [self._element((message,)) for message in self._reader.context_of(data).messages], None, 0
        kept = min(call.kept, len(before.elements)) if before is not None else 0
        elements = before.elements[:kept] if before is not None else []
        for sent in call.added:
            # The reader gives one object for equal elements.
            known = self._known.get(id(sent))
            if known is None:
                known = self._known[id(sent)] = sent, self._element(sent.parts)
            elements.append(known[1])
        return elements, data.prev, kept

    def _element(self, messages: Iterable[CtxMessage]) -> _Element:
        together = tuple(messages)
        return _Element(tuple(self._message_key(message) for message in together), together)

    def _message_key(self, message: CtxMessage) -> _Key:
        for number, call in enumerate(message.tool_calls or ()):
            if call.id:
                self._ids[call.id] = str(number)
        answers_to = self._ids.get(message.tool_call_id or "", message.tool_call_id or None)
        parts = (
            digest([part.kind, part.text, without_cache_marks(part.data)])
            for part in message.parts or ()
            if part.kind != "reasoning"
        )
        return message.role, message.content, answers_to, _calls_key(message.tool_calls), tuple(parts)

    def _settings_key(self, data: ContextSnapshotData) -> str:
        """Model, system prompt beside the messages, tools and parameters."""
        emptied = self._reader.emptied_request(data)
        provider = PROVIDERS.get(data.provider or "")
        if emptied is None or provider is None:
            if data.request is not None and data.messages is None:
                return _context_key(self._reader.context_of(data))
            context = Context([], data.system_prompt, data.tools or [], data.params or {}, data.model, data.provider)
            return _context_key(context)
        # The model may stand in the URL: with some providers the body does not name it.
        known = self._settings.get((data.model, emptied))
        if known is None:
            context = provider.parse_request("", emptied)
            context.model, context.provider = data.model, data.provider
            known = self._settings[data.model, emptied] = _context_key(context)
        return known


def _head(elements: Sequence[_Element]) -> int:
    """How many elements are the system prompt."""
    return next((number for number, one in enumerate(elements) if not one.is_system), len(elements))


def _goes_on(before: _Last, elements: Sequence[_Element]) -> bool:
    """Whether a request begins with a message of the conversation, besides its system prompt."""
    theirs, ours = before.elements[_head(before.elements) :], elements[_head(elements) :]
    return bool(_shared(theirs[:1], ours[:1], 0))


def _shared(before: Sequence[_Element], after: Sequence[_Element], start: int) -> int:
    """How many leading elements say the same; the first `start` are known to."""
    count = max(start, 0)
    while count < len(before) and count < len(after) and before[count].keys == after[count].keys:
        count += 1
    return count


def _calls_key(calls: Iterable[ToolCall] | None) -> tuple[tuple[str, str], ...]:
    return tuple((call.name, _arguments(call.arguments)) for call in calls or ())


def _arguments(text: str) -> str:
    """The arguments in one form: agents that repeat a call write its JSON anew."""
    try:
        return msgspec.json.encode(msgspec.json.decode(text), order="sorted").decode()
    except (ValueError, RecursionError):
        return text


def _context_key(context: Context) -> str:
    tools = [[tool.name, tool.description, tool.schema] for tool in context.tools]
    system = context.system_prompt
    return digest([context.provider, context.model, system, without_cache_marks(tools), context.params])


def answer_key(answer: LLMResponse) -> str:
    """Equal for two answers that say the same: text, tool calls but for their ids, why it ended, error."""
    error = None if answer.error is None else [answer.error.type, answer.error.message]
    return digest([answer.text, _calls_key(answer.tool_calls), answer.finish_reason, error, answer.partial])


def digest(value: Any) -> str:
    """A key for a value: equal for equal ones, whatever the order of their keys."""
    try:
        data = msgspec.json.encode(value, order="sorted")
    except (TypeError, ValueError, RecursionError):  # values made by hand: not JSON, no UTF-8, nested too deeply
        data = dump_json(value).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()
