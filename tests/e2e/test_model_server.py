"""The embedded model server against the real SDKs, and against clients that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection, IncompleteRead
from typing import Any, NamedTuple

import pytest

from unspool.demo.behaviours import BIG_CHARS
from unspool.demo.script import ModelRequest, Reply, digest_messages
from unspool.demo.server import ModelServer

anthropic = pytest.importorskip("anthropic")
openai = pytest.importorskip("openai")
genai = pytest.importorskip("google.genai")

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CHAT_TOOL = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": SCHEMA}}
RESPONSES_TOOL = {"type": "function", "name": "add", "parameters": SCHEMA, "strict": None}
ANTHROPIC_TOOL = {"name": "add", "input_schema": SCHEMA}
GEMINI_TOOL = {"function_declarations": [{"name": "add", "parameters": {"type": "OBJECT"}}]}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def chat(server: ModelServer) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(server: ModelServer) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def gemini(server: ModelServer) -> Iterator[Any]:
    with closing(genai.Client(api_key="x", http_options={"base_url": server.url})) as client:
        yield client


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


def post(server: ModelServer, body: object, path: str = "/v1/chat/completions") -> Answer:
    """One plain request, on a connection of its own, without any SDK between."""
    with closing(HTTPConnection(server.host, server.port, timeout=20)) as connection:
        connection.request("POST", path, json.dumps(body), {"connection": "close"})
        with connection.getresponse() as response:
            return Answer(response.status, response.headers, response.read())


def ask(model: str, **extra: object) -> dict[str, object]:
    return {"model": model, "messages": HELLO, **extra}


class TestOpenAIChat:
    def test_answer_is_the_callers_own(self, chat: Any) -> None:
        answer = chat.chat.completions.create(model="echo", messages=HELLO)
        assert answer.choices[0].message.content == f"echo: hello [{digest_messages(HELLO)}]"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer._request_id.startswith("req_")

    @pytest.mark.parametrize("suffix", ["", "+gzip", "+deflate", "+chunks40", "+slow"])
    def test_stream_gives_the_same_text(self, chat: Any, suffix: str) -> None:
        stream = chat.chat.completions.create(model=f"echo{suffix}", messages=HELLO, stream=True)
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == f"echo: hello [{digest_messages(HELLO)}]"
        assert all(chunk.usage is None for chunk in chunks)

    def test_stream_usage_comes_only_when_asked_for(self, chat: Any) -> None:
        options = {"include_usage": True}
        *rest, last = chat.chat.completions.create(model="echo", messages=HELLO, stream=True, stream_options=options)
        assert last.choices == []
        assert last.usage.total_tokens > 0
        assert all(chunk.usage is None for chunk in rest)

    @pytest.mark.parametrize("stream", [False, True])
    def test_tool_call_and_its_result(self, chat: Any, stream: bool) -> None:
        messages: list[Any] = [{"role": "user", "content": 'please {"a": 3}'}]
        if stream:
            with chat.chat.completions.stream(model="tools", messages=messages, tools=[CHAT_TOOL]) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = (
                chat.chat.completions.create(model="tools", messages=messages, tools=[CHAT_TOOL]).choices[0].message
            )
        [call] = message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 3})
        messages += [
            {
                "role": "assistant",
                "tool_calls": [{"id": call.id, "type": "function", "function": call.function.to_dict()}],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "the sum is 3"},
        ]
        answer = chat.chat.completions.create(model="tools", messages=messages, tools=[CHAT_TOOL])
        assert answer.choices[0].message.content == "the sum is 3"

    def test_parallel_tool_calls_have_their_own_ids(self, chat: Any) -> None:
        messages = [{"role": "user", "content": '[{"a": 1}, {"a": 2}]'}]
        answer = chat.chat.completions.create(model="tools", messages=messages, tools=[CHAT_TOOL])
        first, second = answer.choices[0].message.tool_calls
        assert first.id != second.id
        assert json.loads(second.function.arguments) == {"a": 2}

    def test_usage_details(self, chat: Any) -> None:
        usage = chat.chat.completions.create(model="echo+reasoning+cached", messages=HELLO).usage
        assert usage.prompt_tokens_details.cached_tokens > 0
        assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
        assert chat.chat.completions.create(model="echo+nousage", messages=HELLO).usage is None

    def test_the_sdk_retries_a_rate_limit_without_waiting(self, server: ModelServer) -> None:
        messages = [{"role": "user", "content": "retry me"}]
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=2) as client:
            started = time.monotonic()
            answer = client.chat.completions.create(model="echo+429x2", messages=messages)
        assert "retry me" in answer.choices[0].message.content
        # Without a usable retry-after the SDK would have waited 0.5 s and 1 s.
        assert time.monotonic() - started < 1.0

    @pytest.mark.parametrize(
        ("suffix", "error"),
        [
            ("+401", "AuthenticationError"),
            ("+429", "RateLimitError"),
            ("+500", "InternalServerError"),
            ("+html", "InternalServerError"),
            ("+error-in-stream", "InternalServerError"),
            ("+cut", "APIConnectionError"),
            ("+nonsense", "NotFoundError"),
        ],
    )
    def test_faults_raise_what_a_provider_would(self, chat: Any, suffix: str, error: str) -> None:
        with pytest.raises(getattr(openai, error)):
            chat.chat.completions.create(model=f"echo{suffix}", messages=HELLO)

    def test_malformed_json(self, chat: Any) -> None:
        with pytest.raises(json.JSONDecodeError):
            chat.chat.completions.create(model="echo+malformed", messages=HELLO)

    @pytest.mark.parametrize(("suffix", "error"), [("+cut", "APIConnectionError"), ("+error-in-stream", "APIError")])
    def test_faults_in_mid_stream_come_after_some_text(self, chat: Any, suffix: str, error: str) -> None:
        chunks: list[Any] = []
        with pytest.raises(getattr(openai, error)):
            chunks.extend(chat.chat.completions.create(model=f"echo{suffix}", messages=HELLO, stream=True))
        assert any(chunk.choices[0].delta.content for chunk in chunks)

    def test_a_silent_server_is_a_timeout(self, chat: Any) -> None:
        with pytest.raises(openai.APITimeoutError):
            chat.with_options(timeout=0.2).chat.completions.create(model="echo+timeout", messages=HELLO)

    def test_async_answers_are_not_mixed_up(self, server: ModelServer) -> None:
        async def gather() -> list[Any]:
            async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
                create = client.chat.completions.create
                lists = [[{"role": "user", "content": f"number {n}"}] for n in range(30)]
                return await asyncio.gather(*(create(model="echo", messages=messages) for messages in lists))

        texts = [answer.choices[0].message.content for answer in asyncio.run(gather())]
        assert [text.split(" [")[0] for text in texts] == [f"echo: number {n}" for n in range(30)]


class TestOpenAIResponses:
    @pytest.mark.parametrize("stream", [False, True])
    def test_text_reasoning_and_usage(self, chat: Any, stream: bool) -> None:
        arguments: dict[str, Any] = {"model": "echo+reasoning+cached", "instructions": "be brief", "input": "hello"}
        if stream:
            with chat.responses.stream(**arguments) as events:
                kinds = [event.type for event in events]
                answer = events.get_final_response()
            assert kinds[0] == "response.created"
            assert kinds[-1] == "response.completed"
        else:
            answer = chat.responses.create(**arguments)
        assert answer.output_text == f"echo: hello [{digest_messages('hello')}]"
        assert [item.type for item in answer.output] == ["reasoning", "message"]
        assert answer.usage.output_tokens_details.reasoning_tokens > 0
        assert answer.usage.input_tokens_details.cached_tokens > 0
        type(answer).model_validate(answer.to_dict())  # strictly, unlike what the SDK itself does

    @pytest.mark.parametrize("stream", [False, True])
    def test_tools_and_the_stored_conversation(self, chat: Any, stream: bool) -> None:
        arguments: dict[str, Any] = {"model": "tools", "input": '{"a": 4}', "tools": [RESPONSES_TOOL]}
        if stream:
            with chat.responses.stream(**arguments) as events:
                answer = events.until_done().get_final_response()
        else:
            answer = chat.responses.create(**arguments)
        [call] = answer.output
        assert json.loads(call.arguments) == {"a": 4}
        result = [{"type": "function_call_output", "call_id": call.call_id, "output": "four"}]
        after = chat.responses.create(model="tools", input=result, previous_response_id=answer.id)
        assert after.output_text == "four"

    def test_an_unknown_previous_response_is_a_bad_request(self, chat: Any) -> None:
        with pytest.raises(openai.BadRequestError, match="resp_gone"):
            chat.responses.create(model="echo", input="x", previous_response_id="resp_gone")

    def test_error_in_stream(self, chat: Any) -> None:
        kinds = [e.type for e in chat.responses.create(model="echo+error-in-stream", input="hello", stream=True)]
        assert kinds[-2:] == ["error", "response.failed"]

    def test_async_stream(self, server: ModelServer) -> None:
        async def collect() -> str:
            async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
                stream = await client.responses.create(model="echo", input="hello", stream=True)
                return "".join([e.delta async for e in stream if e.type == "response.output_text.delta"])

        assert asyncio.run(collect()).startswith("echo: hello [")


class TestAnthropic:
    @pytest.mark.parametrize("stream", [False, True])
    def test_text_thinking_and_usage(self, claude: Any, stream: bool) -> None:
        arguments: dict[str, Any] = {"model": "echo+reasoning+cached", "max_tokens": 99, "messages": HELLO}
        if stream:
            with claude.messages.stream(**arguments) as events:
                answer = events.get_final_message()
        else:
            answer = claude.messages.create(**arguments)
            assert answer._request_id.startswith("req_")
        assert [block.type for block in answer.content] == ["thinking", "text"]
        assert answer.content[1].text == f"echo: hello [{digest_messages(HELLO)}]"
        assert answer.stop_reason == "end_turn"
        assert answer.usage.cache_read_input_tokens > 0
        assert 0 < answer.usage.output_tokens_details.thinking_tokens < answer.usage.output_tokens
        type(answer).model_validate(answer.to_dict())

    @pytest.mark.parametrize("stream", [False, True])
    def test_tool_use_and_its_result(self, claude: Any, stream: bool) -> None:
        messages: list[Any] = [{"role": "user", "content": '{"a": [1, 2]}'}]
        arguments: dict[str, Any] = {"model": "tools", "max_tokens": 99, "tools": [ANTHROPIC_TOOL]}
        if stream:
            with claude.messages.stream(messages=messages, **arguments) as events:
                answer = events.get_final_message()
        else:
            answer = claude.messages.create(messages=messages, **arguments)
        [block] = answer.content
        assert (block.input, answer.stop_reason) == ({"a": [1, 2]}, "tool_use")
        result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "three"}]}
        messages += [{"role": "assistant", "content": [block.to_dict()]}, {"role": "user", "content": [result]}]
        assert claude.messages.create(messages=messages, **arguments).content[0].text == "three"

    def test_faults(self, claude: Any) -> None:
        def create(suffix: str, **extra: object) -> Any:
            return claude.messages.create(model=f"echo{suffix}", max_tokens=9, messages=HELLO, **extra)

        with pytest.raises(anthropic.APIStatusError) as overloaded:
            create("+529")
        assert overloaded.value.status_code == 529
        assert overloaded.value.body["error"]["type"] == "overloaded_error"
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
            list(create("+error-in-stream", stream=True))
        with pytest.raises(json.JSONDecodeError):
            list(create("+malformed", stream=True))
        assert create("+nousage").usage is None
        assert [event.type for event in create("+gzip", stream=True)][-1] == "message_stop"

    def test_async_stream(self, server: ModelServer) -> None:
        async def collect() -> str:
            async with anthropic.AsyncAnthropic(base_url=server.url, api_key="x") as client:
                async with client.messages.stream(model="echo", max_tokens=9, messages=HELLO) as events:
                    return "".join([text async for text in events.text_stream])

        assert asyncio.run(collect()) == f"echo: hello [{digest_messages(HELLO)}]"


class TestGemini:
    def test_text_thoughts_and_usage(self, gemini: Any) -> None:
        answer = gemini.models.generate_content(model="echo+reasoning+cached", contents="hello")
        assert answer.text.startswith("echo: hello [")
        assert answer.candidates[0].content.parts[0].thought
        assert answer.candidates[0].finish_reason == "STOP"
        usage = answer.usage_metadata
        assert usage.thoughts_token_count > 0
        assert usage.cached_content_token_count > 0
        total = usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count
        assert usage.total_token_count == total

    @pytest.mark.parametrize("suffix", ["", "+gzip", "+chunks3"])
    def test_stream(self, gemini: Any, suffix: str) -> None:
        chunks = list(gemini.models.generate_content_stream(model=f"echo{suffix}", contents="hello"))
        assert "".join(chunk.text for chunk in chunks).startswith("echo: hello [")
        assert [bool(chunk.candidates[0].finish_reason) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

    @pytest.mark.parametrize("stream", [False, True])
    def test_function_call_and_its_response(self, gemini: Any, stream: bool) -> None:
        config = {"tools": [GEMINI_TOOL]}
        contents: list[Any] = [{"role": "user", "parts": [{"text": '{"a": 5}'}]}]
        if stream:
            [answer] = gemini.models.generate_content_stream(model="tools", contents=contents, config=config)
        else:
            answer = gemini.models.generate_content(model="tools", contents=contents, config=config)
        [call] = answer.function_calls
        assert (call.name, call.args) == ("add", {"a": 5})
        response = {"function_response": {"name": "add", "response": {"result": "five"}}}
        contents += [answer.candidates[0].content, {"role": "user", "parts": [response]}]
        assert gemini.models.generate_content(model="tools", contents=contents, config=config).text == "five"

    def test_faults(self, gemini: Any) -> None:
        with pytest.raises(genai.errors.ClientError) as limited:
            gemini.models.generate_content(model="echo+429", contents="hello")
        assert (limited.value.code, limited.value.status) == (429, "RESOURCE_EXHAUSTED")
        with pytest.raises(genai.errors.ServerError, match="UNAVAILABLE"):
            list(gemini.models.generate_content_stream(model="echo+error-in-stream", contents="hello"))

    def test_stream_without_sse_is_an_array(self, server: ModelServer) -> None:
        body = {"contents": [{"parts": [{"text": "hello"}]}]}
        chunks = json.loads(post(server, body, "/v1beta/models/echo:streamGenerateContent").body)
        text = "".join(chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks)
        assert text.startswith("echo: hello [")

    # google-genai subclasses aiohttp's session, which aiohttp warns about.
    @pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
    def test_async(self, server: ModelServer) -> None:
        async def collect() -> tuple[str, str]:
            client = genai.Client(api_key="x", http_options={"base_url": server.url})
            try:
                answer = await client.aio.models.generate_content(model="echo", contents="hello")
                stream = await client.aio.models.generate_content_stream(model="echo", contents="hello")
                return answer.text, "".join([chunk.text async for chunk in stream])
            finally:
                await client.aio.aclose()
                client.close()

        whole, streamed = asyncio.run(collect())
        assert whole == streamed


def test_the_models_are_listed_for_each_sdk(chat: Any, claude: Any, gemini: Any) -> None:
    expected = {"echo", "tools", "count"}
    assert {model.id for model in chat.models.list()} == expected
    assert {model.id for model in claude.models.list()} == expected
    assert {model.name for model in gemini.models.list()} == {f"models/{name}" for name in expected}


def test_equal_requests_get_equal_bytes_from_any_server() -> None:
    def answers() -> list[bytes]:
        with ModelServer() as one:
            requests = [ask("echo"), ask("echo+gzip"), ask("echo", stream=True), ask("echo+gzip", stream=True)]
            return [post(one, body).body for body in requests]

    assert answers() == answers()


def test_request_ids_are_unique_all_the_same(server: ModelServer) -> None:
    ids = {post(server, ask("echo")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_content_codings_are_real(server: ModelServer) -> None:
    plain = json.loads(post(server, ask("count")).body)["choices"]
    for coding, decode in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        response = post(server, ask(f"count+{coding}"))
        assert response.headers["content-encoding"] == coding
        assert json.loads(decode(response.body))["choices"] == plain


def test_big_answers_and_counted_ones(server: ModelServer) -> None:
    [choice] = json.loads(post(server, ask("echo+big")).body)["choices"]
    assert len(choice["message"]["content"]) == BIG_CHARS
    body = {"model": "count", "messages": [{"role": "user", "content": "chars=321"}]}
    answer = json.loads(post(server, body).body)
    assert len(answer["choices"][0]["message"]["content"]) == 321
    assert answer["usage"]["completion_tokens"] == 81


def test_pages_and_health() -> None:
    def get(path: str) -> str:
        with urllib.request.urlopen(f"{one.url}{path}", timeout=10) as response:
            text: str = response.read().decode()
        return text

    with ModelServer(pages={"rates": "1.08"}) as one:
        assert json.loads(get("/healthz")) == {"status": "ok"}
        assert get("/page/rates") == "1.08"
        assert get("/page/other") == "This is the page other.\n"
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            get("/page/missing")
        missing.value.close()
        post(one, ask("echo+gzip"))
        assert one.requests[-1] == ("POST", "/v1/chat/completions", "echo+gzip")
        assert len(one.requests) == 5


def test_a_script_decides_and_its_failure_is_an_answer_that_is_not_retried(capfd: pytest.CaptureFixture[str]) -> None:
    def script(request: ModelRequest) -> Reply:
        if "boom" in request.last_user_text:
            raise RuntimeError("no idea")
        return Reply(text=f"{request.system}|{request.last_user_text}", finish="length")

    with ModelServer(script) as one, openai.OpenAI(base_url=f"{one.url}/v1", api_key="x") as client:
        answer = client.chat.completions.create(model="m", messages=[{"role": "system", "content": "s"}, *HELLO])
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("s|hello", "length")
        with pytest.raises(openai.InternalServerError, match="no idea"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "boom"}])
        assert len(one.requests) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model": "echo", "messages": [3]}'])
def test_what_is_no_request_is_refused_in_the_providers_form(server: ModelServer, body: bytes) -> None:
    connection = HTTPConnection(server.host, server.port, timeout=20)
    with closing(connection):
        connection.request("POST", "/v1/messages", body)
        response = connection.getresponse()
        assert response.status == 400
        assert json.loads(response.read())["error"]["type"] == "invalid_request_error"
        connection.request("GET", "/healthz")  # the connection stays usable
        assert connection.getresponse().status == 200


def test_chunked_and_compressed_request_bodies(server: ModelServer) -> None:
    data = json.dumps(ask("echo")).encode()
    with closing(HTTPConnection(server.host, server.port, timeout=20)) as connection:
        connection.request("POST", "/v1/chat/completions", iter([data[:9], data[9:]]), encode_chunked=True)
        assert b"echo: hello" in connection.getresponse().read()
        connection.request("POST", "/v1/chat/completions", gzip.compress(data), {"content-encoding": "gzip"})
        assert b"echo: hello" in connection.getresponse().read()


def test_a_lone_surrogate_comes_back(server: ModelServer) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "a\ud800b"}]}
    [choice] = json.loads(post(server, body).body)["choices"]
    assert "a\ud800b" in choice["message"]["content"]


def test_a_client_of_http_1_0_gets_its_stream_unchunked(server: ModelServer) -> None:
    data = json.dumps(ask("echo", stream=True)).encode()
    with socket.create_connection((server.host, server.port), timeout=10) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
        received = b"".join(iter(lambda: client.recv(65536), b""))
    body = received.partition(b"\r\n\r\n")[2]
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_cut_answer_ends_early(server: ModelServer) -> None:
    with pytest.raises(IncompleteRead):
        post(server, ask("echo+cut"))
    with pytest.raises(IncompleteRead):
        post(server, ask("echo+cut", stream=True))


def hang_up_in_the_head(client: socket.socket) -> None:
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-")


def hang_up_in_the_body(client: socket.socket) -> None:
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 9000\r\n\r\n{")


def hang_up_in_a_chunk(client: socket.socket) -> None:
    client.sendall(b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{")


def hang_up_in_the_answer(client: socket.socket) -> None:
    data = json.dumps(ask("echo+big+chunks40+slow", stream=True)).encode()
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    client.recv(10)


def hang_up_in_the_silence(client: socket.socket) -> None:
    data = json.dumps(ask("echo+timeout")).encode()
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))


@pytest.mark.parametrize(
    "hang_up",
    [
        hang_up_in_the_head,
        hang_up_in_the_body,
        hang_up_in_a_chunk,
        hang_up_in_the_answer,
        hang_up_in_the_silence,
    ],
)
def test_a_client_that_hangs_up_is_no_news(
    hang_up: Callable[[socket.socket], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with ModelServer() as one:
        with socket.create_connection((one.host, one.port), timeout=10) as client:
            hang_up(client)
            # Closing with a zero linger sends RST, the rudest way to go.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert b"echo: hello" in post(one, ask("echo")).body
    assert capfd.readouterr() == ("", "")


def test_closing_does_not_wait_for_answers_under_way() -> None:
    errors: list[Exception] = []

    def wait_for_answer() -> None:
        try:
            post(one, ask("echo+timeout"))
        except OSError as exc:
            errors.append(exc)

    with ModelServer() as one:
        waiting = threading.Thread(target=wait_for_answer)
        waiting.start()
        while not one.requests:
            time.sleep(0.005)
        started = time.monotonic()
    assert time.monotonic() - started < 1.5
    waiting.join(5)
    assert len(errors) == 1
    one.close()  # a second time is harmless


def test_300_clients_at_once(server: ModelServer) -> None:
    together = threading.Barrier(300)

    def call(number: int) -> bool:
        together.wait(30)
        body = {"model": "echo+latency50", "messages": [{"role": "user", "content": f"client {number}"}]}
        return f"echo: client {number} ".encode() in post(server, body).body

    with ThreadPoolExecutor(300) as pool:
        assert all(pool.map(call, range(300)))


def test_serve_forever_says_where_and_ends_quietly_on_ctrl_c() -> None:
    program = (
        "from unspool.demo.server import serve_forever; serve_forever(on_ready=lambda url: print(url, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as response:
            assert json.loads(response.read()) == {"status": "ok"}
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
