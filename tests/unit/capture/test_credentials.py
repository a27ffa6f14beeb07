"""What counts as a credential, and what is left of the text around it."""

from __future__ import annotations

import pytest

from unspool.capture.credentials import (
    REDACTED,
    clean_argv,
    clean_environment,
    clean_error,
    clean_headers,
    clean_text,
    clean_url,
    is_credential_name,
)
from unspool.events import ErrorData


@pytest.mark.parametrize(
    "name",
    ["Authorization", "proxy-authorization", "Cookie", "Set-Cookie", "x-api-key", "API-KEY", "X-Goog-Api-Key",
     "X-Auth-Token", "X-Amz-Security-Token", "Ocp-Apim-Subscription-Key", "X-Access-Key", "x-csrf-token", "X-Auth",
     "openai-organization", "X-Client-Secret"],
)  # fmt: skip
def test_names_of_credentials(name: str) -> None:
    assert is_credential_name(name)


@pytest.mark.parametrize(
    "name",
    ["content-type", "x-request-id", "x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-reset", "date",
     "idempotency-key", "x-stainless-retry-count", "keep-alive", "author", "monkey"],
)  # fmt: skip
def test_names_of_facts(name: str) -> None:
    assert not is_credential_name(name)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("http://h/p", "http://h/p"),
        ("http://u:p@h:8/p?q=1", f"http://{REDACTED}@h:8/p?q=1"),
        ("http://h/p?key=a&q=1&access_token=b", f"http://h/p?key={REDACTED}&q=1&access_token={REDACTED}"),
        ("http://h/p?max_tokens=5&keyword=x&code=1", f"http://h/p?max_tokens=5&keyword=x&code={REDACTED}"),
        ("http://h/p?api%5Fkey=a", f"http://h/p?api%5Fkey={REDACTED}"),
        ("http://[broken?key=a", "http://[broken"),
    ],
)
def test_urls(url: str, clean: str) -> None:
    assert clean_url(url) == clean


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "value-of-the-token")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent.socket")
    monkeypatch.setenv("AUTH_URL", "https://auth.example.com")
    return "value-of-the-token"


def test_values_of_the_environment_are_found_anywhere(secret: str) -> None:
    assert clean_url(f"http://h/bot{secret}/send") == f"http://h/bot{REDACTED}/send"
    assert clean_headers([("x-custom", f"a {secret}")]) == [("x-custom", f"a {REDACTED}")]
    assert clean_text(f"no {secret} here") == f"no {REDACTED} here"
    # Names alone do not make a path or an address a secret.
    assert clean_text("/tmp/agent.socket https://auth.example.com/") == "/tmp/agent.socket https://auth.example.com/"


def test_an_environment_that_changes_is_looked_at_again(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_text(secret) == REDACTED
    monkeypatch.setenv("LATER_API_KEY", "loaded-from-a-file")
    assert clean_text("loaded-from-a-file") == REDACTED
    monkeypatch.delenv("LATER_API_KEY")
    monkeypatch.delenv("MY_SERVICE_TOKEN")
    assert clean_text(f"loaded-from-a-file {secret}") == f"loaded-from-a-file {secret}"


def test_command_lines() -> None:
    environ = {"API_KEY": "from-the-environment"}
    words = ["tool", "--api-key", "abc", "--token=def", "--name", "kept", "from-the-environment", "--secret", "--flag"]
    assert clean_argv(words, environ) == [
        "tool", "--api-key", REDACTED, f"--token={REDACTED}", "--name", "kept", "${API_KEY}", "--secret", "--flag",
    ]  # fmt: skip
    shell = clean_argv(["sh", "-c", "curl -H 'Authorization: Bearer abc' --password x http://u:p@h/"], {})[2]
    assert shell == f"curl -H 'Authorization: {REDACTED}' --password {REDACTED} http://{REDACTED}@h/"


def test_errors_are_clean_to_the_last_argument() -> None:
    error = ErrorData(type="E", message="at http://h/?key=a", args=["/p?token=b x", {"$repr": "E('?key=c')"}, 3])
    assert clean_error(error) == ErrorData(
        type="E",
        message=f"at http://h/?key={REDACTED}",
        args=[f"/p?token={REDACTED} x", {"$repr": f"E('?key={REDACTED}')"}, 3],
    )


def test_only_listed_values_of_the_environment_are_kept() -> None:
    kept, names = clean_environment({"PATH": "/bin", "HOME": "/root", "OPENAI_BASE_URL": "http://u:p@h/"})
    assert kept == {"PATH": "/bin", "OPENAI_BASE_URL": f"http://{REDACTED}@h/"}
    assert names == ["HOME", "OPENAI_BASE_URL", "PATH"]


def test_subclasses_of_str_become_str() -> None:
    class Name(str):
        __slots__ = ()

    [(name, value)] = clean_headers([(Name("a"), Name("b"))])
    assert (type(name), type(value)) == (str, str)
