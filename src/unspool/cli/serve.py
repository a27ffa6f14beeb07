"""`unspool serve`: an OpenTelemetry endpoint in front of the store."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from types import FrameType

import click

from unspool.cli.amounts import counted
from unspool.cli.options import Command, store_option
from unspool.cli.terminal import note, put
from unspool.errors import StoreError
from unspool.interop.ingest import Taken
from unspool.interop.receiver import BODY_MAX, Receiver
from unspool.store import find_store
from unspool.text import show_text

__all__ = ["serve"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=4318, show_default=True, type=click.IntRange(0, 65535), help="The port; 0 takes a free one."
)
@click.option(
    "--max-body",
    default=BODY_MAX >> 20,
    show_default=True,
    type=click.IntRange(1, 4096),
    help="Megabytes that one request may have.",
)
@store_option
def serve(*, host: str, port: int, max_body: int, store: str | None) -> None:
    """Take OpenTelemetry traces over HTTP and keep them in the store.

    Agents in any language that are instrumented with OpenTelemetry (GenAI conventions, OpenInference, OpenLLMetry) send
    their spans to /v1/traces, in protobuf or JSON. Only this machine can reach it unless --host says otherwise; there
    is no password.

    \b
        unspool serve
        OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 python agent.py
    """
    place = find_store(store).ensure()
    written = _Written()
    try:
        receiver = Receiver((host, port), place, body_max=max_body << 20, on_spans=written.add)
    except (OSError, UnicodeError) as exc:  # a name that cannot be one is refused before it is looked up
        other = "--port" if isinstance(exc, OSError) and not isinstance(exc, socket.gaierror) else "--host"
        said = (exc.strerror if isinstance(exc, OSError) else None) or exc
        raise StoreError(f"cannot listen on {show_text(host)}:{port}: {said}. Choose another {other}.") from exc
    if host not in _LOOPBACK:
        note(f"unspool: {host} can be reached from other machines, and anybody who reaches it can write to the store")

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # From a thread of its own: shutdown waits for the loop, which this handler interrupts.
        threading.Thread(target=receiver.shutdown, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    put(f"http://{f'[{host}]' if ':' in host else host}:{receiver.port}/v1/traces → {show_text(str(place.path))}")
    sys.stdout.flush()
    try:
        receiver.serve_forever(poll_interval=0.1)
    finally:
        receiver.server_close()
        for number, handler in before.items():
            signal.signal(number, handler)
    note(f"{counted(written.spans, 'span')} in {counted(len(written.traces), 'trace')}. List them: unspool trace ls")


class _Written:
    """What came in while the command ran."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.spans = 0
        self.traces: set[str] = set()

    def add(self, taken: Taken) -> None:
        """Count one request."""
        with self._lock:
            self.spans += taken.spans
            self.traces.update(taken.traces)
        for problem in taken.problems[:1]:
            note(f"unspool: refused {counted(taken.rejected, 'span')}: {show_text(problem)}")
