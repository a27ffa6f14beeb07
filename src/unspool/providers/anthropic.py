"""Anthropic Messages.

Source: anthropic.types and anthropic.types.beta of the anthropic SDK 2.12, and the way its
`lib/streaming/_messages.py` puts a stream together.
"""

from __future__ import annotations

from typing import Any, Final

from unspool.events import Context, CtxMessage, LLMResponse, ToolCall, ToolDef, Usage
from unspool.providers.bodies import Answers, Assembled, read_request, read_response
from unspool.providers.provider import Provider, RequestHead
from unspool.providers.sse import Stream
from unspool.providers.turns import Turn, media_kind, name_tool_results
from unspool.providers.wire import arguments_text, as_count, as_list, as_object, as_text, compact_json, first_of

__all__ = ["PROVIDER", "parse_request", "parse_response"]

_NOT_PARAMS: Final = frozenset({"messages", "system", "tools", "model", "stream"})


def parse_request(url: str, body: bytes) -> Context:
    """The context of a Messages request."""

    def read(document: dict[str, Any]) -> Context:
        messages = [message for item in as_list(document.get("messages")) for message in _messages(item)]
        name_tool_results(messages)
        head = read_head(url, document)
        leans = f"leans on state the provider keeps: the thread after {head.state_ref}" if head.state_ref else None
        return Context(
            messages=messages,
            system_prompt=_system(document.get("system")),
            tools=[_tool(as_object(tool)) for tool in as_list(document.get("tools"))],
            params={name: value for name, value in document.items() if name not in _NOT_PARAMS},
            model=head.model,
            stream=head.stream,
            partial=leans,
        )

    return read_request("anthropic", body, read)


def parse_response(url: str, body: bytes, content_type: str | None, status: int, complete: bool) -> LLMResponse:
    """The answer to a Messages request."""
    return read_response(body, content_type, status, complete, _ANSWERS)


def read_head(url: str, document: dict[str, Any]) -> RequestHead:
    """Model, stream flag, and the message whose thread the request continues (beta)."""
    previous = as_text(as_object(document.get("thread")).get("previous_message_id"))
    return RequestHead(as_text(document.get("model")) or None, document.get("stream") is True, previous or None)


# --- messages --------------------------------------------------------------------------------------------------------


def _messages(value: Any) -> list[CtxMessage]:
    """The messages in one wire message: each tool result is one of its own, what stands between them another."""
    message = as_object(value)
    if not message:
        return [CtxMessage(role="unknown", content=value if isinstance(value, str) else compact_json(value))]
    role = as_text(message.get("role")) or "unknown"
    content = message.get("content")
    turn = Turn(role)
    messages: list[CtxMessage] = []
    if isinstance(content, str):
        turn.add_text(content)
    for block in [content] if isinstance(content, dict) else as_list(content):
        if as_object(block).get("type") == "tool_result":
            if not turn.is_empty:
                messages.append(turn.message())
                turn = Turn(role)
            messages.append(_tool_result(as_object(block)))
        else:
            _read_block(turn, block)
    if not (turn.is_empty and messages):
        messages.append(turn.message())
    return messages


def _tool_result(block: dict[str, Any]) -> CtxMessage:
    turn = Turn("tool", tool_call_id=as_text(block.get("tool_use_id")))
    content = block.get("content")
    if isinstance(content, str):
        turn.add_text(content)
    for inner in as_list(content):
        _read_block(turn, inner)
    if block.get("is_error") is True:
        turn.add_part("other", {"is_error": True}, "is_error")
    return turn.message()


def _read_block(turn: Turn, value: Any) -> None:
    """Put one content block, sent or answered, into `turn`."""
    block = as_object(value)
    kind = block.get("type")
    source = as_object(block.get("source"))
    if isinstance(value, str):
        turn.add_text(value)
    elif kind == "text":
        turn.add_text(as_text(block.get("text")))
    elif kind == "tool_use":
        name = as_text(block.get("name")) or ""
        turn.add_call(ToolCall(name, arguments_text(block.get("input")), as_text(block.get("id"))))
    elif kind == "thinking":
        turn.add_part("reasoning", block, as_text(block.get("thinking")))
    elif kind == "redacted_thinking":
        turn.add_part("reasoning", block)
    elif kind == "image":
        turn.add_part("image", block)
    elif kind in ("document", "container_upload"):
        plain = as_text(source.get("data")) if source.get("type") == "text" else None
        turn.add_part(media_kind(as_text(source.get("media_type"))), block, plain or as_text(block.get("title")))
    elif kind == "search_result":
        texts = (as_text(as_object(inner).get("text")) or "" for inner in as_list(block.get("content")))
        turn.add_part("file", block, "\n".join(texts) or as_text(block.get("title")))
    elif kind == "compaction":
        turn.add_part("other", block, as_text(block.get("content")))
    else:  # calls and results of tools the provider runs, and what is newer than this
        turn.add_part("other", value, as_text(first_of(block, "name", "type")))


def _system(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    texts = [text for block in as_list(value) if (text := as_text(as_object(block).get("text"))) is not None]
    return "\n".join(texts) if texts else None


def _tool(tool: dict[str, Any]) -> ToolDef:
    name = as_text(first_of(tool, "name", "mcp_server_name", "type")) or ""
    schema = tool.get("input_schema")
    # A tool Anthropic defines has settings, not a schema.
    deferred = tool.get("defer_loading") is True
    return ToolDef(name, as_text(tool.get("description")), tool if schema is None else schema, deferred)


# --- answers ---------------------------------------------------------------------------------------------------------


def _read(document: dict[str, Any]) -> LLMResponse:
    turn = Turn("assistant")
    model = as_text(document.get("model"))
    for value in as_list(document.get("content")):
        block = as_object(value)
        if block.get("type") == "fallback":  # names the model that answered in the end
            model = as_text(as_object(block.get("to")).get("model")) or model
        _read_block(turn, value)
    return LLMResponse(
        text=turn.text,
        tool_calls=turn.calls,
        reasoning=turn.reasoning(),
        model=model or None,
        finish_reason=as_text(document.get("stop_reason")),
        usage=_usage(as_object(document.get("usage"))),
        response_id=as_text(document.get("id")) or None,
    )


def _usage(raw: dict[str, Any]) -> Usage | None:
    if not raw:
        return None
    fresh = as_count(raw.get("input_tokens"))  # what came neither from the cache nor went into it
    cached = as_count(raw.get("cache_read_input_tokens"))
    written = as_count(raw.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=None if fresh is None else fresh + (cached or 0) + (written or 0),
        output_tokens=as_count(raw.get("output_tokens")),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=as_count(as_object(raw.get("output_tokens_details")).get("thinking_tokens")),
        raw=raw,
    )


# --- streams ---------------------------------------------------------------------------------------------------------

# Delta type: the key of the delta, the key of the block it continues.
_DELTAS: Final = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "input"),
}


def _assemble(stream: Stream) -> Assembled:
    document: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    pieces: dict[tuple[int, str], list[str]] = {}
    ended = counted = False
    for event in stream.items:
        kind = event.get("type")
        index = as_count(event.get("index")) or 0
        if kind == "message_start":
            document = dict(as_object(event.get("message")))
            usage = dict(as_object(document.get("usage")))
        elif kind == "content_block_start":
            blocks[index] = dict(as_object(event.get("content_block")))
        elif kind == "content_block_delta":
            delta = as_object(event.get("delta"))
            _add_delta(blocks.setdefault(index, {}), delta, index, pieces)
        elif kind == "message_delta":
            document.update(_known(event.get("delta")))
            counts = _known(event.get("usage"))
            usage.update(counts)  # cumulative; what is left out keeps the value of message_start
            counted = counted or "output_tokens" in counts
        ended = ended or kind == "message_stop"
    for (index, key), texts in pieces.items():
        begun = blocks[index].get(key)
        blocks[index][key] = (begun if isinstance(begun, str) else "") + "".join(texts)
    if usage and not counted:
        # message_start counts the first token or so of the answer: not how long it became.
        usage.pop("output_tokens", None)
    document["usage"] = usage
    if blocks:
        document["content"] = [blocks[index] for index in sorted(blocks)]
    return Assembled(document, ended)


def _add_delta(
    block: dict[str, Any], delta: dict[str, Any], index: int, pieces: dict[tuple[int, str], list[str]]
) -> None:
    source, target = _DELTAS.get(as_text(delta.get("type")) or "", ("", ""))
    text = as_text(delta.get(source))
    if not text:
        if delta.get("type") == "compaction_delta":
            block.update(_known({name: delta.get(name) for name in ("content", "encrypted_content")}))
        return
    if "type" not in block:  # the block's start was lost
        block["type"] = "tool_use" if target == "input" else target
    pieces.setdefault((index, target), []).append(text)


def _known(value: Any) -> dict[str, Any]:
    return {name: item for name, item in as_object(value).items() if item is not None}


def _accepts(path: str) -> bool:
    """Whether a path ending in `/messages` is Anthropic's: chat services and OpenAI's threads end so, too.

    The SDK appends `/v1/messages` to whatever base URL it has.
    """
    before = path.removesuffix("/messages").rpartition("/")[2]
    return before in ("v1", "anthropic")


_ANSWERS: Final = Answers(_read, _assemble, end_mark="message_stop")
PROVIDER: Final = Provider(
    name="anthropic",
    array_keys=("messages", "tools", "system"),
    system_keys=("system",),
    parse_request=parse_request,
    parse_response=parse_response,
    suffixes=("/messages",),
    accepts=_accepts,
    read_head=read_head,
    vendor="anthropic",
)
