"""A time-travel debugger and profiler for LLM agents.

What a program embedding unspool needs, loaded on first use so that `import unspool` stays cheap:

    with unspool.record("nightly run"):     # record this block
        ...
    @unspool.tool                           # record a tool's arguments, result, error and time
    def search(query: str) -> str: ...
    with unspool.spawn("researcher"):       # a sub-agent inside this program
        ...
    with unspool.span("rank"):              # a part of the program, to see in its trace; @unspool.traced for functions
        ...
    unspool.on_alert(print, budget=200_000) # be told when a context gets full
    unspool.load("last")                    # read a recording
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unspool.lazy import names_of

__version__ = "0.1.0"

__all__ = ["__version__", "load", "on_alert", "record", "span", "spawn", "tool", "traced"]

if TYPE_CHECKING:
    from unspool.capture.alerts import on_alert
    from unspool.capture.api import record, spawn
    from unspool.capture.spans import span, traced
    from unspool.capture.tools import tool
    from unspool.recording.address import load

_HOMES = {
    "on_alert": "unspool.capture.alerts",
    "record": "unspool.capture.api",
    "span": "unspool.capture.spans",
    "spawn": "unspool.capture.api",
    "tool": "unspool.capture.tools",
    "traced": "unspool.capture.spans",
    "load": "unspool.recording.address",
}

__getattr__ = names_of(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
