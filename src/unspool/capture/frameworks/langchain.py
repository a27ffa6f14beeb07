"""LangChain and LangGraph: every tool's own work, below its callbacks and the handling of its errors.

The seam is `_run` and `_arun` of each tool class. What stands around them (argument schemas, callbacks, tool messages)
goes on in a rerun as it did, so that streams and traces of a served tool are the same.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from unspool.capture.flow import leave
from unspool.capture.frameworks.marks import is_watched, watched
from unspool.capture.toolrun import begin, perform, perform_async
from unspool.events import SyscallEventData

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]

_MESSAGES = {
    "tool": "ToolMessage",
    "ai": "AIMessage",
    "human": "HumanMessage",
    "system": "SystemMessage",
    "remove": "RemoveMessage",
}
_COMMAND = {"graph", "update", "resume", "goto"}

# The tool whose work is under way: `_arun` of a tool without one of its own calls its `_run`, a subclass its base.
_working: ContextVar[Any] = ContextVar("unspool_langchain_tool", default=None)


def install(module: Any, patch: Patch) -> None:
    """Patch the tool classes there are, and those to come (`langchain_core.tools.base`)."""
    base = module.BaseTool

    def watch(kind: Any) -> None:
        for name, made in (("_run", _watched), ("_arun", _watched_async)):
            own = vars(kind).get(name)
            if own is not None and not is_watched(own):
                patch(kind, name, made(own))

    def watch_all(kind: Any) -> None:
        watch(kind)
        for inner in kind.__subclasses__():
            watch_all(inner)

    watch_all(base)
    original = vars(base).get("__pydantic_init_subclass__")

    def init_subclass(cls: Any, /, **options: Any) -> None:
        if original is not None:
            original.__func__(cls, **options)
        else:
            super(base, cls).__pydantic_init_subclass__(**options)
        watch(cls)

    patch(base, "__pydantic_init_subclass__", classmethod(init_subclass))


def _watched(own: Callable[..., Any]) -> Callable[..., Any]:
    @watched
    @functools.wraps(own)
    def _run(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = None if _working.get() is self else begin(self.name, lambda: _arguments(self, args, kwargs))
        if run is None:
            return own(self, *args, **kwargs)
        token = _working.set(self)
        try:
            return perform(run, lambda: own(self, *args, **kwargs), lambda call: _restored(self, call))
        finally:
            leave(_working, token)

    return _run


def _watched_async(own: Callable[..., Any]) -> Callable[..., Any]:
    @watched
    @functools.wraps(own)
    async def _arun(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = None if _working.get() is self else begin(self.name, lambda: _arguments(self, args, kwargs))
        if run is None:
            return await own(self, *args, **kwargs)
        token = _working.set(self)
        try:
            return await perform_async(run, lambda: own(self, *args, **kwargs), lambda call: _restored(self, call))
        finally:
            leave(_working, token)

    return _arun


def _arguments(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What the model gave; what the framework hands in beside it (state, stores, configuration) is not part of it."""
    named = {str(number): value for number, value in enumerate(args)} | kwargs
    named = tool._filter_injected_args(named)
    return {name: value for name, value in named.items() if name not in ("config", "run_manager")}


def _restored(tool: Any, call: SyscallEventData) -> Any:
    from unspool.serving.rebuild import CannotRebuild, rebuild_value, return_hint, what_is_wrong

    function = getattr(tool, "coroutine", None) or getattr(tool, "func", None) or type(tool)._run
    hint = return_hint(getattr(function, "__wrapped__", function))
    try:
        return rebuild_value(call.result, call.result_type, hint, call.result_parts)
    except CannotRebuild:
        for built in _framework_values(call):
            if what_is_wrong(built, call.result, call.result_type or "", call.result_parts) is None:
                return built
        raise


def _framework_values(call: SyscallEventData) -> Iterator[Any]:
    """What a result may have been that holds messages or commands, which no annotation names."""
    messages, types = sys.modules.get("langchain_core.messages"), sys.modules.get("langgraph.types")
    if messages is None:
        return
    value = _with_messages(call.result, messages)
    yield value
    if types is not None:
        for as_tuple in (True, False):
            yield _with_commands(value, types, as_tuple)


def _with_messages(value: Any, messages: Any) -> Any:
    if isinstance(value, list):
        return [_with_messages(item, messages) for item in value]
    if not isinstance(value, dict):
        return value
    kind = _MESSAGES.get(str(value.get("type"))) if "content" in value else None
    if kind is not None:
        return getattr(messages, kind).model_validate(value)
    return {name: _with_messages(item, messages) for name, item in value.items()}


def _with_commands(value: Any, types: Any, as_tuple: bool) -> Any:
    if isinstance(value, list):
        return [_with_commands(item, types, as_tuple) for item in value]
    if isinstance(value, dict) and set(value) == _COMMAND:
        goto = value["goto"]
        return types.Command(**{**value, "goto": tuple(goto) if as_tuple and isinstance(goto, list) else goto})
    return value
