"""Langfuse exports: a trace with its observations, a list of observations, or one of them a line.

Of its public API (`/traces/ID`, `/observations`, `/v2/observations`: camelCase) and of its exports to blob storage
(`observations/`, `observations_v2/`: snake_case, JSON inside strings, times without a zone in UTC).

One process for each trace; a generation is a model call, a tool a tool call, and every other observation a span that
they hang under. Messages are what the generation's input holds, where that is a list of messages.
"""

from __future__ import annotations

from typing import Any, Final

from unspool.events import ErrorData, LLMResponse, Usage
from unspool.interop.conversations import answer_of, as_chat
from unspool.interop.imported import Item, ModelCall, Process, Run, Step, ToolUse, epoch_ns
from unspool.interop.sources import Source
from unspool.providers.turns import leading_system, name_tool_results
from unspool.providers.wire import as_count, as_object, as_text, compact_json, decode_json, first_of
from unspool.trace.names import hex_digest

__all__ = ["is_langfuse", "read_langfuse"]

TYPES: Final = frozenset(
    ("GENERATION", "SPAN", "EVENT", "TOOL", "AGENT", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL")
)
_MODELS: Final = ("GENERATION", "EMBEDDING")
_DETAILS: Final = (
    *(("sessionId", "session_id"), ("userId", "user_id"), ("tags", "tags"), ("release", "release")),
    *(("version", "version"), ("environment", "environment")),
)


def is_langfuse(value: Any) -> bool:
    """Whether this JSON value is a trace or an observation of Langfuse."""
    item = as_object(value)
    if isinstance(item.get("observations"), list) and "id" in item:
        return True
    return item.get("type") in TYPES and ("traceId" in item or "trace_id" in item) and "id" in item


def read_langfuse(source: Source) -> list[Run]:
    """The traces of an export."""
    traces: dict[str, dict[str, Any]] = {}
    observations: dict[str, list[dict[str, Any]]] = {}
    for value in _values(source):
        one = as_object(value)
        if isinstance(one.get("observations"), list):
            key = str(one.get("id"))
            traces[key] = one
            observations.setdefault(key, []).extend(as_object(item) for item in one["observations"])
        elif is_langfuse(one):
            key = str(first_of(one, "traceId", "trace_id"))
            observations.setdefault(key, []).append(one)
        else:
            source.problems.append("an entry is neither a trace nor an observation")
    return [Run([_process(key, traces.get(key, {}), found)]) for key, found in observations.items() if found]


def _values(source: Source) -> list[Any]:
    try:
        document = decode_json(source.data)
    except ValueError:
        return [value for _, value in source.objects()]
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        return list(document["data"])  # a page of the API
    return document if isinstance(document, list) else [document]


def _process(trace_id: str, trace: dict[str, Any], found: list[dict[str, Any]]) -> Process:
    started = {id(one): epoch_ns(first_of(one, "startTime", "start_time")) for one in found}
    found.sort(key=lambda one: started[id(one)] or 0)
    spans = {str(one.get("id")): hex_digest(f"{trace_id} {one.get('id')}".encode()) for one in found}
    items = [_item(one, spans) for one in found]
    ends = [item.started_ns + (item.duration or 0) for item in items if item.started_ns is not None]
    starts = [item.started_ns for item in items if item.started_ns is not None]
    missing = ["request parameters"] if not any(isinstance(one, ModelCall) and one.params for one in items) else []
    calls = [one for one in items if isinstance(one, ModelCall)]
    if any(not call.messages for call in calls):
        missing.append("messages of some calls")
    if any(call.answer.usage is None for call in calls):
        missing.append("tokens of some calls")
    # Newer exports have no traces: each observation names its own.
    stated = [as_text(first_of(one, "traceName", "trace_name")) for one in found]
    name = as_text(trace.get("name")) or next(filter(None, stated), None) or as_text(found[0].get("name")) or "trace"
    details = {}
    for key, snake in _DETAILS:
        value = first_of(trace, key, snake) or next(
            (said for one in found if (said := first_of(one, key, snake))), None
        )
        if value:
            details[key] = value
    details |= {key: trace[key] for key in ("totalCost", "scores") if trace.get(key)}
    return Process(
        key=trace_id,
        intent=" ".join(name.split())[:200],
        items=items,
        started_ns=min(starts, default=None),
        ended_ns=max(ends, default=None),
        missing=missing,
        details={"trace": trace_id, **details},
    )


def _item(one: dict[str, Any], spans: dict[str, str]) -> Item:
    kind = str(one.get("type") or "SPAN").upper()
    name = as_text(one.get("name")) or kind.lower()
    began = epoch_ns(first_of(one, "startTime", "start_time"))
    ended = epoch_ns(first_of(one, "endTime", "end_time"))
    first = epoch_ns(first_of(one, "completionStartTime", "completion_start_time"))
    duration = max(ended - began, 0) if began is not None and ended is not None else None
    status = as_text(first_of(one, "statusMessage", "status_message")) or ""
    err = (status or "error") if one.get("level") == "ERROR" else ""
    own = spans[str(one.get("id"))]
    above = spans.get(str(first_of(one, "parentObservationId", "parent_observation_id")))
    given, gave = _parsed(one.get("input")), _parsed(one.get("output"))
    if kind in _MODELS:
        call = _model_call(one, given, gave, err)
        call.started_ns, call.duration, call.span, call.parent_span = began, duration, own, above
        waited = first_of(one, "timeToFirstToken", "time_to_first_token")  # in seconds
        if first is not None and began is not None:
            call.ttft = max(first - began, 0)
        elif isinstance(waited, int | float) and 0 < waited < 86_400:
            call.ttft = round(waited * 1e9)
        return call
    if kind == "TOOL":
        return ToolUse(name, given, None if err else gave, err, started_ns=began, duration=duration, span=own,
                       parent_span=above)  # fmt: skip
    args = {"path": f"/dev/span/{name}", "type": kind, "input": given}
    return Step("Span", {key: value for key, value in args.items() if value is not None}, gave, err,
                started_ns=began, duration=duration, span=own, parent_span=above)  # fmt: skip


def _parsed(value: Any) -> Any:
    """Exports hold JSON inside strings."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return decode_json(value)
        except ValueError:
            return value
    return value


def _model_call(one: dict[str, Any], given: Any, gave: Any, err: str) -> ModelCall:
    tools = None
    messages: list[Any] = []
    if isinstance(given, dict) and isinstance(given.get("messages"), list):
        messages, tools = given["messages"], given.get("tools")
    elif isinstance(given, list):
        messages = given
    elif given is not None:
        messages = [{"role": "user", "content": given if isinstance(given, str) else compact_json(given)}]
    context = as_chat(messages)
    name_tool_results(context)
    system, context = leading_system(context)
    answer = _answer(gave)
    answer.usage = _usage(one)
    answer.model = as_text(first_of(one, "model", "providedModelName", "provided_model_name"))
    if err:
        answer.error = ErrorData("error", err)
    params = as_object(_parsed(first_of(one, "modelParameters", "model_parameters")))
    return ModelCall(
        messages=context,
        answer=answer,
        system_prompt=system,
        tools=None if not isinstance(tools, list) else [tool for tool in tools if isinstance(tool, dict)],  # type: ignore[misc]  # made ToolDefs by the snapshot
        params=params or None,
        model=answer.model,
        partial=None if context or system else "the input is not in the file",
    )


def _answer(gave: Any) -> LLMResponse:
    if isinstance(gave, dict) and isinstance(choices := gave.get("choices"), list) and choices:
        gave = as_object(choices[0]).get("message", gave)
    if isinstance(gave, list) and gave and all(isinstance(item, dict) and "role" in item for item in gave):
        gave = gave[-1]
    if isinstance(gave, dict) and ("role" in gave or "tool_calls" in gave or set(gave) <= {"content"}):
        turn = as_chat([{"role": "assistant", **gave}])
        return answer_of(turn[0]) if turn else LLMResponse()
    return LLMResponse(text=gave if isinstance(gave, str) else "" if gave is None else compact_json(gave))


def _usage(one: dict[str, Any]) -> Usage | None:
    details = as_object(first_of(one, "usageDetails", "usage_details"))
    usage = as_object(one.get("usage"))
    if usage.get("unit") not in (None, "TOKENS"):
        usage = {}  # characters, images, seconds
    raw = {**usage, **details}
    fresh = as_count(first_of(details, "input", "prompt_tokens", "input_tokens"))
    whole = as_count(first_of(usage, "input", "promptTokens"))
    cached = as_count(first_of(details, "input_cached_tokens", "cache_read_input_tokens", "input_cache_read"))
    written = as_count(first_of(details, "cache_creation_input_tokens", "input_cache_creation"))
    # Langfuse's details are disjoint: `input` is what came neither from the cache nor went into it.
    read = whole if fresh is None else fresh + (cached or 0) + (written or 0)
    said = as_count(first_of(details, "output", "completion_tokens", "output_tokens"))
    reasoning = as_count(first_of(details, "output_reasoning_tokens", "output_reasoning"))
    wrote = as_count(first_of(usage, "output", "completionTokens")) if said is None else said + (reasoning or 0)
    known = [count for count in (read, wrote) if count is not None]
    if not known or (sum(known) == 0 and not as_count(first_of(raw, "total", "totalTokens"))):
        return None  # Langfuse writes 0 where it knows nothing
    return Usage(read, wrote, cached, written, reasoning, raw)
