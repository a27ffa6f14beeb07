"""Every recorded exchange of the shared collection, where it is at hand.

The collection is not part of the repository; `tests/data/cassettes` holds a selection of it. Counters are checked
against a second reading of the raw bodies, written here without the code under test.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unspool import providers
from unspool.events import Usage

COLLECTION = Path(__file__).parents[4] / "shared" / "data" / "http_cassettes"


class Recorded(NamedTuple):
    where: str
    method: str
    url: str
    request: bytes
    response: bytes
    content_type: str | None
    status: int


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed; it reads the shared cassettes")
    if not COLLECTION.is_dir():
        pytest.skip(f"the shared cassettes are not at {COLLECTION}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [
        exchange
        for path in sorted(COLLECTION.rglob("*.yaml.gz"))
        for exchange in exchanges(path, yaml.load(gzip.decompress(path.read_bytes()), Loader=loader))
    ]


def exchanges(path: Path, cassette: dict[str, Any]) -> Iterator[Recorded]:
    for number, interaction in enumerate(cassette.get("interactions") or []):
        request, response = interaction["request"], interaction["response"]
        headers = {str(name).lower(): value for name, value in (response.get("headers") or {}).items()}
        content_type = headers.get("content-type")
        status = response.get("status")
        yield Recorded(
            f"{path.relative_to(COLLECTION)}#{number}",
            request["method"],
            request["uri"],
            body_of(request),
            body_of(response),
            content_type[0] if isinstance(content_type, list) else content_type,
            status["code"] if isinstance(status, dict) else response.get("status_code") or 200,
        )


def body_of(message: dict[str, Any]) -> bytes:
    if "parsed_body" in message:
        return json.dumps(message["parsed_body"]).encode()
    body = message.get("body") or message.get("content") or b""
    body = body.get("string") or b"" if isinstance(body, dict) else body
    body = body.encode() if isinstance(body, str) else body
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


# --- the second reading ----------------------------------------------------------------------------------------------


def objects_in(body: bytes) -> list[dict[str, Any]]:
    """The JSON objects of a body, streamed or not, in order."""
    text = body.decode()
    if text.lstrip()[:1] in ("{", "["):
        value = json.loads(text)
        return value if isinstance(value, list) else [value]
    lines = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
    return [json.loads(line) for line in lines if line.startswith("{")]


def counters(name: str, body: bytes) -> dict[str, int | None] | None:
    """What the raw counters of a body add up to; None when it has none."""
    found: dict[str, Any] = {}
    for item in objects_in(body) if body.strip() else []:
        holders = (item, item.get("message"), item.get("response"), item.get("x_groq"))
        for holder in holders if name != "gemini" else (item,):
            if isinstance(holder, dict):
                usage = holder.get("usageMetadata" if name == "gemini" else "usage") or {}
                found.update({key: value for key, value in usage.items() if value is not None})
    if not found:
        return None
    nested = {
        key: value
        for details in (
            "prompt_tokens_details",
            "completion_tokens_details",
            "input_tokens_details",
            "output_tokens_details",
        )
        for key, value in (found.get(details) or {}).items()
    }
    if name == "gemini":
        prompt, answer, thoughts = (found.get(f"{key}TokenCount") for key in ("prompt", "candidates", "thoughts"))
        return {
            "input_tokens": None if prompt is None else prompt + found.get("toolUsePromptTokenCount", 0),
            "output_tokens": None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0),
            "cached_tokens": found.get("cachedContentTokenCount"),
            "reasoning_tokens": thoughts,
        }
    if name == "anthropic":
        parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return {
            "input_tokens": sum(found.get(part) or 0 for part in parts),
            "output_tokens": found["output_tokens"],
            "cached_tokens": found.get("cache_read_input_tokens"),
            "cache_write_tokens": found.get("cache_creation_input_tokens"),
            "reasoning_tokens": nested.get("thinking_tokens"),
        }
    return {
        "input_tokens": found.get("prompt_tokens", found.get("input_tokens")),
        "output_tokens": found.get("completion_tokens", found.get("output_tokens")),
        "cached_tokens": nested.get("cached_tokens"),
        "cache_write_tokens": nested.get("cache_write_tokens"),
        "reasoning_tokens": nested.get("reasoning_tokens"),
    }


def read_counters(usage: Usage | None, names: dict[str, int | None] | None) -> dict[str, int | None] | None:
    return None if usage is None else {name: getattr(usage, name) for name in names or {"input_tokens": None}}


# --- what must hold --------------------------------------------------------------------------------------------------


def test_every_exchange_is_read_and_counted(recorded: list[Recorded]) -> None:
    read: Counter[str] = Counter()
    for exchange in recorded:
        provider = providers.match(exchange.method, exchange.url)
        if provider is None:
            continue
        read[provider.name] += 1
        context = provider.parse_request(exchange.url, exchange.request)
        answer = provider.parse_response(exchange.url, exchange.response, exchange.content_type, exchange.status, True)
        assert "not JSON" not in (context.partial or ""), exchange.where
        assert context.messages, exchange.where
        assert context.model, exchange.where
        assert all(message.role in ("system", "developer", "user", "assistant", "tool") for message in context.messages)
        names_known = context.partial is not None or all(m.tool_name for m in context.messages if m.role == "tool")
        assert names_known, exchange.where
        expected = counters(provider.name, exchange.response)
        assert read_counters(answer.usage, expected) == expected, exchange.where
        assert (answer.error is not None) or exchange.status < 400, exchange.where
        explained = answer.text or answer.tool_calls or answer.error or answer.partial
        assert explained or answer.finish_reason in ("content_filter", "MODEL_ARMOR"), exchange.where
    assert read.total() > 600, read
    assert set(read) == set(providers.PROVIDERS)


def test_no_model_call_is_overlooked(recorded: list[Recorded]) -> None:
    """What is not matched has no answer with messages in it, or is of a format not read yet."""
    hosts = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "openrouter.ai")
    missed = [
        exchange.url
        for exchange in recorded
        if exchange.method.upper() == "POST"
        and providers.match(exchange.method, exchange.url) is None
        and any(host in exchange.url for host in hosts)
        and any(mark in exchange.response for mark in (b'"choices"', b'"candidates"', b'"stop_reason"'))
    ]
    # The legacy text completions have no messages: OpenAI's and Anthropic's.
    assert {url.partition("?")[0].rpartition("/")[2] for url in missed} <= {"completions", "complete"}
