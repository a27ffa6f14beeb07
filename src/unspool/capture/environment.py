"""What child processes are told through the environment, so that they are recorded too."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from unspool.capture.process import Lineage
from unspool.tracecontext import TraceParent, format_traceparent, parse_traceparent

if TYPE_CHECKING:
    from unspool.capture.flow import Flow

__all__ = [
    "BOOT_DIR",
    "RUN_VARIABLE",
    "TRACE_VARIABLE",
    "for_child",
    "lineage_from",
    "outer_trace",
    "publish",
    "variables",
    "will_be_captured",
]

RUN_VARIABLE = "UNSPOOL_RUN"  # a Lineage as JSON
STORE_VARIABLE = "UNSPOOL_STORE"
MSGSPEC_VARIABLE = "UNSPOOL_MSGSPEC"  # where an agent without msgspec may load it from
TRACE_VARIABLE = "TRACEPARENT"  # W3C trace context, which other tracers read too
BOOT_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_boot")

_PYTHON = re.compile(r"^python(?:[23](?:\.\d+)?t?)?(?:-dbg)?$|^pypy3?(?:\.\d+)?$")

# What `TRACEPARENT` was when this process began, and what we made of it: any other is the program's own, and stays.
_known_traces = {None, os.environ.get(TRACE_VARIABLE)}


def variables(lineage: Lineage, pythonpath: str | None) -> dict[str, str]:
    """The variables that arm a child: ours, and the boot folder first on `PYTHONPATH`."""
    rest = [part for part in (pythonpath or "").split(os.pathsep) if part and part != BOOT_DIR]
    return {
        RUN_VARIABLE: msgspec.json.encode(lineage).decode("utf-8"),
        STORE_VARIABLE: lineage.store,
        "PYTHONPATH": os.pathsep.join([BOOT_DIR, *rest]),
    }


def lineage_from(environ: Mapping[str, str]) -> Lineage | None:
    """What the parent told this process, None if it was not started by one that records."""
    text = environ.get(RUN_VARIABLE)
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Lineage)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def outer_trace(environ: Mapping[str, str]) -> TraceParent | None:
    """The span of another tracer that this program is part of; None if there is none.

    What unspool told a program it records is none: a recording begun there is a trace of its own.
    """
    found = parse_traceparent(text := environ.get(TRACE_VARIABLE))
    if found is None:
        return None
    lineage = lineage_from(environ)
    if lineage is not None and lineage.trace_id == found.trace_id:
        return None
    _known_traces.add(text)
    return found


def publish(lineage: Lineage) -> None:
    """Tell every child that inherits this process' environment."""
    told = variables(lineage, os.environ.get("PYTHONPATH")) | _trace(lineage, os.environ.get(TRACE_VARIABLE))
    os.environ.update(told)


def _trace(lineage: Lineage, current: str | None) -> dict[str, str]:
    """`TRACEPARENT` for a child: the span that starts it. One that the program has set by itself stays."""
    if lineage.parent is None or not lineage.parent_span_id or current not in _known_traces:
        return {}
    text = format_traceparent(lineage.trace_id, lineage.parent_span_id, lineage.trace_flags)
    if text is None:
        return {}
    _known_traces.add(text)
    return {TRACE_VARIABLE: text}


def for_child(env: Any, flow: Flow, span: str | None = None) -> Any:
    """The environment of a child with our variables added; what is no mapping is left to `Popen` to refuse.

    None, the inherited environment, stays None as long as what is published there is true for the running code.

    Args:
        span: the short id of the span that starts it; the one around the running code by default.
    """
    lineage = flow.process.child_lineage(span or flow.span)
    if env is None:
        if lineage_from(os.environ) == lineage:
            return None
        env = os.environ
    if not isinstance(env, Mapping):
        return env
    keys_are_bytes = any(isinstance(key, bytes) for key in env)
    current = env.get(b"PYTHONPATH" if keys_are_bytes else "PYTHONPATH")
    ours = variables(lineage, os.fsdecode(current) if current is not None else None)
    trace = env.get(TRACE_VARIABLE.encode() if keys_are_bytes else TRACE_VARIABLE)
    ours |= _trace(lineage, os.fsdecode(trace) if trace is not None else None)
    if (folder := os.environ.get(MSGSPEC_VARIABLE)) is not None:
        ours[MSGSPEC_VARIABLE] = folder
    if keys_are_bytes:
        return {**env, **{os.fsencode(name): os.fsencode(value) for name, value in ours.items()}}
    return {**env, **ours}


def will_be_captured(argv: list[str]) -> bool | None:
    """Whether a command is a Python that will be recorded; None if it is no Python as far as its name tells."""
    if not argv or not _PYTHON.match(os.path.basename(argv[0])):
        return None
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-") or word.startswith("--") or word == "-":
            break
        for index, letter in enumerate(word[1:], 1):
            if letter in "IES":
                return False  # these keep the interpreter from our sitecustomize
            if letter in "cm":
                return True  # what follows is the program's
            if letter in "WX":
                if index == len(word) - 1:
                    next(words, None)  # its argument is a word of its own
                break
    return True
