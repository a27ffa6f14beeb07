"""generateContent and streamGenerateContent: requests, answers, streams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unspool.events import Context, CtxMessage, LLMResponse, Part, ToolCall, ToolDef, Usage
from unspool.providers import PROVIDERS

GEMINI = PROVIDERS["gemini"]
URL = "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent"
STREAM_URL = "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:streamGenerateContent?alt=sse"


def request(**body: Any) -> Context:
    return GEMINI.parse_request(URL, msgspec.json.encode(body))


def answer(body: Any) -> LLMResponse:
    return GEMINI.parse_response(URL, msgspec.json.encode(body), "application/json; charset=UTF-8", 200, True)


def stream(*chunks: dict[str, Any], complete: bool = True) -> LLMResponse:
    body = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n" for chunk in chunks)
    return GEMINI.parse_response(STREAM_URL, body, "text/event-stream", 200, complete)


def candidate(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


CAMEL = {
    "systemInstruction": {"parts": [{"text": "One."}, {"text": "Two."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "hi"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]},
        {
            "role": "model",
            "parts": [{"text": "hm", "thought": True}, {"functionCall": {"name": "f", "args": {"a": 1}}}],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "f", "response": {"result": "ok"}}}, {"text": "go on"}],
        },
    ],
    "tools": [
        {
            "functionDeclarations": [{"name": "f", "description": "d", "parameters": {"type": "OBJECT"}}],
            "googleSearch": {},
        }
    ],
    "generationConfig": {"temperature": 0, "thinkingConfig": {"includeThoughts": True}},
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
}
SNAKE = {
    "system_instruction": [{"text": "One."}, {"text": "Two."}],
    "contents": [
        {"role": "user", "parts": [{"text": "hi"}, {"inline_data": {"mime_type": "image/png", "data": "AA=="}}]},
        {
            "role": "model",
            "parts": [{"text": "hm", "thought": True}, {"function_call": {"name": "f", "args": {"a": 1}}}],
        },
        {
            "role": "user",
            "parts": [{"function_response": {"name": "f", "response": {"result": "ok"}}}, {"text": "go on"}],
        },
    ],
    "tools": [
        {"function_declarations": [{"name": "f", "description": "d", "parameters_json_schema": {"type": "OBJECT"}}]},
        {"googleSearch": {}},
    ],
    "generation_config": {"temperature": 0, "thinkingConfig": {"includeThoughts": True}},
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
}


@pytest.mark.parametrize("body", [CAMEL, SNAKE], ids=["camelCase", "snake_case"])
def test_a_whole_conversation(body: dict[str, Any]) -> None:
    contents: Any = body["contents"]
    assert request(**body) == Context(
        messages=[
            CtxMessage("user", "hi", parts=[Part("image", data=contents[0]["parts"][1])]),
            CtxMessage(
                "assistant",
                "",
                tool_calls=[ToolCall("f", '{"a":1}')],
                parts=[Part("reasoning", "hm", {"text": "hm", "thought": True})],
            ),
            CtxMessage("tool", '{"result":"ok"}', tool_name="f"),
            CtxMessage("user", "go on"),
        ],
        system_prompt="One.\nTwo.",
        tools=[ToolDef("f", "d", {"type": "OBJECT"}), ToolDef("googleSearch", schema={})],
        params={
            "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
            "temperature": 0,
            "thinkingConfig": {"includeThoughts": True},
        },
        model="gemini-x",
        provider="gemini",
    )


def test_model_and_stream_come_from_the_url() -> None:
    context = GEMINI.parse_request(STREAM_URL, b'{"model": "other"}')
    assert (context.model, context.stream, context.params) == ("gemini-x", True, {})


def test_ids_link_calls_and_results() -> None:
    contents = [
        {"role": "model", "parts": [{"functionCall": {"id": "1", "name": "f"}}]},
        {"role": "function", "parts": [{"functionResponse": {"id": "1", "response": {}}}]},
    ]
    call, result = request(contents=contents).messages
    assert call.tool_calls == [ToolCall("f", "{}", "1")]
    assert result == CtxMessage("tool", "{}", tool_call_id="1", tool_name="f")


def test_other_parts_and_shapes() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    file = {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://x", "displayName": "v"}}
    signature = {"thoughtSignature": "abc"}
    (message,) = request(contents={"parts": [code, file, signature, {"text": ""}, "plain", 3]}).messages
    assert (message.role, message.content) == ("user", "plain")
    assert message.parts == [
        Part("other", "executableCode", code),
        Part("file", "v", file),
        Part("reasoning", data=signature),
        Part("other", data=3),
    ]
    assert request(contents="hi").messages == [CtxMessage("user", "hi")]
    assert request(systemInstruction="Be.").system_prompt == "Be."
    assert [m.role for m in request(contents=[{}, 1, {"parts": []}]).messages] == ["unknown", "unknown", "user"]


def test_cached_content_makes_it_partial() -> None:
    assert (
        request(cachedContent="cachedContents/1").partial
        == "leans on state the provider keeps: cachedContent cachedContents/1"
    )


def test_a_whole_answer() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 10,
        "thoughtsTokenCount": 25,
        "toolUsePromptTokenCount": 7,
        "totalTokenCount": 142,
    }
    parts = [
        {"text": "hm", "thought": True},
        {"text": "Hel"},
        {"text": "lo"},
        {"functionCall": {"name": "f", "args": {}}},
    ]
    body = {**candidate(*parts, finishReason="STOP"), "usageMetadata": usage, "modelVersion": "v", "responseId": "r"}
    assert answer(body) == LLMResponse(
        text="Hello",
        tool_calls=[ToolCall("f", "{}")],
        reasoning="hm",
        model="v",
        finish_reason="STOP",
        usage=Usage(107, 35, 60, None, 25, usage),
        response_id="r",
    )


def test_unknown_counts_are_none() -> None:
    assert answer({}).usage is None
    assert answer({"usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}).usage == Usage(
        4, raw={"promptTokenCount": 4, "totalTokenCount": 4}
    )


def test_a_refused_prompt_says_why() -> None:
    read = answer({"promptFeedback": {"blockReason": "SAFETY"}})
    assert (read.finish_reason, read.error, read.partial) == ("SAFETY", None, None)
    assert stream({"promptFeedback": {"blockReason": "SAFETY"}}).partial is None


def test_several_candidates_and_numbered_enums() -> None:
    two = {"candidates": [{"index": 1, "content": {"parts": [{"text": "b"}]}}, {"content": {"parts": [{"text": "a"}]}}]}
    assert (answer(two).text, answer(two).partial) == ("a", "candidate 0 of 2; the others are in the body")
    assert [answer(candidate(finishReason=number)).finish_reason for number in (1, 2, 99)] == [
        "STOP",
        "MAX_TOKENS",
        "99",
    ]


CHUNKS: list[dict[str, Any]] = [
    {**candidate({"text": "think", "thought": True}), "usageMetadata": {"promptTokenCount": 5}, "responseId": "r"},
    {**candidate({"text": "ing", "thought": True}), "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 2}},
    {**candidate({"text": "Hel"}), "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1}},
    {**candidate({"text": "lo"}, {"functionCall": {"name": "f", "args": {"a": 1}}})},
    {
        **candidate({"text": ""}, finishReason="STOP"),
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 2},
        "modelVersion": "v",
    },
]
WHOLE = LLMResponse(
    text="Hello",
    tool_calls=[ToolCall("f", '{"a":1}')],
    reasoning="thinking",
    model="v",
    finish_reason="STOP",
    usage=Usage(
        5, 5, reasoning_tokens=2, raw={"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 2}
    ),
    response_id="r",
)


def test_a_stream_is_put_together_in_both_framings() -> None:
    assert stream(*CHUNKS) == WHOLE
    array = b"[" + b"\n,\r\n".join(map(msgspec.json.encode, CHUNKS)) + b"\n]\n"
    assert GEMINI.parse_response(STREAM_URL, array, "application/json", 200, True) == WHOLE


def test_a_stream_that_broke_keeps_what_came() -> None:
    read = stream(*CHUNKS[:3], complete=False)
    assert (read.text, read.partial) == ("Hel", "the stream ended before finishReason")
    array = (b"[" + b"\n,\r\n".join(map(msgspec.json.encode, CHUNKS)))[:-20]
    read = GEMINI.parse_response(STREAM_URL, array, "application/json", 200, False)
    assert (read.text, read.partial) == ("Hello", "the stream ended before finishReason")


def call(**fields: Any) -> dict[str, Any]:
    return candidate({"functionCall": fields})


def piece(path: str, **value: Any) -> dict[str, Any]:
    return {"jsonPath": path, **value}


def test_arguments_that_are_streamed_in_pieces() -> None:
    read = stream(
        call(name="f", willContinue=True),
        call(partialArgs=[piece("$.place", stringValue="New ", willContinue=True)], willContinue=True),
        call(partialArgs=[piece("$.place", stringValue="Delhi")], willContinue=True),
        call(
            partialArgs=[piece("$.days[0].n", numberValue=1), piece("$['days'][1].n", numberValue=2)], willContinue=True
        ),
        call(partialArgs=[piece("$.ok", boolValue=False), piece("$.no", nullValue="NULL_VALUE")], willContinue=True),
        call(),
        call(name="g", args={"b": 2}),
        candidate(finishReason="STOP"),
    )
    assert read.tool_calls == [
        ToolCall("f", '{"place":"New Delhi","days":[{"n":1},{"n":2}],"ok":false,"no":null}'),
        ToolCall("g", '{"b":2}'),
    ]


@pytest.mark.parametrize("path", ["", "$", "$[0]", "$.a[999999999]", "$.a.b.c", "$.s[0]", "$.s.t", "nonsense"])
def test_hostile_paths_lose_only_their_value(path: str) -> None:
    first = [piece("$.s", stringValue="x"), piece(path, stringValue="y")]
    (made,) = stream(call(name="f", partialArgs=first)).tool_calls
    assert made.name == "f"
