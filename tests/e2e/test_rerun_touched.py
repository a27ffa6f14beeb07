"""A rerun lists what the program did for real, and `--deny` refuses it."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from capture_harness import AGENTS, environment, recordings, run, run_code
from capture_reruns import Rerun, rerun

from unspool.capture.touched import EVENTS
from unspool.demo.server import ModelServer

AGENT = AGENTS / "hands_on.py"
FILES = ["write_file", "os_open", "folders", "replace", "remove", "truncate", "database", "from_a_thread"]
PROCESSES = ["popen", "shell", "system", "spawn", "python", "async_process"]
NET = ["raw_socket", "http_client", "streams", "datagram", "look_up", "look_up_old"]


class Ground(NamedTuple):
    """Where the agent acts, and its recording."""

    folder: Path
    store: Path
    listener: socket.socket

    @property
    def env(self) -> dict[str, str]:
        return {"FOLDER": str(self.folder), "PORT": str(self.listener.getsockname()[1])}

    def again(self, **rules: object) -> Rerun:
        [root] = [one for one in recordings(self.store) if one.metadata.rerun_of is None and not one.metadata.parent]
        return rerun(self.store, [sys.executable, AGENT], root, env=self.env, **rules)

    def connections(self) -> int:
        """How many connections came in since the last look."""
        count = 0
        while True:
            try:
                self.listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


def prepare(folder: Path) -> None:
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    (folder / "victim.txt").touch()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    folder = tmp_path / "folder"
    prepare(folder)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.setblocking(False)
        ground = Ground(folder, tmp_path / "store", listener)
        result = run([sys.executable, AGENT], environment(ground.store, **ground.env))
        assert result.stderr == b""
        assert "failed" not in result.stdout.decode().replace("look_up failed", "").replace("look_up_old failed", "")
        shutil.rmtree(folder)
        prepare(folder)
        assert ground.connections() == 3
        yield ground


def test_what_is_touched_is_listed(ground: Ground) -> None:
    second = ground.again()
    assert (second.result.stderr, second.result.code) == (b"", 0)
    assert ground.connections() == 3
    assert second.of_kind("denied") == []
    by_function: dict[str, set[str]] = {}
    for entry in second.of_kind("touched"):
        assert entry.path is not None
        assert entry.at is not None
        assert entry.reason
        by_function.setdefault(entry.at.split()[1], set()).add(entry.path)
    folder, port = f"/dev/fs{ground.folder}", ground.env["PORT"]
    here = f"/dev/net/127.0.0.1:{port}"
    python = f"/dev/proc/{Path(sys.executable).name}"
    assert by_function == {
        "write_file": {f"{folder}/out.txt"},
        "os_open": {f"{folder}/raw.txt"},
        "folders": {f"{folder}/d", f"{folder}/d/e"},
        "replace": {f"{folder}/new.txt", f"{folder}/final.txt"},
        "remove": {f"{folder}/victim.txt"},
        "truncate": {f"{folder}/kept.txt"},
        "database": {f"{folder}/data.db"},
        "work": {f"{folder}/thread.txt", "/dev/proc/true", here},
        "popen": {"/dev/proc/true"},
        "shell": {"/dev/proc/sh"},
        "system": {"/dev/proc/sh"},
        "spawn": {"/dev/proc/sh"},
        "python": {python},
        "raw_socket": {here},
        "http_client": {here},
        "datagram": {here},
        "look_up": {"/dev/net/nowhere.invalid:80"},
        "look_up_old": {"/dev/net/nowhere.invalid"},
    }


@pytest.mark.parametrize(("kind", "functions"), [("fs-write", FILES), ("process", PROCESSES), ("net", NET)])
def test_each_kind_can_be_refused(ground: Ground, kind: str, functions: list[str]) -> None:
    before = {path: path.read_bytes() for path in ground.folder.rglob("*") if path.is_file()}
    second = ground.again(deny=[kind])
    assert second.result.stderr == b""
    refused = [line.split()[0] for line in second.result.lines if f"unspool rerun --deny {kind}: " in line]
    assert refused == functions
    assert all(line.endswith(" refused") for line in second.result.lines if "unspool rerun" in line)
    assert len(second.of_kind("denied")) >= len(functions) - 1
    assert ground.connections() == (0 if kind == "net" else 3)
    if kind == "fs-write":
        after = {path: path.read_bytes() for path in ground.folder.rglob("*") if path.is_file()}
        assert after == before


def test_all_of_it_refused(ground: Ground) -> None:
    second = ground.again(deny=["fs-write", "process", "net"])
    done = [line.split()[0] for line in second.result.lines if line.endswith(" done")]
    assert done == ["unseen"]
    assert ground.connections() == 0
    assert second.of_kind("touched") == []


def test_a_refusal_says_what_was_tried(ground: Ground) -> None:
    said = dict(line.split(maxsplit=1) for line in ground.again(deny=["net", "fs-write"]).result.lines)
    port = ground.env["PORT"]
    assert said["raw_socket"] == f"unspool rerun --deny net: connection to 127.0.0.1:{port} refused"
    assert said["look_up"] == "unspool rerun --deny net: looking up nowhere.invalid:80 refused"
    assert said["write_file"] == f"unspool rerun --deny fs-write: writing {ground.folder / 'out.txt'} refused"


def test_every_event_belongs_to_a_kind_that_can_be_refused() -> None:
    assert {kind for kind, _ in EVENTS.values()} == {"fs-write", "process", "net"}


FORK = """
import os
import httpx
def ask(number):
    body = {"model": "echo", "messages": [{"role": "user", "content": str(number)}]}
    with httpx.Client() as client:
        return client.post(os.environ["MODEL_URL"] + "/v1/chat/completions", json=body).status_code
print(ask(1), ask(2))
try:
    httpx.get(os.environ["MODEL_URL"] + "/elsewhere")
except httpx.ConnectError as error:
    print(error)
print(ask(3))
"""


def test_model_calls_behind_a_fork_go_out_all_the_same(tmp_path: Path) -> None:
    """`--deny net` is about what the program reaches; the calls a fork makes are what it was asked for."""
    store = tmp_path / "store"
    with ModelServer() as server:
        first = run_code(FORK, store, tmp_path, MODEL_URL=server.url)
        assert first.lines == ["200 200", "200"]
        [recording] = recordings(store)
        target = (recording.metadata.record_id, recording.calls[1].snapshot.seq_num)
        argv: list[str | Path] = [sys.executable, tmp_path / "agent.py"]
        forked = rerun(store, argv, recording, cwd=tmp_path, env={"MODEL_URL": server.url}, target=target, deny=["net"])
    assert forked.result.stderr == b""
    address = server.url.removeprefix("http://")
    said = f"[Errno 13] unspool fork --deny net: connection to {address} refused"
    assert forked.result.lines == ["200 200", said, "200"]
    assert [entry.path for entry in forked.of_kind("denied")] == [f"/dev/net/{address}"]
    assert forked.of_kind("touched") == []
