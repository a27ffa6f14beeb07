"""`unspool run --otlp` to a receiver in trouble: nothing is lost that can be sent again, and the agent never waits."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from capture_harness import environment

from unspool.interop.otlp_json import read_json

# What holds the connection is the agent alone: it closes when the agent has ended.
AGENT = """
import socket, sys, unspool
held = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for n in range(3):
    with unspool.span(f"part {n}"):
        pass
held.recv(1)
"""


@contextmanager
def receiving(answer) -> Iterator[ThreadingHTTPServer]:
    """A receiver; `answer` gives the status and headers for each message, which is then among `taken` if it is 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, headers = answer()
            if status == 200:
                http.taken.append(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing on stderr."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.taken = []
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield http
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    return listener


def start(tmp_path, http, listener) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unspool", "run", "--quiet", "--store", str(tmp_path / "store"), "--otlp",
               f"http://127.0.0.1:{http.server_port}", "--", sys.executable, "-c", AGENT,
               str(listener.getsockname()[1])]  # fmt: skip
    env = environment(None, OTEL_EXPORTER_OTLP_PROTOCOL="http/json", OTEL_EXPORTER_OTLP_COMPRESSION="none")
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)


def names(http) -> list[str]:
    """Of what was taken, the agent's own as `agent`."""
    found = [span.name for body in http.taken for _, spans in read_json(body).groups for span in spans]
    return sorted(name if name.startswith(("part", "connect")) else "agent" for name in found)


SENT = ["agent", "part 0", "part 1", "part 2"]


def test_what_was_refused_for_now_is_sent_again(tmp_path):
    refusals = [(503, {"Retry-After": "0"}), (429, {"Retry-After": "0"})]
    with receiving(lambda: refusals.pop(0) if refusals else (200, {})) as http, listening() as listener:
        process = start(tmp_path, http, listener)
        listener.accept()[0].close()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err, refusals) == (0, "", [])
    assert [name for name in names(http) if not name.startswith("connect")] == SENT, "each once"


def test_an_agent_never_waits_for_the_receiver(tmp_path):
    asked, go = threading.Event(), threading.Event()

    def answer():
        asked.set()
        assert go.wait(60)
        return 200, {}

    with receiving(answer) as http, listening() as listener:
        process = start(tmp_path, http, listener)
        held = listener.accept()[0]
        assert asked.wait(60), "the receiver has a message, and does not answer"
        held.sendall(b".")
        assert held.recv(1) == b"", "the agent has ended"
        held.close()
        go.set()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert [name for name in names(http) if not name.startswith("connect")] == SENT
