"""Pydantic AI: function tools, below validation of arguments, retries and hooks.

Tools of MCP servers are recorded by their sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unspool.capture.toolrun import begin, perform_async
from unspool.events import SyscallEventData

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]


def install(module: Any, patch: Patch) -> None:
    """Patch the toolset of functions (`pydantic_ai.toolsets.function`)."""
    original = module.FunctionToolset.call_tool

    async def call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        run = begin(name, lambda: tool_args)
        if run is None:
            return await original(self, name, tool_args, ctx, tool)
        return await perform_async(
            run,
            lambda: original(self, name, tool_args, ctx, tool),
            lambda call: _restored(self, name, call),
        )

    patch(module.FunctionToolset, "call_tool", call_tool)


def _restored(toolset: Any, name: str, call: SyscallEventData) -> Any:
    from unspool.serving.rebuild import rebuild_value, return_hint

    known = getattr(toolset, "tools", {}).get(name)
    function = getattr(known, "function", None)
    hint = return_hint(getattr(function, "__wrapped__", function))
    return rebuild_value(call.result, call.result_type, hint, call.result_parts)
