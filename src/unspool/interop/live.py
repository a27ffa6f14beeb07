"""Live export: while a command runs, the spans that end in its recordings are sent to an OTLP endpoint.

One more reader of the files, in the process that started the command: the agent knows nothing of it and never waits.
The files are the queue, so nothing is dropped while the endpoint is away; what could not be sent by the end is said.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from unspool.errors import CorruptRecording, StoreError, UnspoolError
from unspool.interop.outgoing import contents_of, otlp_groups, own_carrier
from unspool.interop.sender import Sender, SendFault
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace.answered import by_trace
from unspool.trace.from_recording import RecordedTrace, recorded_trace
from unspool.trace.rates import PriceList
from unspool.trace.spans import Span, SpanStatus

__all__ = ["LiveExport"]

_POLL_S: Final = 1.0
_SHARE: Final = 20  # of the time at most one part in so many is spent on reading
_BATCH: Final = 512
_CONTENT_BATCH: Final = 32  # spans with messages: receivers refuse messages of a few megabytes
_LAST_S: Final = 5.0  # after the end of the command


class LiveExport:
    """Sends the spans of recordings as they end. `start` it, and `finish` it when the recordings have ended.

    Args:
        folders: gives the folders of the recordings so far; called from the export's own thread.
        messages: send what models saw and said too.
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        folders: Callable[[], Sequence[Path]],
        *,
        stop: threading.Event,
        prices: PriceList | None = None,
        messages: bool = False,
    ) -> None:
        self._store, self._sender, self._folders = store, sender, folders
        self._prices, self._messages = prices, messages
        self._stop = stop  # the sender's too: it ends waits between tries
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="unspool-otlp", daemon=True)
        self._sent: set[str] = set()
        self._waited: set[str] = set()
        own = own_carrier()
        self._carrier = replace(own, resource={**own.resource, **sender.endpoint.resource})
        self.sent = 0
        self.refused = 0
        self.unsent = 0
        self.problem = ""

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def finish(self, wait_s: float = _LAST_S) -> None:
        """Send what is left, for so many seconds at most.

        Then `sent`, `refused` and `unsent` (spans) and `problem` say how it went.
        """
        self._ended.set()
        self._stop.set()
        self._thread.join()
        self._stop.clear()
        until = time.monotonic() + wait_s
        try:
            self._pass(last=True, until=until)
        except UnspoolError as exc:
            self.problem = str(exc)

    def _work(self) -> None:
        pause = _POLL_S
        while not self._ended.wait(pause):
            began = time.thread_time()
            try:
                self._pass(last=False, until=None)
            except UnspoolError as exc:
                self.problem = str(exc)
            pause = max(_POLL_S, (time.thread_time() - began) * _SHARE)

    def _pass(self, *, last: bool, until: float | None) -> None:
        """Send the spans that have ended since the pass before; at the last one those that nobody ended too."""
        with contextlib.ExitStack() as stack:
            readers = []
            for folder in self._folders():
                with contextlib.suppress(CorruptRecording, StoreError):
                    readers.append(stack.enter_context(RecordReader(folder, live=True)))
            trace = recorded_trace(readers, prices=self._prices)
            spans = [span for part in by_trace(trace.spans).values() for span in part]
            fresh = [span for span in spans if span.span_id not in self._sent and (last or self._is_over(span))]
            self._send(trace, fresh, until)

    def _is_over(self, span: Span) -> bool:
        """Whether nothing will be added to a span any more."""
        if span.status is SpanStatus.OPEN or not span.end_time_ns:
            return False
        # How the command ended is known when its exit code is, which is after its recording has ended.
        if span.kind == "agent" and not span.parent_span_id:
            return False
        # The event with the tokens of a call is written behind that of its end: wait for it, but only once.
        if span.kind == "llm" and span.tokens_used is None and span.span_id not in self._waited:
            self._waited.add(span.span_id)
            return False
        return True

    def _send(self, trace: RecordedTrace, spans: list[Span], until: float | None) -> None:
        size = _CONTENT_BATCH if self._messages else _BATCH
        for start in range(0, len(spans), size):
            batch = spans[start : start + size]
            contents = contents_of(trace.processes, batch) if self._messages else None
            groups = otlp_groups(batch, self._store, contents=contents, carrier=self._carrier)
            self.unsent = len(spans) - start
            try:
                self._sender.send(groups, until=until)
            except SendFault as fault:
                if not fault.final:
                    raise
                self.problem = str(fault)  # this batch is refused; the next may be taken
                self.refused += len(batch)
            else:
                self.sent += len(batch)
            self._sent.update(span.span_id for span in batch)
        self.unsent = 0
