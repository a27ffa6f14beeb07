"""Which requests are model calls, whose they are, and what their heads say."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from unspool import providers
from unspool.providers import PROVIDERS, Provider, RequestHead, match, request_head, vendor

CALLS = [
    ("openai_chat", "openai", "https://api.openai.com/v1/chat/completions"),
    (
        "openai_chat",
        "azure",
        "https://x.openai.azure.com/openai/deployments/my-gpt/chat/completions?api-version=2024-02-01",
    ),
    ("openai_chat", "openrouter", "https://openrouter.ai/api/v1/chat/completions"),
    ("openai_chat", "ollama", "http://localhost:11434/v1/chat/completions"),
    ("openai_chat", "openai", "http://localhost:8000/v1/chat/completions"),
    ("openai_chat", "openai", "http://vllm.internal/v1/chat/completions/"),
    ("openai_chat", "mistral", "https://api.mistral.ai/v1/chat/completions#stream"),
    ("openai_chat", "groq", "https://api.groq.com/openai/v1/chat/completions"),
    ("openai_chat", "xai", "https://api.x.ai/v1/chat/completions"),
    ("openai_chat", "google", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
    ("openai_responses", "openai", "https://api.openai.com/v1/responses"),
    ("openai_responses", "azure", "https://x.cognitiveservices.azure.com/openai/responses?api-version=preview"),
    ("openai_responses", "openai", "https://chatgpt.com/backend-api/codex/responses"),
    ("anthropic", "anthropic", "https://api.anthropic.com/v1/messages"),
    ("anthropic", "anthropic", "https://api.anthropic.com/v1/messages?beta=true"),
    ("anthropic", "deepseek", "https://api.deepseek.com/anthropic/v1/messages"),
    ("gemini", "google", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent"),
    ("gemini", "google", "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent?alt=sse"),
    (
        "gemini",
        "google",
        "https://us-central1-aiplatform.googleapis.com/v1/projects/p/publishers/google/models/x:streamGenerateContent",
    ),
]
NO_CALLS = [
    "https://api.openai.com/v1/threads/thread_1/messages",
    "https://api.openai.com/v1/responses/resp_1/cancel",
    "https://api.openai.com/v1/responses/input_tokens",
    "https://api.openai.com/v1/responses/compact",
    "https://api.openai.com/v1/completions",
    "https://api.openai.com/v1/embeddings",
    "https://api.anthropic.com/v1/messages/count_tokens",
    "https://api.anthropic.com/v1/messages/batches",
    "https://discord.com/api/v10/channels/1/messages",
    "https://api.mailgun.net/v3/example.org/messages",
    "https://generativelanguage.googleapis.com/v1beta/models/g:countTokens",
    "https://generativelanguage.googleapis.com/v1beta/models/g:embedContent",
    "http://responses",
    "http://messages",
    "https://example.org/?next=/v1/chat/completions",
    "https://example.org/search#/v1/messages",
    "",
]


@pytest.mark.parametrize(("name", "who", "url"), CALLS)
def test_model_calls_are_known_by_their_path(name: str, who: str, url: str) -> None:
    provider = match("POST", url)
    assert provider is not None
    assert (provider.name, vendor(provider, url)) == (name, who)


@pytest.mark.parametrize("url", NO_CALLS)
def test_other_requests_are_none(url: str) -> None:
    assert match("POST", url) is None


def test_only_post_is_a_call() -> None:
    assert match("GET", CALLS[0][2]) is None
    assert match("post", CALLS[0][2]) is PROVIDERS["openai_chat"]


def test_broken_hosts_fall_back_to_the_wire_formats_vendor() -> None:
    for url in ("http://[::1/v1/messages", "http://h:99999999/v1/messages", "/v1/messages", "http://h:x/v1/messages"):
        assert vendor(PROVIDERS["anthropic"], url) == "anthropic"
    assert vendor(PROVIDERS["openai_chat"], "https://notopenai.com/v1/chat/completions") == "openai"
    assert vendor(PROVIDERS["openai_chat"], "https://myx.ai/v1/chat/completions") == "openai"


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_provider_says_what_the_recorder_needs(provider: Provider) -> None:
    assert PROVIDERS[provider.name] is provider
    assert provider.array_keys
    assert provider.suffixes
    assert provider.vendor
    context = provider.parse_request("https://h/v1/x", b"{}")
    assert (context.provider, context.messages) == (provider.name, [])


def test_heads_come_from_the_skeleton_or_the_url() -> None:
    def head(name: str, url: str, **skeleton: object) -> RequestHead:
        return request_head(PROVIDERS[name], url, msgspec.json.encode(skeleton))

    assert head("openai_chat", "https://h/v1/chat/completions", model="m", stream=True, messages=[]) == (
        "m",
        True,
        None,
    )
    assert head("openai_chat", "https://h/openai/deployments/my%20gpt/chat/completions") == ("my gpt", False, None)
    responses = "https://h/v1/responses"
    assert head("openai_responses", responses, model="m", previous_response_id="resp_1").state_ref == "resp_1"
    assert head("openai_responses", responses, conversation="conv_1").state_ref == "conv_1"
    assert head("openai_responses", responses, conversation={"id": "conv_2"}).state_ref == "conv_2"
    assert head("openai_responses", responses, prompt={"id": "pmpt_1"}).state_ref == "pmpt_1"
    assert head("openai_responses", responses, previous_response_id=None, model="m") == ("m", False, None)
    assert head("anthropic", "https://h/v1/messages", model="c", stream=True) == ("c", True, None)
    thread = {"type": "continue", "previous_message_id": "msg_1"}
    assert head("anthropic", "https://h/v1/messages", thread=thread).state_ref == "msg_1"
    gemini = "https://h/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
    assert head("gemini", gemini, cachedContent="cachedContents/1") == ("gemini-x", True, "cachedContents/1")
    assert head("gemini", "https://h/v1beta/models/gemini-x:generateContent") == ("gemini-x", False, None)


def test_heads_of_garbage_are_empty() -> None:
    for provider in PROVIDERS.values():
        for skeleton in (b"", b"\xff", b"[]", b'{"model": 3, "stream": "yes", "prompt": []}'):
            assert request_head(provider, "https://h/x", skeleton)[1:] == (False, None)


def test_exports_are_the_public_ones() -> None:
    assert set(providers.__all__) == {
        "PROVIDERS",
        "Provider",
        "RequestHead",
        "host_port",
        "match",
        "request_head",
        "request_id",
        "vendor",
    }
    assert all(hasattr(providers, name) for name in providers.__all__)


def test_importing_it_brings_no_client_library() -> None:
    """It runs inside the agent's process."""
    heavy = "{'openai', 'anthropic', 'google', 'httpx', 'httpx2', 'pydantic', 'click', 'rich'}"
    code = f"import sys, unspool.providers; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_request_id_is_found_whatever_the_provider_calls_it() -> None:
    assert providers.request_id([("Date", "x"), ("X-Request-Id", "req_1")]) == "req_1"
    assert providers.request_id([("request-id", "req_2")]) == "req_2"
    assert providers.request_id([("date", "x")]) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.example/v1?q=1", "api.example:443"),
        ("http://127.0.0.1:8080/x", "127.0.0.1:8080"),
        ("http://[::1]/", "::1:80"),
        ("http://h:none/", "?"),
        ("", "?:80"),
    ],
)
def test_the_device_path_of_a_request_names_host_and_port(url: str, shown: str) -> None:
    assert providers.host_port(url) == shown
