"""Spans of recordings as other tools expect them: OpenTelemetry's GenAI attributes and OpenInference's, side by side.

The GenAI names are on the spans already (`trace.names`). What a model saw and said is only added when asked for: it is
what the run was about, and may be nobody else's business.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from typing import Any, Final

from unspool import __version__
from unspool.errors import SeqNotFound
from unspool.events import Context, CtxMessage, LLMResponseData, ToolCall
from unspool.interop.ingest import read_carriers
from unspool.interop.otlp import OTLP, Carried, OtlpSpan, to_otlp
from unspool.recording.lines import to_wire
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace import names
from unspool.trace.from_recording import RecordedProcess
from unspool.trace.spans import Span

__all__ = ["contents_of", "otlp_groups", "own_carrier"]

_KINDS: Final = {"llm": "LLM", "tool": "TOOL", "agent": "AGENT", "other": "CHAIN"}
_COPIES: Final = (
    (names.INPUT, "llm.token_count.prompt"),
    (names.OUTPUT, "llm.token_count.completion"),
    (names.CACHED, "llm.token_count.prompt_details.cache_read"),
    (names.CACHE_WRITE, "llm.token_count.prompt_details.cache_write"),
    (names.REASONING, "llm.token_count.completion_details.reasoning"),
    (names.PROVIDER, "llm.provider"),
)
_TEXT_MAX: Final = 1 << 20  # of one attribute; receivers refuse messages of a few megabytes


def own_carrier(service: str = "unspool") -> Carried:
    """The resource and scope of spans that unspool recorded."""
    resource = {"service.name": service, "telemetry.sdk.name": "unspool", "telemetry.sdk.version": __version__,
                "telemetry.sdk.language": "python", "host.name": platform.node()}  # fmt: skip
    return Carried(resource=resource, scope_name="unspool", scope_version=__version__)


def otlp_groups(
    spans: Iterable[Span],
    store: Store,
    *,
    contents: dict[str, dict[str, Any]] | None = None,
    carrier: Carried | None = None,
) -> list[tuple[Carried, list[OtlpSpan]]]:
    """Spans as OTLP sends them, by what they came in with. Those that came from outside leave as they came.

    Args:
        contents: more attributes for spans of recordings, by span id; see `contents_of`.
        carrier: the resource and scope of spans of recordings.
    """
    groups: dict[tuple[str, str] | None, tuple[Carried, list[OtlpSpan]]] = {}
    known: dict[str, dict[str, Carried]] = {}
    for span in spans:
        if span.synthetic:
            continue
        one, key = to_otlp(span)
        if key is None:
            place = None
            one.attributes = _enriched(span, one.attributes, (contents or {}).get(span.span_id, {}))
            carried = carrier or own_carrier()
        else:
            if span.trace_id not in known:
                known[span.trace_id] = read_carriers(store.traces, span.trace_id)
            place = (span.trace_id, key)
            carried = known[span.trace_id].get(key, Carried())
        groups.setdefault(place, (carried, []))[1].append(one)
    return list(groups.values())


def _enriched(span: Span, attributes: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    added: dict[str, Any] = {"unspool.kind": span.kind, "openinference.span.kind": _KINDS.get(span.kind, "CHAIN")}
    if span.pid:
        added["unspool.pid"] = span.pid
    if span.kind == "llm":
        for name, copy in _COPIES:
            if name in attributes:
                added[copy] = attributes[name]
        model = names.model_of(span)
        if model:
            added["llm.model_name"] = model
        if span.tokens_used is not None and names.INPUT in attributes:
            added["llm.token_count.total"] = span.tokens_used
        if span.cost_usd is not None:
            added["llm.cost.total"] = span.cost_usd
    elif span.kind == "tool":
        added["tool.name"] = names.text_of(span, names.TOOL_NAME) or span.name
    elif span.kind == "agent":
        added["agent.name"] = names.text_of(span, "gen_ai.agent.name") or span.name
    return {**attributes, **added, **more}


# --- what was sent and said ------------------------------------------------------------------------------------------


def contents_of(processes: Sequence[RecordedProcess], spans: Iterable[Span]) -> dict[str, dict[str, Any]]:
    """Attributes with the messages, arguments and results of recorded spans, by span id."""
    by_pid = {process.agent.pid: process for process in processes}
    found: dict[str, dict[str, Any]] = {}
    for span in spans:
        process = by_pid.get(span.pid)
        seq = span.attributes.get(names.SEQ)
        if process is None or not isinstance(seq, int) or OTLP in span.attributes:
            continue
        if span.kind == "llm":
            found[span.span_id] = _call_contents(process, span)
        elif span.kind == "tool":
            found[span.span_id] = _tool_contents(process.reader, seq)
    return found


def _call_contents(process: RecordedProcess, span: Span) -> dict[str, Any]:
    reader, call = process.reader, span.attributes.get(names.CALL)
    snapshot = next((one for one in process.snapshots if call is not None and one.call == call), None)
    added: dict[str, Any] = {}
    if snapshot is not None and snapshot.context is not None:
        added |= _context_attributes(reader.context_of(snapshot.context))
    answer = _answer_of(reader, span, call)
    if answer is not None:
        message = CtxMessage("assistant", answer.text or "", tool_calls=answer.tool_calls or None)
        added["gen_ai.output.messages"] = _json([{**_genai(message), "finish_reason": answer.finish_reason or ""}])
        added |= _openinference("llm.output_messages", [message])
        added["output.value"] = _cut(answer.text or _json([_genai(message)]))
        added["output.mime_type"] = "text/plain" if answer.text else "application/json"
    return added


def _answer_of(reader: RecordReader, span: Span, call: Any) -> LLMResponseData | None:
    seq = span.attributes[names.SEQ]
    # The answer is written right behind the call; other tasks may come between.
    for number in range(seq, min(seq + 64, reader.last_seq) + 1):
        try:
            event = reader.event(number)
        except SeqNotFound:
            continue
        if event.llm is not None and (call is None or event.call == call):
            return event.llm
    return None


def _context_attributes(context: Context) -> dict[str, Any]:
    messages = list(context.messages)
    added: dict[str, Any] = {"gen_ai.input.messages": _json([_genai(message) for message in messages])}
    if context.system_prompt:
        added["gen_ai.system_instructions"] = _json([{"type": "text", "content": context.system_prompt}])
        messages.insert(0, CtxMessage("system", context.system_prompt))
    if context.tools:
        tools = [{"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.schema}
                 for tool in context.tools]  # fmt: skip
        added["gen_ai.tool.definitions"] = _json(tools)
        for index, tool in enumerate(tools):
            added[f"llm.tools.{index}.tool.json_schema"] = _json({"type": "function", "function": tool})
    if context.params:
        added["llm.invocation_parameters"] = _json(context.params)
    added |= _openinference("llm.input_messages", messages)
    last = next((message for message in reversed(messages) if message.content), None)
    if last is not None:
        added["input.value"], added["input.mime_type"] = _cut(last.content), "text/plain"
    return added


def _genai(message: CtxMessage) -> dict[str, Any]:
    """A message as the GenAI conventions' schema has it: role and parts."""
    parts: list[dict[str, Any]] = []
    if message.role == "tool":
        parts.append({"type": "tool_call_response", "id": message.tool_call_id, "response": message.content})
    elif message.content:
        parts.append({"type": "text", "content": message.content})
    for part in message.parts or ():
        if part.kind == "reasoning":
            parts.append({"type": "reasoning", "content": part.text or ""})
        else:
            parts.append({"type": part.kind, "content": part.text or ""})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": _arguments(call)}
        for call in message.tool_calls or ()
    ]
    return {"role": message.role, "parts": parts}


def _arguments(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments) if call.arguments else {}
    except ValueError:
        return call.arguments


def _openinference(prefix: str, messages: Sequence[CtxMessage]) -> dict[str, Any]:
    """Messages flattened with indexes, as OpenInference has them."""
    found: dict[str, Any] = {}
    for index, message in enumerate(messages):
        at = f"{prefix}.{index}.message"
        found[f"{at}.role"] = message.role
        if message.content:
            found[f"{at}.content"] = _cut(message.content)
        if message.tool_call_id:
            found[f"{at}.tool_call_id"] = message.tool_call_id
        if message.tool_name:
            found[f"{at}.name"] = message.tool_name
        for number, call in enumerate(message.tool_calls or ()):
            inner = f"{at}.tool_calls.{number}.tool_call"
            found[f"{inner}.function.name"] = call.name
            found[f"{inner}.function.arguments"] = call.arguments
            if call.id:
                found[f"{inner}.id"] = call.id
    return found


def _tool_contents(reader: RecordReader, seq: int) -> dict[str, Any]:
    try:
        data = reader.event(seq).syscall
    except SeqNotFound:
        return {}
    if data is None:
        return {}
    given = _json(data.args.get("input", {}))
    added: dict[str, Any] = {"gen_ai.tool.call.arguments": given, "tool.parameters": given,
                             "input.value": given, "input.mime_type": "application/json"}  # fmt: skip
    if not data.err:
        text = data.result if isinstance(data.result, str) else _json(data.result)
        added["gen_ai.tool.call.result"] = added["output.value"] = _cut(text)
    return added


def _json(value: Any) -> str:
    return _cut(json.dumps(to_wire(value), ensure_ascii=False, separators=(",", ":"), default=str))


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}… ({len(text) - _TEXT_MAX} characters more)"
