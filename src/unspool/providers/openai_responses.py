"""OpenAI Responses, also as Azure, OpenRouter and vLLM speak it.

Source: openai.types.responses of the openai SDK 3.54. Items of a request's `input` and of an answer's `output` are the
same things, so one function reads both. What the model says in one go (reasoning, message, calls) is several items on
the wire and one message here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from unspool.events import Context, CtxMessage, LLMResponse, ToolCall, ToolDef, Usage
from unspool.providers.bodies import Answers, Assembled, read_request, read_response
from unspool.providers.provider import Provider, RequestHead
from unspool.providers.responses_stream import assemble_items
from unspool.providers.sse import Stream
from unspool.providers.turns import Turn, leading_system, name_tool_results
from unspool.providers.wire import arguments_text, as_count, as_list, as_object, as_text, compact_json, first_of

__all__ = ["PROVIDER", "parse_request", "parse_response"]

_NOT_PARAMS: Final = frozenset({"input", "instructions", "tools", "model", "stream"})
_END_EVENTS: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)
# Calls the agent's side carries out, and the key that holds what to do. Other calls run at the provider.
_CLIENT_CALLS: Final = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
    "tool_search_call": "arguments",
}
_RESULTS: Final = {name + "_output": name.removesuffix("_call") for name in _CLIENT_CALLS} | {
    "tool_search_output": "tool_search",
    "mcp_approval_response": "mcp_approval",
}


def parse_request(url: str, body: bytes) -> Context:
    """The context of a Responses request: what of it is in the request. `partial` names the state it leans on."""

    def read(document: dict[str, Any]) -> Context:
        given = document.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else as_list(given)
        messages = _messages(items)
        name_tool_results(messages)
        leading, messages = leading_system(messages)
        instructions = as_text(document.get("instructions"))
        texts = [text for text in (instructions, leading) if text is not None]
        tools = list(_tools(document.get("tools")))
        for item in items:  # tools handed in halfway through the conversation
            if as_object(item).get("type") in ("additional_tools", "tool_search_output"):
                tools.extend(_tools(item.get("tools")))
        head = read_head(url, document)
        return Context(
            messages=messages,
            system_prompt="\n".join(texts) if texts else None,
            tools=tools,
            params={name: value for name, value in document.items() if name not in _NOT_PARAMS},
            model=head.model,
            stream=head.stream,
            partial=_leans_on(document, items),
        )

    return read_request("openai_responses", body, read)


def parse_response(url: str, body: bytes, content_type: str | None, status: int, complete: bool) -> LLMResponse:
    """The answer to a Responses request. `finish_reason` is its status, or why it is incomplete."""
    return read_response(body, content_type, status, complete, _ANSWERS)


def read_head(url: str, document: dict[str, Any]) -> RequestHead:
    """Model, stream flag, and the first of the states the request leans on."""
    states = _states(document)
    return RequestHead(
        as_text(document.get("model")) or None, document.get("stream") is True, states[0][1] if states else None
    )


def _states(document: dict[str, Any]) -> list[tuple[str, str]]:
    conversation = document.get("conversation")
    named = (
        ("previous_response_id", as_text(document.get("previous_response_id"))),
        ("conversation", as_text(conversation) or as_text(as_object(conversation).get("id"))),
        ("prompt", as_text(as_object(document.get("prompt")).get("id"))),
    )
    return [(name, identity) for name, identity in named if identity]


def _leans_on(document: dict[str, Any], items: list[Any]) -> str | None:
    reasons = [f"{name} {identity}" for name, identity in _states(document)]
    references = sum(1 for item in items if _kind(as_object(item)) == "item_reference")
    if references:
        reasons.append(f"{references} stored items (item_reference)")
    return f"leans on state the provider keeps: {', '.join(reasons)}" if reasons else None


# --- items -----------------------------------------------------------------------------------------------------------


def _kind(item: dict[str, Any]) -> str:
    kind = as_text(item.get("type"))
    if kind is None:  # both may leave it out
        kind = "message" if "role" in item else "item_reference" if "id" in item else "unknown"
    return kind


def _messages(items: Iterable[Any]) -> list[CtxMessage]:
    messages: list[CtxMessage] = []
    said = Turn("assistant")  # what the model says in one go
    for value in items:
        item = as_object(value)
        kind = _kind(item)
        role = as_text(item.get("role")) or "unknown"
        if kind == "message" and role == "assistant":
            if said.text:  # a second message is a turn of its own
                messages.append(said.message())
                said = Turn("assistant")
            _read_item(said, item)
            continue
        if kind not in ("message", "item_reference", "unknown", "additional_tools") and kind not in _RESULTS:
            _read_item(said, item)
            continue
        if not said.is_empty:
            messages.append(said.message())
            said = Turn("assistant")
        messages.append(_other_message(value, item, kind, role))
    if not said.is_empty:
        messages.append(said.message())
    return messages


def _other_message(value: Any, item: dict[str, Any], kind: str, role: str) -> CtxMessage:
    """A message that is not the model's: a person's, a program's, a tool result, or something unknown."""
    if kind == "message":
        turn = Turn(role)
        _add_content(turn, item.get("content"))
    elif kind in _RESULTS:
        # A function's name is found through its call; the built-in tools go by the kind of item.
        known = None if kind in ("function_call_output", "custom_tool_call_output") else _RESULTS[kind]
        call_id = as_text(first_of(item, "call_id", "approval_request_id"))
        turn = Turn("tool", tool_call_id=call_id, tool_name=as_text(item.get("name")) or known)
        output = first_of(item, "output", "tools", "result")
        if isinstance(output, dict):
            turn.add_part("image" if "image_url" in output else "other", output)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            _add_content(turn, output)
        else:
            turn.add_text(output if isinstance(output, str) else compact_json(item if output is None else output))
    else:
        turn = Turn("developer" if kind == "additional_tools" else role)
        if item:
            turn.add_part("other", item, as_text(item.get("id")))
        else:
            turn.add_text(value if isinstance(value, str) else compact_json(value))
    return turn.message()


def _read_item(turn: Turn, item: dict[str, Any]) -> None:
    """Put one item the model produced into `turn`."""
    kind = _kind(item)
    if kind == "message":
        turn.end_block()
        _add_content(turn, item.get("content"))
    elif kind == "reasoning":
        steps = [*as_list(item.get("summary")), *as_list(item.get("content"))]
        texts = [text for step in steps if (text := as_text(as_object(step).get("text")))]
        turn.add_part("reasoning", item, "\n\n".join(texts) or None)
    elif kind in _CLIENT_CALLS and not _runs_at_provider(item, kind):
        built_in = "" if kind in ("function_call", "custom_tool_call") else kind.removesuffix("_call")
        name = as_text(item.get("name")) or built_in
        arguments = first_of(item, _CLIENT_CALLS[kind], "actions")
        turn.add_call(ToolCall(name, arguments_text(arguments), as_text(first_of(item, "call_id", "id"))))
    elif kind == "image_generation_call":
        turn.add_part("image", item)
    else:
        turn.add_part("other", item, as_text(item.get("name")) or kind)


def _runs_at_provider(item: dict[str, Any], kind: str) -> bool:
    if kind == "shell_call":
        return as_object(item.get("environment")).get("type") not in (None, "local")
    return kind == "tool_search_call" and item.get("execution") != "client"


def _add_content(turn: Turn, content: Any) -> None:
    if isinstance(content, str):
        turn.add_text(content)
    for value in as_list(content):
        part = as_object(value)
        kind = part.get("type")
        if isinstance(value, str):
            turn.add_text(value)
        elif kind in ("input_text", "output_text", "text", "refusal", "summary_text"):
            turn.add_text(as_text(first_of(part, "text", "refusal")))
        elif kind in ("input_image", "computer_screenshot"):
            turn.add_part("image", part)
        elif kind in ("input_audio", "output_audio"):
            turn.add_part("audio", part, as_text(part.get("transcript")))
        elif kind == "input_file":
            turn.add_part("file", part, as_text(part.get("filename")))
        elif kind == "reasoning_text":
            turn.add_part("reasoning", part, as_text(part.get("text")))
        else:
            turn.add_part("other", value)


def _tools(value: Any) -> Iterable[ToolDef]:
    for entry in as_list(value):
        tool = as_object(entry)
        kind = as_text(tool.get("type")) or ""
        name = as_text(tool.get("name"))
        description = as_text(first_of(tool, "description", "server_description"))
        if kind == "namespace":
            yield from _tools(tool.get("tools"))
        elif kind == "function":
            yield ToolDef(name or "", description, tool.get("parameters"), tool.get("defer_loading") is True)
        elif kind == "custom":
            yield ToolDef(name or "", description, tool.get("format"))
        else:  # run by the provider; its settings are its schema
            yield ToolDef(name or as_text(tool.get("server_label")) or kind, description, tool)


# --- answers ---------------------------------------------------------------------------------------------------------


def _read(document: dict[str, Any]) -> LLMResponse:
    turn = Turn("assistant")
    for item in as_list(document.get("output")):
        _read_item(turn, as_object(item))
    status = as_text(document.get("status"))
    why = as_text(as_object(document.get("incomplete_details")).get("reason"))
    running = status in ("queued", "in_progress")
    return LLMResponse(
        text=turn.text,
        tool_calls=turn.calls,
        reasoning=turn.reasoning(),
        model=as_text(document.get("model")) or None,
        finish_reason=why if status == "incomplete" and why else status,
        usage=_usage(document.get("usage")),
        response_id=as_text(document.get("id")) or None,
        partial=f"the answer was still {status}" if running else None,
    )


def _usage(value: Any) -> Usage | None:
    raw = as_object(value)
    if not raw:
        return None
    details = as_object(raw.get("input_tokens_details"))
    return Usage(
        input_tokens=as_count(raw.get("input_tokens")),
        output_tokens=as_count(raw.get("output_tokens")),
        cached_tokens=as_count(details.get("cached_tokens")),
        cache_write_tokens=as_count(details.get("cache_write_tokens")),
        reasoning_tokens=as_count(as_object(raw.get("output_tokens_details")).get("reasoning_tokens")),
        raw=raw,
    )


def _assemble(stream: Stream) -> Assembled:
    document: dict[str, Any] = {}
    ended = False
    for event in stream.items:
        response = as_object(event.get("response"))
        if response:
            document = {**document, **response}
        ended = ended or as_text(event.get("type")) in _END_EVENTS
    # Codex's and some proxies' final event has an empty output; the items came before.
    if not as_list(document.get("output")):
        document["output"] = assemble_items(stream.items)
    return Assembled(document, ended)


_ANSWERS: Final = Answers(_read, _assemble, end_mark="response.completed")
PROVIDER: Final = Provider(
    name="openai_responses",
    array_keys=("input", "tools"),
    system_keys=("instructions",),
    parse_request=parse_request,
    parse_response=parse_response,
    suffixes=("/responses",),
    accepts=lambda path: not path.endswith("//responses"),  # a host of that name
    read_head=read_head,
    vendor="openai",
)
