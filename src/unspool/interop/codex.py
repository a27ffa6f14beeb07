"""Session files of Codex CLI: `rollout-<time>-<id>.jsonl`, one `{timestamp, type, payload}` a line.

`response_item` lines are items of OpenAI's Responses API in the order in which they joined the conversation; a
`token_count` event after them says what the last call used. Older versions wrote the items bare. What belongs to one
model call is a run of items that the model made, up to the next item it did not make or the next token count.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from msgspec import Struct

from unspool.events import LLMResponse, ToolCall, Usage
from unspool.interop.imported import Item, ModelCall, Process, Run, ToolUse, epoch_ns
from unspool.interop.sources import Source
from unspool.providers import openai_responses
from unspool.providers.wire import as_count, as_list, as_object, as_text, decode_json

__all__ = ["read_codex"]

_LINE_TYPES: Final = ("session_meta", "response_item", "turn_context", "event_msg", "compacted")
_MISSING: Final = ("tool definitions", "times of requests")
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_search_output")
_CALLS: Final = ("function_call", "custom_tool_call", "local_shell_call", "tool_search_call")
# In the conversation, and neither said by the model nor given by a tool.
_OTHERS: Final = ("additional_tools", "agent_message", "compaction", "compaction_summary", "context_compaction")
# How commands report themselves, above their output, since outputs are plain text: `Exit code: 1` of `shell`,
# `Process exited with code 1` of `exec_command`.
_EXIT_CODE: Final = re.compile(r"^(?:Exit code: |Process exited with code )(-?\d+)$", re.MULTILINE)
_OUTPUT_BEGINS: Final = re.compile(r"^(?:Output:|Final output:)$", re.MULTILINE)


class _Call(Struct):
    """A model call while its items come in."""

    context: list[dict[str, Any]]
    items: list[dict[str, Any]]
    model: str | None
    params: dict[str, Any]
    started_ns: int | None
    ended_ns: int | None = None
    usage: Usage | None = None


class _Outcome(Struct):
    """What an event says of how a tool ended, before its output joins the conversation."""

    err: str = ""
    duration: int | None = None


class _Reading:
    """The state of the conversation while the lines go by."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.calls: list[_Call] = []
        self.timeline: list[_Call | ToolUse] = []
        self.asked: dict[str, tuple[dict[str, Any], int | None]] = {}
        self.ended: dict[str, _Outcome] = {}
        self.unknown: set[str] = set()
        self.open: _Call | None = None
        self.settings: dict[str, Any] = {}
        self.meta: dict[str, Any] = {}
        self.times: list[int] = []
        self.last_ns: int | None = None  # of the last item that joined the conversation
        self.total: Any = None
        self.failure = ""


def read_codex(source: Source) -> list[Run]:
    """The session of a rollout file."""
    state = _Reading()
    for _, line in source.objects():
        kind, payload = as_text(line.get("type")), line.get("payload")
        at = epoch_ns(line.get("timestamp"))
        if kind is not None and kind not in _LINE_TYPES and isinstance(payload, dict):
            state.unknown.add(kind)  # of a later version
            continue
        if kind not in _LINE_TYPES or not isinstance(payload, dict):
            # Older: the first line is the session, the others are items.
            if "id" in line and "timestamp" in line and not state.meta and kind is None:
                state.meta = line
            elif kind is not None or "role" in line:
                _item(state, line, at)
            continue
        if at is not None:
            state.times.append(at)
        if kind == "session_meta":
            state.meta = state.meta or payload
        elif kind == "turn_context":
            state.settings = payload
        elif kind == "compacted":
            _compacted(state, payload)
        elif kind == "response_item":
            _item(state, payload, at)
        else:
            _event(state, payload, at)
    return [Run([_process(state, source)])]


def _item(state: _Reading, item: dict[str, Any], at: int | None) -> None:
    kind = as_text(item.get("type")) or "message"
    by_model = kind not in _OUTPUTS + _OTHERS and (kind != "message" or item.get("role") == "assistant")
    if kind in ("ghost_snapshot", "compaction_trigger"):
        return  # Codex's own book-keeping
    if by_model:
        if state.open is None:
            settings = state.settings
            params = {name: settings[name] for name in ("effort", "summary") if settings.get(name) is not None}
            model = as_text(settings.get("model"))
            state.open = _Call(list(state.items), [], model, params, state.last_ns if state.items else at)
            state.calls.append(state.open)
            state.timeline.append(state.open)
        state.open.items.append(item)
        state.open.ended_ns = at
        if kind in _CALLS and isinstance(call_id := item.get("call_id"), str):
            state.asked[call_id] = (item, at)
    else:
        state.open = None
        if kind in _OUTPUTS:
            _ran(state, item, at)
    state.items.append(item)
    state.last_ns = at


def _ran(state: _Reading, item: dict[str, Any], at: int | None) -> None:
    asked, began = state.asked.pop(as_text(item.get("call_id")) or "", ({}, None))
    call = _tool_call(asked)
    result, err = _outcome(item.get("output", item.get("tools")))
    known = state.ended.pop(call.id or "", _Outcome())
    taken = max(at - began, 0) if at is not None and began is not None else None
    try:
        given = decode_json(call.arguments) if call.arguments else {}
    except ValueError:
        given = {"input": call.arguments}
    state.timeline.append(
        ToolUse(
            name=call.name or "unknown",
            input=given,
            result=None if err or known.err else result,
            err=err or known.err,
            key=call.id,
            started_ns=began,
            duration=taken if known.duration is None else known.duration,
        )
    )


def _outcome(output: Any) -> tuple[Any, str]:
    """What a tool gave, and how it failed: commands say their exit code above their output, older versions in JSON."""
    if isinstance(output, list):
        texts = [as_text(as_object(item).get("text")) for item in output]
        if not texts or not all(texts):
            return output, ""  # with images
        output = "\n".join(text for text in texts if text)
    if isinstance(output, dict):
        text = output.get("content", output)
        return text, "" if output.get("success") is not False else str(text)
    if isinstance(output, str) and output.startswith("{"):
        try:
            inner = as_object(decode_json(output))
        except ValueError:
            return output, ""
        code = as_object(inner.get("metadata")).get("exit_code")
        if isinstance(code, int) and isinstance(text := inner.get("output"), str):
            return text, f"exit code {code}\n{text}".rstrip() if code else ""
    if isinstance(output, str) and (begins := _OUTPUT_BEGINS.search(output)):
        said = _EXIT_CODE.search(output, 0, begins.start())
        if said and int(said[1]):
            return output, f"exit code {said[1]}\n{output[begins.end() :].strip()}".rstrip()
    return output, ""


def _tool_ended(state: _Reading, kind: str, payload: dict[str, Any]) -> None:
    """An event that says how a tool went; which of them are kept differs between versions."""
    took, outcome = as_object(payload.get("duration")), _Outcome()
    if isinstance(seconds := took.get("secs"), int) and isinstance(rest := took.get("nanos"), int):
        outcome.duration = max(seconds * 1_000_000_000 + rest, 0)
    if kind == "mcp_tool_call_end":
        result = as_object(payload.get("result"))  # a Rust `Result`
        gave = as_object(result.get("Ok"))
        if "Err" in result:
            outcome.err = as_text(result["Err"]) or "error"
        elif gave.get("isError", gave.get("is_error")) is True:
            parts = (as_text(as_object(part).get("text")) for part in as_list(gave.get("content")))
            outcome.err = "\n".join(part for part in parts if part) or "error"
    elif kind == "exec_command_end" and isinstance(code := payload.get("exit_code"), int) and code:
        text = as_text(payload.get("aggregated_output")) or as_text(payload.get("stderr")) or ""
        outcome.err = f"exit code {code}\n{text}".rstrip()
    elif kind == "patch_apply_end" and payload.get("success") is False:
        outcome.err = as_text(payload.get("stderr")) or "the patch was not applied"
    if isinstance(call_id := payload.get("call_id"), str):
        state.ended[call_id] = outcome


def _rolled_back(state: _Reading, turns: int) -> None:
    """The user took back the last turns: what was said in them is in no later prompt."""
    state.open = None
    places = [at for at, item in enumerate(state.items) if _is_prompt(item)]
    if turns and places:
        del state.items[places[-min(turns, len(places))] :]


def _is_prompt(item: dict[str, Any]) -> bool:
    """Whether a person said it. Codex puts what it says itself on the user's behalf in tags."""
    if item.get("role") != "user":
        return False
    texts = [as_text(as_object(part).get("text")) or "" for part in as_list(item.get("content"))]
    return any(text.strip() and not text.lstrip().startswith("<") for text in texts)


def _tool_call(item: dict[str, Any]) -> ToolCall:
    if item.get("type") == "local_shell_call":
        return ToolCall("local_shell", json.dumps(item.get("action")), as_text(item.get("call_id")))
    if item.get("type") == "tool_search_call":
        return ToolCall("tool_search", json.dumps(item.get("arguments")), as_text(item.get("call_id")))
    arguments = item.get("arguments", item.get("input"))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments is not None else ""
    return ToolCall(as_text(item.get("name")) or "", text, as_text(item.get("call_id")))


def _event(state: _Reading, payload: dict[str, Any], at: int | None) -> None:
    kind = payload.get("type")
    if kind == "token_count":
        info = as_object(payload.get("info"))
        last, total = as_object(info.get("last_token_usage")), info.get("total_token_usage")
        if not last or total == state.total:
            return  # the limits were refreshed; nothing was called
        state.total = total
        # The items of a call are written when they arrive, and its count when it has ended.
        call = next((one for one in reversed(state.calls) if one.usage is None), None)
        if call is not None:
            call.usage = Usage(
                input_tokens=as_count(last.get("input_tokens")),
                output_tokens=as_count(last.get("output_tokens")),
                cached_tokens=as_count(last.get("cached_input_tokens")),
                cache_write_tokens=as_count(last.get("cache_write_input_tokens")),
                reasoning_tokens=as_count(last.get("reasoning_output_tokens")),
                raw=last,
            )
            if call is state.open:
                state.open = None
    elif kind in ("exec_command_end", "mcp_tool_call_end", "patch_apply_end"):
        _tool_ended(state, kind, payload)
    elif kind == "thread_rolled_back":
        _rolled_back(state, as_count(payload.get("num_turns")) or 0)
    elif kind in ("error", "stream_error"):
        state.failure = as_text(payload.get("message")) or str(kind)
    elif kind == "turn_aborted":
        state.failure = f"turn aborted: {as_text(payload.get('reason')) or 'unknown reason'}"
    elif kind in ("user_message", "task_started", "turn_started"):
        state.failure = ""


def _compacted(state: _Reading, payload: dict[str, Any]) -> None:
    """The conversation was replaced by a shorter one."""
    state.open = None
    history = payload.get("replacement_history")
    if isinstance(history, list):
        state.items = [as_object(item) for item in history]
    else:
        text = as_text(payload.get("message")) or ""
        state.items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]


def _process(state: _Reading, source: Source) -> Process:
    meta = state.meta
    instructions = meta.get("base_instructions", meta.get("instructions"))
    system = as_text(as_object(instructions).get("text")) if isinstance(instructions, dict) else as_text(instructions)
    items: list[Item] = [_model_call(entry, system) if isinstance(entry, _Call) else entry for entry in state.timeline]
    items.sort(key=lambda item: item.started_ns or 0)
    missing = list(_MISSING)
    if system is None:
        missing.append("system prompt")
    if any(call.usage is None for call in state.calls):
        missing.append("tokens of some calls")
    if state.unknown:
        missing.append(f"what lines of type {', '.join(sorted(state.unknown))} say")
    began = epoch_ns(meta.get("timestamp"))
    times = state.times + ([began] if began is not None else [])
    return Process(
        key=as_text(meta.get("id")) or "session",
        intent=_intent(state) or f"codex session {source.name}",
        items=items,
        started_ns=min(times, default=None),
        ended_ns=max(times, default=None),
        failure=state.failure,
        cwd=as_text(meta.get("cwd")) or as_text(state.settings.get("cwd")),
        missing=missing,
        details={
            name: meta[key]
            for name, key in (("session", "id"), ("version", "cli_version"), ("originator", "originator"))
            if isinstance(meta.get(key), str)
        },
    )


def _model_call(call: _Call, system: str | None) -> ModelCall:
    document = {"object": "response", "status": "completed", "output": call.items, "model": call.model}
    said: LLMResponse = openai_responses.parse_response(
        "", json.dumps(document).encode(), "application/json", 200, True
    )
    said.usage = call.usage
    said.model = call.model
    request = {"input": call.context, "instructions": system} if system else {"input": call.context}
    context = openai_responses.parse_request("", json.dumps(request).encode())
    began, ended = call.started_ns, call.ended_ns
    return ModelCall(
        messages=context.messages,
        answer=said,
        system_prompt=context.system_prompt,
        params=call.params or None,
        model=call.model,
        provider="openai_responses",
        vendor="openai",
        started_ns=began,
        duration=max(ended - began, 0) if began is not None and ended is not None else None,
    )


def _intent(state: _Reading) -> str:
    for item in state.items:
        if _is_prompt(item):
            texts = [as_text(as_object(part).get("text")) or "" for part in as_list(item.get("content"))]
            said = next(text for text in texts if text.strip() and not text.lstrip().startswith("<"))
            return " ".join(said.split())[:200]
    return ""
