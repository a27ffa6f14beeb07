"""What a recorded server leaves on disk for the traces of those who asked it: one file, in its own folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from capture_harness import environment, recordings, run

from unspool.recording.answered import ANSWERED_NAME

UNSPOOL = [sys.executable, "-m", "unspool"]
SERVER = """
import unspool
from http.server import BaseHTTPRequestHandler, HTTPServer

@unspool.tool
def look_up(question):
    return "found"

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        said = look_up(self.path).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Server:
    """A recorded server that ends by `kill -9` only."""

    def __init__(self, folder: Path) -> None:
        script = folder / "server.py"
        script.write_text(SERVER)
        self.store = folder / ".unspool"
        command = [sys.executable, str(script)]
        self._process = subprocess.Popen(command, env=environment(self.store), stdout=subprocess.PIPE, cwd=folder)
        assert self._process.stdout is not None
        port = int(self._process.stdout.readline())
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)

    def ask(self, trace_id: str) -> None:
        assert self._client.get("/ask", headers={"traceparent": f"00-{trace_id}-{'cd' * 8}-01"}).text == "found"

    def kill(self) -> None:
        self._client.close()
        self._process.kill()
        self._process.communicate(timeout=60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    try:
        yield one
    finally:
        one.kill()


def unspool_json(store: Path, *args: str) -> Any:
    done = run([*UNSPOOL, *args, "--store", store, "--json"], environment(None))
    assert done.code == 0, done.stderr.decode()
    return json.loads(done.stdout)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_many_traces_are_lines_of_one_file_that_goes_with_the_recording(server: Server) -> None:
    traces = [f"{number:032x}" for number in range(1, 41)]
    server.ask(traces[0])
    before = files(server.store)
    for trace_id in [*traces, *traces]:
        server.ask(trace_id)
    assert files(server.store) == before
    assert "traces" not in before
    [one] = recordings(server.store)
    name = one.metadata.record_id
    assert f"records/{name}/{ANSWERED_NAME}" in before
    noted = (server.store / "records" / name / ANSWERED_NAME).read_bytes().splitlines()
    assert [json.loads(line) for line in noted] == [{"trace_id": trace_id} for trace_id in traces]  # each once
    server.kill()
    for trace_id in (traces[0], traces[-1]):  # what was answered is found though the server was killed
        shown = unspool_json(server.store, "trace", "show", trace_id)
        assert {child["name"] for child in shown["root"]["children"]} == {"GET /ask"}
    assert unspool_json(server.store, "rm", "--yes", name)["removed"]
    assert [left for left in files(server.store) if left.split("/")[0] not in {".gitignore", "pid"}] == ["records"]


def test_a_removed_store_is_not_made_again_by_a_request(server: Server) -> None:
    server.ask("ab" * 16)
    shutil.rmtree(server.store)
    for number in range(3):
        server.ask(f"{number:030x}cd")
    assert not server.store.exists()


def test_what_was_answered_is_copied_with_the_recording(server: Server, tmp_path: Path) -> None:
    server.ask("ab" * 16)
    server.kill()
    done = run([*UNSPOOL, "import", server.store, "--store", tmp_path / "other"], environment(None))
    assert done.code == 0, done.stderr.decode()
    assert unspool_json(tmp_path / "other", "trace", "show", "ab" * 16)["trace_id"] == "ab" * 16
