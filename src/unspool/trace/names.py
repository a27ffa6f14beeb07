"""Names of spans and of their attributes: OpenTelemetry's GenAI conventions where they have one, else `unspool.`."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from unspool.events import LLMResponseData
from unspool.recording.lines import encode_json
from unspool.trace.spans import Span

__all__ = ["call_name", "count_of", "hex_digest", "model_of", "text_of", "usage_attributes", "value_digest"]

PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
MODEL: Final = "gen_ai.response.model"
TOOL_NAME: Final = "gen_ai.tool.name"
INPUT: Final = "gen_ai.usage.input_tokens"  # all input, cached or not
OUTPUT: Final = "gen_ai.usage.output_tokens"  # reasoning included
CACHED: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
ERROR_MESSAGE: Final = "error.message"

RECORD_ID: Final = "unspool.record_id"
PATH: Final = "unspool.path"
SEQ: Final = "unspool.seq_num"
CALL: Final = "unspool.call"
STEP: Final = "unspool.step"
LANE: Final = "unspool.lane"
WHERE: Final = "unspool.at"  # file:line function of the agent's code
RETRY: Final = "unspool.retry"
ORIGIN: Final = "unspool.origin"
ARGS: Final = "unspool.args_digest"  # equal for calls with equal arguments
RESULT: Final = "unspool.result_digest"
REMOTE: Final = "unspool.traceparent"  # W3C: the span elsewhere that this one belongs below


def count_of(span: Span, name: str) -> int | None:
    """A count among the attributes; None if there is none."""
    value = span.attributes.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text_of(span: Span, name: str) -> str:
    """A text among the attributes; "" if there is none."""
    value = span.attributes.get(name)
    return value if isinstance(value, str) else ""


def usage_attributes(data: LLMResponseData) -> dict[str, int]:
    """The counts of an answer that are known."""
    counts = {
        INPUT: data.request_tokens,
        OUTPUT: data.response_tokens,
        CACHED: data.cached_tokens,
        CACHE_WRITE: data.cache_write_tokens,
        REASONING: data.reasoning_tokens,
    }
    return {name: count for name, count in counts.items() if count is not None}


def model_of(span: Span) -> str:
    """The model that a model call asked for, else the one that answered; "" for other spans."""
    return (text_of(span, REQUEST_MODEL) or text_of(span, MODEL)) if span.kind == "llm" else ""


def call_name(syscall: str, path: str, args: dict[str, Any] | None = None) -> str:
    """What a person calls it: `search`, `github/create_issue`, `spawn helper`, `GET host:443`, `exec git`."""
    for prefix in ("/dev/tool/", "/dev/mcp/", "/dev/span/"):
        if path.startswith(prefix):
            return path.removeprefix(prefix) or syscall
    last = path.removeprefix("/dev/").partition("/")[2] or path
    method = (args or {}).get("method")
    word = method if syscall == "HTTP" and isinstance(method, str) else syscall.lower()
    return f"{word} {last}".strip()


def value_digest(value: Any) -> str:
    """Equal for equal values; long strings are references by their content, and so are equal too."""
    try:
        return hex_digest(encode_json(value))[:16]
    except (TypeError, ValueError, RecursionError):
        return hex_digest(repr(value).encode("utf-8", "replace"))[:16]


def hex_digest(data: bytes) -> str:
    """32 hex characters."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
