"""One recorded request, sent for real: where to, with which credentials, and what came back. Standard library only."""

from __future__ import annotations

import http.client
import ipaddress
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

from msgspec import Struct

from unspool.errors import UnspoolError, UsageError
from unspool.events import LLMResponse
from unspool.providers import PROVIDERS
from unspool.providers.vendors import vendor_of_host
from unspool.replay.forkplan import ForkPlan
from unspool.text import show_text

__all__ = [
    "LiveAnswer",
    "LiveRequest",
    "SendFailed",
    "based_on",
    "key_names",
    "live_request",
    "send",
    "server_of",
    "with_credentials",
]

REDACTED: Final = "REDACTED"
# Made anew for each request, or meant for one connection.
_NOT_SENT: Final = frozenset(
    {"host", "content-length", "connection", "transfer-encoding", "accept-encoding", "keep-alive", "proxy-connection"}
)
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "azure": ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "openai": ("OPENAI_API_KEY",),
}
_BASES: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_BASE_URL",),
    "anthropic": ("ANTHROPIC_BASE_URL",),
    "google": ("GOOGLE_GEMINI_BASE_URL",),
}
_ORGANIZATION: Final = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}
_KEY_HEADERS: Final = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
_VERSION: Final = re.compile(r"v\d[a-z0-9]*")
_LARGEST_ANSWER: Final = 256 << 20


class SendFailed(UnspoolError):
    """The request could not be sent, or no whole answer came."""


class LiveRequest(Struct):
    """A request as it is about to be sent; credentials stand as REDACTED until `with_credentials`.

    Attributes:
        dropped: names of headers that carried other credentials and cannot be filled in.
    """

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    provider: str
    dropped: list[str] = []


class LiveAnswer(Struct):
    """What came back. `duration` is nanoseconds from sending to the last byte."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    duration: int
    response: LLMResponse


def live_request(plan: ForkPlan, base_url: str | None = None) -> LiveRequest:
    """The request to send: the recorded headers, without those of the connection and without cookies.

    Raises:
        UsageError: `base_url` is no URL of a server.
    """
    kept, dropped = [], []
    provider = plan.point.provider
    for name, value in plan.point.headers:
        lower = name.lower()
        if lower in _NOT_SENT:
            continue
        if REDACTED in value and lower not in _KEY_HEADERS and lower not in _ORGANIZATION:
            dropped.append(name)
            continue
        kept.append((name, value))
    if not any(name.lower() == "content-type" for name, _ in kept):
        kept.append(("content-type", "application/json"))
    where = plan.url if base_url is None else based_on(base_url, provider, plan.url)
    return LiveRequest(plan.point.method, where, kept, plan.body, provider, dropped)


def based_on(base_url: str, provider: str, url: str) -> str:
    """`url` at another server; the base is as the provider's SDK takes it (`https://api.openai.com/v1`).

    Raises:
        UsageError: it is no http or https URL.
    """
    base, old = server_of(base_url), urlsplit(url)
    segments = [part for part in old.path.split("/") if part]
    own = [part for part in base.path.split("/") if part]
    start = next((index for index, part in enumerate(segments) if _VERSION.fullmatch(part)), None)
    if start is None:  # no version in the path: what the wire format ends with
        suffix = next((one for one in PROVIDERS[provider].suffixes if old.path.endswith(one)), old.path)
        tail = [part for part in suffix.split("/") if part]
    else:
        # The OpenAI SDK's base has the version in it, those of the others do not.
        has_version = not provider.startswith(("anthropic", "gemini")) or bool(own and _VERSION.fullmatch(own[-1]))
        tail = segments[start + 1 :] if has_version else segments[start:]
    return urlunsplit((base.scheme, base.netloc, "/" + "/".join([*own, *tail]), old.query, ""))


def server_of(base_url: str) -> SplitResult:
    """The parts of the address of a server.

    Raises:
        UsageError: it is no http or https URL.
    """
    try:
        base = urlsplit(base_url)
        is_one = base.scheme in ("http", "https") and bool(base.hostname) and base.port != 0
    except ValueError:  # such as half an IPv6 address, or a port that there is not
        is_one = False
    if not is_one:
        raise UsageError(f"--base-url {base_url!r} is no URL. Write for example http://127.0.0.1:8000/v1")
    return base


# --- credentials -----------------------------------------------------------------------------------------------------


def with_credentials(
    request: LiveRequest, environ: Mapping[str, str], *, key_env: str | None = None, is_chosen: bool = False
) -> LiveRequest:
    """The request with the credentials of the environment in the places where the recorded one had its own.

    A recording may come from anybody, so a key goes only to its own vendor over TLS, to this machine, to the server
    that the vendor's variable names, or where the user says.

    Args:
        environ: where keys are looked up.
        key_env: the variable that holds the key, in place of the vendor's.
        is_chosen: the user named the server.

    Raises:
        UsageError: there is no key, or it would go to a server that nobody named.
    """
    places = [name for name, value in request.headers if name.lower() in _KEY_HEADERS and REDACTED in value]
    in_query = [name for name, value in parse_qsl(urlsplit(request.url).query) if value == REDACTED]
    if not places and not in_query:
        return request
    parts = urlsplit(request.url)
    names = key_names(request) if key_env is None else (key_env,)
    found = next((name for name in names if environ.get(name)), None)
    if found is None:
        raise UsageError(
            f"no key for {parts.hostname}: the recorded request had one in {', '.join([*places, *in_query])}. "
            f"Set {' or '.join(names)}, or name another variable with --key-env"
        )
    if not (is_chosen or key_env is not None or _is_trusted(request, environ)):
        raise UsageError(
            f"the recording names the server {parts.scheme}://{parts.netloc}, which {found} is not known to belong to. "
            f"If it may have this key, say so: --base-url {parts.scheme}://{parts.netloc}{_base_path(request)}"
        )
    key = environ[found]
    headers: list[tuple[str, str]] = []
    for name, value in request.headers:
        lower = name.lower()
        if lower in _ORGANIZATION and REDACTED in value:
            given = environ.get(_ORGANIZATION[lower])
            headers += [(name, given)] if given else []
        elif lower == "authorization" and REDACTED in value:
            headers.append((name, f"Bearer {key}"))
        elif lower in _KEY_HEADERS and REDACTED in value:
            headers.append((name, key))
        else:
            headers.append((name, value))
    url = request.url
    for name in in_query:
        url = url.replace(f"{name}={REDACTED}", f"{name}={quote(key, safe='')}")
    return LiveRequest(request.method, url, headers, request.body, request.provider, request.dropped)


def key_names(request: LiveRequest) -> tuple[str, ...]:
    """The environment variables in which the key of a request's vendor is looked for, in this order."""
    vendor = vendor_of_host(request.url) or PROVIDERS[request.provider].vendor
    return _KEYS.get(vendor) or (f"{vendor.upper()}_API_KEY",)


def _is_trusted(request: LiveRequest, environ: Mapping[str, str]) -> bool:
    parts = urlsplit(request.url)
    host = parts.hostname or ""
    if _is_loopback(host):
        return True
    if vendor_of_host(request.url) is not None and parts.scheme == "https":
        return True
    bases = (environ.get(name) for name in _BASES.get(PROVIDERS[request.provider].vendor, ()))
    return any(base and _same_server(base, parts) for base in bases)


def _same_server(base: str, parts: SplitResult) -> bool:
    try:
        return urlsplit(base)[:2] == (parts.scheme, parts.netloc)
    except ValueError:  # the variable holds no URL
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _base_path(request: LiveRequest) -> str:
    path = urlsplit(request.url).path
    suffix = next((one for one in PROVIDERS[request.provider].suffixes if path.endswith(one)), "")
    base = path.removesuffix(suffix) if suffix.startswith("/") else ""
    return base.removesuffix("/v1") if request.provider == "anthropic" else base


# --- sending ---------------------------------------------------------------------------------------------------------


def send(request: LiveRequest, *, timeout_s: float) -> LiveAnswer:
    """Send a request and read its answer whole; an answer with an error status is an answer.

    Redirects are not followed: they would take the key along.

    Raises:
        SendFailed: nothing, or not all, came back.
    """
    opener = urllib.request.build_opener(_NoRedirects)
    # urllib adds headers of its own where these are not given.
    headers = {"User-Agent": "unspool", **dict(request.headers), "Accept-Encoding": "identity"}
    asked = urllib.request.Request(request.url, data=request.body, headers=headers, method=request.method)
    began = time.monotonic_ns()
    try:
        with _opened(opener, asked, timeout_s) as response:
            body = response.read(_LARGEST_ANSWER)
            status, fields = response.status, list(response.headers.items())
    except http.client.IncompleteRead as exc:
        raise SendFailed(f"{_place(request)} ended its answer early, after {len(exc.partial)} bytes") from exc
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise SendFailed(f"cannot reach {_place(request)}: {show_text(str(reason) or type(exc).__name__)}") from exc
    except ValueError as exc:  # a header or URL that HTTP does not allow
        raise SendFailed(f"the request to {_place(request)} cannot be sent: {show_text(str(exc))}") from exc
    content_type = next((value for name, value in fields if name.lower() == "content-type"), None)
    parse = PROVIDERS[request.provider].parse_response
    answer = parse(request.url, body, content_type, status, True)
    return LiveAnswer(status, fields, body, time.monotonic_ns() - began, answer)


def _opened(opener: urllib.request.OpenerDirector, asked: urllib.request.Request, timeout_s: float) -> Any:
    try:
        return opener.open(asked, timeout=timeout_s)
    except urllib.error.HTTPError as exc:
        return exc  # it is the response


def _place(request: LiveRequest) -> str:
    parts = urlsplit(request.url)
    return show_text(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None
