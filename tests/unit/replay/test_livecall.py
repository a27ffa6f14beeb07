"""Where a recorded request may be sent, and with which key."""

from __future__ import annotations

import pytest

from unspool.errors import UsageError
from unspool.replay.livecall import LiveRequest, SendFailed, based_on, send, with_credentials

CHAT = "https://api.openai.com/v1/chat/completions"
ENV = {"OPENAI_API_KEY": "sk-open", "ANTHROPIC_API_KEY": "sk-ant", "GEMINI_API_KEY": "goog", "GROQ_API_KEY": "gsk"}


def request(url: str = CHAT, provider: str = "openai_chat", header: str = "Authorization") -> LiveRequest:
    return LiveRequest("POST", url, [(header, "REDACTED"), ("x-other", "1")], b"{}", provider)


@pytest.mark.parametrize(
    ("url", "provider", "header", "value"),
    [
        (CHAT, "openai_chat", "Authorization", "Bearer sk-open"),
        ("https://api.anthropic.com/v1/messages", "anthropic", "X-Api-Key", "sk-ant"),
        (
            "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
            "gemini",
            "x-goog-api-key",
            "goog",
        ),
        ("https://api.groq.com/openai/v1/chat/completions", "openai_chat", "authorization", "Bearer gsk"),
        ("http://127.0.0.1:8000/v1/chat/completions", "openai_chat", "Authorization", "Bearer sk-open"),
        ("http://localhost/v1/messages", "anthropic", "x-api-key", "sk-ant"),
    ],
)
def test_the_key_of_the_vendor_goes_where_the_recorded_one_was(
    url: str, provider: str, header: str, value: str
) -> None:
    sent = with_credentials(request(url, provider, header), ENV)
    assert sent.headers == [(header, value), ("x-other", "1")]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/chat/completions",
        "http://api.openai.com/v1/chat/completions",
        "https://api.openai.com.evil.example/v1/chat/completions",
        "https://127.0.0.1.evil.example/v1/chat/completions",
    ],
)
def test_a_key_goes_to_no_server_that_only_the_recording_names(url: str) -> None:
    with pytest.raises(UsageError, match="--base-url"):
        with_credentials(request(url), ENV)
    assert with_credentials(request(url), ENV, is_chosen=True).headers[0][1] == "Bearer sk-open"
    with pytest.raises(UsageError, match="--base-url"):
        with_credentials(request(url), ENV | {"OPENAI_BASE_URL": "https://other.example/v1"})
    base = url.removesuffix("/chat/completions")
    assert with_credentials(request(url), ENV | {"OPENAI_BASE_URL": base}).headers[0][1] == "Bearer sk-open"


def test_no_key_is_said_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        with_credentials(request(), {"ANTHROPIC_API_KEY": "x"})
    with pytest.raises(UsageError, match="MY_KEY"):
        with_credentials(request(), ENV, key_env="MY_KEY")
    assert with_credentials(request(), {"MY_KEY": "k"}, key_env="MY_KEY").headers[0][1] == "Bearer k"
    # A server that asked for none gets none.
    bare = LiveRequest("POST", CHAT, [("accept", "*/*")], b"{}", "openai_chat")
    assert with_credentials(bare, {}) == bare


def test_keys_in_the_url_and_names_of_organizations() -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent?key=REDACTED&alt=sse"
    bare = LiveRequest("POST", url, [], b"{}", "gemini")
    assert with_credentials(bare, {"GEMINI_API_KEY": "a/b"}).url == url.replace("REDACTED", "a%2Fb")
    asked = LiveRequest(
        "POST", CHAT, [("Authorization", "REDACTED"), ("OpenAI-Organization", "REDACTED")], b"", "openai_chat"
    )
    assert with_credentials(asked, ENV).headers == [("Authorization", "Bearer sk-open")]
    named = with_credentials(asked, ENV | {"OPENAI_ORG_ID": "org"})
    assert ("OpenAI-Organization", "org") in named.headers


@pytest.mark.parametrize(
    ("base", "provider", "url", "wanted"),
    [
        ("http://h:1/v1", "openai_chat", CHAT, "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "openai_responses", "https://x/openai/v1/responses", "http://h:1/v1/responses"),
        ("http://h:1/api/v3", "openai_chat", CHAT, "http://h:1/api/v3/chat/completions"),
        ("http://h:1", "openai_chat", "http://old/chat/completions", "http://h:1/chat/completions"),
        (
            "http://h:1",
            "anthropic",
            "https://api.anthropic.com/v1/messages?beta=true",
            "http://h:1/v1/messages?beta=true",
        ),
        ("http://h:1/v1", "anthropic", "https://api.anthropic.com/v1/messages", "http://h:1/v1/messages"),
        (
            "http://h:1",
            "gemini",
            "https://g/v1beta/models/m:generateContent",
            "http://h:1/v1beta/models/m:generateContent",
        ),
    ],
)
def test_another_server_is_named_as_the_sdks_take_it(base: str, provider: str, url: str, wanted: str) -> None:
    assert based_on(base, provider, url) == wanted


def test_a_base_that_is_no_url() -> None:
    for wrong in ("h:1", "ftp://h/v1", "http://"):
        with pytest.raises(UsageError, match="--base-url"):
            based_on(wrong, "openai_chat", CHAT)


def test_a_server_that_is_not_there() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gone = LiveRequest("POST", f"http://127.0.0.1:{port}/v1/chat/completions", [], b"{}", "openai_chat")
    with pytest.raises(SendFailed, match=f"127.0.0.1:{port}"):
        send(gone, timeout_s=5)
    odd = LiveRequest("POST", f"http://127.0.0.1:{port}/x", [("a", "b\r\nc: d")], b"", "openai_chat")
    with pytest.raises(SendFailed, match="cannot be sent"):
        send(odd, timeout_s=5)
