"""What of a prompt no request holds, by the evidence in the recording: what ran at the provider, what it keeps.

A provider counts all that its model read. Where it searched the web, ran code or called a server of its own while it
answered, or where the request names a file, a sealed text or a stored conversation, that is more than was sent. The
size of a count is never the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from unspool.events import CtxMessage, Part, ToolDef
from unspool.providers.wire import as_list, as_object, as_text
from unspool.text import dump_json

__all__ = ["is_provider_tool", "kept_parts", "left_by_tools", "may_run_tools", "ran_tools"]

# Kinds of an answer's items and blocks that say so. In a text their quotes are escaped, so these are the wire's own.
_RAN: Final = re.compile(
    rb'"type"\s*:\s*"(?P<kind>web_search_call|file_search_call|code_interpreter_call|image_generation_call|mcp_call'
    rb'|mcp_list_tools|server_tool_use|mcp_tool_use)"'
    rb'|"type"\s*:\s*"url_(?P<cited>citation)"'
    rb'|"execution"\s*:\s*"(?P<searched>server)"'
    rb'|"tool_?[uU]se_?[pP]rompt_?[tT]oken_?[cC]ount"\s*:\s*(?P<read>[1-9]\d*)'
    rb'|"(?P<grounded>groundingMetadata|grounding_metadata|urlContextMetadata)"'
)
_NAME: Final = re.compile(rb'"name"\s*:\s*"([\w.-]{1,80})"')
_NAME_NEAR: Final = 400  # bytes after the kind of a block in which its name stands
_GEMINI_TOOLS: Final = frozenset(
    {"googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval", "urlContext", "url_context"}
    | {
        "codeExecution",
        "code_execution",
        "fileSearch",
        "file_search",
        "googleMaps",
        "google_maps",
        "enterpriseWebSearch",
    }
)
# Of what a tool definition may say of itself, the kinds whose definition stands in the request.
_DEFINED: Final = frozenset({"object", "text", "grammar", "function", "custom"})
# Items of an answer that are runs of the provider's tools, and those that hold what came of one.
_RUNS: Final = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "mcp_call", "server_tool_use", "mcp_tool_use"}
)
_SEARCHES: Final = frozenset({"tool_search_call"})
_OUTPUTS: Final = frozenset({"tool_search_output"})
_DEPTH: Final = 8


def may_run_tools(tools: Iterable[ToolDef], params: dict[str, Any]) -> bool:
    """Whether a request offers tools that the provider defines, or has it look things up."""
    return any(map(is_provider_tool, tools)) or not params.keys().isdisjoint(
        ("web_search_options", "plugins", "mcp_servers")
    )


def is_provider_tool(tool: ToolDef) -> bool:
    """Whether the provider defines a tool, so that its definition is not in the request."""
    if tool.name in _GEMINI_TOOLS:
        return True
    schema = tool.schema
    if not isinstance(schema, dict) or "properties" in schema or "parameters" in schema:
        return False
    kind = schema.get("type")
    return isinstance(kind, str) and kind.lower() not in _DEFINED


def ran_tools(body: bytes) -> str | None:
    """What ran at the provider while it gave the answer in this body, in words; None if nothing did."""
    names: dict[str, None] = {}
    for found in _RAN.finditer(body):
        kind = found.lastgroup
        if kind == "kind":
            name = found["kind"].decode()
            if name in ("server_tool_use", "mcp_tool_use", "mcp_call"):
                near = _NAME.search(body, found.end(), found.end() + _NAME_NEAR)
                name = near[1].decode() if near is not None else name
            names[name.removesuffix("_call")] = None
        else:
            names[{"searched": "tool_search", "read": "its tools"}.get(kind or "", "a search")] = None
    return f"{', '.join(names)} ran at the provider" if names else None


def left_by_tools(body: bytes) -> list[str]:
    """What each tool that ran at the provider left in an answer, as JSON: the model read on from there.

    The provider counts the prompt once for each reading, as recorded counts show: OpenAI's tool search, whose result
    the answer holds whole, counts what two readings would. An answer that came as a stream says nothing of it here.
    """
    try:
        document = as_object(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError):
        return []
    left: list[str] = []
    for item in map(as_object, [*as_list(document.get("output")), *as_list(document.get("content"))]):
        kind = as_text(item.get("type")) or ""
        if kind in _RUNS or (kind in _SEARCHES and item.get("execution") == "server"):
            left.append(dump_json(item))
        elif left and (kind in _OUTPUTS or kind.endswith("_tool_result")):
            left[-1] += dump_json(item)
    return left


def kept_parts(message: CtxMessage) -> str | None:
    """What a message names that the provider keeps or fetches, in words; None if all of it is there."""
    return next((reason for part in message.parts or () if (reason := _kept(part))), None)


def _kept(part: Part) -> str | None:
    data = as_object(part.data)
    kind = as_text(data.get("type")) or ""
    if kind == "compaction" and data.get("encrypted_content"):
        return "a conversation that the provider compacted"
    if kind == "item_reference":
        return "a stored item"
    if kind.endswith("_tool_result") and _has(part.data, ("encrypted_content", "file_id")):
        return f"the result of {kind.removesuffix('_tool_result')}, which ran at the provider"
    if kind.endswith("_call") and not as_list(data.get("results")) and kind in _HOSTED_CALLS:
        return f"the result of {kind.removesuffix('_call')}, which ran at the provider"
    if part.kind in ("image", "file", "audio") and _is_fetched(part.data):
        return f"{part.kind} that the provider fetches"
    return None


_HOSTED_CALLS: Final = frozenset({"web_search_call", "file_search_call", "code_interpreter_call"})


def _has(value: Any, keys: tuple[str, ...], depth: int = 0) -> bool:
    if depth > _DEPTH:
        return False
    if isinstance(value, dict):
        return any(key in value for key in keys) or any(_has(one, keys, depth + 1) for one in value.values())
    return isinstance(value, list) and any(_has(one, keys, depth + 1) for one in value)


def _is_fetched(value: Any, depth: int = 0) -> bool:
    """Whether a picture or document is named by an address or an id instead of being there."""
    if depth > _DEPTH:
        return False
    if isinstance(value, dict):
        if any(isinstance(value.get(key), str) and value[key] for key in ("file_id", "fileUri", "file_uri")):
            return True
        return any(_is_fetched(one, depth + 1) for one in value.values())
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://", "gs://"))
