"""Sending over OTLP: what is tried again, how long is waited, and what is given up. Against a real server."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unspool.interop.otlp import OtlpSpan
from unspool.interop.otlp_json import read_json
from unspool.interop.outgoing import own_carrier
from unspool.interop.sender import Endpoint, Sender, SendFault

GROUPS = [(own_carrier(), [OtlpSpan("a" * 32, "b" * 16, name="x", start_ns=1, end_ns=2)])]


class Waits(threading.Event):
    """A stop event on which nobody waits: what was asked for is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


@pytest.fixture
def server():
    """Answers with `answers`, one after the other, and the last of them from then on; `bodies` are what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            http.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            status, headers = http.answers.pop(0) if len(http.answers) > 1 else http.answers[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            """Nothing on stderr."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.answers, http.bodies = [(200, {})], []
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def sender(server, waits, **more):
    endpoint = Endpoint(url=f"http://127.0.0.1:{server.server_port}/v1/traces", protocol="http/json", compress=False)
    return Sender(endpoint, stop=waits, **more)


def test_a_receiver_that_has_no_time_is_asked_again_when_it_says(server):
    server.answers = [(503, {"Retry-After": "7"}), (429, {"Retry-After": "0"}), (502, {}), (200, {})]
    waits = Waits()
    sender(server, waits).send(GROUPS)
    assert waits.asked[0] == 7.0
    _, second, third = waits.asked
    assert 0 < second < third < 7.0, "without a wish, twice as long each time"
    assert len(server.bodies) == 4
    assert len({read_json(body).groups[0][1][0].span_id for body in server.bodies}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 301])
def test_what_will_never_be_taken_is_not_sent_again(server, status):
    server.answers = [(status, {"Location": "/elsewhere", "Retry-After": "1"})]
    waits = Waits()
    with pytest.raises(SendFault) as caught:
        sender(server, waits).send(GROUPS)
    assert caught.value.final
    assert str(status) in str(caught.value)
    assert (len(server.bodies), waits.asked) == (1, [])


def test_it_gives_up_before_it_would_be_too_late(server):
    server.answers = [(503, {"Retry-After": "30"})]
    waits = Waits()
    with pytest.raises(SendFault) as caught:
        sender(server, waits, clock=lambda: 100.0).send(GROUPS, until=110.0)
    assert not caught.value.final
    assert (len(server.bodies), waits.asked) == (1, [])


def test_a_stop_ends_the_tries(server):
    server.answers = [(503, {})]
    waits = Waits()
    waits.set()
    with pytest.raises(SendFault):
        sender(server, waits).send(GROUPS)
    assert len(server.bodies) == 1
