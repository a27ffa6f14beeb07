"""The pages of the web view: each a route that reads, and a template; with `.json` behind the address, as data."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from unspool.cli.exchanges import Exchange, exchange_of
from unspool.cli.prices import Prices
from unspool.errors import (
    AmbiguousRecordID,
    InvalidID,
    NoSnapshot,
    RecordingNotFound,
    SeqNotFound,
    UnspoolError,
    UsageError,
)
from unspool.events import ContextSnapshotData, RecordEvent
from unspool.recording.reader import RecordReader
from unspool.replay.diff import ContextDiff, compute_context_diff
from unspool.store import Store
from unspool.text import dump_json, show_text
from unspool.trace.names import INPUT, count_of
from unspool.trace.rollup import GROUPS
from unspool.web.banner import gaps_of
from unspool.web.blameview import MEASURES, blame_page, chains_of_run
from unspool.web.compareview import compare_runs
from unspool.web.contextview import context_over_time, step_context
from unspool.web.difftext import diff_rows
from unspool.web.guard import Door, Guard
from unspool.web.inspector import load_step, span_of
from unspool.web.links import PageLinks
from unspool.web.live import follow_run, follow_store
from unspool.web.render import STATIC, html, static_text
from unspool.web.runlist import Query, list_runs
from unspool.web.shelf import LoadedRun, Shelf
from unspool.web.snippets import as_curl, as_python
from unspool.web.steps import Readers, StepQuery, list_steps
from unspool.web.timeline import timeline_svg

__all__ = ["create_app"]

logger = logging.getLogger("unspool")
Page: TypeAlias = tuple[str, dict[str, Any]]
Handler: TypeAlias = Callable[[Request, "Pages"], "Page | Response"]
_MISSING: Final = (RecordingNotFound, SeqNotFound, NoSnapshot, InvalidID, AmbiguousRecordID)


def create_app(store: Store, prices: Prices, door: Door) -> Guard:
    """The server's application. It reads the store and never writes to it."""
    pages = Pages(Shelf(store, prices))

    def route(path: str, handler: Handler) -> list[Route]:
        def endpoint(request: Request) -> Response:
            return _answer(request, pages, handler)

        every = [Route(path, endpoint, methods=["GET"])]
        return [Route(f"{path}.json", endpoint, methods=["GET"]), *every] if path != "/" else every

    routes = [
        *route("/", runs_page),
        *route("/runs", runs_page),
        Route("/live", follow_store(pages.shelf), methods=["GET"]),
        *route("/compare", compare_page),
        Route("/run/{record_id}/live", follow_run(pages.shelf), methods=["GET"]),
        *route("/run/{record_id}/context", context_page),
        *route("/run/{record_id}/blame", blame),
        *route("/run/{record_id}/step/{seq:int}/diff", diff_page),
        *route("/run/{record_id}/step/{seq:int}/context", step_context_page),
        Route("/run/{record_id}/step/{seq:int}/{half:str}.raw", lambda r: _answer(r, pages, raw_body)),
        *route("/run/{record_id}/step/{seq:int}", step_page),
        *route("/run/{record_id}", run_page),
        Route("/static/{name}", static_file, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _no_page, 500: _defect})
    return Guard(app, door)


class Pages:
    """What all handlers share."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.links = PageLinks()


def _answer(request: Request, pages: Pages, handler: Handler) -> Response:
    """A handler's page as HTML or JSON; an error in one shape."""
    as_json = request.url.path.endswith(".json")
    status = 200
    try:
        found = handler(request, pages)
        if isinstance(found, Response):
            return found
        template, context = found
    except UnspoolError as exc:
        status = 404 if isinstance(exc, _MISSING) else 400 if isinstance(exc, UsageError) else 500
        template, context = "error.html", {"title": type(exc).__name__, "message": str(exc), "status": status}
    except Exception as exc:  # noqa: BLE001 - a defect must not end the server, nor show its insides
        logger.warning("%s: %s: %s", show_text(request.url.path), type(exc).__name__, show_text(str(exc)))
        what = f"This is a defect of unspool: {type(exc).__name__}: {exc}"
        status, template, context = 500, "error.html", {"title": "Defect", "message": what, "status": 500}
    if as_json:
        document = {"error": context} if status != 200 else _document(context)
        return Response(dump_json(document), status, media_type="application/json")
    return HTMLResponse(html(template, links=pages.links, **{"live": "", **context}), status)


def _document(context: dict[str, Any]) -> dict[str, Any]:
    """What a page shows, as data: without drawings and without what only places things on a page."""
    left_out = ("live", "page_title", "run", "view", "snippets")
    return {key: _plain(value) for key, value in context.items() if key not in left_out}


def _plain(value: Any) -> Any:
    if isinstance(value, LoadedRun):
        return value.subject.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _no_page(request: Request, _exc: Exception) -> Response:
    message = f"There is no page {request.url.path}. All runs: /"
    if request.url.path.endswith(".json"):
        return Response(dump_json({"error": {"title": "NotFound", "message": message, "status": 404}}), 404,
                        media_type="application/json")  # fmt: skip
    return HTMLResponse(
        html("error.html", links=PageLinks(), live="", title="No such page", message=message, status=404), 404
    )


def _defect(_request: Request, exc: Exception) -> Response:
    return PlainTextResponse(f"This is a defect of unspool: {type(exc).__name__}.\n", 500)


async def static_file(request: Request) -> Response:
    """A style sheet or script; nothing else is served as a file."""
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("no such file\n", 404)
    return Response(static_text(name), media_type=STATIC[name])


# --- pages -----------------------------------------------------------------------------------------------------------


def runs_page(request: Request, pages: Pages) -> Page:
    """The list of runs."""
    found = list_runs(pages.shelf, Query.of(request.query_params))
    return "runs.html", {"page": found, "live": "/live", "page_title": "runs"}


def _frame(run: LoadedRun, readers: Readers, view: str, pages: Pages) -> dict[str, Any]:
    """What stands on top of every page of a run."""
    return {
        "run": run,
        "view": view,
        "gaps": gaps_of(run, readers),
        "live": pages.links.run(run.subject.name, "live") if run.is_live else "",
        "page_title": run.name,
    }


def run_page(request: Request, pages: Pages) -> Page | Response:
    """One run: timeline, errors, steps."""
    record_id = request.path_params["record_id"]
    run = _run(pages, record_id)
    if isinstance(run, Response):
        return run
    query = StepQuery.of(request.query_params)
    chains, handled = chains_of_run(run, pages.links)
    with Readers(pages.shelf.store) as readers:
        return "run.html", {
            **_frame(run, readers, "", pages),
            "summary": pages.shelf.summary(run.records) if run.records else None,
            "chains": chains,
            "handled": handled,
            "timeline": timeline_svg(run, pages.links),
            "steps": list_steps(run, query, pages.links, readers),
        }


def _run(pages: Pages, record_id: str, *, carried: bool = False, view: str = "") -> LoadedRun | Response:
    """The run; for a process inside one, the way to its run."""
    try:
        root = pages.shelf.root_of(record_id)
    except RecordingNotFound:
        root = record_id  # a trace, which only `run` can find
    if root != record_id:
        return RedirectResponse(pages.links.run(root, view), 303)
    return pages.shelf.run(root, carried=carried)


def blame(request: Request, pages: Pages) -> Page | Response:
    """Why a run was slow, dear or wrong."""
    run = _run(pages, request.path_params["record_id"], carried=True, view="blame")
    if isinstance(run, Response):
        return run
    by, group = request.query_params.get("by", ""), request.query_params.get("group", "")
    measure = next((one for one in MEASURES if one == by), MEASURES[0])
    kind = next((one for one in GROUPS if one == group), GROUPS[0])
    with Readers(pages.shelf.store) as readers:
        return "blame.html", {
            **_frame(run, readers, "blame", pages),
            "page": blame_page(run, pages.links, measure, kind),
        }


def context_page(request: Request, pages: Pages) -> Page | Response:
    """How the contexts of a run grew. `record` names one process of it, `conversation` one of its conversations."""
    run = _run(pages, request.path_params["record_id"], view="context")
    if isinstance(run, Response):
        return run
    ids = [one.record_id for one in run.records]
    wanted = request.query_params.get("record", "")
    record_id = wanted if wanted in ids else next(iter(ids), "")
    number = request.query_params.get("conversation", "")
    conversation = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else None
    with Readers(pages.shelf.store) as readers:
        reader = readers.get(record_id) if record_id else None
        found = context_over_time(reader, pages.shelf.prices, pages.links, conversation) if reader is not None else None
        return "context.html", {
            **_frame(run, readers, "context", pages),
            "page": found,
            "record_id": record_id,
            "records": [(one.record_id, one.intent or f"PID {one.pid}") for one in run.records],
        }


def step_page(request: Request, pages: Pages) -> Page:
    """One step in full."""
    record_id, seq = request.path_params["record_id"], request.path_params["seq"]
    with Readers(pages.shelf.store) as readers, pages.shelf.reader(record_id) as reader:
        run = pages.shelf.run(pages.shelf.root_of(record_id))
        page = load_step(run, reader, seq, pages.links, readers)
        return "step.html", {**_frame(run, readers, "step", pages), "page": page}


def raw_body(request: Request, pages: Pages) -> Response:
    """The exact bytes of a request or a response, as a download: nothing a browser would show as a page."""
    record_id, seq = request.path_params["record_id"], request.path_params["seq"]
    which = request.path_params["half"]
    with pages.shelf.reader(record_id) as reader:
        exchange = exchange_of(reader, reader.event(seq))
        if which in ("curl", "python"):
            return _copyable(reader, exchange, which)
        message = {"request": exchange.request, "response": exchange.response}.get(which)
        if message is None or message.body is None:
            raise SeqNotFoundHere(f"event {seq} of {record_id} has no {which} body")
        data = reader.body(message.body)
        if data is None:
            why = message.body.missing or "pieces of it are missing or damaged"
            raise SeqNotFoundHere(f"no bytes of the {which} of event {seq}: {why}")
    name = f"{reader.record_id}-{seq}-{which}.bin"
    headers = {"content-disposition": f'attachment; filename="{name}"', "content-security-policy": "sandbox"}
    return Response(data, media_type="application/octet-stream", headers=headers)


def _copyable(reader: RecordReader, exchange: Exchange, which: str) -> Response:
    """The request as a command or a program, as plain text."""
    request = exchange.request
    if request is None:
        raise SeqNotFoundHere("there is no request at this event, so there is nothing to copy")
    body = reader.body(request.body) if request.body is not None else None
    text = as_curl(request, body) + "\n" if which == "curl" else as_python(request, body)
    return PlainTextResponse(text, headers={"content-security-policy": "sandbox"})


class SeqNotFoundHere(NoSnapshot):
    """There is nothing of this kind at the event."""


def _whole_snapshot(reader: RecordReader, seq: int) -> tuple[RecordEvent, ContextSnapshotData]:
    """The snapshot of the call an event belongs to."""
    event = exchange_of(reader, reader.event(seq)).snapshot
    if event is None or event.context is None:
        raise NoSnapshot(f"event {seq} of {reader.record_id} belongs to no model call", seq_num=seq)
    return event, event.context


def _input_tokens(run: LoadedRun, reader: RecordReader, event: RecordEvent) -> int | None:
    span = span_of(run, reader.record_id, event, exchange_of(reader, event))
    return None if span is None else count_of(span, INPUT)


def diff_page(request: Request, pages: Pages) -> Page:
    """What changed in the context from one step to another; from the call before by default."""
    record_id, seq = request.path_params["record_id"], request.path_params["seq"]
    other = request.query_params.get("from", "")
    with Readers(pages.shelf.store) as readers, pages.shelf.reader(record_id) as reader:
        run = pages.shelf.run(pages.shelf.root_of(record_id))
        to_event, to_context = _whole_snapshot(reader, seq)
        if other.isascii() and other.isdigit() and len(other) < 12:
            before = int(other)
        else:
            before = to_context.prev or _snapshot_before(reader, to_event.seq_num)
        from_event, diff = (to_event, None) if not before else _difference(run, reader, before, to_event)
        calls = [
            (event.seq_num, event.call or number)
            for process in run.subject.recorded.processes
            if process.reader.record_id == reader.record_id
            for number, event in enumerate(process.snapshots, start=1)
        ]
        return "diff.html", {
            **_frame(run, readers, "step", pages),
            "diff": diff,
            "rows": diff_rows(diff) if diff is not None else [],
            "record_id": reader.record_id,
            "from_seq": from_event.seq_num,
            "to_seq": to_event.seq_num,
            "from_call": from_event.call,
            "to_call": to_event.call,
            "calls": calls[-2000:],
        }


def _difference(
    run: LoadedRun, reader: RecordReader, before: int, to_event: RecordEvent
) -> tuple[RecordEvent, ContextDiff]:
    from_event, from_context = _whole_snapshot(reader, before)
    assert to_event.context is not None  # it is a snapshot
    from_tokens, to_tokens = (_input_tokens(run, reader, one) for one in (from_event, to_event))
    diff = compute_context_diff(
        from_context, to_event.context, from_event, to_event, from_tokens=from_tokens, to_tokens=to_tokens
    )
    return from_event, diff


def _snapshot_before(reader: RecordReader, seq: int) -> int:
    positions = reader.snapshot_positions()
    if positions is not None:
        events = reader.events()
        before = [events.bare(position).seq_num for position in positions if position < reader.index_of(seq)][-1:]
        return before[0] if before else 0
    return max(
        (one.seq_num for one in reader.bare_events() if one.context is not None and one.seq_num < seq), default=0
    )


def step_context_page(request: Request, pages: Pages) -> Page:
    """What the context of one step is made of, by temperature."""
    record_id, seq = request.path_params["record_id"], request.path_params["seq"]
    with Readers(pages.shelf.store) as readers, pages.shelf.reader(record_id) as reader:
        run = pages.shelf.run(pages.shelf.root_of(record_id))
        event, _ = _whole_snapshot(reader, seq)
        return "stepcontext.html", {
            **_frame(run, readers, "step", pages),
            "page": step_context(reader, pages.shelf.prices, event.seq_num),
            "record_id": reader.record_id,
            "seq": event.seq_num,
        }


def compare_page(request: Request, pages: Pages) -> Page:
    """Two runs side by side."""
    names = [request.query_params.get(key, "") for key in ("a", "b")]
    picked = request.query_params.getlist("pick")
    if len(picked) == 2 and not any(names):
        names = picked[::-1]  # the list has the newest first, and a comparison the older one
    if not all(names):
        raise UsageError("Choose two runs in the list, then compare: the address is /compare?a=RUN&b=RUN.")
    page = request.query_params.get("page", "1")
    found = compare_runs(
        pages.shelf, names[0], names[1], pages.links,
        max(int(page), 1) if page.isascii() and page.isdigit() and len(page) < 8 else 1,
    )  # fmt: skip
    rows = diff_rows(found.contexts) if found.contexts is not None else []
    return "compare.html", {"page": found, "rows": rows, "live": "", "page_title": "compare"}
