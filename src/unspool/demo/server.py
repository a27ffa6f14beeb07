"""The embedded model server: real HTTP, scripted answers, faults on request; standard library only.

    POST …/chat/completions, …/responses                      OpenAI
    POST …/messages                                            Anthropic
    POST …/models/NAME:generateContent, :streamGenerateContent Gemini
    GET  …/models, /healthz, /page/NAME                        NAME `missing` gives 404, others plain text

Equal requests get equal bytes: ids are made from the request, times are fixed. Only the request-id header is different
each time, as it counts how often this server has seen the request.
"""

from __future__ import annotations

import gzip
import json
import selectors
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from unspool.demo.behaviours import BEHAVIOURS, UnknownSuffix, add_suffixes, builtin_script
from unspool.demo.connections import HANG_UPS, ConnectionServer
from unspool.demo.delivery import coder_for, encoded, faulty_frames, phrase
from unspool.demo.script import (
    CutOff,
    ErrorInStream,
    Framing,
    HtmlPage,
    Malformed,
    Message,
    ModelRequest,
    Refusal,
    Reply,
    Script,
    Silence,
    Usage,
    estimate_usage,
)
from unspool.demo.wire import FORMATS, Route, WireFormat, route
from unspool.demo.wire.framing import CREATED, dumps

__all__ = ["ModelServer", "ReceivedRequest", "serve_forever"]

_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"  # CREATED as an HTTP date
_KEPT_RESPONSES = 1000  # how many answers `previous_response_id` reaches back to


class ReceivedRequest(NamedTuple):
    """A request as it arrived; `model` is empty where the path has none."""

    method: str
    path: str
    model: str


class ModelServer:
    """A running server, in threads of this process; a context manager.

    Args:
        script: decides the answers; None: `behaviours.builtin_script`. The `+suffixes` of a model's name work with any.
        port: 0 takes a free one; see `url`.
        pages: what `GET /page/NAME` answers, for names that shall not be made up.
    """

    def __init__(
        self,
        script: Script | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        pages: Mapping[str, str] | None = None,
    ) -> None:
        self.script = script or builtin_script
        self.pages = dict(pages or {})
        self.requests: list[ReceivedRequest] = []
        self.closing = threading.Event()
        self._seen: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._conversations: OrderedDict[str, tuple[Message, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self._http = ConnectionServer(host, port, type("_BoundHandler", (_Handler,), {"owner": self}))
        bound_host, self.port = self._http.server_address[:2]
        self.host = str(bound_host)
        self.url = f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"
        # Short poll: shutdown() waits for one.
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="model-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop: open connections are cut, answers in progress end. Returns within about two seconds; idempotent."""
        if self.closing.is_set():
            return
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up(timeout_s=2.0)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def count(self, seed: str) -> int:
        """Count a request; how often it had been seen before."""
        with self._lock:
            self._seen[seed] += 1
            return self._seen[seed] - 1

    def is_refused(self, refusal: Refusal, request: ModelRequest) -> bool:
        """Whether this request is still among the first `refusal.times` with its message list."""
        if refusal.times is None:
            return True
        key = f"{request.wire}/{request.model}/{request.digest}"
        with self._lock:
            self._refused[key] += 1
            return self._refused[key] <= refusal.times

    def conversation(self, response_id: str) -> tuple[Message, ...] | None:
        with self._lock:
            return self._conversations.get(response_id)

    def remember(self, response_id: str, messages: tuple[Message, ...]) -> None:
        with self._lock:
            self._conversations[response_id] = messages
            if len(self._conversations) > _KEPT_RESPONSES:
                self._conversations.popitem(last=False)


def serve_forever(
    host: str = "127.0.0.1",
    port: int = 0,
    script: Script | None = None,
    *,
    pages: Mapping[str, str] | None = None,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until interrupted; `on_ready` is called with the URL once requests are accepted."""
    with ModelServer(script, host, port, pages=pages) as server:
        try:
            if on_ready:
                on_ready(server.url)
            server.closing.wait()
        except KeyboardInterrupt:
            return


class _UnknownResponse(Exception):
    """`previous_response_id` names no answer of this server, or one it has forgotten."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "unspool-model-server"
    sys_version = ""
    disable_nagle_algorithm = True
    owner: ModelServer  # set by the subclass that each server makes

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: what arrived is in `ModelServer.requests`."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except HANG_UPS:
            self.close_connection = True

    def do_GET(self) -> None:
        owner, path = self.owner, urlsplit(self.path).path
        owner.requests.append(ReceivedRequest("GET", path, ""))
        name = path.rpartition("/")[2]
        if path == "/healthz":
            self._json(200, {"status": "ok"})
        elif path.startswith("/page/") and name != "missing":
            text = owner.pages.get(name, f"This is the page {name}.\n")
            self._answer(200, {"content-type": "text/plain; charset=utf-8"}, text.encode())
        elif path.endswith("/models"):
            self._json(200, _models())
        else:
            self._json(404, {"error": {"message": f"nothing at {path}", "type": "not_found", "code": 404}})

    def do_POST(self) -> None:
        raw = self._read_body()
        url = urlsplit(self.path)
        found = route(url.path, parse_qs(url.query))
        owner = self.owner
        if found is None:
            owner.requests.append(ReceivedRequest("POST", url.path, ""))
            self._json(404, {"error": {"message": f"no model is called at {url.path}", "type": "not_found"}})
            return
        wire = FORMATS[found.wire]
        seed = sha256(b"\0".join([found.wire.encode(), self.path.encode(), raw])).hexdigest()
        sample = owner.count(seed)
        request_id = f"req_{seed[:20]}{sample + 1:04x}"
        extra = wire.headers(request_id)
        try:
            body = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
            retry = int(self.headers.get("x-stainless-retry-count") or 0)
            request = replace(_parsed(found, wire, body), seed=seed, retry=retry, sample=sample)
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, gzip.BadGzipFile, zlib.error) as exc:
            owner.requests.append(ReceivedRequest("POST", url.path, found.model))
            message = f"the request is no {found.wire} request: {type(exc).__name__}: {exc}"
            self._json(400, wire.error(400, message, request_id), extra)
            return
        owner.requests.append(ReceivedRequest("POST", url.path, request.model))
        try:
            request = self._with_history(request)
            reply = add_suffixes(request, owner.script(request))
        except _UnknownResponse as exc:
            self._json(400, wire.error(400, str(exc), request_id), extra)
            return
        except UnknownSuffix as exc:
            self._json(404, wire.error(404, str(exc), request_id), extra)
            return
        except Exception as exc:  # noqa: BLE001 - a script is foreign code; its failure is an answer, and never retried
            message = f"the server's script failed: {type(exc).__name__}: {exc}"
            self._json(500, wire.error(500, message, request_id), extra | {"x-should-retry": "false"})
            return
        self._deliver(request, reply, wire, request_id)

    def _with_history(self, request: ModelRequest) -> ModelRequest:
        previous = request.body.get("previous_response_id") if request.wire == "openai-responses" else None
        if not previous:
            return request
        before = self.owner.conversation(previous)
        if before is None:
            raise _UnknownResponse(f"Previous response with id {previous!r} not found.")
        return replace(request, messages=before + request.messages)

    def _deliver(self, request: ModelRequest, reply: Reply, wire: WireFormat, request_id: str) -> None:
        owner, extra = self.owner, wire.headers(request_id)
        usage = estimate_usage(request, reply) if reply.usage == "estimate" else reply.usage
        if reply.latency_s:
            owner.closing.wait(reply.latency_s)
        fault = reply.fault
        if isinstance(fault, ErrorInStream) and not request.stream:
            fault = Refusal(500)
        match fault:
            case Refusal() if owner.is_refused(fault, request):
                message = fault.message or f"{phrase(fault.status)} (the model's name asks for it)"
                # The SDKs take `retry-after-ms` first; `retry-after` is for those that know only the standard.
                wait = {"retry-after-ms": str(fault.retry_after_ms), "retry-after": "0"}
                self._json(fault.status, wire.error(fault.status, message, request_id), extra | wait)
            case Silence():
                self._wait_for_hang_up(fault.seconds)
                self.close_connection = True
            case HtmlPage():
                page = f"<html><head><title>{fault.status} {phrase(fault.status)}</title></head></html>\n"
                self._answer(fault.status, {"content-type": "text/html"}, page.encode())
            case _ if request.stream:
                frames = wire.stream(request, reply, usage)
                self._remember(request, wire, reply, usage)
                self._stream(request, reply, faulty_frames(frames, reply, request, wire), extra)
            case _:
                body = dumps(wire.render(request, reply, usage))
                self._remember(request, wire, reply, usage)
                if isinstance(fault, Malformed):
                    body = body[: len(body) // 2]
                coding = {"content-encoding": reply.encoding} if reply.encoding else {}
                kind = {"content-type": "application/json"}
                self._answer(200, kind | coding | extra, encoded(body, reply), cut=isinstance(fault, CutOff))

    def _remember(self, request: ModelRequest, wire: WireFormat, reply: Reply, usage: Usage | None) -> None:
        if request.wire == "openai-responses" and request.body.get("store") is not False:
            said = wire.render(request, reply, usage)
            # Parsed back from the wire, so that the calls have the ids the client was given.
            heard = wire.parse({"input": said["output"]}, model=request.model, framing="body").messages
            self.owner.remember(said["id"], request.messages + heard)

    def _stream(self, request: ModelRequest, reply: Reply, frames: list[bytes], extra: dict[str, str]) -> None:
        """Send each frame as it is due. Not chunked for a client of HTTP/1.0: its stream ends with the connection."""
        chunked = self.request_version != "HTTP/1.0"
        kind = "text/event-stream; charset=utf-8" if request.framing == "sse" else "application/json; charset=utf-8"
        headers = {"content-type": kind, "cache-control": "no-cache"} | extra
        if reply.encoding:
            headers["content-encoding"] = reply.encoding
        headers["transfer-encoding" if chunked else "connection"] = "chunked" if chunked else "close"
        self._send(self._head(200, headers))
        coder = coder_for(reply)
        for number, frame in enumerate(frames):
            if number and reply.chunk_delay_s and self.owner.closing.wait(reply.chunk_delay_s):
                self.close_connection = True
                return
            data = coder.compress(frame) + coder.flush(zlib.Z_SYNC_FLUSH) if coder else frame
            self._send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        if isinstance(reply.fault, CutOff):
            self._abandon()
            return
        tail = coder.flush() if coder else b""
        ending = b"%x\r\n%b\r\n" % (len(tail), tail) if tail and chunked else tail
        self._send(ending + b"0\r\n\r\n" if chunked else ending)

    def _json(self, status: int, body: object, extra: Mapping[str, str] | None = None) -> None:
        self._answer(status, {"content-type": "application/json"} | dict(extra or {}), dumps(body))

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        # Head and body in one write: two would be two packets, and the second would wait for an ACK.
        head = self._head(status, headers | {"content-length": str(len(body))})
        self._send(head + (body[: len(body) // 2] if cut else body))
        if cut:
            self._abandon()

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} {phrase(status)}", f"date: {_DATE}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send(self, data: bytes) -> None:
        if data:
            self.connection.sendall(data)

    def _abandon(self) -> None:
        """Close with an answer under way: the client sees the connection end early."""
        self.close_connection = True

    def _wait_for_hang_up(self, seconds: float) -> None:
        """Return when the client closes, the server closes, or the time is over."""
        step = 0.02
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            for _ in range(int(seconds / step)):
                if self.owner.closing.is_set():
                    return
                if selector.select(step):
                    return  # closed, or a client that sends more without waiting, which is over just the same

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            return b"".join(self._chunks())
        return self._read(int(self.headers.get("content-length") or 0))

    def _chunks(self) -> Iterable[bytes]:
        while size := int(self._read_line().partition(b";")[0], 16):
            yield self._read(size)
            self._read_line()
        while self._read_line().strip():
            continue  # trailers

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionResetError("the client closed within its request body")
        return data

    def _read_line(self) -> bytes:
        line = self.rfile.readline()
        if not line:
            raise ConnectionResetError("the client closed within its request body")
        return line


def _parsed(found: Route, wire: WireFormat, raw: bytes) -> ModelRequest:
    body = json.loads(raw)
    if not isinstance(body, dict):
        raise TypeError("the body is no JSON object")
    model = found.model or body["model"]
    framing: Framing = found.framing or ("sse" if body.get("stream") else "body")
    return wire.parse(body, model=str(model), framing=framing)


def _models() -> dict[str, Any]:
    """One list that the OpenAI, Anthropic and Gemini SDKs all read."""
    listed = [
        {
            "id": name,
            "object": "model",
            "created": CREATED,
            "owned_by": "unspool",
            "type": "model",
            "display_name": name,
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
        }
        for name in BEHAVIOURS
    ]
    named = [{"name": f"models/{name}", "displayName": name} for name in BEHAVIOURS]
    ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"], "has_more": False}
    return {"object": "list", "data": listed, "models": named, **ends}
