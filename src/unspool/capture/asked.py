"""Requests that are answered here: one that says which span sent it (W3C trace context) becomes a span below that.

A server works for many at once, so each request has a context of its own: what its handler does, in tasks and threads
too, is in the span of the request, and belongs to the trace of whoever asked. A request that says nothing of its trace
is answered as if unspool were not there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from unspool.capture.flow import current_flow
from unspool.capture.guard import guard
from unspool.capture.spans import span
from unspool.tracecontext import parse_traceparent

__all__ = ["TRACEPARENT", "answering", "install_aiohttp", "install_mcp_runner", "install_mcp_server",
           "install_simple_server", "install_standard_server", "install_starlette", "install_uvicorn"]  # fmt: skip

Patch = Callable[[Any, str, Any], None]

TRACEPARENT: Final = "traceparent"  # a header's name, and a key of MCP's `_meta`


class answering:
    """Inside this block a request is answered. `traceparent` is what it said of its trace; anything else is ignored."""

    __slots__ = ("_name", "_remote", "_span")

    def __init__(self, name: str, traceparent: object) -> None:
        self._name = name
        self._remote = traceparent
        self._span: span | None = None

    def __enter__(self) -> None:
        with guard:
            remote, flow = self._remote, current_flow()
            if flow is None or not isinstance(remote, str) or parse_traceparent(remote) is None:
                return
            if flow.asked == remote:
                return  # a framework inside a server sees the same request again
            self._span = span(self._name, traceparent=remote)
            self._span.__enter__()

    def __exit__(self, *exc: Any) -> None:
        if self._span is not None:
            self._span.__exit__(*exc)
            self._span = None


# --- HTTP ------------------------------------------------------------------------------------------------------------


def install_standard_server(module: Any, patch: Patch) -> None:
    """Patch `http.server`, whose handlers make most small servers."""
    handler = module.BaseHTTPRequestHandler
    patch(handler, "parse_request", _parsed(handler.parse_request))
    patch(handler, "handle_one_request", _until_answered(handler.handle_one_request))


def install_simple_server(module: Any, patch: Patch) -> None:
    """Patch `wsgiref.simple_server`, which answers in another method."""
    handler = module.WSGIRequestHandler
    patch(handler, "handle", _until_answered(handler.handle))


def _until_answered(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def handle(self: Any) -> None:
        outer = self.__dict__.get("_unspool_asked")
        asked: list[answering] = []
        self._unspool_asked = asked
        try:
            original(self)
        except BaseException as error:
            for one in asked:
                one.__exit__(type(error), error, error.__traceback__)
            raise
        else:
            for one in asked:
                one.__exit__(None, None, None)
        finally:
            self._unspool_asked = outer

    return handle


def _parsed(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def parse_request(self: Any) -> bool:
        is_whole = original(self)
        asked = self.__dict__.get("_unspool_asked")
        if is_whole and asked is not None and not asked:
            with guard:
                if (text := self.headers.get(TRACEPARENT)) is not None:
                    one = answering(_name_of(self.command, self.path), text)
                    one.__enter__()
                    asked.append(one)
        return is_whole

    return parse_request


def install_uvicorn(module: Any, patch: Patch) -> None:
    """Patch a protocol of `uvicorn`: its cycle of request and response."""
    cycle = module.RequestResponseCycle
    original = cycle.run_asgi

    async def run_asgi(self: Any, app: Any) -> None:
        with _of_scope(self.scope):
            await original(self, app)

    patch(cycle, "run_asgi", run_asgi)


def install_starlette(module: Any, patch: Patch) -> None:
    """Patch `starlette.applications`, under whatever server it runs; FastAPI is one of them."""
    original = module.Starlette.__call__

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        with _of_scope(scope):
            await original(self, scope, receive, send)

    patch(module.Starlette, "__call__", call)


def _of_scope(scope: Any) -> answering:
    """By what ASGI says of a request (asgi.readthedocs.io: names of headers are lower-case bytes)."""
    with guard:
        if scope["type"] == "http":
            text = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
            if text is not None:
                return answering(_name_of(scope["method"], scope["path"]), text.decode("latin-1"))
    return answering("", None)


def install_aiohttp(module: Any, patch: Patch) -> None:
    """Patch `aiohttp.web_app`."""
    original = module.Application._handle

    async def handle(self: Any, request: Any) -> Any:
        with answering(_name_of(request.method, request.path), request.headers.get(TRACEPARENT)):
            return await original(self, request)

    patch(module.Application, "_handle", handle)


def _name_of(method: object, target: object) -> str:
    """`POST /ask`: without the query, which may hold anything."""
    return f"{method} {str(target).partition('?')[0]}"


# --- MCP -------------------------------------------------------------------------------------------------------------


def install_mcp_runner(module: Any, patch: Patch) -> None:
    """Patch `mcp.server.runner` (`mcp` 2), through which the requests of every transport go."""
    original = module.ServerRunner._on_request

    async def on_request(self: Any, dctx: Any, method: str, params: Any, *args: Any, **kwargs: Any) -> Any:
        given = params if isinstance(params, dict) else {}
        meta = given.get("_meta")
        remote = meta.get(TRACEPARENT) if isinstance(meta, dict) else None
        with answering(_call_of(method, given.get("name")), remote):
            return await original(self, dctx, method, params, *args, **kwargs)

    patch(module.ServerRunner, "_on_request", on_request)


def install_mcp_server(module: Any, patch: Patch) -> None:
    """Patch `mcp.server.lowlevel.server` (`mcp` 1), where a request is a model with its parameters."""
    original: Callable[..., Awaitable[Any]] | None = getattr(module.Server, "_handle_request", None)
    if original is None:
        return  # version 2

    async def handle_request(self: Any, message: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
        params = getattr(req, "params", None)
        extra = getattr(getattr(params, "meta", None), "model_extra", None)
        remote = extra.get(TRACEPARENT) if isinstance(extra, dict) else None
        with answering(_call_of(getattr(req, "method", ""), getattr(params, "name", None)), remote):
            return await original(self, message, req, *args, **kwargs)

    patch(module.Server, "_handle_request", handle_request)


def _call_of(method: object, name: object) -> str:
    """`tools/call search`."""
    return f"{method} {name}" if isinstance(name, str) and name else str(method)
