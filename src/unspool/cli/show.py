"""`unspool show`: a recording, or one event of it in full."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from unspool.cli import amounts
from unspool.cli.exchanges import Exchange, exchange_of, message_json
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.overview import overview_json, overview_text
from unspool.cli.terminal import bold, hint, put, use_color
from unspool.durations import format_duration
from unspool.errors import CorruptRecording, UsageError
from unspool.events import HttpRequest, HttpResponse, RecordEvent
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.replay.detail import event_in_full, format_event_in_full
from unspool.store import find_store
from unspool.text import dump_json, show_text

__all__ = ["show"]


@click.command(cls=Command)
@recording_argument("recording", metavar="REC[@POINT]")
@click.option(
    "--raw", type=click.Choice(["request", "response"]), help="Write the exact bytes of this body and nothing else."
)
@store_option
@json_option
def show(recording: str, raw: str | None, store: str | None, as_json: bool) -> None:
    """Show a recording, or one event of it in full.

    REC alone: who made it, what it adds up to, what is damaged. REC@SEQ, REC@step:N, REC@call:N: that event with all
    its texts; of a model call the request and the response: headers, messages, tool calls.

    \b
        unspool show last
        unspool show 12@call:3
        unspool show 12@call:3 --raw request | jq .messages
    """
    place = find_store(store)
    address = resolve(place, recording)
    color = use_color()
    with RecordReader(address.record_dir, live=True) as reader:
        if address.point is not None:
            event = reader.event(address.point.seq_num(reader))
            if raw is not None:
                _write_raw(reader, event, raw)
            else:
                put(dump_json(_event_json(reader, event)) if as_json else _event_text(reader, event, color=color))
        elif raw is not None:
            raise UsageError(f"--raw needs a point: unspool show {recording}@call:1 --raw {raw}")
        elif as_json:
            put(dump_json(overview_json(place, reader)))
        else:
            put(overview_text(place, reader, color=color))
            hint(f"Next: unspool strace {address.record_id}, or unspool replay {address.record_id}")


def _write_raw(reader: RecordReader, event: RecordEvent, which: str) -> None:
    exchange = exchange_of(reader, event)
    message = exchange.request if which == "request" else exchange.response
    if message is None:
        raise UsageError(
            f"event {event.seq_num} of {reader.record_id} has no {which}. Model calls and HTTP requests have one, "
            f"for example: unspool show {reader.record_id}@call:1 --raw {which}"
        )
    data = None if message.body is None else reader.body(message.body)
    if data is None and message.body is not None:
        why = message.body.missing or "pieces of it are missing or damaged"
        raise CorruptRecording(reader.record_dir, f"no bytes of the {which} of event {event.seq_num}: {why}")
    sys.stdout.flush()
    sys.stdout.buffer.write(data or b"")
    sys.stdout.buffer.flush()


def _event_json(reader: RecordReader, event: RecordEvent) -> dict[str, object]:
    exchange = exchange_of(reader, event)
    return {
        "record_id": reader.record_id,
        "event": event,
        "context": event_in_full(exchange.snapshot, reader).get("context") if exchange.snapshot is not None else None,
        "request": message_json(reader, exchange.request),
        "response": message_json(reader, exchange.response),
        "call": exchange.syscall.syscall if exchange.syscall is not None else None,
        "answer": exchange.answer.llm if exchange.answer is not None else None,
    }


def _event_text(reader: RecordReader, event: RecordEvent, *, color: bool) -> str:
    exchange = exchange_of(reader, event)
    events = [one for one in (exchange.snapshot, exchange.syscall, exchange.answer) if one is not None] or [event]
    blocks = [format_event_in_full(one, reader, color) for one in events]
    if exchange.snapshot is not None and exchange.answer is None:
        blocks.append("no answer is recorded: the call is in flight, or was cut off with its process")
    # Headers last: what was said is what one looks for, and a long context scrolls away before them.
    heads = [*_request_head(exchange.request, color), *_response_head(exchange, event, color)]
    return "\n\n".join([*blocks, "\n".join(heads)] if heads else blocks)


def _request_head(request: HttpRequest | None, color: bool) -> Iterator[str]:
    if request is None:
        return
    size = f" ({amounts.bytes_text(request.body.size)})" if request.body is not None and request.body.size else ""
    yield bold(f"request {show_text(f'{request.method} {request.url}')}", color) + size
    yield from _headers(request)


def _response_head(exchange: Exchange, event: RecordEvent, color: bool) -> Iterator[str]:
    response = exchange.response
    if response is None:
        return
    facts = [amounts.bytes_text(response.body.size)] if response.body is not None and response.body.size else []
    syscall = exchange.syscall.syscall if exchange.syscall is not None else event.syscall
    if syscall is not None:
        if syscall.ttft is not None:
            facts.append(f"first byte after {format_duration(syscall.ttft)}")
        if syscall.duration:  # one of an imported run may not be known
            facts.append(f"took {format_duration(syscall.duration)}")
    if response.chunks:
        facts.append(f"in {amounts.counted(len(response.chunks) // 2, 'piece')}")
    if not response.complete:
        facts.append(f"ended early: {show_text(response.ended or 'unknown reason')}")
    title = f"response {response.status} {show_text(response.reason or '')}".rstrip()
    yield bold(title, color) + (f" ({', '.join(facts)})" if facts else "")
    yield from _headers(response)


def _headers(message: HttpRequest | HttpResponse) -> Iterator[str]:
    for name, value in message.headers or []:
        yield f"    {show_text(name)}: {show_text(value)}"
