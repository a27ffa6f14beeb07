"""A list of chat messages as the model calls and tool runs that must have made it: one call for each assistant turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from unspool.events import CtxMessage, LLMResponse, ToolCall, ToolDef
from unspool.interop.imported import Item, ModelCall, ToolUse
from unspool.providers import openai_chat
from unspool.providers.turns import leading_system, name_tool_results
from unspool.providers.wire import as_text, compact_json, decode_json

__all__ = ["answer_of", "as_chat", "conversation_items", "parsed_arguments"]


def as_chat(messages: Sequence[Any]) -> list[CtxMessage]:
    """Messages in OpenAI's chat form, or in anything near it, in unspool's: one for each, system prompts too.

    Content that is neither text nor a list of parts is kept as its JSON.
    """
    # The first one keeps a system prompt from being the leading message, which is taken out.
    kept = [{"role": "user", "content": ""}, *(_with_text(message) for message in messages)]
    context = openai_chat.parse_request("", json.dumps({"messages": kept}).encode())
    return context.messages[1:]


def _with_text(message: Any) -> Any:
    if isinstance(message, dict) and not isinstance(message.get("content"), str | list | None):
        return {**message, "content": compact_json(message["content"])}
    return message


def answer_of(message: CtxMessage, **known: Any) -> LLMResponse:
    """An assistant's message as what the model answered.

    Args:
        known: other fields of `LLMResponse`.
    """
    reasoning = "\n".join(part.text for part in message.parts or () if part.kind == "reasoning" and part.text)
    return LLMResponse(
        text=message.content, tool_calls=list(message.tool_calls or ()), reasoning=reasoning or None, **known
    )


def parsed_arguments(call: ToolCall) -> Any:
    """The arguments of a tool call: an object where they are one, else their text."""
    try:
        return decode_json(call.arguments) if call.arguments else {}
    except ValueError:
        return call.arguments


def conversation_items(
    messages: Sequence[CtxMessage],
    *,
    model: str | None = None,
    provider: str | None = None,
    vendor: str | None = None,
    tools: list[ToolDef] | None = None,
) -> list[Item]:
    """The calls behind a conversation whose messages only ever grow.

    A result belongs to the call whose id it names; one that names none to the first of its turn without a result.
    """
    system, messages = leading_system(list(messages))
    name_tool_results(messages)
    items: list[Item] = []
    waiting: list[ToolCall] = []
    for index, message in enumerate(messages):
        if message.role == "assistant":
            waiting = list(message.tool_calls or ())
            items.append(
                ModelCall(
                    messages=list(messages[:index]),
                    answer=answer_of(message, model=model),
                    system_prompt=system,
                    model=model,
                    provider=provider,
                    vendor=vendor,
                    tools=tools,
                )
            )
        elif message.role == "tool":
            call = next((one for one in waiting if one.id == message.tool_call_id), waiting[0] if waiting else None)
            if call is not None:
                waiting.remove(call)
            name = (call.name if call is not None else None) or message.tool_name or "unknown"
            items.append(
                ToolUse(
                    name=name,
                    input=parsed_arguments(call) if call is not None else None,
                    result=message.content,
                    key=as_text(message.tool_call_id),
                )
            )
    return items
