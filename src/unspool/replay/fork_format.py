"""A fork that is planned, the request it would send, and the answers that came, as text and as data. Pure functions."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from unspool.durations import format_duration
from unspool.events import LLMResponse
from unspool.providers import PROVIDERS
from unspool.providers.wire import decode_json
from unspool.replay.diff_format import diff_document, format_context_diff
from unspool.replay.forkplan import ForkPlan
from unspool.replay.livecall import LiveAnswer, LiveRequest
from unspool.text import display_value, escape_controls, show_text

__all__ = [
    "Sample",
    "dry_run_document",
    "format_dry_run",
    "format_fork_plan",
    "format_samples",
    "plan_document",
    "samples_document",
]

_RED, _GREEN, _CYAN, _BOLD, _RESET = "\x1b[91m", "\x1b[32m", "\x1b[36m", "\x1b[1m", "\x1b[0m"
_LINE_LIMIT: Final = 400  # code points of a line of a request's difference
_ARGUMENTS_LIMIT: Final = 300


class Sample(Struct):
    """One answer, with its cost in US dollars; None is unknown."""

    answer: LiveAnswer
    cost: float | None = None


# --- what would be forked --------------------------------------------------------------------------------------------


def format_fork_plan(plan: ForkPlan, color: bool = False) -> str:
    """What would be forked, what the edits change, and what speaks against it. Ends without a newline."""
    blocks = [plan.context.summary()]
    notes = [*plan.point.notes, *(text for text in plan.problems if text not in plan.context.problems())]
    if notes:
        blocks.append("\n".join(f"Note: {show_text(note)}" for note in notes))
    if plan.applied:
        blocks.append("Changed: " + ", ".join(show_text(text) for text in plan.applied))
        blocks.append(format_context_diff(plan.diff, color).rstrip("\n"))
    if plan.edits.response is not None:
        blocks.append("Answer: given, nothing is sent at this call\n" + _indented(_said(_answer_given(plan))))
    return "\n".join(blocks)


def plan_document(plan: ForkPlan) -> dict[str, Any]:
    """The same as data."""
    return {
        "record_id": plan.point.record_id,
        "seq_num": plan.point.seq_num,
        "asked": plan.point.asked,
        "call": plan.point.snapshot.call,
        "context": plan.context,
        "applied": plan.applied,
        "problems": plan.problems,
        "notes": plan.point.notes,
        "diff": diff_document(plan.diff),
        "answer": None if plan.edits.response is None else _answer_given(plan),
    }


def _answer_given(plan: ForkPlan) -> LLMResponse:
    given = plan.edits.response
    assert given is not None, "asked for only where an answer is given"
    content_type = next((value for name, value in given.headers if name.lower() == "content-type"), None)
    return PROVIDERS[plan.point.provider].parse_response(plan.url, given.body, content_type, given.status, True)


# --- the request -----------------------------------------------------------------------------------------------------


def format_dry_run(plan: ForkPlan, request: LiveRequest, color: bool = False) -> str:
    """The request as it would be sent, credentials left out, and how it differs from the recorded one."""
    lines = [_bold(show_text(f"{request.method} {request.url}"), color)]
    lines += [f"{show_text(name)}: {show_text(value)}" for name, value in request.headers]
    lines += ["", escape_controls(_pretty(request.body), keep="\n"), ""]
    lines += [f"Note: {show_text(note)}" for note in _request_notes(plan, request)]
    difference = list(_difference(plan, request))
    lines.append(
        _bold("Difference from the recorded request:", color) if difference else "Same as the recorded request."
    )
    lines += [_colored(line, color) for line in difference]
    if plan.edits.response is not None:
        lines += ["The answer is given, so --run does not send this request:", _indented(_said(_answer_given(plan)))]
    return "\n".join(lines)


def dry_run_document(plan: ForkPlan, request: LiveRequest) -> dict[str, Any]:
    """The same as data."""
    return {
        **plan_document(plan),
        "request": {
            "method": request.method,
            "url": request.url,
            "headers": [list(pair) for pair in request.headers],
            "body": request.body.decode("utf-8", "replace"),
        },
        "request_diff": list(_difference(plan, request)),
        "notes": [*plan.point.notes, *_request_notes(plan, request)],
    }


def _request_notes(plan: ForkPlan, request: LiveRequest) -> list[str]:
    notes = [*plan.problems]
    if request.dropped:
        notes.append(f"headers that are not recorded, and not sent: {', '.join(request.dropped)}")
    return notes


def _difference(plan: ForkPlan, request: LiveRequest) -> Iterator[str]:
    """Unified difference of method, URL and body, the recorded ones first; nothing if they are the same."""
    before = [f"{plan.point.method} {plan.point.url}", *_pretty(plan.point.body).split("\n")]
    after = [f"{request.method} {request.url}", *_pretty(request.body).split("\n")]
    if before != after:
        found = difflib.unified_diff(before, after, "recorded", "fork", lineterm="", n=2)
        yield from (show_text(line, _LINE_LIMIT) for line in found)


def _pretty(body: bytes) -> str:
    try:
        return json.dumps(decode_json(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


# --- answers ---------------------------------------------------------------------------------------------------------


def format_samples(plan: ForkPlan, samples: list[Sample], color: bool = False) -> str:
    """The recorded answer and each that came, one below the other; equal ones are said to be."""
    blocks = [_bold("recorded", color) + "  " + _facts(plan.point.answer, None, None)]
    if plan.point.answer is not None:
        blocks.append(_indented(_said(plan.point.answer)))
    seen: dict[str, str] = {} if plan.point.answer is None else {_said(plan.point.answer): "the recorded answer"}
    for number, sample in enumerate(samples, start=1):
        name = "answer" if len(samples) == 1 else f"answer {number}"
        response = sample.answer.response
        facts = _facts(response, sample.answer.duration, sample.cost)
        status = "" if sample.answer.status < 400 else f"{sample.answer.status}  "
        blocks.append(f"{_bold(name, color)}  {status}{facts}")
        said = _said(response)
        blocks.append(_indented(f"as {seen[said]}" if said in seen and response.error is None else said))
        seen.setdefault(said, name)
    return "\n".join(blocks)


def samples_document(plan: ForkPlan, samples: list[Sample]) -> dict[str, Any]:
    """The same as data."""
    return {
        **plan_document(plan),
        "recorded": plan.point.answer,
        "samples": [
            {
                "status": sample.answer.status,
                "answer": sample.answer.response,
                "duration": sample.answer.duration,
                "cost_usd": sample.cost,
            }
            for sample in samples
        ],
    }


def _facts(response: LLMResponse | None, duration: int | None, cost: float | None) -> str:
    if response is None:
        return "no answer is recorded"
    facts = [show_text(name) for name in (response.model, response.finish_reason) if name]
    usage = response.usage
    if usage is not None:
        counts = ["?" if count is None else f"{count:,}" for count in (usage.input_tokens, usage.output_tokens)]
        facts.append(f"{counts[0]} → {counts[1]} tokens")
    else:
        facts.append("tokens unknown")
    if duration is not None:
        facts.append(format_duration(duration))
        facts.append("cost unknown" if cost is None else f"${cost:.4f}")
    return ", ".join(facts)


def _said(response: LLMResponse) -> str:
    lines = [escape_controls(response.text, keep="\n")] if response.text else []
    lines += [
        f"→ {show_text(call.name)}({show_text(call.arguments, _ARGUMENTS_LIMIT)})" for call in response.tool_calls
    ]
    if response.error is not None:
        lines.append(f"error {show_text(response.error.type)}: {show_text(response.error.message)}")
    if response.partial is not None:
        lines.append(f"not whole: {display_value(response.partial)}")
    return "\n".join(lines) or "(nothing)"


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.split("\n"))


def _bold(text: str, color: bool) -> str:
    return f"{_BOLD}{text}{_RESET}" if color else text


def _colored(line: str, color: bool) -> str:
    paint = {"+": _GREEN, "-": _RED, "@": _CYAN}.get(line[:1])
    return f"{paint}{line}{_RESET}" if color and paint else line
