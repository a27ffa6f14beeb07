"""A trace that came in as spans as a run with messages, where its model calls carry them.

Three ways of writing messages are read: the GenAI conventions' JSON (`gen_ai.input.messages`), OpenInference's
flattened attributes (`llm.input_messages.0.message.role`), and OpenLLMetry's older ones (`gen_ai.prompt.0.role`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from unspool.events import CtxMessage, ErrorData, LLMResponse, Part, ToolCall, ToolDef, Usage
from unspool.interop.conversations import answer_of
from unspool.interop.imported import Item, ModelCall, Process, Run, Step, ToolUse
from unspool.providers.turns import leading_system, name_tool_results
from unspool.providers.wire import arguments_text, as_list, as_object, as_text, compact_json, decode_json, first_of
from unspool.trace import names
from unspool.trace.names import count_of, text_of
from unspool.trace.spans import Span, is_failing

__all__ = ["run_of_spans"]

_OPENINFERENCE: Final = re.compile(r"(?P<index>\d+)\.message\.(?P<rest>.+)", re.DOTALL)
_CALL: Final = re.compile(
    r"(?:tool_calls\.)(?P<number>\d+)\.(?:tool_call\.)?(?:function\.)?(?P<field>id|name|arguments)"
)
_CONTENT: Final = re.compile(r"contents\.\d+\.message_content\.(?P<field>text|type)")
_INDEXED: Final = re.compile(r"(?P<index>\d+)\.(?P<rest>.+)", re.DOTALL)


def run_of_spans(spans: Sequence[Span]) -> Run | None:
    """The spans of one trace as a run; None if no model call among them carries messages."""
    ordered = sorted(spans, key=lambda span: (span.start_time_ns, span.span_id))
    items = [_item(span) for span in ordered]
    calls = [item for item in items if isinstance(item, ModelCall)]
    if not any(call.messages or call.system_prompt for call in calls):
        return None
    known = {span.span_id for span in ordered}
    for item in items:
        if item.parent_span not in known:
            item.parent_span = None
    root = next((span for span in ordered if span.parent_span_id not in known), ordered[0])
    missing = []
    if not all(call.messages for call in calls):
        missing.append("messages of some calls")
    if any(call.answer.usage is None for call in calls):
        missing.append("tokens of some calls")
    if not any(call.tools for call in calls):
        missing.append("tool definitions")
    process = Process(
        key=root.trace_id,
        intent=" ".join(root.name.split())[:200] or "trace",
        items=items,
        started_ns=ordered[0].start_time_ns,
        ended_ns=max(max(span.end_time_ns, span.start_time_ns) for span in ordered),
        missing=missing,
        details={"trace": root.trace_id},
    )
    return Run([process])


def _item(span: Span) -> Item:
    item = _bare_item(span)
    item.started_ns, item.duration = span.start_time_ns, span.duration
    item.span, item.parent_span = span.span_id, span.parent_span_id or None
    return item


def _bare_item(span: Span) -> Item:
    given = span.attributes
    err = (text_of(span, names.ERROR_MESSAGE) or str(span.status)) if is_failing(span) else ""
    if span.kind == "llm":
        return _model_call(span, err)
    if span.kind == "tool":
        name = text_of(span, names.TOOL_NAME) or span.name
        asked = _parsed(first_of(given, "gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input"))
        gave = _parsed(first_of(given, "gen_ai.tool.call.result", "output.value", "traceloop.entity.output"))
        return ToolUse(name, asked, None if err else gave, err, mcp="mcp.method.name" in given)
    return Step("Span", {"path": f"/dev/span/{span.name}"}, None, err)


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "[", '"'):
        try:
            return decode_json(value)
        except ValueError:
            return value
    return value


def _model_call(span: Span, err: str) -> ModelCall:
    given = span.attributes
    asked = _messages(given, "gen_ai.input.messages", "llm.input_messages.", "gen_ai.prompt.")
    said = _messages(given, "gen_ai.output.messages", "llm.output_messages.", "gen_ai.completion.")
    system, asked = leading_system(asked)
    instructions = [
        as_object(part).get("content") for part in as_list(_parsed(given.get("gen_ai.system_instructions")))
    ]
    texts = [text for text in instructions if isinstance(text, str)]
    if system and system not in (*texts, "\n".join(texts)):
        texts.append(system)
    name_tool_results(asked)
    answer = answer_of(said[-1]) if said else LLMResponse()
    answer.model = text_of(span, names.MODEL) or None
    answer.usage = _usage(span)
    reasons = given.get("gen_ai.response.finish_reasons")
    answer.finish_reason = as_text(reasons[0]) if isinstance(reasons, list) and reasons else None
    answer.response_id = text_of(span, "gen_ai.response.id") or None
    if err:
        answer.error = ErrorData(text_of(span, "error.type") or "error", err)
    params = {
        name.removeprefix("gen_ai.request."): value
        for name, value in given.items()
        if name.startswith("gen_ai.request.") and name != names.REQUEST_MODEL
    } or as_object(_parsed(given.get("llm.invocation_parameters")))
    ttft = given.get("gen_ai.response.time_to_first_chunk")
    return ModelCall(
        messages=asked,
        answer=answer,
        system_prompt="\n".join(texts) if texts else None,
        tools=list(_tools(given)) or None,
        params=params or None,
        model=text_of(span, names.REQUEST_MODEL) or answer.model,
        vendor=text_of(span, names.PROVIDER).lower() or None,
        partial=None if asked or texts else "the messages were not sent with the span",
        ttft=round(ttft * 1e9) if isinstance(ttft, int | float) and ttft >= 0 else None,
    )


def _usage(span: Span) -> Usage | None:
    read, written = count_of(span, names.INPUT), count_of(span, names.OUTPUT)
    if read is None and written is None:
        return None
    cached, cache_write = count_of(span, names.CACHED), count_of(span, names.CACHE_WRITE)
    return Usage(read, written, cached, cache_write, count_of(span, names.REASONING))


def _tools(given: dict[str, Any]) -> Iterable[ToolDef]:
    found = as_list(_parsed(given.get("gen_ai.tool.definitions")))
    if not found:
        schemas = {name: value for name, value in given.items()
                   if name.startswith("llm.tools.") and name.endswith(".json_schema")}  # fmt: skip
        found = [_parsed(schemas[name]) for name in sorted(schemas, key=lambda name: (len(name), name))]
    for value in found:
        tool = as_object(value)
        tool = as_object(tool.get("function")) or tool
        name = as_text(tool.get("name"))
        if name:
            schema = first_of(tool, "parameters", "input_schema", "schema")
            yield ToolDef(name, as_text(tool.get("description")), schema)


# --- messages --------------------------------------------------------------------------------------------------------


def _messages(given: dict[str, Any], current: str, openinference: str, older: str) -> list[CtxMessage]:
    value = _parsed(given.get(current))
    if isinstance(value, list):
        return [message for one in value for message in _from_parts(as_object(one))]
    return _flattened(given, openinference, _OPENINFERENCE) or _flattened(given, older, _INDEXED)


def _from_parts(wire: dict[str, Any]) -> list[CtxMessage]:
    """A message of the GenAI conventions: tool results are parts there, and messages of their own here."""
    role = as_text(wire.get("role")) or "unknown"
    message = CtxMessage(role, "")
    results: list[CtxMessage] = []
    texts: list[str] = []
    for value in as_list(wire.get("parts")):
        part = as_object(value)
        kind = part.get("type")
        content = part.get("content")
        if kind == "text":
            texts.append(content if isinstance(content, str) else compact_json(content))
        elif kind == "tool_call":
            call = ToolCall(
                as_text(part.get("name")) or "", arguments_text(part.get("arguments")), as_text(part.get("id"))
            )
            message.tool_calls = [*(message.tool_calls or ()), call]
        elif kind == "tool_call_response":
            gave = first_of(part, "response", "result", "content")
            text = gave if isinstance(gave, str) else compact_json(gave)
            results.append(CtxMessage("tool", text, tool_call_id=as_text(part.get("id"))))
        else:
            kept = Part("reasoning" if kind == "reasoning" else "other", as_text(content), part)
            message.parts = [*(message.parts or ()), kept]
    if not texts and isinstance(wire.get("content"), str):
        texts.append(wire["content"])
    message.content = "\n".join(texts)
    is_empty = not (message.content or message.tool_calls or message.parts)
    return results if results and is_empty else [*results, message]


def _flattened(given: dict[str, Any], prefix: str, pattern: re.Pattern[str]) -> list[CtxMessage]:
    """Messages out of attributes with indexes in their names."""
    messages: dict[int, CtxMessage] = {}
    calls: dict[tuple[int, int], ToolCall] = {}
    for name, value in given.items():
        match = pattern.match(name, len(prefix)) if name.startswith(prefix) else None
        if match is None or len(match["index"]) > 9:
            continue
        index, rest = int(match["index"]), match["rest"]
        message = messages.setdefault(index, CtxMessage("unknown", ""))
        text = value if isinstance(value, str) else compact_json(value)
        call = _CALL.fullmatch(rest)
        if call is not None:
            one = calls.setdefault((index, int(call["number"][:9])), ToolCall(""))
            setattr(one, call["field"], text)
        elif rest == "role":
            message.role = text
        elif rest == "content":
            message.content = text
        elif rest == "tool_call_id":
            message.tool_call_id = text
        elif rest == "name":
            message.tool_name = text if message.role == "tool" else None
        elif (part := _CONTENT.fullmatch(rest)) is not None and part["field"] == "text":
            message.content = f"{message.content}\n{text}" if message.content else text
    for (index, _), one in sorted(calls.items()):
        messages[index].tool_calls = [*(messages[index].tool_calls or ()), one]
    return [messages[index] for index in sorted(messages)]
