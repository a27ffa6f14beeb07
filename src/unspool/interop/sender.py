"""Sending OTLP over HTTP: one message at a time, retried as the receiver asks, configured as every exporter is."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from unspool import __version__
from unspool.errors import UnspoolError, UsageError
from unspool.interop.otlp import Carried, OtlpSpan
from unspool.interop.otlp_json import write_json
from unspool.interop.otlp_proto import write_proto

__all__ = ["Endpoint", "SendFault", "Sender", "endpoint_from"]

_PATH: Final = "/v1/traces"
_DEFAULT: Final = "http://localhost:4318"
_RETRIED: Final = (408, 429, 502, 503, 504)  # what OTLP/HTTP says may be sent again, and a timeout
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_TIMEOUT_S: Final = 10.0


class SendFault(UnspoolError):
    """A message did not arrive. `final`: sending it again would not help."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.final = final


class Endpoint(Struct, frozen=True):
    """Where spans are sent, and how."""

    url: str
    headers: dict[str, str] = {}
    protocol: str = "http/protobuf"
    compress: bool = True
    timeout_s: float = _TIMEOUT_S
    certificate: str | None = None
    resource: dict[str, str] = {}


def endpoint_from(url: str, environ: Mapping[str, str]) -> Endpoint:
    """The endpoint of a URL ("" leaves it to the environment) and of the standard `OTEL_…` variables.

    A URL without a path gets `/v1/traces`, as OTEL_EXPORTER_OTLP_ENDPOINT does; one with a path is taken as it is.

    Raises:
        UsageError: the URL or the protocol is none that can be used.
    """

    def setting(name: str) -> str:
        own = environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}")
        return own if own else environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")

    if not url:
        url = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        if not url:
            url = (environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT).rstrip("/") + _PATH
    elif urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + _PATH
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError(f"{url!r} is no URL of an OTLP/HTTP endpoint. Give for example: --otlp http://127.0.0.1:4318")
    protocol = setting("PROTOCOL") or "http/protobuf"
    if protocol not in ("http/protobuf", "http/json"):
        raise UsageError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: unspool sends http/protobuf and http/json")
    try:
        timeout_s = float(setting("TIMEOUT") or _TIMEOUT_S)
    except ValueError:
        raise UsageError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {setting('TIMEOUT')!r}, not a number of seconds") from None
    resource = _pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if environ.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = environ["OTEL_SERVICE_NAME"]
    return Endpoint(
        url=url,
        headers=_pairs(setting("HEADERS")),
        protocol=protocol if protocol == "http/json" or _has_proto() else "http/json",
        compress=setting("COMPRESSION") != "none",
        timeout_s=timeout_s,
        certificate=setting("CERTIFICATE") or None,
        resource=resource,
    )


def _pairs(text: str) -> dict[str, str]:
    """`a=1,b=2`, percent-encoded, as the OTEL variables have lists."""
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            found[unquote(name.strip())] = unquote(value.strip())
    return found


def _has_proto() -> bool:
    from importlib.util import find_spec

    try:
        return find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:
        return False


class Sender:
    """Sends messages to an endpoint.

    Args:
        stop: set it to end a wait between tries.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self, endpoint: Endpoint, *, stop: threading.Event | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoint = endpoint
        self._stop = stop or threading.Event()
        self._clock = clock
        context = ssl.create_default_context(cafile=endpoint.certificate) if endpoint.url.startswith("https") else None
        handlers: list[Any] = [_NoRedirect()]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def send(self, groups: list[tuple[Carried, list[OtlpSpan]]], *, until: float | None = None) -> None:
        """Send spans, again and again as long as that may help.

        Args:
            until: the instant of the clock at which to give up; by default not before the stop event is set.

        Raises:
            SendFault: they did not arrive, as far as is known.
        """
        is_json = self.endpoint.protocol == "http/json"
        body = write_json(groups) if is_json else write_proto(groups)
        headers = {
            **self.endpoint.headers,
            "Content-Type": "application/json" if is_json else "application/x-protobuf",
            "User-Agent": f"unspool/{__version__}",
        }
        if self.endpoint.compress:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        wait = _FIRST_WAIT_S
        while True:
            fault, asked = self._try(body, headers)
            if fault is None:
                return
            pause = max(wait, asked)
            if fault.final or self._stop.is_set() or (until is not None and self._clock() + pause > until):
                raise fault
            self._stop.wait(pause)
            wait = min(wait * 2, _LONGEST_WAIT_S)

    def _try(self, body: bytes, headers: dict[str, str]) -> tuple[SendFault | None, float]:
        """Send once; what went wrong, and how many seconds the receiver wants to be left alone."""
        request = urllib.request.Request(self.endpoint.url, data=body, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self.endpoint.timeout_s) as response:
                response.read()
            return None, 0.0
        except urllib.error.HTTPError as exc:
            with exc:
                said = exc.read(500).decode("utf-8", "replace").strip()
            reason = f"{self.endpoint.url} answered {exc.code} {exc.reason}" + (f": {said}" if said else "")
            return SendFault(reason, final=exc.code not in _RETRIED), _seconds(exc.headers.get("Retry-After"))
        except (OSError, ValueError) as exc:
            cause = getattr(exc, "reason", None) or exc
            return SendFault(f"{self.endpoint.url} cannot be reached: {cause}", final=False), 0.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its body, and carry its headers elsewhere."""

    def redirect_request(self, *_args: Any) -> None:
        return None


def _seconds(text: str | None) -> float:
    """A `Retry-After`: seconds or a date; 0 if it is neither."""
    if not text:
        return 0.0
    try:
        return min(max(float(text), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        pass
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0), _LONGEST_WAIT_S)
    except (ValueError, TypeError):
        return 0.0
