"""A recorded request as a command line and as a program, with credentials taken from the environment."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Final

from unspool.events import HttpRequest
from unspool.replay.livecall import REDACTED

__all__ = ["as_curl", "as_python"]

# Of the connection it was sent on, not of the request.
_NOT_SENT: Final = frozenset(
    {"host", "content-length", "connection", "transfer-encoding", "accept-encoding", "keep-alive", "content-encoding"}
)
_BODY_MAX: Final = 200_000


def as_curl(request: HttpRequest, body: bytes | None) -> str:
    """A `curl` command for a POSIX shell. Credentials, which are not recorded, are `$VARIABLES` to be set before."""
    lines = [f"curl -sS -X {shlex.quote(request.method or 'POST')} {shlex.quote(request.url or '')}"]
    for name, value in _headers(request):
        variable = _variable(name, value, request.url or "")
        if variable is None:
            lines.append(f"-H {shlex.quote(f'{name}: {value}')}")
        else:
            scheme = "Bearer " if name.lower() == "authorization" else ""
            lines.append(f'-H "{name}: {scheme}${variable}"')
    text = _text(body)
    if text:
        lines.append(f"--data-binary {shlex.quote(text)}")
    elif body:
        lines.append("--data-binary @request-body")
    return " \\\n  ".join(lines)


def as_python(request: HttpRequest, body: bytes | None) -> str:
    """A Python program with nothing but the standard library, which does the same."""
    headers = []
    for name, value in _headers(request):
        variable = _variable(name, value, request.url or "")
        if variable is None:
            headers.append(f"    {name!r}: {value!r},")
        elif name.lower() == "authorization":
            headers.append(f'    {name!r}: "Bearer " + os.environ["{variable}"],')
        else:
            headers.append(f'    {name!r}: os.environ["{variable}"],')
    text = _text(body)
    document = _document(text)
    if document is not None:
        given = f"json.dumps({document}).encode()"
    elif text:
        given = f"{text!r}.encode()"
    else:
        given = 'open("request-body", "rb").read()' if body else "None"
    return "\n".join(
        [
            "import json",
            "import os",
            "import urllib.request",
            "",
            f"body = {given}",
            "headers = {",
            *headers,
            "}",
            f"url = {request.url or ''!r}",
            f"request = urllib.request.Request(url, body, headers, method={request.method or 'POST'!r})",
            "with urllib.request.urlopen(request) as response:",
            "    print(response.read().decode())",
            "",
        ]
    )


def _headers(request: HttpRequest) -> Iterator[tuple[str, str]]:
    for name, value in request.headers or []:
        if name.lower() not in _NOT_SENT and re.fullmatch(r"[A-Za-z0-9!#%&'*+.^_|~-]+", name):
            yield name, value


def _variable(name: str, value: str, url: str) -> str | None:
    """The environment variable for a header whose value is not recorded; None for any other header."""
    if REDACTED not in value:
        return None
    for part, variable in (
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("googleapis", "GEMINI_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
    ):
        if part in url and name.lower() in ("authorization", "x-api-key", "api-key", "x-goog-api-key"):
            return variable
    if name.lower() in ("authorization", "x-api-key", "api-key"):
        return "API_KEY"
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") or "SECRET"


def _text(body: bytes | None) -> str:
    if not body or len(body) > _BODY_MAX:
        return ""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return ""
    return "" if "\x00" in text else text


def _document(text: str) -> str | None:
    """A JSON body as the source of a Python value."""
    try:
        value = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict | list):
        return None
    import pprint

    return pprint.pformat(value, width=100, sort_dicts=False)
