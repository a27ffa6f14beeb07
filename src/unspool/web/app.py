"""The pages of the web view: each a route that reads, and a template; with `.json` behind the address, as data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from unspool.cli.exchanges import Exchange, exchange_of
from unspool.cli.prices import Prices
from unspool.errors import NoSnapshot, RecordingNotFound, UsageError
from unspool.events import ContextSnapshotData, RecordEvent
from unspool.recording.reader import RecordReader
from unspool.replay.diff import ContextDiff, compute_context_diff
from unspool.store import Store
from unspool.text import dump_json
from unspool.trace.names import INPUT, count_of
from unspool.trace.rollup import GROUPS
from unspool.web.answering import Page, Pages, answer, page_routes
from unspool.web.banner import gaps_of
from unspool.web.blameview import MEASURES, blame_page, chains_of_run, explained_run, order_explanation
from unspool.web.compareview import compare_runs
from unspool.web.contexts import contexts_of, order_contexts
from unspool.web.contextview import step_context
from unspool.web.difftext import call_named, calls_of, diff_rows, near
from unspool.web.forkable import only_possible, why_no_fork
from unspool.web.forkjobs import Jobs
from unspool.web.forkroutes import fork_routes
from unspool.web.growthview import context_over_time
from unspool.web.guard import Door, Guard
from unspool.web.inspector import load_step, span_of
from unspool.web.links import PageLinks
from unspool.web.live import follow_run, follow_store
from unspool.web.readers import Readers
from unspool.web.render import STATIC, compile_templates, html, static_text
from unspool.web.runlist import Query, list_runs
from unspool.web.shelf import LoadedRun, Shelf
from unspool.web.snippets import as_curl, as_python
from unspool.web.steps import StepQuery, last_answer, list_steps
from unspool.web.textroutes import text_routes
from unspool.web.timeline import timeline_of

__all__ = ["create_app"]

_ERRORS_SHOWN = 20  # of either kind on the page of a run


def create_app(store: Store, prices: Prices, door: Door, jobs: Jobs | None = None) -> Guard:
    """The server's application. It reads the store; only the forks that it starts, programs of their own, write to it.

    Args:
        jobs: runs forks; None where nothing may be started.
    """
    pages = Pages(Shelf(store, prices), door, jobs)
    pages.shelf.workshop.order("templates", None, compile_templates)
    routes = [
        *page_routes("/", runs_page, pages),
        *page_routes("/runs", runs_page, pages),
        Route("/live", follow_store(pages.shelf), methods=["GET"]),
        *page_routes("/compare", compare_page, pages),
        Route("/run/{record_id}/live", follow_run(pages.shelf), methods=["GET"]),
        *page_routes("/run/{record_id}/context", context_page, pages),
        *page_routes("/run/{record_id}/blame", blame, pages),
        *page_routes("/run/{record_id}/step/{seq:int}/diff", diff_page, pages),
        *page_routes("/run/{record_id}/step/{seq:int}/context", step_context_page, pages),
        *fork_routes(pages),
        *text_routes(pages),
        Route("/run/{record_id}/step/{seq:int}/{half:str}.raw", lambda r: answer(r, pages, raw_body)),
        *page_routes("/run/{record_id}/step/{seq:int}", step_page, pages),
        *page_routes("/run/{record_id}", run_page, pages),
        Route("/static/{name}", static_file, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _no_page, 500: _defect})
    return Guard(app, door)


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


def _frame(run: LoadedRun, view: str, pages: Pages) -> dict[str, Any]:
    """What stands on top of every page of a run."""
    gaps, is_checking = gaps_of(run, pages.shelf)
    return {
        "run": run,
        "view": view,
        "gaps": gaps,
        "live": pages.links.run(run.subject.name, "live") if run.is_live else "",
        "page_title": run.name,
        "checking": is_checking,
        "stale": is_checking,
    }


def _is_data(request: Request) -> bool:
    """Whether the answer is for a program, which rather waits than asks again."""
    return request.url.path.endswith(".json")


def run_page(request: Request, pages: Pages) -> Page | Response:
    """One run: timeline, errors, steps."""
    record_id = request.path_params["record_id"]
    run = _run(pages, record_id)
    if isinstance(run, Response):
        return run
    query = StepQuery.of(request.query_params)
    chains, handled = chains_of_run(run, pages.links)
    agents = {one.agent.pid: one.agent.name for one in run.subject.recorded.processes}
    with Readers(pages.shelf.readers) as readers:
        steps = list_steps(run, query, pages.links, readers)
        ended = last_answer(run, pages.links, readers)
        shown, no_fork = only_possible(run, chains[:_ERRORS_SHOWN], readers)
        shown_handled, no_fork_handled = only_possible(run, handled[:_ERRORS_SHOWN], readers)
    page = {
        **_frame(run, "", pages),
        "summary": pages.shelf.summary(run.records) if run.records else None,
        "chains": [*shown, *chains[_ERRORS_SHOWN:]],
        "handled": [*shown_handled, *handled[_ERRORS_SHOWN:]],
        "no_fork": no_fork or no_fork_handled,
        "timeline": timeline_of(run, pages.links, window=query.window, unfolded=query.unfolded),
        "steps": steps,
        "ended": ended,
        "agent_name": agents.get(query.pid, ""),
    }
    _warm(pages, run, run.records[0].record_id if run.records else "")
    return "run.html", page


def _warm(pages: Pages, run: LoadedRun, record_id: str) -> None:
    """Begin with what the next pages of a finished run will show."""
    if not run.is_live and record_id:
        order_contexts(pages.shelf, record_id)
        order_explanation(pages.shelf, run, pages.links)


def _run(pages: Pages, record_id: str, *, view: str = "") -> LoadedRun | Response:
    """The run; for a process inside one, the way to its run."""
    try:
        root = pages.shelf.root_of(record_id)
    except RecordingNotFound:
        root = record_id  # a trace, which only `run` can find
    if root != record_id:
        return RedirectResponse(pages.links.run(root, view), 303)
    return pages.shelf.run(root)


def blame(request: Request, pages: Pages) -> Page | Response:
    """Why a run was slow, dear or wrong."""
    run = _run(pages, request.path_params["record_id"], view="blame")
    if isinstance(run, Response):
        return run
    explained = explained_run(pages.shelf, run, pages.links, is_patient=_is_data(request))
    by, group = request.query_params.get("by", ""), request.query_params.get("group", "")
    measure = next((one for one in MEASURES if one == by), MEASURES[0])
    kind = next((one for one in GROUPS if one == group), GROUPS[0])
    frame = _frame(run, "blame", pages)
    if explained.value is None:
        return "working.html", {**frame, "what": "working out what each part of the run cost"}
    page = blame_page(explained.value, pages.links, measure, kind)
    with Readers(pages.shelf.readers) as readers:
        chains, no_fork = only_possible(run, page.chains, readers)
        handled, no_fork_handled = only_possible(run, page.handled, readers)
    return "blame.html", {
        **frame,
        "stale": frame["stale"] or not explained.is_current,
        "page": replace(page, chains=chains, handled=handled),
        "no_fork": no_fork or no_fork_handled,
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
    with Readers(pages.shelf.readers) as readers:
        frame = _frame(run, "context", pages)
        found = None
        if record_id and readers.get(record_id) is not None:
            contexts = contexts_of(pages.shelf, record_id, is_patient=_is_data(request))
            if contexts.value is None:
                return "working.html", {**frame, "what": "reading the contexts of the run"}
            frame["stale"] = frame["stale"] or not contexts.is_current
            found = context_over_time(contexts.value, pages.links, conversation)
        return "context.html", {
            **frame,
            "page": found,
            "record_id": record_id,
            "records": [(one.record_id, one.intent or f"PID {one.pid}") for one in run.records],
        }


def step_page(request: Request, pages: Pages) -> Page:
    """One step in full."""
    record_id, seq = request.path_params["record_id"], request.path_params["seq"]
    with Readers(pages.shelf.readers) as readers, pages.shelf.reader(record_id) as reader:
        run = pages.shelf.run(pages.shelf.root_of(record_id))
        number = request.query_params.get("message", "")
        message = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 0
        wanted = request.query_params.get("find", "")
        page = load_step(run, reader, seq, pages.links, readers, message=message, wanted=wanted)
        _warm(pages, run, record_id)
        return "step.html", {**_frame(run, "step", pages), "page": page}


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

    title = "This was not recorded"


class ChooseTwo(UsageError):
    """A comparison of fewer runs than two."""

    title = "Choose two runs"


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
    with pages.shelf.reader(record_id) as reader:
        run = pages.shelf.run(pages.shelf.root_of(record_id))
        to_event, to_context = _whole_snapshot(reader, seq)
        calls = calls_of(run, reader.record_id)
        wanted = call_named(calls, request.query_params.get("call", ""))
        usual = to_context.prev or _snapshot_before(reader, to_event.seq_num)
        before = wanted or (int(other) if other.isascii() and other.isdigit() and len(other) < 12 else usual)
        from_event, diff = (to_event, None) if not before else _difference(run, reader, before, to_event)
        return "diff.html", {
            **_frame(run, "step", pages),
            "diff": diff,
            "rows": diff_rows(diff) if diff is not None else [],
            "record_id": reader.record_id,
            "from_seq": from_event.seq_num,
            "to_seq": to_event.seq_num,
            "from_call": from_event.call,
            "to_call": to_event.call,
            "near": near(calls, from_event.seq_num, to_event.seq_num, usual),
            "no_fork": why_no_fork(reader, to_event),
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
    with pages.shelf.reader(record_id) as reader:
        run = pages.shelf.run(pages.shelf.root_of(record_id))
        event, _ = _whole_snapshot(reader, seq)
        frame = _frame(run, "step", pages)
        contexts = contexts_of(pages.shelf, reader.record_id, is_patient=_is_data(request))
        if contexts.value is None or event.seq_num > contexts.value.last_seq:
            return "working.html", {**frame, "what": "reading the contexts of the run"}
        return "stepcontext.html", {
            **frame,
            "page": step_context(contexts.value, reader, event.seq_num),
            "record_id": reader.record_id,
            "seq": event.seq_num,
            "no_fork": why_no_fork(reader, event),
        }


def compare_page(request: Request, pages: Pages) -> Page:
    """Two runs side by side."""
    names = [request.query_params.get(key, "") for key in ("a", "b")]
    picked = request.query_params.getlist("pick")
    if len(picked) == 2 and not any(names):
        names = picked[::-1]  # the list has the newest first, and a comparison the older one
    if not all(names):
        raise ChooseTwo("Choose two runs in the list, then compare: the address is /compare?a=RUN&b=RUN.")
    page = request.query_params.get("page", "1")
    found = compare_runs(
        pages.shelf, names[0], names[1], pages.links,
        max(int(page), 1) if page.isascii() and page.isdigit() and len(page) < 8 else 1,
    )  # fmt: skip
    rows = diff_rows(found.contexts) if found.contexts is not None else []
    return "compare.html", {"page": found, "rows": rows, "live": "", "page_title": "compare"}
