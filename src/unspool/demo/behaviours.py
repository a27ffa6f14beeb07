"""The built-in scripts, chosen by the model's name, and the faults its `+suffixes` add.

A model name is `BEHAVIOUR[+SUFFIX…]`, for example `echo+gzip+slow` or `tools+429x2`. Suffixes work with any script.

Behaviours (any other name behaves like `echo`):

    echo    `echo: <last user text> [<digest>]`, where the digest is `digest_messages` of the message list as sent, so
            that a caller can prove it got its own answer
    tools   calls the first offered tool with the JSON object found in the last user text (`{}` when there is none; a
            JSON list of objects gives parallel calls); once there are results, answers with their text, a line each
    count   fixed text, `chars=N` in the last user text gives N characters; no digest is computed. For benchmarks

Usage is 4 characters a token in all of them.

Suffixes:

    NNN, NNNxK         status NNN (400 to 599), always or for the first K requests with the same message list
    timeout            no answer until the client hangs up, at most 30 s
    malformed          200 and JSON that does not parse (in a stream: from the middle on)
    cut                the connection closes half way through the body or stream
    error-in-stream    the provider's error event in mid-stream (500 without a stream)
    html               502 and an HTML page
    gzip, deflate      content-encoding, of bodies and streams
    slow               20 ms between the chunks of a stream
    latencyN           N ms before the first byte
    chunksN            the text of a stream in N pieces
    big                an answer of 1,000,000 characters
    reasoning          thinking before the answer
    cached             half of the input tokens, rounded up, came from the cache
    nousage            no usage at all
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from unspool.demo.script import (
    CutOff,
    ErrorInStream,
    Fault,
    HtmlPage,
    Malformed,
    ModelRequest,
    Refusal,
    Reply,
    Script,
    Silence,
    ToolCall,
    Usage,
    estimate_usage,
)

__all__ = ["BEHAVIOURS", "BIG_CHARS", "UnknownSuffix", "add_suffixes", "builtin_script"]

BIG_CHARS = 1_000_000
_REASONING = "The request is short and its answer is determined by it, so there is little to weigh here."


class UnknownSuffix(ValueError):
    """A model name with a suffix that is not in the table above."""

    def __init__(self, model: str, suffix: str) -> None:
        self.model, self.suffix = model, suffix
        known = ", ".join([*_FAULTS, *_DELIVERIES, "NNN", "NNNxK", "latencyN", "chunksN"])
        super().__init__(f"model {model!r} has the unknown suffix {suffix!r}; known are {known}")


def builtin_script(request: ModelRequest) -> Reply:
    """Answer as the behaviour named by the model does."""
    return BEHAVIOURS.get(request.model.partition("+")[0], echo)(request)


def echo(request: ModelRequest) -> Reply:
    return Reply(text=f"echo: {request.last_user_text} [{request.digest}]")


def tools(request: ModelRequest) -> Reply:
    if request.messages and request.messages[-1].role == "tool":
        return Reply(text="\n".join(result.text for result in request.messages[-1].tool_results))
    if not request.tools:
        return Reply(text="no tools were offered")
    name = request.tools[0].name
    return Reply(tool_calls=tuple(ToolCall(name, arguments) for arguments in _arguments_in(request.last_user_text)))


def count(request: ModelRequest) -> Reply:
    wanted = re.search(r"chars=(\d+)", request.last_user_text)
    return Reply(text=_filler(int(wanted[1])) if wanted else "counted")


BEHAVIOURS: Mapping[str, Script] = {"echo": echo, "tools": tools, "count": count}


def add_suffixes(request: ModelRequest, reply: Reply) -> Reply:
    """The reply with every `+suffix` of the model's name applied to it.

    Raises:
        UnknownSuffix: one of them is not in the table.
    """
    # What sets the usage comes last: it counts the text and the reasoning that other suffixes add.
    for suffix in sorted(request.model.split("+")[1:], key=lambda suffix: suffix in ("cached", "nousage")):
        if fault := _fault_named(suffix):
            reply = replace(reply, fault=fault)
        elif delivery := _DELIVERIES.get(suffix):
            reply = delivery(request, reply)
        elif timed := re.fullmatch(r"latency(\d+)", suffix):
            reply = replace(reply, latency_s=int(timed[1]) / 1000)
        elif cut := re.fullmatch(r"chunks([1-9]\d*)", suffix):
            reply = replace(reply, chunks=int(cut[1]))
        else:
            raise UnknownSuffix(request.model, suffix)
    return reply


_FAULTS: Mapping[str, Fault] = {
    "timeout": Silence(),
    "malformed": Malformed(),
    "cut": CutOff(),
    "error-in-stream": ErrorInStream(),
    "html": HtmlPage(),
}


def _fault_named(suffix: str) -> Fault | None:
    if status := re.fullmatch(r"([45]\d\d)(?:x(\d+))?", suffix):
        return Refusal(int(status[1]), times=int(status[2]) if status[2] else None)
    return _FAULTS.get(suffix)


def _reasoning(_: ModelRequest, reply: Reply) -> Reply:
    return replace(reply, reasoning=_REASONING)


def _big(_: ModelRequest, reply: Reply) -> Reply:
    return replace(reply, text=reply.text + _filler(BIG_CHARS - len(reply.text)))


def _cached(request: ModelRequest, reply: Reply) -> Reply:
    usage = reply.usage if isinstance(reply.usage, Usage) else estimate_usage(request, reply)
    return replace(reply, usage=replace(usage, cached=-(-usage.input // 2)))


_DELIVERIES: Mapping[str, Callable[[ModelRequest, Reply], Reply]] = {
    "gzip": lambda _, reply: replace(reply, encoding="gzip"),
    "deflate": lambda _, reply: replace(reply, encoding="deflate"),
    "slow": lambda _, reply: replace(reply, chunk_delay_s=0.02),
    "big": _big,
    "reasoning": _reasoning,
    "cached": _cached,
    "nousage": lambda _, reply: replace(reply, usage=None),
}


def _arguments_in(text: str) -> list[dict[str, Any]]:
    start = re.search(r"[{\[]", text)
    if start is None:
        return [{}]
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start.start())
    except ValueError:
        return [{}]
    if isinstance(found, dict):
        return [found]
    return [item for item in found if isinstance(item, dict)] or [{}]


_SENTENCE = "The quick brown fox jumps over the lazy dog. "


def _filler(chars: int) -> str:
    return (_SENTENCE * (max(chars, 0) // len(_SENTENCE) + 1))[: max(chars, 0)]
