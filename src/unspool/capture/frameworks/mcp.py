"""MCP: every request of a client's session, tool calls as `/dev/mcp/<server>/<tool>`, the others as `MCP`
on `/dev/session/<server>`.

The seam is where a session sends a request and waits for its answer, above all transports: in a rerun nothing reaches
them (`mcp_transport`). Of `mcp` 2 that is the dispatcher of a session, of `mcp` 1 the session's `send_request`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from unspool.capture.flow import FLOW, QUIET, leave
from unspool.capture.frameworks.mcp_transport import connection_of
from unspool.capture.guard import guard
from unspool.capture.toolrun import ErrorForm, ToolRun, begin, perform_async
from unspool.events import SyscallEventData
from unspool.serving.tools import MCP, SESSION, mcp_asked, mcp_key

__all__ = ["install"]

Patch = Callable[[Any, str, Any], None]
Send = Callable[[], Awaitable[dict[str, Any]]]

_CALL_TOOL = "tools/call"
_TRACEPARENT = "traceparent"
_SERVER_INFO = "io.modelcontextprotocol/serverInfo"

# By what a session's requests go through: the name its server gave itself.
_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
# And the requests that wait for their answers.
_under_way: WeakKeyDictionary[Any, list[ToolRun]] = WeakKeyDictionary()


def install(module: Any, patch: Patch) -> None:
    """Patch the client's session (`mcp.client.session`)."""
    if hasattr(module, "JSONRPCDispatcher"):
        _install_dispatchers(module, patch)
    else:
        _install_sessions(module, patch)


def _install_dispatchers(module: Any, patch: Patch) -> None:
    """`mcp` 2: what a session sends through its dispatcher, which is another object for a server in this program."""
    init = module.ClientSession.__init__

    def init_and_watch(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        with guard:
            _watch(self._dispatcher, is_wire=isinstance(self._dispatcher, module.JSONRPCDispatcher))

    patch(module.ClientSession, "__init__", init_and_watch)
    patch(module.ClientSession, "_on_request", _inside_of_request(module.ClientSession._on_request, "_dispatcher"))


def _watch(dispatcher: Any, *, is_wire: bool) -> None:
    original, notify = dispatcher.send_raw_request, dispatcher.notify

    async def send_raw_request(method: str, params: Any, opts: Any = None, **more: Any) -> Any:
        run = _begin(dispatcher, method, params)
        sent = _carrying(run, method, params)

        async def send() -> Any:
            return await original(method, sent, opts, **more)

        return await (send() if run is None else _exchange(dispatcher, run, method, params, send, is_wire=is_wire))

    async def notify_quietly(method: str, params: Any, opts: Any = None, **more: Any) -> None:
        token = QUIET.set(True) if is_wire else None
        try:
            await notify(method, params, opts, **more)
        finally:
            if token is not None:
                leave(QUIET, token)

    dispatcher.send_raw_request, dispatcher.notify = send_raw_request, notify_quietly


def _install_sessions(module: Any, patch: Patch) -> None:
    """`mcp` 1: what a session sends, as models."""
    original = module.ClientSession.send_request
    # An error of version 1 has its text as its only argument, and what it is made of in an attribute.
    errors = ErrorForm(
        ("mcp.shared.exceptions.McpError",),
        lambda error: [error.error.model_dump(mode="json")],
        lambda kind, args: kind(module.types.ErrorData(**args[0])),
    )

    async def send_request(self: Any, request: Any, result_type: Any, *args: Any, **kwargs: Any) -> Any:
        data = request.model_dump(by_alias=True, mode="json", exclude_none=True)
        method, params = str(data["method"]), data.get("params")
        answers: list[Any] = []

        async def send() -> dict[str, Any]:
            answers.append(await original(self, request, result_type, *args, **kwargs))
            answer: dict[str, Any] = answers[0].model_dump(by_alias=True, mode="json", exclude_none=True)
            return answer

        run = _begin(self, method, params)
        if run is None:
            return await original(self, request, result_type, *args, **kwargs)
        sent = _carrying(run, method, params)
        if sent is not params:
            request = type(request).model_validate({**data, "params": sent})
        run.error_form = errors
        raw = await _exchange(self, run, method, params, send, is_wire=True)
        return answers[0] if answers else result_type.model_validate(raw)

    patch(module.ClientSession, "send_request", send_request)
    received = module.ClientSession._received_request
    patch(module.ClientSession, "_received_request", _inside_of_request(received, None))


def _inside_of_request(original: Callable[..., Awaitable[Any]], sender: str | None) -> Callable[..., Awaitable[Any]]:
    """What a server asks of its client (a model's answer, say) is part of the request that makes it ask.

    So a served request stands for it. Of several under way the last is taken: the protocol does not tell.
    """

    async def answer_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        under_way = _under_way.get(self if sender is None else getattr(self, sender))
        token = FLOW.set(under_way[-1].flow) if under_way else None
        try:
            return await original(self, *args, **kwargs)
        finally:
            if token is not None:
                leave(FLOW, token)

    return answer_request


# --- one request -----------------------------------------------------------------------------------------------------


def _begin(sender: Any, method: str, params: Any) -> ToolRun | None:
    given = {name: value for name, value in (params or {}).items() if name != "_meta"}
    server = _names.get(sender, "unknown")
    if method == _CALL_TOOL:
        name = str(given.pop("name", ""))
        arguments = given.pop("arguments", None) or {}
        # More than arguments: the answer to a question of the server.
        asked = {**arguments, **({"(more)": given} if given else {})}
        return begin(name, lambda: asked, path=f"/dev/mcp/{server}/{name}")
    connection = connection_of(sender)
    address = connection.server if connection is not None else ""
    return begin(
        method,
        lambda: given,
        path=f"{SESSION}{server}",
        syscall=MCP,
        more={"method": method, "server": address},
        key=mcp_key(method, address),
        asked=mcp_asked(method, given),
    )


def _carrying(run: ToolRun | None, method: str, params: Any) -> Any:
    """The parameters of a tool call with the trace context of its span, if it is to carry one and has none.

    It is no part of what a rerun knows the call by.
    """
    if run is None or method != _CALL_TOOL or not run.process.lineage.propagate:
        return params
    with guard:
        given = dict(params or {})
        meta = dict(given.get("_meta") or {})
        text = run.process.traceparent(run.span, run.outer.asked)
        if text is not None and _TRACEPARENT not in meta:
            return {**given, "_meta": {**meta, _TRACEPARENT: text}}
    return params


async def _exchange(sender: Any, run: ToolRun, method: str, params: Any, send: Send, *, is_wire: bool) -> Any:
    async def send_quietly() -> Any:
        # What a transport does for a request is the request; a server in this program is the program's.
        token = QUIET.set(True) if is_wire else None
        try:
            answer = await send()
        finally:
            if token is not None:
                leave(QUIET, token)
        _note_server(sender, run, answer)
        return answer

    connection = connection_of(sender)
    if connection is not None and method == "initialize":
        connection.handshake = params
    under_way = _under_way.setdefault(sender, [])
    under_way.append(run)
    try:
        answer = await perform_async(run, send_quietly, _restored, _what_is_wrong)
    finally:
        under_way.remove(run)
    _note_server(sender, run, answer)
    return answer


def _restored(call: SyscallEventData) -> Any:
    from unspool.serving.rebuild import rebuild_value

    return rebuild_value(call.result, call.result_type, dict)


def _note_server(sender: Any, run: ToolRun, answer: Any) -> None:
    """Learn the server's name from the answer that tells it."""
    with guard:
        if not isinstance(answer, dict):
            return
        info = answer.get("serverInfo")
        if info is None and isinstance(meta := answer.get("_meta"), dict):
            info = meta.get(_SERVER_INFO)
        if isinstance(info, dict) and isinstance(name := info.get("name"), str) and name:
            _names[sender] = name.replace("/", "_")
            if run.syscall == MCP:
                run.path = f"{SESSION}{_names[sender]}"
            connection = connection_of(sender)
            if connection is not None:
                connection.named(_names[sender])


def _what_is_wrong(answer: Any) -> str:
    """The text of a tool result that is an error."""
    if not isinstance(answer, dict) or not answer.get("isError"):
        return ""
    content = answer.get("content")
    texts = [str(item.get("text", "")) for item in content or () if isinstance(item, dict)]
    return "\n".join(text for text in texts if text) or "the tool reports an error"
