"""`unspool run --otlp`: sending spans while the command runs, and saying how that went."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unspool.cli.amounts import counted
from unspool.cli.terminal import note
from unspool.text import show_text

if TYPE_CHECKING:
    from unspool.cli.launch import Launch
    from unspool.interop.live import LiveExport

__all__ = ["exporting"]


@contextlib.contextmanager
def exporting(launch: Launch, url: str | None, *, messages: bool = False) -> Iterator[None]:
    """Send the spans of a command's recordings while it runs inside this; nothing happens without a URL.

    Args:
        url: of the endpoint; "" leaves it to the `OTEL_EXPORTER_OTLP_…` variables, None sends nothing.

    Raises:
        UsageError: the URL or a variable cannot be used.
    """
    if url is None or not launch.is_recorded:
        yield
        return
    from unspool.cli.prices import prices_for
    from unspool.interop.live import LiveExport
    from unspool.interop.sender import Sender, endpoint_from

    stop = threading.Event()
    store = launch.store
    export = LiveExport(
        store,
        Sender(endpoint_from(url, os.environ), stop=stop),
        lambda: [store.records / one.record_id for one in launch.records()],
        stop=stop,
        prices=prices_for(store, None),
        messages=messages,
    )
    export.start()
    try:
        yield
    finally:
        export.finish()
        _report(export, launch)


def _report(export: LiveExport, launch: Launch) -> None:
    lost = export.refused + export.unsent
    if lost:
        records = launch.records()
        name = records[0].record_id if records else "REC"
        said = f": {show_text(export.problem, 300)}" if export.problem else ""
        was, they = ("was", "It is") if lost == 1 else ("were", "They are")
        note(
            f"unspool: {counted(lost, 'span')} {was} not taken over OTLP{said}. "
            f"{they} in the recording: unspool export {name} --format otlp-json -o spans.json"
        )
