"""Answers in the provider's own form, read back by the providers' parsers and by the real SDKs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from unspool.errors import UsageError
from unspool.providers import PROVIDERS
from unspool.serving.edits import Answer
from unspool.serving.replies import Recorded, build_answer, read_said

URLS = {
    "openai_chat": "http://h/v1/chat/completions",
    "openai_responses": "http://h/v1/responses",
    "anthropic": "http://h/v1/messages",
    "gemini": "http://h/v1beta/models/m:generateContent",
}
SAID = json.dumps(
    {"text": "Let me see. ä", "tool_calls": [{"name": "f", "arguments": {"q": "ü"}}, {"name": "g", "arguments": {}}]}
)
STREAMS = [pytest.param(False, id="whole"), pytest.param(True, id="stream")]


def url_of(provider: str, stream: bool, *, sse: bool = True) -> str:
    if provider != "gemini" or not stream:
        return URLS[provider]
    return "http://h/v1beta/models/m:streamGenerateContent" + ("?alt=sse" if sse else "")


def answer(provider: str, given: str, stream: bool, recorded: Recorded | None = None, **more: Any) -> Answer:
    request = json.dumps({"model": "m", "stream": stream, **more}).encode()
    url = url_of(provider, stream, sse=more.pop("sse", True))
    return build_answer(provider, url, request, read_said(provider, given), recorded or Recorded())


def read(provider: str, made: Answer, stream: bool) -> Any:
    content_type = dict(made.headers)["content-type"]
    return PROVIDERS[provider].parse_response(url_of(provider, stream), made.body, content_type, 200, True)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("provider", URLS)
def test_an_answer_reads_as_it_was_given(provider: str, stream: bool) -> None:
    made = answer(provider, SAID, stream)
    assert b"".join(made.pieces()) == made.body
    found = read(provider, made, stream)
    assert found.text == "Let me see. ä"
    assert [(call.name, json.loads(call.arguments)) for call in found.tool_calls] == [("f", {"q": "ü"}), ("g", {})]
    assert found.partial is None
    assert found.error is None
    ids = [call.id for call in found.tool_calls]
    assert len(set(ids)) == (1 if provider == "gemini" else 2)
    words = read(provider, answer(provider, '{"not": "a call"}', stream), stream)
    assert words.text == '{"not": "a call"}'
    assert not words.tool_calls


@pytest.mark.parametrize("provider", URLS)
def test_a_streamed_answer_is_the_whole_one_in_pieces(provider: str) -> None:
    whole = read(provider, answer(provider, SAID, stream=False), stream=False)
    made = answer(provider, whole_document(provider), stream=True)
    streamed = read(provider, made, stream=True)
    assert (streamed.text, streamed.tool_calls, streamed.finish_reason) == (
        whole.text,
        whole.tool_calls,
        whole.finish_reason,
    )
    assert len(made.pieces()) >= (1 if provider == "gemini" else 3)


def whole_document(provider: str) -> str:
    return answer(provider, SAID, stream=False).body.decode()


def test_geminis_array_is_an_array() -> None:
    made = answer("gemini", SAID, stream=True, sse=False)
    request = json.dumps({"contents": []}).encode()
    made = build_answer("gemini", url_of("gemini", True, sse=False), request, read_said("gemini", SAID), Recorded())
    assert json.loads(made.body)[0]["candidates"][0]["content"]["parts"][0] == {"text": "Let me see. ä"}


def test_envelope_and_headers_are_those_of_the_recorded_answer() -> None:
    body = {"id": "chatcmpl-1", "created": 7, "model": "m-2026", "choices": [], "usage": {"prompt_tokens": 3}}
    headers = (("x-request-id", "r"), ("content-length", "9"), ("content-encoding", "gzip"), ("set-cookie", "s"))
    made = answer("openai_chat", "hi", False, Recorded(200, headers, json.dumps(body).encode()))
    document = json.loads(made.body)
    assert (document["created"], document["model"], document["usage"]) == (7, "m-2026", {"prompt_tokens": 3})
    assert document["id"] != "chatcmpl-1"
    assert made.headers == [("x-request-id", "r"), ("content-type", "application/json")]
    # An error's envelope says nothing about an answer.
    failed = answer("openai_chat", "hi", False, Recorded(429, headers, b'{"error": {}}'))
    assert (failed.status, failed.headers) == (200, [("content-type", "application/json")])


def test_what_is_given_is_checked() -> None:
    with pytest.raises(UsageError, match="no name"):
        read_said("openai_chat", '{"tool_calls": [{"arguments": {}}]}')
    with pytest.raises(UsageError, match="no JSON object"):
        read_said("openai_chat", '[{"name": "f", "arguments": "[1"}]')
    stream = 'data: {"choices": []}\n\ndata: [DONE]\n\n'
    with pytest.raises(UsageError, match="asks for no stream"):
        answer("openai_chat", stream, stream=False)
    assert answer("openai_chat", stream, stream=True).body == stream.encode()
    assert read_said("openai_chat", "data: a word").text == "data: a word"


# --- the SDKs --------------------------------------------------------------------------------------------------------


class Canned:
    """A server that gives one answer to everything."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                assert owner.answer is not None
                self.send_response(owner.answer.status)
                for name, value in owner.answer.headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(owner.answer.body)))
                self.end_headers()
                for piece in owner.answer.pieces():
                    self.wfile.write(piece)

            def log_message(self, *_args: Any) -> None:
                """Be quiet."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canned]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Canned()
    yield server
    server.close()


@pytest.mark.parametrize("stream", STREAMS)
def test_the_openai_sdk_takes_a_chat_completion(canned: Canned, stream: bool) -> None:
    from openai import OpenAI

    canned.answer = answer("openai_chat", SAID, stream, stream_options={"include_usage": True})
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    with OpenAI(base_url=f"{canned.url}/v1", api_key="k", max_retries=0) as client:
        if stream:
            with client.chat.completions.stream(**asked) as events:
                for _ in events:
                    pass
                whole = events.get_final_completion()
            assert whole.usage is not None
        else:
            whole = client.chat.completions.create(**asked)
    message = whole.choices[0].message
    assert message.content == "Let me see. ä"
    assert [call.function.name for call in message.tool_calls] == ["f", "g"]
    assert json.loads(message.tool_calls[0].function.arguments) == {"q": "ü"}


@pytest.mark.parametrize("stream", STREAMS)
def test_the_openai_sdk_takes_a_response(canned: Canned, stream: bool) -> None:
    from openai import OpenAI

    canned.answer = answer("openai_responses", SAID, stream)
    with OpenAI(base_url=f"{canned.url}/v1", api_key="k", max_retries=0) as client:
        if stream:
            with client.responses.stream(model="m", input="x") as events:
                kinds = [event.type for event in events]
                whole = events.get_final_response()
            assert kinds[0] == "response.created"
            assert kinds[-1] == "response.completed"
        else:
            whole = client.responses.create(model="m", input="x")
    assert whole.output_text == "Let me see. ä"
    calls = [item for item in whole.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("f", {"q": "ü"}), ("g", {})]


@pytest.mark.parametrize("stream", STREAMS)
def test_the_anthropic_sdk_takes_a_message(canned: Canned, stream: bool) -> None:
    from anthropic import Anthropic

    canned.answer = answer("anthropic", SAID, stream)
    asked: Any = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    with Anthropic(base_url=canned.url, api_key="k", max_retries=0) as client:
        if stream:
            with client.messages.stream(**asked) as events:
                for _ in events:
                    pass
                whole = events.get_final_message()
        else:
            whole = client.messages.create(**asked)
    assert [block.type for block in whole.content] == ["text", "tool_use", "tool_use"]
    assert whole.content[1].input == {"q": "ü"}
    assert whole.stop_reason == "tool_use"


@pytest.mark.parametrize("stream", STREAMS)
def test_the_google_sdk_takes_an_answer(canned: Canned, stream: bool) -> None:
    from google import genai
    from google.genai import types

    canned.answer = answer("gemini", SAID, stream)
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=canned.url))
    if stream:
        parts = [
            part
            for chunk in client.models.generate_content_stream(model="m", contents="x")
            for part in chunk.candidates[0].content.parts
        ]
    else:
        parts = client.models.generate_content(model="m", contents="x").candidates[0].content.parts
    assert parts[0].text == "Let me see. ä"
    assert [part.function_call.name for part in parts[1:]] == ["f", "g"]
    assert parts[1].function_call.args == {"q": "ü"}
    client.close()
