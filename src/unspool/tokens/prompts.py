"""How many tokens the pieces of a prompt take: messages with their frames, tool calls, other parts, tool definitions.

What a provider puts around the texts is its own rule, and documented in part: OpenAI's cookbook ("How to count tokens
with tiktoken") counts three tokens and the role for a message, three for the answer's beginning, and for a tool seven,
three for its arguments and three for each of them, twelve at the end of all; Anthropic ("Tool use", pricing) puts a
system prompt of 346 tokens in front of tools, which it shows to the model as JSON. The rest of the rules below was
read from 316 counted calls in recordings that the benchmark does not measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from unspool.events import CtxMessage, Part, ToolDef
from unspool.tokens.documents import document_tokens
from unspool.tokens.images import image_tokens
from unspool.tokens.text import Count, estimate_tokens

__all__ = [
    "MESSAGE_TOKENS",
    "Family",
    "PartKind",
    "answer_frame",
    "estimate_message",
    "estimate_parts",
    "estimate_tool",
    "family_of",
    "own_tokens",
]

PartKind: TypeAlias = Literal["text", "tool_call", "image", "reasoning", "other"]
Family: TypeAlias = Literal["openai", "anthropic", "gemini", ""]
"""Whose way to put a prompt together; "" is not known."""

MESSAGE_TOKENS: Final = 4  # role and separators
_CALL_TOKENS: Final = 8  # the frame around the name and arguments of a tool call
_SCHEMA_DEPTH: Final = 12  # what lies deeper counts nothing; no provider goes there, a hostile file may


class _Rules(NamedTuple):
    """`prompt` and `tools` once for a prompt and for a prompt with tools, the others for each.

    `answer` is around an answer that is sent again, beyond its own count; `result` around a tool's result.
    """

    message: int = MESSAGE_TOKENS
    prompt: int = 3
    tools: int = 12
    tool: int = 8
    fields: int = 3
    field: int = 6
    answer: int = 4
    result: int = 0
    is_json: bool = False


_RULES: Final[dict[Family, _Rules]] = {
    "openai": _Rules(),
    "anthropic": _Rules(tools=346, answer=0, result=16, is_json=True),
    "gemini": _Rules(message=0, prompt=1, tools=0, tool=2, fields=0, field=2, answer=0),
    "": _Rules(),
}
_OLDER_CLAUDE: Final = ("claude-2", "claude-3", "-4-0", "-4-1", "-4-5", "-4-2025", "claude-instant")
_NEWER_TOOLS: Final = 530  # Claude 4.6 and later, by three of those 316 calls
# Of the provider's JSON what the model is not shown: names of things, and text that only the provider can read.
_NOT_SHOWN: Final = frozenset(
    {"id", "type", "status", "call_id", "cache_control", "encrypted_content", "signature", "thoughtSignature"}
    | {"thought_signature", "tool_use_id", "encrypted_index", "execution", "caller"}
)
_SEALED: Final = ("encrypted_content", "signature", "thoughtSignature", "thought_signature", "data")
# A sealed text is base64 of an encrypted form with a header of its own: in 24 of OpenAI's, with the count of what is in
# them beside, so many characters, and these for each token.
_SEALED_HEADER, _SEALED_PER_TOKEN = 940, 6.2
_LOADED_TOOL: Final = 80  # a deferred tool's definition is put where it was found; it stands elsewhere in the request


def family_of(provider: str | None, model: str | None) -> Family:
    """Whose rules hold for a call: by the model, which may be reached through another's API, else by the API."""
    name = (model or "").lower()
    if "claude" in name:
        return "anthropic"
    if "gemini" in name:
        return "gemini"
    if "gpt" in name or name.rpartition("/")[2][:2] in ("o1", "o3", "o4"):
        return "openai"
    apis: dict[str | None, Family] = {"anthropic": "anthropic", "gemini": "gemini", "openai_responses": "openai"}
    return apis.get(provider, "")


def own_tokens(family: Family, model: str | None, has_tools: bool) -> int:
    """Tokens that the provider adds to a prompt whatever it holds."""
    rules = _RULES[family]
    if not has_tools:
        return rules.prompt
    if family == "anthropic" and model and not any(part in model.lower() for part in _OLDER_CLAUDE):
        return rules.prompt + _NEWER_TOOLS
    return rules.prompt + rules.tools


def answer_frame(family: Family) -> int:
    """Tokens around an answer that is sent again, beyond the provider's count of it."""
    return _RULES[family].answer


def estimate_message(message: CtxMessage) -> int:
    """Tokens of a message: its text, its tool calls, its other parts, and the frame around them."""
    return sum(tokens for _, tokens in estimate_parts(message))


def estimate_parts(
    message: CtxMessage, count: Count = estimate_tokens, family: Family = ""
) -> list[tuple[PartKind, int]]:
    """Tokens of a message by what they are, its frame with the text, which comes first."""
    rules = _RULES[family]
    frame = rules.message + (rules.result if message.role == "tool" else 0)
    found: list[tuple[PartKind, int]] = [("text", frame + count(message.content))]
    found += [
        ("tool_call", _CALL_TOKENS + count(call.name) + count(call.arguments)) for call in message.tool_calls or ()
    ]
    for part in message.parts or ():
        if part.kind == "image":
            found.append(("image", image_tokens(part, family)))
        else:
            found.append(("reasoning" if part.kind == "reasoning" else "other", _part_tokens(part, count, family)))
    return found


def _part_tokens(part: Part, count: Count, family: Family) -> int:
    if part.kind in ("file", "audio") and (tokens := document_tokens(part.data, count, family)):
        return tokens
    if isinstance(part.data, dict) and part.data.get("type") in ("tool_reference", "tool_addition"):
        return _LOADED_TOOL
    if part.kind == "reasoning":
        return count(part.text) if part.text else _sealed_tokens(part.data)
    if isinstance(part.data, dict) and part.data.get("type") == "compaction":
        return count(part.data["content"]) if isinstance(part.data.get("content"), str) else _sealed_tokens(part.data)
    if part.text is not None and not isinstance(part.data, dict | list):
        return count(part.text)
    if isinstance(part.data, str):
        return count(part.data)
    shown = _shown(part.data)
    return count(part.text or "") if shown in (None, {}, []) else count(_json_text(shown))


def _sealed_tokens(data: Any) -> int:
    """What only the provider can read: by the length of what it is sealed in."""
    if not isinstance(data, dict):
        return 0
    length = max((len(data[key]) for key in _SEALED if isinstance(data.get(key), str)), default=0)
    return round(max(length - _SEALED_HEADER, 0) / _SEALED_PER_TOKEN)


def _shown(data: Any, depth: int = 0) -> Any:
    """What the model sees of a part in the provider's JSON."""
    if depth > _SCHEMA_DEPTH:
        return None
    if isinstance(data, dict):
        return {key: _shown(value, depth + 1) for key, value in data.items() if key not in _NOT_SHOWN}
    if isinstance(data, list):
        return [_shown(value, depth + 1) for value in data]
    return data


def _json_text(data: object) -> str:
    try:
        return msgspec.json.encode(data).decode()
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
        return str(data)


# --- tool definitions ------------------------------------------------------------------------------------------------


def estimate_tool(tool: ToolDef, count: Count = estimate_tokens, family: Family = "") -> int:
    """Tokens of a tool definition: most models see a signature of it, Claude the JSON of its schema."""
    rules = _RULES[family]
    description = tool.description or ""
    if tool.deferred:
        # Claude is told nothing of it, OpenAI's models its name and description ("Tool search", both).
        return 0 if rules.is_json else rules.tool + count(tool.name) + count(description)
    if rules.is_json:
        return count(_json_text({"name": tool.name, "description": description, "parameters": tool.schema}))
    fields = _schema_tokens(tool.schema, count, rules)
    return rules.tool + count(tool.name) + count(description) + (rules.fields + fields if fields else 0)


def _schema_tokens(schema: Any, count: Count, rules: _Rules, depth: int = 0) -> int:
    """Names, types, descriptions and choices of what a schema describes."""
    if not isinstance(schema, dict) or depth > _SCHEMA_DEPTH:
        return 0
    total = 0
    for key in ("properties", "$defs"):
        fields = schema.get(key)
        for name, field in fields.items() if isinstance(fields, dict) else ():
            total += rules.field + count(str(name)) + _schema_tokens(field, count, rules, depth + 1)
    if depth and isinstance(text := schema.get("description"), str):
        total += count(text)
    total += sum(3 + count(str(choice)) for choice in _list(schema.get("enum")))
    for key in ("anyOf", "oneOf", "allOf"):
        total += sum(1 + _schema_tokens(kind, count, rules, depth + 1) for kind in _list(schema.get(key)))
    return total + _schema_tokens(schema.get("items"), count, rules, depth + 1)


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()
