"""One HTTP exchange as it happens, whatever client library makes it.

A seam calls `begin` before the request leaves, `headers` when the response starts, `chunk` for each piece of the body
as it passes, and `finish` or `fail` once. Model calls become a `context_snapshot` before the request leaves and a
`syscall` and an `llm_response` when it ends; other requests one `HTTP` syscall.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from unspool import providers
from unspool.capture import alerts, rerun, serve
from unspool.capture.answers import CLOSED, HttpEnd, error_text, outcome_of, with_causes
from unspool.capture.credentials import clean_error, clean_headers, clean_url
from unspool.capture.flow import QUIET, Flow, current_flow
from unspool.capture.guard import guard
from unspool.capture.http.encodings import decode_body
from unspool.capture.places import caller
from unspool.events import (
    Body,
    ContextSnapshotData,
    ErrorData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.recording.lanes import Conversation, CutBody
from unspool.recording.recorder import BodyStore, Recorder

if TYPE_CHECKING:
    import socket

__all__ = ["Exchange", "begin"]


def begin(
    client: str, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes | None
) -> Exchange | None:
    """Note a request about to leave; None when nothing is recorded here.

    In a rerun this is where its answer is looked for: the exchange says in `meeting` what it got, and what is sent in
    its place. Does not come back where it got nothing.

    Args:
        client: the library: `httpx`, `httpx2`, `urllib3`, `aiohttp`.
        body: its bytes, None if they are not known yet (a stream). In a rerun they have been read.
    """
    if QUIET.get() or rerun.is_left_out(method, url):
        return None
    flow = current_flow()
    if flow is None:
        return None
    with guard:
        exchange = Exchange(flow, client, method, url, headers=headers, body=body)
        exchange.start()
        return exchange
    return None


TRACEPARENT = "traceparent"  # a header's name


class Exchange:
    """State of one exchange. Methods are behind the guard and may be called from finalizers."""

    def __init__(
        self,
        flow: Flow,
        client: str,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]],
        body: bytes | None,
    ) -> None:
        self.flow = flow
        self.process = flow.process
        self.client = client
        self.method = method
        self.url = clean_url(url)
        self.request_headers = clean_headers(headers)
        self.request_body = body
        self.provider = providers.match(method, url)
        self.started_ns = time.monotonic_ns()
        self.span = self.process.new_span()
        self.at = caller()
        self.meeting: serve.Meeting | None = None
        self.held: socket.socket | None = None  # a limit of the run forbids to send it: the seam waits
        if rerun.stage() is not None:
            self._meet(method, url)
        self.path = ""
        self.call: int | None = None
        self.step: int | None = None
        self.lane: int | None = None
        self.count = 0
        self.retry = False
        self.decoded = False  # the chunks come content-decoded
        self._model: str | None = None
        self._conversation: Conversation | None = None
        self._status: int | None = None
        self._reason: str | None = None
        self._response_headers: list[tuple[str, str]] = []
        self._encoding: str | None = None
        self._chunks: list[bytes] = []
        self._times: list[int] = []
        self._last_ns = self.started_ns
        self._first_ns: int | None = None
        self._done = False
        self._late: list[bytes] = []
        self._counted: tuple[int, LLMResponseData] | None = None  # what subscribers of alerts are told

    # --- the request -------------------------------------------------------------------------------------------------

    def _meet(self, method: str, url: str) -> None:
        """Ask what this request of a rerun gets; what is sent in its place is what is recorded."""
        meeting = self.meeting = serve.meet(self.flow, self.provider, method, url, body=self.request_body, at=self.at)
        if meeting.body is not None:
            self.request_body = meeting.body
        if meeting.url is not None:
            self.url = clean_url(meeting.url)

    def start(self) -> None:
        """Write what is known before the request leaves."""
        self.process.begun(self)
        if self.provider is not None:
            self.process.perform(self._write_snapshot)
            if self.process.lineage.gate is not None and self.meeting is None:
                self._ask(self.process.lineage.gate)
        else:
            self.path = f"/dev/net/{providers.host_port(self.url)}"
            self.process.ensure()
            self.process.note_start(self._start_line("HTTP"))

    def _ask(self, address: str) -> None:
        """Ask `unspool run`, which keeps a limit, whether this call may leave; the seam waits where it may not."""
        recorder = self.process.recorder
        if recorder is None or self.call is None:
            return
        from unspool.capture import gate

        self.held = gate.ask(address, gate.Asked(recorder.record_id, self.call, self.retry))
        if self.held is not None:
            self.process.write_state(
                "running", "waiting", f"call {self.call} is not sent: a limit of this run is reached"
            )
            gate.noted(self.held)

    def wait(self) -> None:
        """Hold the request back, if it may not leave: this process is being ended."""
        if self.held is not None:
            from unspool.capture import gate

            gate.wait(self.held)

    async def wait_async(self) -> None:
        """As `wait`, for a seam in an event loop, which goes on meanwhile."""
        if self.held is not None:
            from unspool.capture import gate

            await gate.wait_async(self.held)

    def _start_line(self, name: str) -> dict[str, object]:
        return {
            "span_id": self.span,
            "parent_span_id": self.flow.span or self.process.own_span,
            "name": name,
            "path": self.path,
            "start": self.process.elapsed(self.started_ns),
            "task": self.flow.path,
            "at": self.at,
        }

    def _write_snapshot(self, recorder: Recorder) -> None:
        provider = self.provider
        assert provider is not None
        data = ContextSnapshotData(
            provider=provider.name,
            request=HttpRequest(method=self.method, url=self.url, headers=self.request_headers, client=self.client),
        )
        event = self._event(recorder, RecordEventType.CONTEXT_SNAPSHOT, self.started_ns)
        event.context = data

        def describe(cut: CutBody) -> None:
            head = providers.request_head(provider, self.url, cut.skeleton or b"{}")
            self._model = data.model = head.model
            self.count = cut.count
            if head.state_ref:
                data.partial = f"leans on {head.state_ref}, which the provider keeps"

        array_key = provider.array_keys[0] if provider.array_keys else None
        try:
            written, cut = recorder.write_request(event, self.request_body, array_key, provider.system_keys, describe)
        finally:
            self.path = f"/dev/llm/{providers.vendor(provider, self.url)}/{self._model or 'unknown'}"
        self.call, self.step, self.lane = written.call, written.step, written.lane
        if cut is not None:
            self._conversation, self.retry = cut.conversation, cut.retry

    def _event(self, recorder: Recorder, kind: RecordEventType, at_ns: int) -> RecordEvent:
        return RecordEvent(
            type=kind,
            seq_num=0,
            timestamp=recorder.elapsed(at_ns),
            pid=recorder.pid,
            call=self.call if self.provider is not None else self.flow.call,
            step=self.step if self.provider is not None else self.flow.step,
            task=self.flow.path,
            # What its snapshot says of a model call need not be said again when it ends.
            lane=self.lane if kind is RecordEventType.CONTEXT_SNAPSHOT else None,
            at=self.at if kind is RecordEventType.CONTEXT_SNAPSHOT or self.provider is None else None,
            span_id=self.span,
            parent_span_id=self._parent(kind),
            origin=self.meeting.origin if self.meeting is not None else None,
        )

    def _parent(self, kind: RecordEventType) -> str | None:
        """The span around. A snapshot names it too, as a call in flight has no other event, but not the usual one."""
        if kind is RecordEventType.CONTEXT_SNAPSHOT:
            return self.flow.span if self.flow.span != self.process.own_span else None
        return (self.flow.span or self.process.own_span) if kind is RecordEventType.SYSCALL else None

    def traceparent(self) -> str | None:
        """The `traceparent` that this request is to carry, which is recorded as sent with it; None: it goes as it is.

        Only where `unspool run --propagate` asked for it. Model calls go as they are, and so does a request that has
        one already or is answered from a recording.
        """
        served = self.meeting is not None and self.meeting.answer is not None
        if not self.process.lineage.propagate or self.provider is not None or served:
            return None
        with guard:
            if any(name.lower() == TRACEPARENT for name, _ in self.request_headers):
                return None
            text = self.process.traceparent(self.span, self.flow.asked)
            if text is not None:
                self.request_headers = [*self.request_headers, (TRACEPARENT, text)]
            return text
        return None

    def late_request_body(self, piece: bytes | str) -> None:
        """A piece of a request that is sent as a stream has left."""
        self._late.append(piece.encode("utf-8", "surrogatepass") if isinstance(piece, str) else bytes(piece))

    # --- the response ------------------------------------------------------------------------------------------------

    def headers(self, status: int, reason: str | None, headers: Iterable[tuple[str, str]]) -> None:
        """The response has started."""
        with guard:
            pairs = list(headers)
            self._status, self._reason = status, reason or None
            self._encoding = next((value for name, value in pairs if name.lower() == "content-encoding"), None)
            self._response_headers = clean_headers(pairs)

    def chunk(self, data: bytes) -> None:
        """A piece of the body has passed to the program."""
        if not data:
            return
        now = time.monotonic_ns()
        if self._first_ns is None:
            self._first_ns = now
        self._chunks.append(bytes(data))
        self._times.append((now - self._last_ns) // 1000)
        self._last_ns = now

    def finish(self, ended: str | None = None) -> None:
        """The response is over; `ended` says how it stopped if its body did not come to its end."""
        self._end(ended, None)

    def fail(self, error: BaseException) -> None:
        """The request got no response, or its body broke off with an error."""
        self._end(None, error)

    def cut_off(self) -> None:
        """The agent process ends before the response did. One that has not begun stays what it is: in flight."""
        if self._status is not None:
            self._end(CLOSED, None)

    def _end(self, ended: str | None, error: BaseException | None) -> None:
        if self._done:
            return
        self._done = True
        now = time.monotonic_ns()
        self.process.perform(lambda recorder: self._write_end(recorder, now, ended, error))
        self.process.finished(self)
        if self._counted is not None:  # not while the recorder is at work: a subscriber may call a model itself
            with guard:
                alerts.counted(self._counted[0], self.lane, self.call, self._counted[1])

    @property
    def done(self) -> bool:
        """Whether the exchange has been written."""
        return self._done

    # --- the events --------------------------------------------------------------------------------------------------

    def _write_end(self, recorder: Recorder, now: int, ended: str | None, error: BaseException | None) -> None:
        raw = b"".join(self._chunks)
        body, encoding = (raw, self._encoding) if self.decoded else decode_body(raw, self._encoding)
        broken = clean_error(with_causes(error)) if error is not None else None
        if broken is not None and self._status is not None:
            ended = ended or f"{broken.type}: {broken.message}"
        if self.provider is not None:
            self._write_model_call(recorder, now, body, encoding, ended=ended, broken=broken)
        else:
            self._write_http(recorder, now, body, encoding, ended=ended, broken=broken)

    def _request(self, store: BodyStore) -> HttpRequest:
        request = HttpRequest(method=self.method, url=self.url, headers=self.request_headers, client=self.client)
        body = b"".join(self._late) if self._late else self.request_body
        if body is None:
            request.body = Body(missing="sent as a stream")
        elif body:
            request.body = store.put(body, is_json=True)
        store.heads.store(request)
        return request

    def _response(self, store: BodyStore, body: bytes, encoding: str | None, ended: str | None) -> HttpResponse | None:
        if self._status is None:
            return None
        response = HttpResponse(
            status=self._status,
            reason=self._reason,
            headers=self._response_headers,
            complete=ended is None,
            ended=ended,
        )
        is_stream = self._is_stream()
        response.body = store.put(body, is_json=not is_stream, is_stream=is_stream, encoding=encoding)
        store.heads.store(response)
        if len(self._chunks) > 1:
            response.chunks = [
                number for chunk, delay in zip(self._chunks, self._times, strict=True) for number in (len(chunk), delay)
            ]
        return response

    def _content_type(self) -> str | None:
        return next((value for name, value in self._response_headers if name.lower() == "content-type"), None)

    def _is_stream(self) -> bool:
        return "event-stream" in (self._content_type() or "")

    def _write_model_call(
        self,
        recorder: Recorder,
        now: int,
        body: bytes,
        encoding: str | None,
        *,
        ended: str | None,
        broken: ErrorData | None,
    ) -> None:
        assert self.provider is not None
        end = HttpEnd(self.url, self._status, self._reason, body, self._content_type(), ended, broken)
        said = outcome_of(self.provider, end)
        args: dict[str, object] = {"path": self.path, "messages": self.count}
        if self.retry:
            args["retry"] = True
        syscall = self._event(recorder, RecordEventType.SYSCALL, self.started_ns)
        call = syscall.syscall = SyscallEventData(
            syscall="LLMCall",
            args=args,
            result=said.result,
            err=said.err,
            duration=now - self.started_ns,
            ttft=self._first_ns - self.started_ns if self._first_ns is not None else None,
        )
        if self._late:
            # The snapshot was written before anything was known of a streamed body; it is kept here.
            recorder.write_with_bodies(syscall, lambda store: setattr(call, "request", self._request(store)))
        else:
            recorder.write_event(syscall)

        response_event = self._event(recorder, RecordEventType.LLM_RESPONSE, now)
        data = said.data(self._model)
        response_event.llm = data

        def prepare(store: BodyStore) -> None:
            data.response = self._response(store, body, encoding, said.ended)

        recorder.write_with_bodies(response_event, prepare)
        if self.meeting is not None and self.meeting.origin == "live":
            serve.spent(self.path, data)
        if self._conversation is not None:
            self._conversation.busy = False
            self._conversation.failed = bool(said.err)
        self.flow.call, self.flow.step = self.call, self.step
        self._counted = recorder.pid, data

    def _write_http(
        self,
        recorder: Recorder,
        now: int,
        body: bytes,
        encoding: str | None,
        *,
        ended: str | None,
        broken: ErrorData | None,
    ) -> None:
        event = self._event(recorder, RecordEventType.SYSCALL, self.started_ns)
        end = HttpEnd(self.url, self._status, self._reason, body, self._content_type(), ended, broken)
        data = SyscallEventData(
            syscall="HTTP",
            args={"path": self.path, "method": self.method, "url": self.url},
            result=None if self._status is None else f"{self._status}, {len(body)} bytes",
            err=error_text(end),
            duration=now - self.started_ns,
            ttft=self._first_ns - self.started_ns if self._first_ns is not None else None,
            error=broken,
        )
        event.syscall = data

        def prepare(store: BodyStore) -> None:
            data.request = self._request(store)
            data.response = self._response(store, body, encoding, ended)

        recorder.write_with_bodies(event, prepare)
