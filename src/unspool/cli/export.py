"""`unspool export`: a run or a trace for other tools."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from unspool.cli.options import Command, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.subjects import Subject, subject_of
from unspool.cli.terminal import hint, is_terminal, note
from unspool.errors import StoreError, UsageError
from unspool.interop.otlp import OTLP
from unspool.interop.otlp_json import write_json
from unspool.interop.otlp_proto import write_proto
from unspool.interop.outgoing import contents_of, otlp_groups
from unspool.interop.page import html_page
from unspool.interop.timelines import chrome_trace, perfetto_trace, speedscope_profile
from unspool.recording.lines import decode_json
from unspool.store import Store, find_store
from unspool.text import dump_json, show_text
from unspool.trace.answered import by_trace
from unspool.trace.spans import Span

__all__ = ["export"]

# Name: (usual end of the file's name, whether it is bytes nobody reads).
_FORMATS: Final = {
    "otlp": (".pb", True),
    "otlp-json": (".json", False),
    "perfetto": (".perfetto-trace", True),
    "chrome": (".json", False),
    "speedscope": (".speedscope.json", False),
    "html": (".html", False),
    "jsonl": (".jsonl", False),
}


@click.command(cls=Command)
@recording_argument("recording", metavar="REC|TRACE")
@click.option("--format", "format_name", type=click.Choice(list(_FORMATS)), required=True, help="The format.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="The file; - is standard output.")
@click.option("--messages", is_flag=True, help="Also what models saw and said, and what tools got and gave (otlp).")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@prices_option
@store_option
def export(
    recording: str,
    *,
    format_name: str,
    output: Path | None,
    messages: bool,
    force: bool,
    prices: str | None,
    store: str | None,
) -> None:
    """Write a run or a trace in the format of another tool.

    otlp and otlp-json carry OpenTelemetry's GenAI attributes and OpenInference's; spans that were imported leave as
    they came. perfetto and chrome open in ui.perfetto.dev, speedscope in speedscope.app; html is a page that needs
    nothing else; jsonl is a span a line.

    \b
        unspool export last --format perfetto -o run.perfetto-trace
        unspool export last --format otlp-json --messages -o spans.json
        unspool export last --format html -o run.html
    """
    place = find_store(store)
    ending, is_binary = _FORMATS[format_name]
    to_stdout = output is None or str(output) == "-"
    if to_stdout and is_binary and is_terminal(sys.stdout):
        raise UsageError(f"{format_name} is no text: give a file with -o, for example -o run{ending}")
    if output is not None and not to_stdout and output.exists() and not force:
        raise UsageError(f"{output} exists. Overwrite it with --force.")
    with subject_of(place, recording, prices_for(place, prices), messages=False) as subject:
        data = _WRITERS[format_name](subject, place, messages)
        for text in subject.skipped:
            note(f"left out: {show_text(text)}")
    if to_stdout or output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    _write(output, data)
    hint(f"Written: {output} ({len(data):,} bytes)")


def _write(path: Path, data: bytes) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
    except OSError as exc:
        raise StoreError(f"cannot write {path}: {exc.strerror or exc}") from exc


def _spans(subject: Subject) -> list[Span]:
    return [node.span for node, _ in subject.tree.walk() if not node.span.synthetic]


def _otlp(subject: Subject, store: Store, messages: bool, write: Callable[..., bytes]) -> bytes:
    spans = _spans(subject)
    # What a server did for others leaves in their traces; what came in leaves as it came.
    own = by_trace([span for span in spans if OTLP not in span.attributes])
    spans = [*(span for part in own.values() for span in part), *(span for span in spans if OTLP in span.attributes)]
    contents = contents_of(subject.recorded.processes, spans) if messages else None
    return write(otlp_groups(spans, store, contents=contents))


def _jsonl(subject: Subject) -> bytes:
    # As on disk, but for what acts on a terminal: this may go to one.
    return "".join(dump_json(decode_json(span.to_json())) + "\n" for span in _spans(subject)).encode()


_WRITERS: Final[dict[str, Callable[[Subject, Store, bool], bytes]]] = {
    "otlp": lambda subject, store, messages: _otlp(subject, store, messages, write_proto),
    "otlp-json": lambda subject, store, messages: _otlp(subject, store, messages, write_json),
    "perfetto": lambda subject, _store, _messages: perfetto_trace(subject.tree),
    "chrome": lambda subject, _store, _messages: chrome_trace(subject.tree),
    "speedscope": lambda subject, _store, _messages: speedscope_profile(subject.tree),
    "html": lambda subject, _store, _messages: html_page(subject.tree).encode("utf-8", "replace"),
    "jsonl": lambda subject, _store, _messages: _jsonl(subject),
}
