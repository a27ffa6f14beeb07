"""OpenAI Chat Completions, also as Azure, OpenRouter, vLLM, Ollama, Groq, Mistral, DeepSeek and others speak it.

Source: openai.types.chat of the openai SDK 3.54; deviations of other servers are named where they are handled.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from unspool.events import Context, CtxMessage, LLMResponse, ToolCall, ToolDef, Usage
from unspool.providers.bodies import Answers, Assembled, read_request, read_response
from unspool.providers.faults import error_of
from unspool.providers.provider import Provider, RequestHead
from unspool.providers.sse import Stream
from unspool.providers.turns import Turn, leading_system, name_tool_results
from unspool.providers.wire import (
    arguments_text,
    as_count,
    as_list,
    as_object,
    as_text,
    compact_json,
    first_of,
)

__all__ = ["PROVIDER", "parse_request", "parse_response"]

_NOT_PARAMS: Final = frozenset({"messages", "tools", "functions", "model", "stream"})


def parse_request(url: str, body: bytes) -> Context:
    """The context of a chat completion request."""

    def read(document: dict[str, Any]) -> Context:
        messages = [_message(item) for item in as_list(document.get("messages"))]
        name_tool_results(messages)
        system, messages = leading_system(messages)
        head = read_head(url, document)
        return Context(
            messages=messages,
            system_prompt=system,
            tools=[*map(_tool, as_list(document.get("tools"))), *map(_tool, as_list(document.get("functions")))],
            params={name: value for name, value in document.items() if name not in _NOT_PARAMS},
            model=head.model,
            stream=head.stream,
        )

    return read_request("openai_chat", body, read)


def parse_response(url: str, body: bytes, content_type: str | None, status: int, complete: bool) -> LLMResponse:
    """The answer to a chat completion request; of several choices the first."""
    return read_response(body, content_type, status, complete, _ANSWERS)


def read_head(url: str, document: dict[str, Any]) -> RequestHead:
    """Model and stream flag. Azure's older URLs name the deployment, and the body may leave the model out."""
    model = as_text(document.get("model"))
    if not model and "/deployments/" in url:
        model = unquote(url.partition("/deployments/")[2].partition("/")[0])
    return RequestHead(model or None, document.get("stream") is True, None)


# --- messages --------------------------------------------------------------------------------------------------------


def _message(value: Any) -> CtxMessage:
    message = as_object(value)
    if not message:
        return CtxMessage(role="unknown", content=value if isinstance(value, str) else compact_json(value))
    role = as_text(message.get("role")) or "unknown"
    name = as_text(message.get("name"))
    if role in ("tool", "function"):
        turn = Turn("tool", tool_call_id=as_text(message.get("tool_call_id")), tool_name=name)
    else:
        turn = Turn(role)
        if name:
            turn.add_part("other", {"name": name}, name)
    _fill(turn, message)
    return turn.message()


def _fill(turn: Turn, message: dict[str, Any]) -> None:
    """Put what a message holds into `turn`: of a request, or the answer's."""
    _add_reasoning(turn, message)
    content = message.get("content")
    if isinstance(content, str):
        turn.add_text(content)
    elif isinstance(content, dict):  # not in the specification, accepted by several servers
        _add_content_part(turn, content)
    for part in as_list(content):
        _add_content_part(turn, part)
    turn.add_text(as_text(message.get("refusal")))
    for call in as_list(message.get("tool_calls")):
        turn.add_call(_tool_call(as_object(call)))
    legacy = as_object(message.get("function_call"))
    if legacy:
        turn.add_call(ToolCall(as_text(legacy.get("name")) or "", arguments_text(legacy.get("arguments"))))
    audio = as_object(message.get("audio"))
    if audio:
        turn.add_part("audio", audio, as_text(audio.get("transcript")))


def _add_reasoning(turn: Turn, message: dict[str, Any]) -> None:
    """Reasoning under its several names: DeepSeek and vLLM, newer vLLM, Groq and OpenRouter, OpenRouter in detail.

    Servers that send two of them send the same text twice, so one is taken.
    """
    text = as_text(first_of(message, "reasoning_content", "reasoning"))
    details = as_list(message.get("reasoning_details"))
    if not text:
        steps = (as_object(step) for step in details)
        text = "".join(as_text(first_of(step, "text", "summary")) or "" for step in steps)
    if text or details:
        turn.add_part("reasoning", details or None, text or None)


def _add_content_part(turn: Turn, value: Any) -> None:
    if isinstance(value, str):
        turn.add_text(value)
        return
    part = as_object(value)
    kind = part.get("type")
    if kind in ("text", "input_text", "output_text", "refusal"):
        turn.add_text(as_text(first_of(part, "text", "refusal")))
    elif kind == "thinking":  # Mistral
        thinking = part.get("thinking")
        steps = (as_text(as_object(step).get("text")) or "" for step in as_list(thinking))
        turn.add_part("reasoning", part, as_text(thinking) or "".join(steps) or None)
    elif kind == "image_url":
        turn.add_part("image", part)
    elif kind == "input_audio":
        turn.add_part("audio", part)
    elif kind in ("file", "document_url", "video_url"):
        turn.add_part("file", part, as_text(as_object(part.get("file")).get("filename")))
    else:
        turn.add_part("other", value)


def _tool_call(call: dict[str, Any]) -> ToolCall:
    function = as_object(call.get("function"))
    custom = as_object(call.get("custom"))
    name = as_text(function.get("name")) or as_text(custom.get("name")) or ""
    arguments = function.get("arguments") if function else custom.get("input")
    return ToolCall(name, arguments_text(arguments), as_text(call.get("id")))


def _tool(value: Any) -> ToolDef:
    tool = as_object(value)
    kind = as_text(tool.get("type"))
    inner = as_object(tool.get("function")) or as_object(tool.get("custom"))
    if not inner and kind not in (None, "function", "custom"):  # a tool the provider runs; its settings are its schema
        return ToolDef(as_text(tool.get("name")) or kind or "", as_text(tool.get("description")), tool)
    inner = inner or tool
    schema = first_of(inner, "parameters", "format")
    return ToolDef(as_text(inner.get("name")) or "", as_text(inner.get("description")), schema)


# --- answers ---------------------------------------------------------------------------------------------------------


def _read(document: dict[str, Any]) -> LLMResponse:
    choices = [as_object(choice) for choice in as_list(document.get("choices"))]
    choice = min(choices, key=_choice_index, default={})
    turn = Turn("assistant")
    _fill(turn, as_object(choice.get("message")))
    spoken = next((part.text for part in turn.parts if part.kind == "audio" and part.text), "")
    return LLMResponse(
        text=turn.text or spoken,
        tool_calls=turn.calls,
        reasoning=turn.reasoning(),
        model=as_text(document.get("model")) or None,
        finish_reason=as_text(choice.get("finish_reason")),
        usage=_usage(document),
        response_id=as_text(document.get("id")) or None,
        error=error_of(choice),  # OpenRouter reports an upstream failure on the choice
        partial=f"choice 0 of {len(choices)}; the others are in the body" if len(choices) > 1 else None,
    )


def _choice_index(choice: dict[str, Any]) -> int:
    return as_count(choice.get("index")) or 0


def _usage(document: dict[str, Any]) -> Usage | None:
    raw = as_object(document.get("usage")) or as_object(as_object(document.get("x_groq")).get("usage"))
    if not raw:
        return None
    prompt = as_object(raw.get("prompt_tokens_details"))
    completion = as_object(raw.get("completion_tokens_details"))
    input_tokens, output_tokens = as_count(raw.get("prompt_tokens")), as_count(raw.get("completion_tokens"))
    reasoning = as_count(completion.get("reasoning_tokens"))
    cached = as_count(prompt.get("cached_tokens"))
    total = as_count(raw.get("total_tokens"))
    # xAI counts reasoning beside completion_tokens, not in it (docs.x.ai, "Consumption and rate limits"); its total
    # then is the sum of all three. https://github.com/vercel/ai/pull/12425
    if reasoning and None not in (input_tokens, output_tokens, total):
        visible = output_tokens or 0
        if total == (input_tokens or 0) + visible + reasoning:
            output_tokens = visible + reasoning
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        # prompt_cache_hit_tokens is DeepSeek's own name, from before it had the details.
        cached_tokens=as_count(raw.get("prompt_cache_hit_tokens")) if cached is None else cached,
        cache_write_tokens=as_count(prompt.get("cache_write_tokens")),
        reasoning_tokens=reasoning,
        raw=raw,
    )


# --- streams ---------------------------------------------------------------------------------------------------------


def _assemble(stream: Stream) -> Assembled:
    document: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    for chunk in stream.items:
        for name in ("id", "model"):  # Azure's first chunk has them empty
            document[name] = document.get(name) or chunk.get(name)
        # The last count wins: some servers count up with every chunk.
        usage = as_object(chunk.get("usage")) or as_object(as_object(chunk.get("x_groq")).get("usage"))
        if usage:
            document["usage"] = usage
        for value in as_list(chunk.get("choices")):
            piece = as_object(value)
            choices.setdefault(_choice_index(piece), _Choice()).add(piece)
    document["choices"] = [choices[index].document(index) for index in sorted(choices)]
    finished = bool(choices) and all(choice.finish_reason for choice in choices.values())
    return Assembled(document, ended=stream.done, finished=finished)


class _Choice:
    """One choice of a stream while its deltas come in."""

    def __init__(self) -> None:
        self.finish_reason: Any = None
        self.error: Any = None
        self.texts: dict[str, list[str]] = {}
        self.parts: list[Any] = []
        self.details: list[Any] = []
        self.audio: dict[str, Any] = {}
        self.calls = _Calls()
        self.function_call: dict[str, Any] = {}

    def add(self, piece: dict[str, Any]) -> None:
        self.finish_reason = piece.get("finish_reason") or self.finish_reason
        self.error = piece.get("error") or self.error
        delta = as_object(piece.get("delta")) or as_object(piece.get("message"))
        for name in ("content", "refusal", "reasoning_content", "reasoning"):
            text = delta.get(name)
            if isinstance(text, str):
                self.texts.setdefault(name, []).append(text)
        for part in as_list(delta.get("content")):  # Mistral streams typed parts
            text = as_text(as_object(part).get("text"))
            if text is None:
                self.parts.append(part)
            else:
                self.texts.setdefault("content", []).append(text)
        self.details.extend(as_list(delta.get("reasoning_details")))
        for call in as_list(delta.get("tool_calls")):
            self.calls.add(as_object(call))
        legacy = as_object(delta.get("function_call"))
        for name in ("name", "arguments"):
            text = as_text(legacy.get(name))
            if text:
                self.function_call[name] = self.function_call.get(name, "") + text
        audio = as_object(delta.get("audio"))
        if audio:
            spoken = (as_text(self.audio.get("transcript")) or "") + (as_text(audio.get("transcript")) or "")
            self.audio = {**self.audio, **audio, "transcript": spoken}

    def document(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {name: "".join(pieces) for name, pieces in self.texts.items()}
        if self.parts:
            thinking = _merged_thinking(self.parts)
            message["content"] = [*thinking, {"type": "text", "text": message.get("content", "")}]
        message["reasoning_details"] = self.details
        message["tool_calls"] = self.calls.documents()
        message["function_call"] = self.function_call
        message["audio"] = self.audio
        return {"index": index, "message": message, "finish_reason": self.finish_reason, "error": self.error}


class _Calls:
    """The tool calls of a stream, by their index.

    Some servers give every parallel call index 0 (Gemini's compatible endpoint) or none at all: a new id then begins
    a new call. Others repeat id and name in every delta.
    """

    def __init__(self) -> None:
        self.order: list[tuple[int, int]] = []
        self.calls: dict[tuple[int, int], dict[str, Any]] = {}
        self.latest: dict[int, int] = {}

    def add(self, delta: dict[str, Any]) -> None:
        index = as_count(delta.get("index"))
        identity = as_text(delta.get("id")) or None
        if index is None:
            index = 0
        call = self.calls.get((index, self.latest.get(index, 0)))
        if call is not None and identity and call["id"] and identity != call["id"]:
            self.latest[index] = self.latest.get(index, 0) + 1
            call = None
        if call is None:
            call = {"id": None, "name": "", "pieces": [], "custom": False}
            self.calls[index, self.latest.setdefault(index, 0)] = call
        call["id"] = call["id"] or identity
        custom = as_object(delta.get("custom"))
        call["custom"] = call["custom"] or bool(custom)
        inner = custom or as_object(delta.get("function"))
        name = as_text(inner.get("name"))
        if name and name != call["name"]:
            call["name"] += name
        arguments = first_of(inner, "arguments", "input")
        if arguments is not None:
            call["pieces"].append(arguments_text(arguments))

    def documents(self) -> list[dict[str, Any]]:
        documents = []
        for key in sorted(self.calls):
            call = self.calls[key]
            text = "".join(call["pieces"])
            if call["custom"]:
                documents.append({"id": call["id"], "custom": {"name": call["name"], "input": text}})
            else:
                documents.append({"id": call["id"], "function": {"name": call["name"], "arguments": text}})
        return documents


def _merged_thinking(parts: list[Any]) -> list[Any]:
    """Mistral's thinking deltas as one part, other parts behind it as they are."""
    texts, others = [], []
    for part in parts:
        steps = as_object(part).get("thinking")
        if isinstance(steps, str):
            texts.append(steps)
        elif isinstance(steps, list):
            texts.extend(as_text(as_object(step).get("text")) or "" for step in steps)
        else:
            others.append(part)
    return [*([{"type": "thinking", "thinking": "".join(texts)}] if texts else []), *others]


_ANSWERS: Final = Answers(_read, _assemble, end_mark="[DONE] or a finish_reason")
PROVIDER: Final = Provider(
    name="openai_chat",
    array_keys=("messages", "tools", "functions"),
    system_keys=(),
    parse_request=parse_request,
    parse_response=parse_response,
    suffixes=("/chat/completions",),
    accepts=lambda path: True,
    read_head=read_head,
    vendor="openai",
)
