"""Gemini generateContent and streamGenerateContent, on the Gemini API and on Vertex AI.

Source: google.genai.types of the google-genai SDK 3.4. Bodies are protobuf JSON, which allows every name in camelCase
and in snake_case. A stream is a row of whole answers, each with the parts that are new and the counts so far.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from unspool.events import Context, CtxMessage, LLMResponse, ToolCall, ToolDef, Usage
from unspool.providers.bodies import Answers, Assembled, read_request, read_response
from unspool.providers.gemini_calls import join_streamed_calls
from unspool.providers.provider import Provider, RequestHead
from unspool.providers.sse import Stream
from unspool.providers.turns import Turn, media_kind, name_tool_results
from unspool.providers.wire import arguments_text, as_count, as_list, as_object, as_text, compact_json, first_of

__all__ = ["PROVIDER", "parse_request", "parse_response"]

_SYSTEM_KEYS: Final = ("systemInstruction", "system_instruction")
_CONFIG_KEYS: Final = ("generationConfig", "generation_config")
# Clients of the older generated libraries ask for `enum-encoding=int`. Source: the FinishReason enum of
# google/cloud/aiplatform/v1beta1/content.proto.
_FINISH_REASONS: Final = (
    "FINISH_REASON_UNSPECIFIED",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
)
_NOT_PARAMS: Final = frozenset({"contents", "tools", "model", *_SYSTEM_KEYS, *_CONFIG_KEYS})


def parse_request(url: str, body: bytes) -> Context:
    """The context of a generateContent request; the role `model` is called assistant, as everywhere."""

    def read(document: dict[str, Any]) -> Context:
        contents = document.get("contents")
        contents = [contents] if isinstance(contents, dict | str) else as_list(contents)
        messages = [message for content in contents for message in _messages(content)]
        offered = document.get("tools")
        offered = [offered] if isinstance(offered, dict) else as_list(offered)
        name_tool_results(messages)
        head = read_head(url, document)
        params = {name: value for name, value in document.items() if name not in _NOT_PARAMS}
        leans = f"leans on state the provider keeps: cachedContent {head.state_ref}" if head.state_ref else None
        return Context(
            messages=messages,
            system_prompt=_system(first_of(document, *_SYSTEM_KEYS)),
            tools=[entry for tool in offered for entry in _tools(as_object(tool))],
            params={**params, **as_object(first_of(document, *_CONFIG_KEYS))},
            model=head.model,
            stream=head.stream,
            partial=leans,
        )

    return read_request("gemini", body, read)


def parse_response(url: str, body: bytes, content_type: str | None, status: int, complete: bool) -> LLMResponse:
    """The answer to a generateContent request; of several candidates the first."""
    return read_response(body, content_type, status, complete, _ANSWERS)


def read_head(url: str, document: dict[str, Any]) -> RequestHead:
    """Model and stream flag, both from the URL, and the cached content the request builds on."""
    path = url.partition("?")[0].partition("#")[0]
    name, _, method = path.rpartition("/")[2].rpartition(":")
    cached = as_text(first_of(document, "cachedContent", "cached_content"))
    return RequestHead(unquote(name) or None, method.startswith("stream"), cached or None)


# --- messages --------------------------------------------------------------------------------------------------------


def _messages(value: Any) -> list[CtxMessage]:
    """The messages in one content: each function response is one of its own, what stands between them another."""
    if isinstance(value, str):
        return [CtxMessage(role="user", content=value)]
    content = as_object(value)
    if not content:
        return [CtxMessage(role="unknown", content=compact_json(value))]
    role = as_text(content.get("role")) or "user"
    role = "assistant" if role == "model" else role
    turn = Turn(role)
    messages: list[CtxMessage] = []
    for part in as_list(content.get("parts")):
        answer = as_object(first_of(as_object(part), "functionResponse", "function_response"))
        if answer:
            if not turn.is_empty:
                messages.append(turn.message())
                turn = Turn(role)
            messages.append(_tool_result(answer))
        else:
            _read_part(turn, part)
    if not (turn.is_empty and messages):
        messages.append(turn.message())
    return messages


def _tool_result(answer: dict[str, Any]) -> CtxMessage:
    turn = Turn("tool", tool_call_id=as_text(answer.get("id")), tool_name=as_text(answer.get("name")))
    response = answer.get("response")
    turn.add_text(response if isinstance(response, str) else arguments_text(response))
    for part in as_list(answer.get("parts")):
        _read_part(turn, part)
    return turn.message()


def _read_part(turn: Turn, value: Any) -> None:
    """Put one part, sent or answered, into `turn`."""
    part = as_object(value)
    call = as_object(first_of(part, "functionCall", "function_call"))
    blob = as_object(first_of(part, "inlineData", "inline_data", "fileData", "file_data"))
    text = as_text(value) or as_text(part.get("text"))
    if call:
        name, identity = as_text(call.get("name")) or "", as_text(call.get("id"))
        turn.add_call(ToolCall(name, arguments_text(call.get("args", {})), identity))
    elif part.get("thought") is True:
        turn.add_part("reasoning", part, text)
    elif text is not None:
        turn.add_text(text)
    elif blob:
        mime_type = as_text(first_of(blob, "mimeType", "mime_type"))
        turn.add_part(media_kind(mime_type), part, as_text(first_of(blob, "displayName", "display_name")))
    elif set(part) <= {"thoughtSignature", "thought_signature", "text"} and part:
        turn.add_part("reasoning", part)
    else:  # code the provider runs and its results, calls of its own tools, and what is newer than this
        turn.add_part("other", value, next(iter(part), None))


def _system(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else as_list(as_object(value).get("parts"))
    texts = [text for part in parts if (text := as_text(part) or as_text(as_object(part).get("text"))) is not None]
    return "\n".join(texts) if texts else None


def _tools(tool: dict[str, Any]) -> list[ToolDef]:
    """The functions a tool declares; every other key of it is a tool the provider runs."""
    found: list[ToolDef] = []
    for name, settings in tool.items():
        if name not in ("functionDeclarations", "function_declarations"):
            found.append(ToolDef(name, schema=settings))
            continue
        for value in as_list(settings):
            function = as_object(value)
            schema = first_of(function, "parameters", "parametersJsonSchema", "parameters_json_schema")
            found.append(ToolDef(as_text(function.get("name")) or "", as_text(function.get("description")), schema))
    return found


# --- answers ---------------------------------------------------------------------------------------------------------


def _read(document: dict[str, Any]) -> LLMResponse:
    candidates = _candidates(document)
    candidate = candidates[0] if candidates else {}
    turn = Turn("assistant")
    for part in as_list(as_object(candidate.get("content")).get("parts")):
        _read_part(turn, part)
    return LLMResponse(
        text=turn.text,
        tool_calls=turn.calls,
        reasoning=turn.reasoning(separator=""),  # a stream's thought parts are deltas of one text
        model=as_text(first_of(document, "modelVersion", "model_version")) or None,
        finish_reason=_finish_reason(candidate, document),
        usage=_usage(as_object(first_of(document, "usageMetadata", "usage_metadata"))),
        response_id=as_text(first_of(document, "responseId", "response_id")) or None,
        partial=f"candidate 0 of {len(candidates)}; the others are in the body" if len(candidates) > 1 else None,
    )


def _candidates(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = [as_object(candidate) for candidate in as_list(document.get("candidates"))]
    return sorted(found, key=lambda candidate: as_count(candidate.get("index")) or 0)


def _finish_reason(candidate: dict[str, Any], document: dict[str, Any]) -> str | None:
    """Why the model stopped; for a prompt that was refused, and so has no candidate, why."""
    feedback = as_object(first_of(document, "promptFeedback", "prompt_feedback"))
    reason = first_of(candidate, "finishReason", "finish_reason")
    if isinstance(reason, int) and not isinstance(reason, bool):
        return _FINISH_REASONS[reason] if 0 <= reason < len(_FINISH_REASONS) else str(reason)
    return as_text(reason) or as_text(first_of(feedback, "blockReason", "block_reason"))


def _usage(raw: dict[str, Any]) -> Usage | None:
    if not raw:
        return None

    def count(camel: str, snake: str) -> int | None:
        return as_count(first_of(raw, camel, snake))

    prompt = count("promptTokenCount", "prompt_token_count")  # includes what came from the cache
    tool_prompt = count("toolUsePromptTokenCount", "tool_use_prompt_token_count")  # results of the provider's tools
    answer = count("candidatesTokenCount", "candidates_token_count")
    thoughts = count("thoughtsTokenCount", "thoughts_token_count")
    return Usage(
        input_tokens=None if prompt is None else prompt + (tool_prompt or 0),
        output_tokens=None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0),
        cached_tokens=count("cachedContentTokenCount", "cached_content_token_count"),
        reasoning_tokens=thoughts,
        raw=raw,
    )


def _assemble(stream: Stream) -> Assembled:
    document: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    parts: dict[int, list[Any]] = {}
    for chunk in stream.items:
        # Counts are cumulative and the rest is repeated, so the last word on each key holds.
        document.update({name: value for name, value in chunk.items() if value is not None})
        for candidate in _candidates(chunk):
            index = as_count(candidate.get("index")) or 0
            known = {name: value for name, value in candidate.items() if value is not None}
            candidates.setdefault(index, {}).update(known)
            parts.setdefault(index, []).extend(as_list(as_object(candidate.get("content")).get("parts")))
    for index, candidate in candidates.items():
        candidate["content"] = {"parts": join_streamed_calls(parts[index])}
    whole = [candidates[index] for index in sorted(candidates)]
    document["candidates"] = whole
    finished = all(_finish_reason(candidate, {}) for candidate in whole) if whole else _finish_reason({}, document)
    return Assembled(document, ended=bool(finished))


_ANSWERS: Final = Answers(_read, _assemble, end_mark="finishReason")
PROVIDER: Final = Provider(
    name="gemini",
    array_keys=("contents", "tools"),
    system_keys=_SYSTEM_KEYS,
    parse_request=parse_request,
    parse_response=parse_response,
    suffixes=(":generateContent", ":streamGenerateContent"),
    accepts=lambda path: True,
    read_head=read_head,
    vendor="google",
)
