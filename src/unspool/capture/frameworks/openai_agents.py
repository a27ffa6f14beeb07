"""OpenAI Agents SDK: every function tool, those of MCP servers and handed-in agents included.

The seam is the SDK's own single place that invokes a function tool, below guardrails, hooks and approval. What it makes
of the output or the error is none of the tool's, and goes on in a rerun as it did.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from typing import Any

from unspool.capture.frameworks.marks import is_watched, watched
from unspool.capture.toolrun import ToolRun, begin, perform_async
from unspool.events import SyscallEventData

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]

_SEAMS = ("_invoke_function_tool_with_metadata", "invoke_function_tool")  # the newest first


def install(module: Any, patch: Patch) -> None:
    """Patch where a function tool is invoked (`agents.tool`, and the module that has taken the name from there)."""
    name = next((one for one in _SEAMS if hasattr(module, one)), None)
    if name is None or is_watched(getattr(module, name)):
        return
    original = getattr(module, name)

    @watched
    async def invoke(*, function_tool: Any, context: Any, arguments: str) -> Any:
        run = begin(function_tool.name, lambda: _arguments(arguments))
        if run is None:
            return await original(function_tool=function_tool, context=context, arguments=arguments)
        tool = copy.copy(function_tool)
        tool.on_invoke_tool = _recorded(tool.on_invoke_tool, run)
        return await original(function_tool=tool, context=context, arguments=arguments)

    patch(module, name, invoke)


def _recorded(invoker: Any, run: ToolRun) -> Any:
    """The invoker of a copied tool, with the work it does recorded as `run` or served.

    The SDK's own invoker makes a text of an error: it is copied too, and what it guards is the work.
    """
    work = getattr(invoker, "_invoke_tool_impl", invoker)

    @functools.wraps(work)
    async def invoke(*given: Any) -> Any:
        return await perform_async(run, lambda: work(*given), _restored)

    if work is invoker:
        return invoke
    copied = copy.copy(invoker)
    copied._invoke_tool_impl = invoke
    return copied


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = text
    return found if isinstance(found, dict) else {"arguments": found}


def _restored(call: SyscallEventData) -> Any:
    from unspool.serving.rebuild import rebuild_value

    return rebuild_value(call.result, call.result_type, parts=call.result_parts)
