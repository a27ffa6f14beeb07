"""A cassette made of a recording, and recordings made of a cassette, so that what reads recordings serves tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from unspool.capture.answers import CLOSED
from unspool.capture.exchange import Exchange
from unspool.capture.flow import Flow
from unspool.capture.process import AgentProcess, Lineage
from unspool.events import Body, ErrorData, HttpRequest, HttpResponse
from unspool.pytest_plugin.bodies import CassetteBody, body_bytes, body_pieces, readable_body
from unspool.pytest_plugin.cassette import (
    Cassette,
    CassetteExchange,
    CassetteProcess,
    CassetteRequest,
    CassetteResponse,
)
from unspool.recording.reader import RecordReader
from unspool.serving.offers import collect_offers, make_plan
from unspool.serving.plan import Offer, Plan
from unspool.store import Store, new_hex_id

__all__ = ["made_plan", "to_cassette", "to_recordings"]

# What a program may act on. All else is about the connection, the moment, or the account.
_KEPT_HEADERS: Final = frozenset(
    (
        *("content-type", "content-encoding", "content-disposition", "content-language", "content-range"),
        *("location", "link", "etag", "last-modified", "www-authenticate", "mcp-session-id"),
        *("retry-after", "retry-after-ms", "x-should-retry"),
    )
)
_REDACTED: Final = "REDACTED"


# --- a recording as a cassette ---------------------------------------------------------------------------------------


def to_cassette(readers: Sequence[RecordReader], test: str, *, last_seq: int | None = None) -> tuple[Cassette, int]:
    """The exchanges of a run tree, and how many were left out because they had not come to an end.

    Args:
        readers: the test's own recording first, parents before children.
        last_seq: of the first recording, the last event of the test itself; later ones are of its teardown.
    """
    numbers = {reader.record_id: number for number, reader in enumerate(readers)}
    by_id = {reader.record_id: reader for reader in readers}
    found: list[CassetteExchange] = []
    lost = 0
    for offer in collect_offers(readers):
        if offer.kind == "tool":
            continue
        exchange = _exchange(by_id[offer.record_id], offer)
        if exchange is None:
            lost += 1
            continue
        exchange.process = numbers[offer.record_id]
        began = offer.snapshot or offer.syscall or 0
        exchange.after_test = last_seq is not None and exchange.process == 0 and began > last_seq
        found.append(exchange)
    found.sort(key=lambda one: (one.process, _task_order(one.task)))  # stable: in the order of their start
    processes = [
        CassetteProcess(numbers.get(metadata.parent or "", 0), metadata.role, metadata.intent)
        for metadata in (reader.metadata for reader in readers[1:])
    ]
    return Cassette(test, found, processes if any(one.process for one in found) else []), lost


def _task_order(task: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in task.split("."))


def _exchange(reader: RecordReader, offer: Offer) -> CassetteExchange | None:
    request: HttpRequest | None = None
    response: HttpResponse | None = None
    error: ErrorData | None = None
    for number in filter(None, (offer.snapshot, offer.syscall, offer.response)):
        event = reader.event(number)
        if event.context is not None:
            request = event.context.request
        elif event.syscall is not None:
            request = event.syscall.request or request
            response, error = event.syscall.response, event.syscall.error
        elif event.llm is not None:
            response = event.llm.response
            # A response that says what went wrong says it in its body.
            error = event.llm.error if response is None or not response.complete else None
    if request is None or request.method is None or request.url is None or (response is None and error is None):
        return None
    closed = response is not None and not response.complete and (response.ended or "").startswith(CLOSED)
    return CassetteExchange(
        CassetteRequest(request.method, request.url, body=_body(reader, request.body)),
        None if response is None else _response(reader, response, closed=closed),
        None if closed or (response is not None and response.complete) else error,
        task=offer.task,
        unordered=offer.unordered,
    )  # fmt: skip


def _response(reader: RecordReader, response: HttpResponse, *, closed: bool) -> CassetteResponse:
    body = response.body
    decoded = body is None or not (body.encoding or "").endswith("(not decoded)")
    headers = {
        name.lower(): value
        for name, value in response.headers or []
        if name.lower() in _KEPT_HEADERS and value != _REDACTED and not (decoded and name.lower() == "content-encoding")
    }
    return CassetteResponse(response.status, dict(sorted(headers.items())), _body(reader, body), closed)


def _body(reader: RecordReader, body: Body | None) -> CassetteBody | None:
    data = reader.body(body) if body is not None and body.size else None
    return readable_body(data) if data else None


# --- a cassette as recordings ----------------------------------------------------------------------------------------


def to_recordings(cassette: Cassette, store: Store) -> list[Path]:
    """Write the recordings that a cassette stands for; gives their folders, the test's own first.

    Raises:
        ValueError: a body of it cannot be read.
        StoreError: they cannot be written.
    """
    lineage = Lineage(store=str(store.path), trace_id=new_hex_id())
    processes = [AgentProcess(lineage, intent=cassette.test, role="agent")]
    processes[0].ensure()
    for one in cassette.processes:
        process = AgentProcess(processes[one.parent].child_lineage(), intent=one.intent, role=one.role)
        process.ensure()
        processes.append(process)
    for exchange in cassette.exchanges:
        _write(processes[exchange.process], exchange)
    folders = []
    for process in processes:
        process.end("made from a cassette")
        assert process.recorder is not None
        folders.append(process.recorder.record_dir)
    return folders


class _Rewritten(Exchange):
    """An exchange that ends with an error of which only the description is there."""

    def end_with(self, broken: ErrorData) -> None:
        body = b"".join(self._chunks)
        ended = f"{broken.type}: {broken.message}" if self._status is not None else None
        write = self._write_model_call if self.provider is not None else self._write_http
        self.process.perform(
            lambda recorder: write(recorder, self._last_ns, body, self._encoding, ended=ended, broken=broken)
        )
        self.process.finished(self)
        self._done = True


def _write(process: AgentProcess, exchange: CassetteExchange) -> None:
    asked = exchange.request
    body = body_bytes(asked.body) if asked.body is not None else b""
    made = _Rewritten(Flow(process, exchange.task), "cassette", asked.method, asked.url, headers=(), body=body)
    made.at = None
    made.start()
    response = exchange.response
    if response is not None:
        made.headers(response.status, None, list(response.headers.items()))
        for piece in body_pieces(response.body) if response.body is not None else ():
            made.chunk(piece)
    if exchange.error is not None:
        made.end_with(exchange.error)
    else:
        made.finish(CLOSED if response is not None and response.closed else None)


def made_plan(cassette: Cassette, readers: Sequence[RecordReader]) -> tuple[Plan, list[Offer], list[CassetteExchange]]:
    """The plan and the offers that serve a cassette, and the exchange each offer is.

    Args:
        readers: of the recordings that `to_recordings` wrote.
    """
    plan, offers = make_plan(readers, pin=False, tools=False)
    waiting: list[list[CassetteExchange]] = [[] for _ in readers]
    for exchange in reversed(cassette.exchanges):
        waiting[exchange.process].append(exchange)
    numbers = {reader.record_id: number for number, reader in enumerate(readers)}
    offers.sort(key=lambda offer: (numbers[offer.record_id], offer.snapshot or offer.syscall or 0))
    exchanges = [waiting[numbers[offer.record_id]].pop() for offer in offers]
    for number, (offer, exchange) in enumerate(zip(offers, exchanges, strict=True), 1):
        offer.number = number
        offer.unordered = exchange.unordered  # they were written one after another, however they ran
    return plan, offers, exchanges
