"""vcrpy cassettes (YAML or JSON, also pydantic-ai's with parsed bodies) as recordings of real HTTP exchanges.

The bodies go through the same code as those of a running agent, so contexts, tool calls and usage are what they say.
A cassette has no times: exchanges stand in its order and took no time that is known.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from unspool import __version__
from unspool.capture.exchange import Exchange
from unspool.capture.flow import Flow
from unspool.capture.http.encodings import decode_body
from unspool.capture.process import AgentProcess, Lineage
from unspool.events import RecordEvent, RecordEventType, StateChangeData
from unspool.interop.sources import ImportFault, Source
from unspool.interop.writing import NOWHERE, WrittenProcess
from unspool.providers.wire import as_list, as_object, as_text, decode_json
from unspool.recording.recorder import Recorder
from unspool.store import Store, new_hex_id

__all__ = ["interactions_of", "looks_like_cassette", "write_cassette"]

_MISSING: Final = ["times", "agent"]
_DEPTH_MAX: Final = 1000  # of collections in collections; a cassette has six levels
_MARKS_MAX: Final = 5000  # openings of collections: fewer cannot overflow the stack
_BYTES_MAX: Final = 20_000_000  # indentation alone nests by one level a column, so a deep file is a long one


def interactions_of(source: Source) -> list[dict[str, Any]]:
    """The interactions of a cassette.

    Raises:
        ImportFault: it cannot be read, or PyYAML is needed and not there.
    """
    document = source.document() if source.data.lstrip()[:1] == b"{" else _yaml(source)
    found = as_object(document).get("interactions")
    if not isinstance(found, list):
        raise ImportFault(f"{source.path}: a cassette has a list of interactions, this file has none")
    return [as_object(one) for one in found]


def _yaml(source: Source) -> Any:
    try:
        import yaml  # type: ignore[import-untyped]  # no stubs in the package
    except ImportError as exc:
        raise ImportFault(f"{source.path} is YAML. Install what reads it: pip install 'unspool[vcr]'") from exc
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if _may_be_deep(source.data) and _is_deep(yaml.parse(source.data, Loader=loader)):
            raise ImportFault(f"{source.path}: nested more than {_DEPTH_MAX} deep, which no cassette is")
        return yaml.load(source.data, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        where = getattr(exc, "problem_mark", None)
        place = f" in line {where.line + 1}" if where is not None else ""
        raise ImportFault(
            f"{source.path}: not readable as YAML{place}: {getattr(exc, 'problem', None) or exc}"
        ) from exc


def _may_be_deep(data: bytes) -> bool:
    """Whether it has to be looked through first; most cassettes have not marks enough to be nested so deep."""
    marks = sum(data.count(mark) for mark in (b"[", b"{", b"- ", b"? "))
    return marks > _MARKS_MAX or len(data) > _BYTES_MAX


def _is_deep(events: Iterable[Any]) -> bool:
    """Whether a document is nested deeper than `_DEPTH_MAX`: the fast loader would overflow the C stack."""
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > _DEPTH_MAX:
            return True
    return False


def write_cassette(source: Source, store: Store, origin: dict[str, Any]) -> list[WrittenProcess]:
    """Write the exchanges of a cassette as one recording. What of it cannot be read goes to `source.problems`.

    Raises:
        ImportFault: no exchange can be read.
        StoreError: the store does not take it.
    """
    interactions = interactions_of(source)
    if not interactions:
        raise ImportFault(f"{source.path}: the cassette is empty")
    store.ensure()
    process = _CassetteProcess(store, f"cassette {source.name}", {**origin, "missing": _MISSING})
    calls = 0
    for number, interaction in enumerate(interactions, 1):
        try:
            calls += _write(process, interaction)
        except ValueError as exc:
            source.problems.append(f"interaction {number}: {exc}")
    process.end("exited")
    recorder = process.recorder
    if recorder is None:
        raise ImportFault(f"{source.path}: {source.problems[0] if source.problems else 'no interaction can be read'}")
    return [
        WrittenProcess(
            record_id=recorder.record_id,
            pid=recorder.pid,
            intent=process.intent,
            parent=None,
            events=recorder.event_count,
            model_calls=calls,
            tool_calls=0,
            missing=_MISSING,
        )
    ]


class _CassetteProcess(AgentProcess):
    """An agent process that is over and was somewhere else: its clock counts exchanges, its faults are raised."""

    def __init__(self, store: Store, intent: str, imported: dict[str, Any]) -> None:
        super().__init__(Lineage(store=str(store.path), trace_id=new_hex_id()), intent=intent, role="agent")
        self._imported = imported
        self._to = store
        self._ticks = 0

    def _make(self) -> Recorder:
        fields = {
            **NOWHERE,
            "start_time": None,
            "end_time": None,
            "trace_id": self.lineage.trace_id,
            "unspool": __version__,
            "extra": {"imported": self._imported},
        }
        return Recorder(self._to.records, self._to.next_pid(), self.intent, fields=fields)

    def perform(self, action: Callable[[Recorder], None]) -> None:
        if self._recorder is None:
            self._recorder = self._make()
            self.write_state("created", "running", "")
        action(self._recorder)

    def write_state(self, before: str, after: str, reason: str) -> None:
        recorder = self._recorder
        assert recorder is not None
        recorder.write_event(
            RecordEvent(
                type=RecordEventType.STATE_CHANGE, seq_num=0, timestamp=self._ticks, pid=recorder.pid,
                state=StateChangeData(before, after, reason), span_id=self.own_span,
            )
        )  # fmt: skip

    def tick(self) -> int:
        """The next instant: a reading of the clock that the recorder counts from."""
        self._ticks += 1
        return self._ticks

    def end(self, reason: str = "exited", *, stopped: bool = False) -> None:
        if self._recorder is not None and not self.over:
            self.write_state("running", "dead", reason)
            self._recorder.close()
        self.over = True


class _Played(Exchange):
    """An exchange out of a cassette: at an instant of its own, over at once."""

    def __init__(self, process: _CassetteProcess, method: str, url: str, headers: list[tuple[str, str]], body: bytes):
        super().__init__(Flow(process), "vcrpy", method, url, headers=headers, body=body)
        self._tick = process.tick()
        self.at = None

    def _event(self, recorder: Recorder, kind: RecordEventType, at_ns: int) -> RecordEvent:
        event = super()._event(recorder, kind, at_ns)
        event.timestamp = self._tick
        return event

    def play(self, status: int, reason: str | None, headers: list[tuple[str, str]], body: bytes) -> None:
        self.headers(status, reason, headers)
        encoding = self._encoding
        if body:
            # vcrpy may store a body decoded and leave the header; what does not decode is plain already.
            decoded, named = decode_body(body, encoding)
            body, encoding = (decoded, named) if named is None or "not decoded" not in named else (body, None)
        self._first_ns = None  # nothing is known of when it came

        def write(recorder: Recorder) -> None:
            how = self._write_model_call if self.provider is not None else self._write_http
            how(recorder, self.started_ns, body, encoding, ended=None, broken=None)

        self.process.perform(write)
        self.process.finished(self)
        self._done = True


def _write(process: _CassetteProcess, interaction: dict[str, Any]) -> int:
    """Write one exchange; how many model calls that was.

    Raises:
        ValueError: it is none, and why.
    """
    asked, got = as_object(interaction.get("request")), as_object(interaction.get("response"))
    method, url = as_text(asked.get("method")), as_text(asked.get("uri")) or as_text(asked.get("url"))
    if not method or not url:
        raise ValueError("its request has no method or no URI")
    request_body = _body(asked)
    response_body = _body(got)
    status = got.get("status_code", as_object(got.get("status")).get("code"))
    if not isinstance(status, int):
        raise ValueError("its response has no status")  # noqa: TRY004 - what is wrong is the file, not a type
    exchange = _Played(process, method, url, list(_headers(asked)), request_body)
    exchange.start()
    exchange.play(status, as_text(as_object(got.get("status")).get("message")), list(_headers(got)), response_body)
    return int(exchange.provider is not None)


def _headers(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    headers = message.get("headers")
    pairs = headers.items() if isinstance(headers, dict) else (pair for pair in as_list(headers) if len(pair) == 2)
    for name, value in pairs:
        for one in value if isinstance(value, list) else [value]:
            yield str(name), one if isinstance(one, str) else str(one)


def _body(message: dict[str, Any]) -> bytes:
    """The bytes of a body in any of vcrpy's forms, and of those made of it.

    Raises:
        ValueError: it is in no form that is known.
    """
    if "parsed_body" in message:
        return json.dumps(message["parsed_body"], ensure_ascii=False, separators=(",", ":"), default=str).encode()
    body = message.get("body", message.get("content"))
    if isinstance(body, dict):
        if isinstance(body.get("base64_string"), str):
            return base64.b64decode(body["base64_string"])
        body = body.get("string", body.get("text"))
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, bytes):
        return body
    raise ValueError(f"a body is {type(body).__name__}, not text or bytes")


def looks_like_cassette(data: bytes) -> bool:
    """Whether this text begins like a cassette."""
    head = data[:2000].lstrip(b"\xef\xbb\xbf \r\n-")
    if head.startswith(b"{"):
        try:
            return isinstance(as_object(decode_json(data)).get("interactions"), list)
        except ValueError:
            return False
    return head.startswith((b"interactions:", b"version:")) or b"\ninteractions:" in head
