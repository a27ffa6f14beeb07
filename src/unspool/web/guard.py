"""Who may talk to the web view: only a browser that was given the token, from this machine's own address.

A recording holds prompts, results and file names, so no other page open in the same browser may read it (Host, Origin,
SameSite), no other user of the machine (token), and nothing in a recording may run as code (the policy in every
answer). Forms start programs, so they are taken only where forking is on, from a page of this server itself: its origin
must be named, and the form must hold the token that only its pages know (`answering.form_route` looks for that).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

from msgspec import Struct, field
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from unspool.web.doorstep import NO_TOKEN, asking, goal, opening

__all__ = ["LARGEST_FORM", "POLICY", "Door", "Guard", "is_loopback"]

LARGEST_FORM: Final = 16 << 20  # bytes; text that is not ASCII is three times as long in a form

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# No inline script or style, nothing from elsewhere. Pictures in messages are data: addresses of pixels.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Door(Struct, frozen=True):
    """Where the server listens and what it asks for.

    Attributes:
        token: what the address must hold; None where none is asked for.
        forking: whether forms are taken, which start programs.
        key: new for each server; the token in its forms is made from it.
    """

    host: str
    port: int
    token: str | None
    forking: bool = False
    key: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def cookie(self) -> str:
        """The cookie's name: cookies do not tell ports apart."""
        return f"unspool-{self.port}"

    @property
    def secret(self) -> str:
        """The cookie's value, from which the token cannot be had."""
        return hmac.new((self.token or "").encode(), b"unspool web cookie", hashlib.sha256).hexdigest()

    @property
    def form_token(self) -> str:
        """What every form must hold besides the cookie: it is in the pages, which no other site can read."""
        return hmac.new(self.key.encode(), b"unspool web form " + self.secret.encode(), hashlib.sha256).hexdigest()

    @property
    def origin(self) -> str:
        """The address of the server as a browser writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def answers_to(self, host: str) -> bool:
        """Whether a `Host` header names this server.

        A page of another site can make its own name point here (DNS rebinding), and is then refused by its name. On an
        address that is not loopback, every literal address is taken: it is no name that somebody else may own.
        """
        name, port = _split(host)
        if port != self.port:
            return False
        if name in ("localhost", self.host.lower()) or (is_loopback(self.host) and is_loopback(name)):
            return True
        return not is_loopback(self.host) and (_is_address(name) or name == socket.gethostname().lower())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split(host: str) -> tuple[str, int]:
    """Name and port of a `Host` header, the name without brackets; port 0 if it cannot be read."""
    name, colon, port = host.rpartition(":")
    if not colon or "]" in port:
        name, port = host, "80"
    return name.strip("[]").lower(), int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0


class Guard:
    """Middleware that refuses whoever has no business here, and puts the policy into every answer."""

    def __init__(self, app: App, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page opens a WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        is_static = str(scope["path"]).startswith("/static/")

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-cache" if is_static else "no-store")
            await send(message)

        refusal = self._refusal(scope, is_static)
        await (self._app if refusal is None else refusal)(scope, receive, send_with_policy)

    def _refusal(self, scope: Scope, is_static: bool) -> Response | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._door.answers_to(host):
            return PlainTextResponse(f"This server is {self._door.origin}, and has no other name.\n", 421)
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host}".lower():
            return PlainTextResponse("Another site asked for this, which no other site may.\n", 403)
        if headers.get(b"sec-fetch-site") == b"cross-site" and headers.get(b"sec-fetch-mode") != b"navigate":
            return PlainTextResponse("Another site asked for this, which no other site may.\n", 403)
        posts = scope["method"] == "POST" and self._door.forking and not is_static
        if scope["method"] not in ("GET", "HEAD") and not posts:
            allowed = "GET, HEAD, POST" if self._door.forking and not is_static else "GET, HEAD"
            return PlainTextResponse(f"This only shows: {allowed}.\n", 405, {"allow": allowed})
        if posts and (refusal := _form_refusal(headers)) is not None:
            return refusal
        if self._door.token is None or is_static:
            return None
        given = parse_qs(bytes(scope["query_string"]).decode("latin-1")).get("token")
        where = goal(str(scope["path"]), bytes(scope["query_string"]))
        if given is not None and not posts:
            return self._enter(given[-1], where, headers)
        if _same(_cookie(headers, self._door.cookie), self._door.secret):
            return None
        return HTMLResponse(asking(where), 401) if _is_person(headers) else PlainTextResponse(NO_TOKEN, 401)

    def _enter(self, token: str, where: str, headers: dict[bytes, bytes]) -> Response:
        if not _same(token, self._door.token or ""):
            if _is_person(headers):
                return HTMLResponse(asking(where, was_wrong=True), 401)
            return PlainTextResponse("That is not the token of this server.\n" + NO_TOKEN, 401)
        answer = HTMLResponse(opening(where))
        answer.set_cookie(self._door.cookie, self._door.secret, httponly=True, samesite="strict", path="/")
        return answer


def _is_person(headers: dict[bytes, bytes]) -> bool:
    """Whether a page is asked for, as browsers do when somebody follows a link."""
    return b"text/html" in headers.get(b"accept", b"")


def _form_refusal(headers: dict[bytes, bytes]) -> Response | None:
    """Why a form is not taken, by its headers alone; that an origin that is named is this server's was seen before."""
    if b"origin" not in headers:
        return PlainTextResponse("A form must say where it comes from: it has no Origin.\n", 403)
    if headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
        return PlainTextResponse("Another site asked for this, which no other site may.\n", 403)
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/x-www-form-urlencoded":
        return PlainTextResponse("Only forms are taken: application/x-www-form-urlencoded.\n", 415)
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or b"transfer-encoding" in headers:
        return PlainTextResponse("A form must say how long it is.\n", 411)
    if len(length) > 12 or int(length) > LARGEST_FORM:
        most = f"{LARGEST_FORM >> 20} MB"
        return PlainTextResponse(
            f"The form is larger than {most}. Fork on the command line: unspool fork … --edit\n", 413
        )
    return None


def _cookie(headers: dict[bytes, bytes], name: str) -> str:
    # By hand: cookies know no ports, so those of other local programs come too, and `http.cookies` gives up on all of
    # them at the first it does not like.
    for one in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        found, _, value = one.strip().partition("=")
        if found == name:
            return value
    return ""


def _same(given: str, wanted: str) -> bool:
    """Equal, in a time that does not tell how far."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())
