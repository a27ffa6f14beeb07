"""Processes of `multiprocessing` that are started anew (`spawn`, `forkserver`): below the span that starts them.

They get the environment of the whole program, which says what process they belong to. Which of its spans they belong to
travels with what `multiprocessing` itself tells them, before they import the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from unspool.capture.flow import current_flow
from unspool.capture.guard import guard
from unspool.capture.process import Lineage

__all__ = ["install"]

_KEY: Final = "unspool"


def install(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    """Patch `multiprocessing.spawn`, in the process that starts others and in those."""
    told, prepare = module.get_preparation_data, module.prepare

    def get_preparation_data(name: Any) -> Any:
        data = told(name)
        with guard:
            flow = current_flow()
            if flow is not None:
                flow.process.ensure()
                data[_KEY] = msgspec.json.encode(flow.process.child_lineage(flow.span))
        return data

    def prepare_below_span(data: Any) -> Any:
        with guard:
            text = data.pop(_KEY, None)
            flow = current_flow()
            if text is not None and flow is not None:
                flow.process.adopt(msgspec.json.decode(text, type=Lineage))
        return prepare(data)

    patch(module, "get_preparation_data", get_preparation_data)
    patch(module, "prepare", prepare_below_span)
