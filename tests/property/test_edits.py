"""Edits of any conversation in any wire format: what is changed is changed, what is not stays byte for byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.errors import UsageError
from unspool.providers import PROVIDERS
from unspool.replay.forkdoc import read_document, write_document
from unspool.serving.edits import DIALECTS, Draft, Edits, JsonObject, read_edits, rewrite

URLS = {
    "openai_chat": "https://api.openai.com/v1/chat/completions",
    "openai_responses": "https://api.openai.com/v1/responses",
    "anthropic": "https://api.anthropic.com/v1/messages",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent",
}
FORMATS = sorted(URLS)

# Little is drawn from much: equal messages, headings, comments, line ends, and halves of surrogate pairs must occur.
texts = st.one_of(
    st.sampled_from(
        ["yes", "Go on.", "=== user", "#: x\n=== 1 user", "\\=== a", "a\n\n", "\n\nb", "c\r\nd", "ä 🙂", "\ud800"]
    ),
    st.text(min_size=1, max_size=12),
)
turns = st.lists(
    st.one_of(
        st.tuples(st.just("user"), texts),
        st.tuples(st.just("assistant"), texts),
        st.tuples(st.just("calls"), st.lists(texts, min_size=1, max_size=3)),
    ),
    min_size=1,
    max_size=6,
)
spaced = st.booleans()


def _openai_chat(said: list[Any], system: str | None) -> dict[str, Any]:
    messages: list[Any] = [] if system is None else [{"role": "system", "content": system}]
    for number, (kind, what) in enumerate(said):
        if kind != "calls":
            messages.append({"role": kind, "content": what})
            continue
        ids = [f"call_{number}_{place}" for place in range(len(what))]
        calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [
            {"role": "tool", "tool_call_id": one, "content": text} for one, text in zip(ids, what, strict=True)
        ]
    return {"model": "m", "messages": messages, "n": 1.0}


def _openai_responses(said: list[Any], system: str | None) -> dict[str, Any]:
    items: list[Any] = []
    for number, (kind, what) in enumerate(said):
        if kind == "user":
            items.append({"role": "user", "content": what})
        elif kind == "assistant":
            content = [{"type": "output_text", "text": what, "annotations": []}]
            items.append({"type": "message", "role": "assistant", "id": f"msg_{number}", "content": content})
        else:
            ids = [f"call_{number}_{place}" for place in range(len(what))]
            items.append({"type": "reasoning", "id": f"rs_{number}", "summary": []})
            items += [{"type": "function_call", "call_id": one, "name": "f", "arguments": "{}"} for one in ids]
            results = zip(ids, what, strict=True)
            items += [{"type": "function_call_output", "call_id": one, "output": text} for one, text in results]
    return {"model": "m", **({} if system is None else {"instructions": system}), "input": items}


def _anthropic(said: list[Any], system: str | None) -> dict[str, Any]:
    messages: list[Any] = []
    for number, (kind, what) in enumerate(said):
        if kind != "calls":
            content = what if number % 2 else [{"type": "text", "text": what, "cache_control": {"type": "ephemeral"}}]
            messages.append({"role": kind, "content": content})
            continue
        ids = [f"toolu_{number}_{place}" for place in range(len(what))]
        calls = [{"type": "tool_use", "id": one, "name": "f", "input": {}} for one in ids]
        messages.append(
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "s"}, *calls]}
        )
        results = [
            {"type": "tool_result", "tool_use_id": one, "content": text} for one, text in zip(ids, what, strict=True)
        ]
        messages.append({"role": "user", "content": results})
    blocks = {} if system is None else {"system": [{"type": "text", "text": system}]}
    return {"model": "m", "max_tokens": 5, **blocks, "messages": messages}


def _gemini(said: list[Any], system: str | None) -> dict[str, Any]:
    contents: list[Any] = []
    for kind, what in said:
        if kind != "calls":
            contents.append({"role": "model" if kind == "assistant" else "user", "parts": [{"text": what}]})
            continue
        contents.append({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}} for _ in what]})
        results = [{"functionResponse": {"name": "f", "response": {"result": text}}} for text in what]
        contents.append({"role": "user", "parts": results})
    instruction = {} if system is None else {"systemInstruction": {"parts": [{"text": system}]}}
    return {**instruction, "contents": contents, "generationConfig": {"temperature": 1}}


MAKE = {"openai_chat": _openai_chat, "openai_responses": _openai_responses, "anthropic": _anthropic, "gemini": _gemini}


def body_of(name: str, said: list[Any], system: str | None, *, spaces: bool = False) -> bytes:
    separators = (", ", ": ") if spaces else (",", ":")
    return json.dumps(MAKE[name](said, system), separators=separators).encode()


def draft_of(name: str, body: bytes) -> Draft:
    return Draft.of(name, URLS[name], body)


def texts_of(name: str, body: bytes) -> list[tuple[str, str]]:
    context = PROVIDERS[name].parse_request(URLS[name], body)
    return [(message.role, message.content) for message in context.messages]


def through_plan(edits: Edits) -> Edits:
    """As an agent's process gets them: through the plan's JSON."""
    found = read_edits(msgspec.json.decode(msgspec.json.encode(edits.to_plan())))
    assert found is not None
    return found


@pytest.mark.parametrize("name", FORMATS)
@given(turns, st.none() | texts, spaced)
def test_messages_are_told_apart_as_a_context_tells_them_apart(
    name: str, said: list[Any], system: str | None, spaces: bool
) -> None:
    body = body_of(name, said, system, spaces=spaces)
    units = DIALECTS[name].read(JsonObject(body))
    context = PROVIDERS[name].parse_request(URLS[name], body)
    assert [unit.role for unit in units] == [message.role for message in context.messages]
    assert DIALECTS[name].system(JsonObject(body)) == context.system_prompt
    assert [[call.name for call in unit.calls] for unit in units] == [
        [call.name for call in message.tool_calls or ()] for message in context.messages
    ]


@pytest.mark.parametrize("name", FORMATS)
@given(turns, st.none() | texts, spaced)
def test_nothing_edited_is_nothing_changed_and_the_document_reads_back(
    name: str, said: list[Any], system: str | None, spaces: bool
) -> None:
    body = body_of(name, said, system, spaces=spaces)
    draft = draft_of(name, body)
    read_document(write_document(draft), draft)
    edits = draft.edits()
    assert edits.is_empty
    done = rewrite(edits, name, body, URLS[name])
    assert done.body is body
    assert not done.applied
    assert not done.missed


# What a person may do: remove from the end, change a text, add messages.
doings = st.lists(
    st.one_of(
        st.tuples(st.just("remove"), st.integers(1, 2)),
        st.tuples(st.just("text"), st.integers(0, 20), st.text("abc=#:\\\n", min_size=1, max_size=8)),
        st.tuples(st.just("add"), st.integers(0, 20), st.text("xyz", min_size=1, max_size=5)),
    ),
    max_size=5,
)


def _do(draft: Draft, what: list[Any]) -> None:
    for doing in what:
        if doing[0] == "remove":
            draft.remove_last(min(doing[1], len(draft.lines)))
        elif doing[0] == "text" and draft.lines:
            draft.lines[doing[1] % len(draft.lines)].text = doing[2]
        elif doing[0] == "add":
            draft.lines.insert(doing[1] % (len(draft.lines) + 1), draft.said("user", doing[2]))


@pytest.mark.parametrize("name", FORMATS)
@given(turns, st.none() | texts, doings, st.none() | texts)
def test_the_request_says_what_the_draft_says_and_later_ones_too(
    name: str, said: list[Any], system: str | None, what: list[Any], prompt: str | None
) -> None:
    body = body_of(name, said, system)
    draft = draft_of(name, body)
    _do(draft, what)
    draft.set_system = prompt
    wanted = [(line.role, _shown(name, line)) for line in draft.lines]
    kept = {line.number for line in draft.lines}
    # A removed call takes its results along.
    gone = {id(line.unit) for line in draft._original if line.number not in kept}
    wanted = [
        pair
        for pair, line in zip(wanted, draft.lines, strict=True)
        if line.unit is None or line.unit.answers is None or id(line.unit.answers) not in gone
    ]
    edits = through_plan(draft.edits())
    done = rewrite(edits, name, body, URLS[name])
    assert texts_of(name, done.body) == wanted
    assert not done.missed
    system_now = PROVIDERS[name].parse_request(URLS[name], done.body).system_prompt
    assert system_now == (system if prompt is None else prompt)
    # The agent knows nothing of the edits: its next request has the old messages, and the new answer behind them.
    later = body_of(name, [*said, ("user", "and now?"), ("assistant", "this")], system)
    again = rewrite(edits, name, later, URLS[name])
    assert texts_of(name, again.body) == [*wanted, ("user", "and now?"), ("assistant", "this")]
    assert not again.missed


def _shown(name: str, line: Any) -> str:
    """The text of a line as a context shows it: Gemini's results are objects."""
    if name == "gemini" and line.role == "tool" and line.is_changed:
        return json.dumps({"result": line.text}, ensure_ascii=False, separators=(",", ":"))
    text: str = line.text
    return text


@pytest.mark.parametrize("name", FORMATS)
@given(turns, texts, st.text("abc \n=#:", min_size=1, max_size=10))
def test_a_changed_document_changes_that_message_alone(name: str, said: list[Any], system: str, text: str) -> None:
    body = body_of(name, said, system)
    first, second = draft_of(name, body), draft_of(name, body)
    if not second.lines or second.lines[-1].role == "tool":
        return
    second.lines[-1].text = text
    read_document(write_document(second), first)
    before = [line.text for line in draft_of(name, body).lines]
    assert [line.text for line in first.lines][:-1] == before[:-1]
    assert "".join(first.lines[-1].text.split()) == "".join(text.split()) or not first.lines[-1].is_changed


@pytest.mark.parametrize("name", FORMATS)
@given(st.binary(max_size=30), turns)
def test_no_body_makes_it_raise(name: str, body: bytes, said: list[Any]) -> None:
    edits = draft_of(name, body_of(name, said, "s")).edits()
    edits.set_system = "other"
    done = rewrite(edits, name, body, URLS[name])
    assert done.blocked is None
    with pytest.raises(UsageError):
        Draft.of("bedrock", "", body)
