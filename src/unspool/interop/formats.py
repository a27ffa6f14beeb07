"""Which format a file is in, by its content."""

from __future__ import annotations

import re
from typing import Any, Final

from unspool.interop.langfuse import is_langfuse
from unspool.interop.sources import ImportFault, Source
from unspool.interop.vcr import looks_like_cassette
from unspool.providers.wire import as_list, as_object, decode_json
from unspool.trace.quiet import gc_paused

__all__ = ["FORMATS", "format_of"]

# What --format takes, and what it is.
FORMATS: Final = {
    "otlp": "OpenTelemetry traces in protobuf or JSON, also one message a line (GenAI, OpenInference, OpenLLMetry)",
    "claude-code": "session files of Claude Code, with those of their sub-agents",
    "codex": "session files of Codex CLI (rollout-*.jsonl)",
    "vcr": "cassettes of vcrpy, in YAML or JSON",
    "langfuse": "exports of Langfuse: traces with observations, or observations",
    "recording": "folders of recordings, unspool's or the reference's",
    "tau-bench": "results of tau-bench",
    "tau2-voice": "voice simulations of tau2-bench",
    "swe-agent": "trajectories of SWE-agent (.traj)",
    "mini-swe-agent": "trajectories of mini-swe-agent",
    "who-and-when": "logs of the Who&When data set",
}
_CLAUDE_TYPES: Final = frozenset(
    (
        *("user", "assistant", "system", "summary", "file-history-snapshot", "queue-operation", "progress"),
        *("attachment", "permission-mode", "last-prompt", "custom-title", "agent-name", "pr-link"),
    )
)
_CODEX_TYPES: Final = frozenset(("session_meta", "response_item", "turn_context", "event_msg", "compacted"))
_LINES_LOOKED_AT: Final = 20


def format_of(source: Source) -> str:
    """The format of a file.

    Raises:
        ImportFault: none that is known; lists those that are.
    """
    if not source.data.strip():
        why = f"nothing in it can be read: {source.problems[0]}" if source.problems else "the file is empty"
        raise ImportFault(f"{source.path}: {why}")
    with gc_paused():
        found = _text_format(source.data) if _is_text(source.data) else _binary_format(source.data)
    if found is None:
        known = "".join(f"\n  {name:<15} {what}" for name, what in FORMATS.items())
        raise ImportFault(
            f"{source.path}: the format is not known. Known are:{known}\nSay which with --format if it is one of them."
        )
    return found


def _is_text(data: bytes) -> bool:
    head = data[:4096]
    return b"\0" not in head and not (head[:1] == b"\n" and head[1:2] != b"\n" and _has_controls(head))


def _has_controls(head: bytes) -> bool:
    return any(byte < 9 or 13 < byte < 32 for byte in head)


def _binary_format(data: bytes) -> str | None:
    # ExportTraceServiceRequest and TracesData begin with field 1, length-delimited.
    return "otlp" if data[:1] == b"\n" else None


def _text_format(data: bytes) -> str | None:
    # Files of spans are the large ones: what they begin with is enough.
    if re.match(rb'\s*\{\s*"resourceSpans"\s*:', data):
        return "otlp"
    try:
        document = decode_json(data)
    except ValueError:
        return _lines_format(data) or ("vcr" if looks_like_cassette(data) else None)
    if isinstance(document, dict) and data.count(b"\n", 0, len(data.rstrip())) == 0:
        # One line may be a whole file of lines.
        return _document_format(document) or _line_format(document)
    return _document_format(document)


def _document_format(document: Any) -> str | None:
    if isinstance(document, list):
        first = next((item for item in document if isinstance(item, dict)), None)
        if first is None:
            return None
        if "traj" in first:
            return "tau-bench"
        if is_langfuse(first):
            return "langfuse"
        return "mini-swe-agent" if "role" in first and "content" in first else None
    top = as_object(document)
    if "resourceSpans" in top:
        return "otlp"
    if isinstance(top.get("interactions"), list):
        return "vcr"
    if isinstance(top.get("trajectory"), list) and "history" in top:
        return "swe-agent"
    if isinstance(top.get("history"), list) and "mistake_step" in top:
        return "who-and-when"
    if isinstance(top.get("ticks"), list):
        return "tau2-voice"
    if is_langfuse(top) or any(map(is_langfuse, as_list(top.get("data"))[:1])):
        return "langfuse"
    if isinstance(top.get("messages"), list) and ("info" in top or "trajectory_format" in top):
        return "mini-swe-agent"
    return None


def _lines_format(data: bytes) -> str | None:
    """Of the first lines that can be read, the first that says what they are."""
    for line in data.split(b"\n", _LINES_LOOKED_AT)[:_LINES_LOOKED_AT]:
        try:
            value = decode_json(line)
        except ValueError:
            continue
        found = _line_format(value)
        if found is not None:
            return found
    return None


def _line_format(value: Any) -> str | None:
    line = as_object(value)
    kind = line.get("type")
    if "resourceSpans" in line:
        return "otlp"
    if kind in _CODEX_TYPES and isinstance(line.get("payload"), dict):
        return "codex"
    if is_langfuse(line):
        return "langfuse"
    if kind in _CLAUDE_TYPES and ("sessionId" in line or "leafUuid" in line or "messageId" in line):
        return "claude-code"
    if "instructions" in line and "id" in line and "timestamp" in line:
        return "codex"  # the first line of older session files
    return None
