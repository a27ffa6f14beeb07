"""The file of one test: the exchanges it made, in a form fit for git.

Indented JSON whose order does not depend on the clock or on which task was faster. No times, no request headers, of
response headers only those that a program may act on; what capture takes for a credential is not in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from unspool.errors import UnspoolError
from unspool.events import ErrorData
from unspool.pytest_plugin.bodies import CassetteBody
from unspool.pytest_plugin.layout import fold_lines, layout_json, shared_lists, unfold_lines, with_shared

__all__ = [
    "SUFFIX",
    "BadCassette",
    "Cassette",
    "CassetteExchange",
    "CassetteProcess",
    "CassetteRequest",
    "CassetteResponse",
    "read_cassette",
    "write_cassette",
]

SUFFIX = ".unspool.json"
VERSION = 1


class BadCassette(UnspoolError):
    """A cassette that cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} cannot be read: {reason}. Record it again with: pytest --unspool=record")


class CassetteRequest(Struct, omit_defaults=True):
    """What was asked. No headers: they hold credentials and versions, and do not count when requests are compared.

    `same` stands in the file only: `{"messages": [2, 7]}` says that the list `messages` of the body begins with the
    first 7 elements of that of exchange 2.
    """

    method: str
    url: str
    same: dict[str, tuple[int, int]] = {}
    body: CassetteBody | None = None


class CassetteResponse(Struct, omit_defaults=True):
    """What came back. `closed`: the program closed the body before its end."""

    status: int
    headers: dict[str, str] = {}
    body: CassetteBody | None = None
    closed: bool = False


class CassetteExchange(Struct, omit_defaults=True):
    """One request and what became of it: a response, an error, or both if the body broke off.

    Attributes:
        task: its place in the tree of tasks and threads.
        process: the number of the process in `Cassette.processes`, 0 is the test's own.
        unordered: calls of its place ran beside each other, so that their order there means nothing.
        after_test: it was made by the teardown of a fixture.
    """

    request: CassetteRequest
    response: CassetteResponse | None = None
    error: ErrorData | None = None
    task: str = "0"
    process: int = 0
    unordered: bool = False
    after_test: bool = False


class CassetteProcess(Struct, omit_defaults=True):
    """A sub-agent or child process of the test: who started it (by number), and as what."""

    parent: int
    role: str
    intent: str


class Cassette(Struct, omit_defaults=True):
    """The exchanges of a test, those of each process and task in their order.

    Attributes:
        test: the test's name, for the reader.
        processes: besides the test's own, from 1.
    """

    test: str
    exchanges: list[CassetteExchange]
    processes: list[CassetteProcess] = []


def read_cassette(path: Path) -> Cassette:
    """The cassette in a file.

    Raises:
        BadCassette: it cannot be read, or a newer unspool wrote it.
    """
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as exc:
        raise BadCassette(path, exc.strerror or str(exc)) from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise BadCassette(path, f"it is no JSON ({exc})") from exc
    version = document.get("unspool_cassette") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise BadCassette(path, "it is no cassette of unspool")
    if version > VERSION:
        raise BadCassette(path, f"it has version {version}, this unspool reads up to {VERSION}; install a newer one")
    try:
        found = msgspec.convert(document, Cassette)
    except msgspec.ValidationError as exc:
        raise BadCassette(path, str(exc)) from exc
    try:
        _unfold(found)
    except (ValueError, RecursionError) as exc:
        raise BadCassette(path, str(exc)) from exc
    parents = range(len(found.processes) + 1)
    if any(one.process not in parents for one in found.exchanges):
        raise BadCassette(path, "an exchange names a process that is not there")
    if any(not 0 <= one.parent < number for number, one in enumerate(found.processes, 1)):
        raise BadCassette(path, "a process names a parent that does not come before it")
    return found


def write_cassette(path: Path, cassette: Cassette) -> None:
    """Write the file, whole or not at all, and the folders above it.

    Raises:
        OSError: it cannot be written.
    """
    document: dict[str, Any] = {"unspool_cassette": VERSION, **msgspec.to_builtins(_folded(cassette))}
    text = layout_json(document) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(text.encode("utf-8", "surrogatepass"))
    temporary.replace(path)


def _folded(cassette: Cassette) -> Cassette:
    """As it stands in the file: a growing conversation once, long texts line by line."""
    before: list[Any] = []
    exchanges: list[CassetteExchange] = []
    for exchange in cassette.exchanges:
        request, response = exchange.request, exchange.response
        whole = request.body.json if request.body is not None else UNSET
        if whole is not UNSET:
            left, same = shared_lists(whole, before)
            request = msgspec.structs.replace(request, same=same, body=CassetteBody(json=fold_lines(left)))
        before.append(whole)
        if response is not None and response.body is not None and response.body.json is not UNSET:
            body = CassetteBody(json=fold_lines(response.body.json))
            response = msgspec.structs.replace(response, body=body)
        exchanges.append(msgspec.structs.replace(exchange, request=request, response=response))
    return msgspec.structs.replace(cassette, exchanges=exchanges)


def _unfold(cassette: Cassette) -> None:
    """Undo `_folded`, in place."""
    before: list[Any] = []
    for exchange in cassette.exchanges:
        request, response = exchange.request, exchange.response
        if request.body is not None and request.body.json is not UNSET:
            request.body.json = with_shared(unfold_lines(request.body.json), request.same, before)
        request.same = {}
        before.append(request.body.json if request.body is not None else UNSET)
        if response is not None and response.body is not None and response.body.json is not UNSET:
            response.body.json = unfold_lines(response.body.json)
