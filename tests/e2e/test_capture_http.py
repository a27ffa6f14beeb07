"""HTTP libraries without an SDK: each leg of a request is recorded, byte for byte, and nothing about them changes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import pytest
from capture_harness import (
    Call,
    Recording,
    Result,
    Wire,
    Wiretap,
    assert_same_bytes,
    assert_whole,
    recordings,
    run_agent,
)
from capture_webserver import PIECES, TEXT, web_server

from unspool.events import RecordEvent, SyscallEventData

for library in ("httpx", "httpx2", "requests", "aiohttp"):
    pytest.importorskip(library)


class Exchange(NamedTuple):
    """A recorded HTTP syscall."""

    event: RecordEvent
    data: SyscallEventData
    sent: bytes | None
    got: bytes | None

    @property
    def path(self) -> str:
        return str(self.data.args["url"]).partition("//")[2].partition("/")[2]


class Web(NamedTuple):
    plain: Result
    recorded: Result
    recording: Recording
    wire: list[Wire]

    def of(self, scenario: str) -> list[Exchange]:
        """The HTTP exchanges that a scenario's function made, by the line of the agent that made them."""
        found = []
        for event, sent, got in self.recording.http:
            assert event.syscall is not None
            if (event.at or "").endswith(f" {scenario}"):
                found.append(Exchange(event, event.syscall, sent, got))
        return found

    def calls(self, scenario: str) -> list[Call]:
        return [call for call in self.recording.calls if (call.syscall.at or "").endswith(f" {scenario}")]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Web:
    store: Path = tmp_path_factory.mktemp("http") / "store"
    with web_server() as port:
        plain = run_agent("http_calls", store=None, MODEL_URL=f"http://127.0.0.1:{port}")
    with web_server() as port:
        tap = Wiretap(port)
        recorded = run_agent("http_calls", store=store, MODEL_URL=tap.url)
        wire = tap.exchanges()
        tap.close()
    [recording] = recordings(store)
    return Web(plain, recorded, recording, wire)


def test_the_program_does_not_notice(web: Web) -> None:
    assert web.recorded.lines == web.plain.lines
    assert web.recorded.stderr == web.plain.stderr
    assert web.recorded.code == web.plain.code == 0
    assert web.recording.metadata.lost_events == 0


def test_pieces_pass_as_they_come(web: Web) -> None:
    """The server sends a piece only after the program has said that it has the one before."""
    facts = web.recorded.facts()
    for name in ("httpx_stepwise", "httpx2_stepwise", "httpx2_async_stepwise", "requests_stepwise", "aiohttp_stepwise"):
        assert facts[name] == [piece.decode() for piece in PIECES], name


def test_bodies_are_those_on_the_wire(web: Web) -> None:
    assert_whole(web.recording.calls)
    recorded = [(call.request_body, call.response, call.response_body) for call in web.recording.calls]
    for event, sent, got in web.recording.http:
        assert event.syscall is not None
        url = str(event.syscall.args["url"])
        if "nowhere.invalid" not in url and ":9/" not in url and event.syscall.args["method"] == "POST":
            recorded.append((sent or b"", event.syscall.response, got))
    posts = [one for one in web.wire if one.request.method == "POST"]
    assert_same_bytes(recorded, posts)
    assert len(posts) >= 12


@pytest.mark.parametrize("library", ["httpx", "httpx2", "requests", "urllib3", "aiohttp"])
@pytest.mark.parametrize("kind", ["page", "unzipped"])
def test_a_page(web: Web, library: str, kind: str) -> None:
    [exchange] = web.of(kind if library.startswith("httpx") else f"{library}_{kind}")[:1]
    response = exchange.data.response
    assert response is not None
    assert (response.status, exchange.got, response.complete) == (200, TEXT, True)
    assert response.body is not None
    assert response.body.encoding == ("gzip" if kind == "unzipped" else None)
    assert exchange.data.err == ""
    assert exchange.data.duration > 0
    assert exchange.data.ttft is not None
    assert exchange.sent in (b"", None)


@pytest.mark.parametrize("library", ["httpx", "requests", "aiohttp"])
def test_each_leg_of_a_redirect_is_an_exchange(web: Web, library: str) -> None:
    exchanges = web.of("redirected" if library == "httpx" else f"{library}_redirected")
    statuses = [exchange.data.response.status for exchange in exchanges if exchange.data.response is not None]
    assert statuses == [302, 200] * (2 if library == "httpx" else 1)
    # aiohttp drops the body of a redirect unread.
    assert [exchange.got for exchange in exchanges[:2]] == [b"" if library == "aiohttp" else b"elsewhere", TEXT]


def test_auth_legs_and_hooks_and_own_transports(web: Web) -> None:
    statuses = [one.data.response.status for one in web.of("digest_auth") if one.data.response is not None]
    assert statuses == [401, 200, 401, 200]
    [own] = web.of("httpx_own_transport")
    assert own.got == b"from a transport of my own"
    assert len(web.of("event_hooks")) == 2


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("requests_chunked", b"".join(PIECES)),
        ("requests_until_close", TEXT),
        ("requests_missing", b"nothing here"),
        ("urllib3_not_preloaded", TEXT),
        ("aiohttp_in_pieces", b"".join(PIECES)),
        ("aiohttp_chunks", TEXT),
        ("urllib3_raw_zipped", TEXT),
        ("aiohttp_raw_zipped", TEXT),
    ],
)
def test_whole_bodies_however_they_are_read(web: Web, scenario: str, expected: bytes) -> None:
    [exchange] = web.of(scenario)
    assert exchange.data.response is not None
    assert exchange.got == expected
    assert exchange.data.response.complete, exchange.data.response.ended


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("read_in_part", PIECES[0]),
        ("requests_read_in_part", PIECES[0]),
        ("requests_abandoned", TEXT[:10]),
        ("aiohttp_read_in_part", PIECES[0]),
        ("aiohttp_released_unread", b""),
    ],
)
def test_bodies_read_in_part(web: Web, scenario: str, expected: bytes) -> None:
    for exchange in web.of(scenario):
        assert exchange.data.response is not None
        assert not exchange.data.response.complete
        assert (exchange.got or b"").startswith(expected)
        assert len(exchange.got or b"") < len(TEXT)


@pytest.mark.parametrize("scenario", ["cut", "requests_cut", "urllib3_cut", "aiohttp_cut"])
def test_bodies_cut_by_the_server(web: Web, scenario: str) -> None:
    assert web.of(scenario)
    for exchange in web.of(scenario):
        assert exchange.data.response is not None, exchange.data
        assert not exchange.data.response.complete
        assert exchange.data.err
        assert exchange.got == TEXT[:100]


@pytest.mark.parametrize("scenario", ["head_and_none", "requests_head_and_none", "aiohttp_head_and_none"])
def test_responses_without_a_body(web: Web, scenario: str) -> None:
    for exchange in web.of(scenario):
        assert exchange.data.response is not None
        assert exchange.data.response.complete, exchange.data
        assert not exchange.got
        assert exchange.data.ttft is None


def test_a_refused_connection_is_an_error(web: Web) -> None:
    [exchange] = web.of("aiohttp_refused")
    assert exchange.data.response is None
    assert exchange.data.error is not None
    assert "ClientConnectorError" in exchange.data.err


def test_uploads_that_are_streamed_are_kept(web: Web) -> None:
    data = bytes(range(256)) * 100
    for scenario in ("streamed_upload", "httpx2_async", "requests_upload", "aiohttp_upload"):
        bodies = [one.sent for one in web.of(scenario) if one.data.args["method"] == "POST"]
        assert bodies
        assert set(bodies) == {data}, scenario
    for exchange in web.of("multipart_upload"):
        assert data in (exchange.sent or b"")


def test_sockets_of_recorded_requests_are_silent(web: Web) -> None:
    """What remains are those of `urllib.request`, which is not recorded otherwise."""
    assert {(event.at or "").rpartition(" ")[2] for event in web.recording.syscalls("Connect")} == {"ack"}


def test_gzip_is_what_the_server_sent(web: Web) -> None:
    zipped = [one.response for one in web.wire if one.request.target == "/gzip" and one.response is not None]
    assert {gzip.decompress(one.body) for one in zipped} == {TEXT}
