"""The texts of a step in full, each with a name, and where among them a text stands that is looked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from unspool.catalog.texts import fold
from unspool.cli.exchanges import Exchange, body_text, exchange_of
from unspool.events import ContextSnapshotData, CtxMessage, LLMResponse, LLMResponseData, RecordEvent, ToolCall
from unspool.recording.reader import RecordReader
from unspool.replay.messages import parse_message
from unspool.text import cut, dump_json
from unspool.web.prose import pretty

__all__ = [
    "MISSING",
    "Found",
    "WholeText",
    "answer_of",
    "find_places",
    "given_of",
    "messages_of",
    "result_of",
    "texts_of",
]

MISSING: Final = "(this text is missing from the recording)"
_AROUND: Final = 240  # characters before and behind what was found
_PLACES: Final = 6
_LONGEST: Final = 200  # characters of what is looked for


@dataclass
class WholeText:
    """A text of a step: `name` is the end of its address, `label` what a person calls it."""

    name: str
    label: str
    text: str


@dataclass
class Found:
    """A place where a text that was looked for stands, with what is around it; `name` is that of the whole text."""

    name: str
    label: str
    before: str
    hit: str
    after: str


# --- what a step holds -----------------------------------------------------------------------------------------------


def messages_of(reader: RecordReader, context: ContextSnapshotData) -> list[CtxMessage]:
    """The messages of a snapshot in one form."""
    whole = reader.context_of(context) if context.messages is None else None
    raw = (context.messages if whole is None else whole.messages) or ()
    return [parse_message(one) if isinstance(one, str) else one for one in raw]


def given_of(reader: RecordReader, event: RecordEvent) -> Any:
    """What a call that is no model call was given. What is missing of it says so."""
    data = event.syscall
    if data is None:
        return None
    bare = _bare(reader, event)
    args = _told(data.args, bare.syscall.args if bare.syscall is not None else None)
    return args.get("input", {name: value for name, value in args.items() if name != "path"})


def result_of(reader: RecordReader, event: RecordEvent) -> Any:
    """What it gave back."""
    if event.syscall is None:
        return None
    bare = _bare(reader, event)
    return _told(event.syscall.result, bare.syscall.result if bare.syscall is not None else None)


def _bare(reader: RecordReader, event: RecordEvent) -> RecordEvent:
    return reader.events().bare(reader.index_of(event.seq_num))


def _told(value: Any, bare: Any) -> Any:
    """A value with a word in the place of each reference, as it is on disk, that could not be followed."""
    if isinstance(bare, dict):
        if set(bare) == {"$ref"}:
            return MISSING if value == bare else value
        inner = bare.get("$dict") if set(bare) == {"$dict"} else bare
        if isinstance(inner, dict) and isinstance(value, dict):
            return {name: _told(one, inner.get(name)) for name, one in value.items()}
    if isinstance(bare, list) and isinstance(value, list) and len(bare) == len(value):
        return [_told(one, its) for one, its in zip(value, bare, strict=True)]
    return value


def answer_of(reader: RecordReader, event: RecordEvent) -> tuple[LLMResponse | LLMResponseData | None, str]:
    """What the model said in its answer's event, and why there is nothing of it where it is not in the recording."""
    data = event.llm
    if data is None or data.text is not None or data.tool_calls is not None:
        return data, ""
    said = reader.response_of(event)
    if said is not None:
        return said, ""
    body = data.response.body if data.response is not None else None
    if body is None or not (body.size or body.missing) or reader.body(body) is not None:
        return data, ""
    return data, body.missing or "pieces of it are missing or damaged"


def texts_of(reader: RecordReader, seq_num: int) -> Iterator[WholeText]:
    """All texts of the step an event is of, in the order of its page.

    Raises:
        SeqNotFound: there is no such event.
    """
    event = reader.event(seq_num)
    exchange = exchange_of(reader, event)
    if exchange.snapshot is None:
        yield from _texts_of_call(reader, event)
    else:
        yield from _texts_of_answer(reader, exchange)
        yield from _texts_of_context(reader, exchange.snapshot)
    yield WholeText("event", f"event #{event.seq_num}", _laid_out(event))


def _texts_of_call(reader: RecordReader, event: RecordEvent) -> Iterator[WholeText]:
    if event.syscall is None:
        return
    for name, label, value in (
        ("given", "what it was given", given_of(reader, event)),
        ("result", "its result", result_of(reader, event)),
    ):
        if value is not None:
            yield WholeText(name, label, value if isinstance(value, str) else _laid_out(value))
    if event.syscall.err:
        yield WholeText("error", "its error", event.syscall.err)
    for name, message in (("request", event.syscall.request), ("response", event.syscall.response)):
        text = body_text(reader, message.body) if message is not None else None
        if text:
            yield WholeText(name, f"the body of its {name}", text)


def _texts_of_answer(reader: RecordReader, exchange: Exchange) -> Iterator[WholeText]:
    said = answer_of(reader, exchange.answer)[0] if exchange.answer is not None else None
    if said is not None:
        yield WholeText("answer", "the answer", _joined(said.text or "", said.tool_calls))
        if said.reasoning:
            yield WholeText("reasoning", "the reasoning", said.reasoning)
        if said.error is not None:
            yield WholeText("error", "its error", f"{said.error.type}: {said.error.message}")
    elif exchange.syscall is not None and exchange.syscall.syscall is not None and exchange.syscall.syscall.err:
        yield WholeText("error", "its error", exchange.syscall.syscall.err)


def _texts_of_context(reader: RecordReader, snapshot: RecordEvent) -> Iterator[WholeText]:
    context = snapshot.context
    if context is None:
        return
    if context.system_prompt:
        yield WholeText("system", "the system prompt", context.system_prompt)
    for number, one in enumerate(messages_of(reader, context), start=1):
        parts = [f"({part.kind}) {part.text if part.text is not None else _laid_out(part.data)}"
                 for part in one.parts or ()]  # fmt: skip
        yield WholeText(f"message-{number}", f"message {number}", _joined(one.content, one.tool_calls, parts))
    for number, tool in enumerate(context.tools or (), start=1):
        text = f"{tool.name}\n\n{tool.description or ''}\n\n{_laid_out(tool.schema)}"
        yield WholeText(f"tool-{number}", f"tool {cut(tool.name, 120)}", text)
    if context.params:
        yield WholeText("params", "the parameters", _laid_out(context.params))


def _joined(text: str, calls: list[ToolCall] | None, parts: list[str] | None = None) -> str:
    asked = [f"calls {call.name}\n{call.arguments}" for call in calls or ()]
    return "\n\n".join(piece for piece in (text, *(parts or ()), *asked) if piece)


def _laid_out(value: Any) -> str:
    text = dump_json(value)
    return pretty(text) or text


# --- looking for a text ----------------------------------------------------------------------------------------------


def find_places(reader: RecordReader, seq_num: int, wanted: str) -> list[Found]:
    """Where a text stands in the texts of a step, in any case: the first place in each of the first texts.

    Raises:
        SeqNotFound: there is no such event.
    """
    wanted = wanted[:_LONGEST]
    patterns = list(dict.fromkeys((fold(wanted), fold(json.dumps(wanted, ensure_ascii=False)[1:-1]))))
    found: list[Found] = []
    if not wanted:
        return found
    for one in texts_of(reader, seq_num):
        places = (_place(one.text, pattern) for pattern in patterns)  # the second: as it stands within JSON
        at, end = next((place for place in places if place[0] >= 0), (-1, -1))
        if at < 0 or (one.name == "event" and found):  # it holds the others once more
            continue
        found.append(
            Found(
                one.name,
                one.label,
                ("… " if at > _AROUND else "") + one.text[max(at - _AROUND, 0) : at],
                one.text[at:end],
                one.text[end : end + _AROUND] + (" …" if end + _AROUND < len(one.text) else ""),
            )
        )
        if len(found) == _PLACES:
            break
    return found


def _place(text: str, pattern: str) -> tuple[int, int]:
    """Where a folded pattern begins and ends in a text that is not folded; -1 if it is not there."""
    folded = fold(text)
    at = folded.find(pattern)
    if at < 0 or len(folded) == len(text):
        return at, at + len(pattern)
    begins: list[int] = []  # some letters fold into two or three: the place of each in the text
    for index, letter in enumerate(text):
        begins += [index] * len(fold(letter))
        if len(begins) >= at + len(pattern):
            break
    return begins[at], begins[min(at + len(pattern), len(begins)) - 1] + 1
