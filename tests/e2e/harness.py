"""What end-to-end tests of capture share: agents in processes of their own, a tap on the wire, what was recorded."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import unspool
from unspool.capture.environment import variables
from unspool.capture.process import Lineage
from unspool.demo.server import ModelServer
from unspool.events import HttpResponse, RecordEvent, RecordEventType, RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.store import new_hex_id

AGENTS = Path(__file__).with_name("agents")
SOURCES = Path(unspool.__file__).parents[1]


# --- running an agent ------------------------------------------------------------------------------------------------


class Result(NamedTuple):
    """How a program ended and what it said."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode("utf-8", "surrogateescape").splitlines()

    def facts(self) -> dict[str, object]:
        """The `{"name": …}` lines an agent prints, merged."""
        out: dict[str, object] = {}
        for line in self.lines:
            if line.startswith("{"):
                out.update(json.loads(line))
        return out


def environment(store: Path | None, **more: str) -> dict[str, str]:
    """The environment of an agent: recorded into `store`, or of one that knows nothing of unspool."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UNSPOOL_", "PYTHON", "COV_"))}
    env |= {"OPENAI_API_KEY": "sk-0", "ANTHROPIC_API_KEY": "sk-0", "GEMINI_API_KEY": "sk-0", **more}
    if store is None:
        return env
    audit = more.get("TEST_TRACE", "process,net").split(",")
    lineage = Lineage(store=str(store), trace_id=new_hex_id(), audit=[kind for kind in audit if kind])
    return env | variables(lineage, env.get("PYTHONPATH"))


def run(argv: Sequence[str | Path], env: Mapping[str, str], *, timeout: float = 60, cwd: Path | None = None) -> Result:
    done = subprocess.run(argv, env=dict(env), capture_output=True, timeout=timeout, cwd=cwd, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def run_agent(name: str, *args: str, store: Path | None, timeout: float = 60, **env: str) -> Result:
    """Run `agents/NAME.py` in a process of its own, under `unspool run` if there is a store."""
    argv: list[str | Path] = [sys.executable, AGENTS / f"{name}.py", *args]
    plain = environment(None, **env)
    if store is None:
        return run(argv, plain, timeout=timeout)
    command = [sys.executable, "-m", "unspool", "run", "--quiet", "--store", store]
    return run([*command, "--trace", env.get("TEST_TRACE", "process,net"), "--", *argv], plain, timeout=timeout)


def run_code(code: str, store: Path | None, folder: Path, *args: str, timeout: float = 60, **env: str) -> Result:
    """Run `code` as the script `agent.py` in `folder`."""
    script = folder / "agent.py"
    script.write_text(code)
    return run([sys.executable, script, *args], environment(store, **env), timeout=timeout, cwd=folder)


# --- the wire --------------------------------------------------------------------------------------------------------


@dataclass
class Message:
    """One HTTP message as it passed: body without its chunk framing, still content-encoded."""

    start: str
    headers: dict[str, str]
    body: bytes
    complete: bool

    @property
    def content(self) -> bytes:
        """The body decoded, as far as it came."""
        coding = self.headers.get("content-encoding")
        if not coding or not self.body:
            return self.body
        return zlib.decompressobj(zlib.MAX_WBITS | (16 if coding == "gzip" else 0)).decompress(self.body)

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def method(self) -> str:
        return self.start.split()[0]

    @property
    def target(self) -> str:
        return self.start.split()[1]


class Wire(NamedTuple):
    """A request as it left the program, and what came back; None: nothing did."""

    request: Message
    response: Message | None


@dataclass
class _Connection:
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class Wiretap:
    """A TCP relay in front of a server: keeps every byte, knows nothing of unspool.

    `on_request` is called when the first bytes of a request arrive, before they are passed on.
    """

    def __init__(self, port: int, on_request: Callable[[], None] | None = None) -> None:
        self._port = port
        self._on_request = on_request
        self._connections: list[_Connection] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection()
            self._connections.append(connection)
            self._sockets += [client, server]
            self._start(self._relay, client, server, connection.sent, True)
            self._start(self._relay, server, client, connection.received, False)

    def _relay(self, source: socket.socket, target: socket.socket, kept: bytearray, is_request: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_request and data.startswith((b"POST ", b"GET ", b"HEAD ", b"PUT ")) and self._on_request:
                    self._on_request()
                kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # One side is gone: the other shall know it.
            for one in (source, target):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()

    def exchanges(self) -> list[Wire]:
        """Every exchange so far, connection by connection."""
        out = []
        for connection in self._connections:
            requests = list(_messages(bytes(connection.sent), None))
            responses = list(_messages(bytes(connection.received), [message.method for message in requests]))
            responses += [None] * (len(requests) - len(responses))
            out += [Wire(request, response) for request, response in zip(requests, responses, strict=True)]
        return out


def _messages(data: bytes, methods: list[str] | None) -> Iterator[Message]:
    """The messages in a stream; `methods` are those of the requests when the messages are responses."""
    number = 0
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(":", 1) for line in lines]
        headers = {name.lower(): value.strip() for name, value in pairs}
        bodiless = methods is not None and (methods[number] == "HEAD" or start.split()[1] in ("204", "304"))
        number += 1
        if bodiless:
            body, complete, data = b"", True, rest
        elif "chunked" in headers.get("transfer-encoding", ""):
            body, complete, data = _dechunk(rest)
        elif (length := headers.get("content-length")) is not None:
            body, data = rest[: int(length)], rest[int(length) :]
            complete = len(body) == int(length)
        else:
            body, complete, data = (b"", True, rest) if methods is None else (rest, True, b"")
        yield Message(start, headers, body, complete)


def _dechunk(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while b"\r\n" in data:
        size_line, _, rest = data.partition(b"\r\n")
        size = int(size_line, 16)
        body += rest[:size]
        data = rest[size + 2 :]
        if size == 0:
            return body, True, rest[2:]
    return body, False, b""


# --- what was recorded -----------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One recorded model call: its three events."""

    snapshot: RecordEvent
    syscall: RecordEvent
    answer: RecordEvent
    request_body: bytes | None
    response_body: bytes | None

    @property
    def response(self) -> HttpResponse | None:
        assert self.answer.llm is not None
        return self.answer.llm.response

    @property
    def user_text(self) -> str:
        assert self.snapshot.context is not None
        messages = self.snapshot.context.messages or []
        return next((m.content for m in reversed(messages) if m.role == "user"), "")  # type: ignore[union-attr]


class Recording:
    """One recording, with its events joined into calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with RecordReader(folder, live=True) as reader:
            assert reader.damage == []
            self.metadata: RecordMetadata = reader.metadata
            self.events: list[RecordEvent] = list(reader.events())
            self.calls = self._join(reader)
            self.http = [
                (event, self._body(reader, event, "request"), self._body(reader, event, "response"))
                for event in self.syscalls("HTTP")
            ]
            assert reader.damage == []

    @staticmethod
    def _body(reader: RecordReader, event: RecordEvent, half: str) -> bytes | None:
        message = getattr(event.syscall, half)
        return None if message is None or message.body is None else reader.body(message.body)

    def _join(self, reader: RecordReader) -> list[Call]:
        by_span: dict[str | None, dict[RecordEventType, RecordEvent]] = defaultdict(dict)
        for event in self.events:
            is_call = event.syscall is not None and event.syscall.syscall == "LLMCall"
            if is_call or event.context is not None or event.llm is not None:
                assert event.type not in by_span[event.span_id], "one event of a kind for each call"
                by_span[event.span_id][event.type] = event
        calls = []
        for group in by_span.values():
            if len(group) < 3:
                continue  # in flight when the program ended
            snapshot, syscall, answer = (
                group[kind]
                for kind in (RecordEventType.CONTEXT_SNAPSHOT, RecordEventType.SYSCALL, RecordEventType.LLM_RESPONSE)
            )
            request, response = snapshot.context.request, answer.llm.response  # type: ignore[union-attr]
            sent = reader.body(request.body) if request is not None and request.body is not None else None
            got = reader.body(response.body) if response is not None and response.body is not None else None
            calls.append(Call(snapshot, syscall, answer, sent, got))
        return calls

    def syscalls(self, name: str) -> list[RecordEvent]:
        return [event for event in self.events if event.syscall is not None and event.syscall.syscall == name]

    def snapshots(self) -> list[RecordEvent]:
        return [event for event in self.events if event.context is not None]

    def nondet(self) -> list[dict[str, object]]:
        path = self.folder / "nondet.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def recordings(store: Path) -> list[Recording]:
    """Every recording in a store, in order of PID."""
    folders = sorted((store / "records").iterdir(), key=lambda path: int(path.name.split("-")[0]))
    return [Recording(folder) for folder in folders]


class Outcome(NamedTuple):
    """One agent run twice, plain and recorded, each against a server of its own."""

    plain: Result
    recorded: Result
    recording: Recording
    wire: list[Wire]
    snapshot_counts: list[tuple[int, int]]

    def calls(self, scenario: str) -> list[Call]:
        """The model calls a scenario made: its name is the first word of the user's text."""
        return [call for call in self.recording.calls if call.user_text.split()[:1] == [scenario]]

    def call(self, scenario: str) -> Call:
        [call] = self.calls(scenario)
        return call


def observe(agent: str, store: Path) -> Outcome:
    """Run an agent without and with unspool."""
    counts: list[tuple[int, int]] = []

    def on_request() -> None:
        counts.append((len(counts) + 1, snapshots_on_disk(store)))

    with ModelServer() as server:
        plain = run_agent(agent, store=None, MODEL_URL=server.url)
    with ModelServer() as server:
        tap = Wiretap(server.port, on_request)
        recorded = run_agent(agent, store=store, MODEL_URL=tap.url)
        wire = tap.exchanges()
        tap.close()
    [recording] = recordings(store)
    return Outcome(plain, recorded, recording, wire, counts)


def snapshots_on_disk(store: Path) -> int:
    """How many snapshots stand in the files of a store at this moment, read without unspool."""
    return sum(
        path.read_bytes().count(b'{"type":"context_snapshot"') for path in (store / "records").glob("*/events.jsonl")
    )


def grep(store: Path, needle: bytes) -> list[str]:
    """Where in a store some bytes are, plain or inside base64 or gzip."""
    found = []
    for path in sorted(store.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if needle in data or (data[:2] == b"\x1f\x8b" and needle in gzip.decompress(data)):
                found.append(str(path.relative_to(store)))
    return found


def assert_whole(calls: Sequence[Call]) -> None:
    """What holds for every recorded model call."""
    for call in calls:
        snapshot, syscall, answer = call.snapshot, call.syscall, call.answer
        assert snapshot.seq_num < syscall.seq_num < answer.seq_num
        assert snapshot.call == syscall.call == answer.call is not None
        assert snapshot.step == syscall.step == answer.step is not None
        assert snapshot.task == syscall.task == answer.task is not None
        assert snapshot.timestamp == syscall.timestamp
        assert syscall.syscall is not None
        assert syscall.syscall.duration > 0
        if call.response_body:
            assert syscall.syscall.ttft is not None
            assert 0 < syscall.syscall.ttft <= syscall.syscall.duration
        else:
            assert syscall.syscall.ttft is None


def assert_same_bytes(
    recorded: Sequence[tuple[bytes | None, HttpResponse | None, bytes | None]], wire: Sequence[Wire]
) -> None:
    """The bodies on disk are those on the wire: all of a complete one, a beginning of one that broke off."""
    left: dict[bytes, list[Wire]] = defaultdict(list)
    for exchange in wire:
        left[exchange.request.body].append(exchange)
    for sent, response, got in recorded:
        assert sent is not None
        candidates = left[sent]
        match = next((one for one in candidates if _fits(one, response, got)), None)
        assert match is not None, f"no such exchange on the wire: {sent[:200]!r} -> {(got or b'')[:200]!r}"
        candidates.remove(match)
    assert [one.request.body for rest in left.values() for one in rest] == [], "on the wire, but not recorded"


def _fits(wire: Wire, response: HttpResponse | None, got: bytes | None) -> bool:
    if response is None:
        return True  # the program saw none, whatever was under way
    if wire.response is None or wire.response.status != response.status:
        return False
    if response.complete:
        return wire.response.complete and (got or b"") == wire.response.content
    return wire.response.content.startswith(got or b"")
