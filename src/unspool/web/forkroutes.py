"""The pages of a fork: its form, a dry run of it, and the job that was started with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from unspool.errors import SeqNotFound, UnspoolError, UsageError
from unspool.recording.reader import RecordReader
from unspool.web.answering import Fields, ForkingOff, Page, Pages, answer, form_route, page_routes
from unspool.web.forkdraft import LONGEST, answer_text, open_desk, shown, work_out
from unspool.web.forkform import Added, ForkForm, read_form
from unspool.web.forkjobs import Jobs, Order
from unspool.web.forkneeds import recorded_tools
from unspool.web.forkpage import PlanView, fork_page, plan_view, refusal_of
from unspool.web.jobpage import job_page, jobs_page
from unspool.web.live import stream
from unspool.web.shelf import LoadedRun, Signature

__all__ = ["fork_routes"]

_FORM: Final = "/run/{record_id}/step/{seq:int}/fork"


def fork_routes(pages: Pages) -> list[Route]:
    """All routes of forks."""
    return [
        *page_routes(_FORM, form_page, pages),
        form_route(_FORM, form_posted, pages),
        Route(f"{_FORM}/text/{{which}}", lambda request: answer(request, pages, text_of_field), methods=["GET"]),
        *page_routes("/fork", list_page, pages),
        Route("/fork/{job}/live", _follow_job(pages), methods=["GET"]),
        form_route("/fork/{job}/stop", stop_posted, pages),
        *page_routes("/fork/{job}", watch_page, pages),
    ]


def _jobs(pages: Pages) -> Jobs:
    if pages.jobs is None:
        raise ForkingOff(
            "forking is off: this server only shows. It is on with unspool web on this machine's own address, "
            "without --read-only and --insecure; elsewhere with --allow-fork. On the command line: unspool fork"
        )
    return pages.jobs


# --- the form --------------------------------------------------------------------------------------------------------


def form_page(request: Request, pages: Pages) -> Page | Response:
    """The form as it is at first, or as a fork had it. For a tool's step: that of the call its result was sent in."""
    jobs = _jobs(pages)
    record_id, seq = request.path_params["record_id"], request.path_params["seq"]
    with pages.shelf.reader(record_id) as reader:
        elsewhere = _call_with_result(reader, seq)
        if elsewhere is not None:
            number, message = elsewhere
            mark = f"?open={message}#m{message}" if message else ""
            return RedirectResponse(pages.links.fork(reader.record_id, number) + mark, 303)
        again = request.query_params.get("again", "")
        if again:
            form = read_form(jobs.get(again).order.fields)
            _allow(form, request.query_params.getlist("allow"), pages.shelf.run(pages.shelf.root_of(reader.record_id)))
            return _form(reader, seq, form, pages)
        opened = request.query_params.get("open", "")
        form = ForkForm(
            keep_state=request.query_params.get("keep-state", "") == "1",
            opened=int(opened) if opened.isascii() and opened.isdigit() and len(opened) < 8 else None,
        )
        return _form(reader, seq, form, pages)


def _allow(form: ForkForm, tools: Sequence[str], run: LoadedRun) -> None:
    """Tick tools, by their paths, that a fork was stopped at; one that the run never called has no box of its own."""
    known = {path for _, path in recorded_tools(run)}
    form.live_tools += [path for path in tools if path in known and path not in form.live_tools]
    form.all_tools = form.all_tools or any(path not in known for path in tools)


def _call_with_result(reader: RecordReader, seq: int) -> tuple[int, int] | None:
    """For a tool call: the next model call, and the number of the message with the result, 0 if it is not found."""
    event = reader.event(seq)
    data = event.syscall
    path = str(data.args.get("path", "")) if data is not None else ""
    if data is None or not path.startswith(("/dev/tool/", "/dev/mcp/")):
        return None
    for later in reader.bare_events(reader.index_of(seq) + 1):
        if later.context is None:
            continue
        name = path.rpartition("/")[2]
        try:
            lines = open_desk(reader, later.seq_num).draft.lines
        except UsageError:
            return later.seq_num, 0
        mine = [one for one in lines if one.message is not None and one.message.tool_name == name]
        exact = [one for one in mine if isinstance(data.result, str) and one.text == data.result]
        return later.seq_num, next((one.number for one in reversed(exact or mine)), 0)
    return None


def form_posted(request: Request, pages: Pages, fields: Fields) -> Page | Response:
    """What a button of the form does: show more of it, a dry run, or start the fork."""
    jobs = _jobs(pages)
    record_id, seq = request.path_params["record_id"], request.path_params["seq"]
    what, _, number = next((value for name, value in reversed(fields) if name == "do"), "").partition(":")
    form = read_form(fields)
    with pages.shelf.reader(record_id) as reader:
        if form.faults or what not in ("dry-run", "run", "send"):
            return _form(reader, seq, _changed(form, what, number), pages, error=form.problem)
        try:
            if not jobs.may_choose_server and (form.base_url or form.key_env):
                raise UsageError("another server or key cannot be named here: this server is open to other machines")
            desk = open_desk(reader, seq, keep_state=form.keep_state)
            work = work_out(reader, desk, form)
            run = pages.shelf.run(pages.shelf.root_of(reader.record_id))
            plan = plan_view(work.plan, form, run, run.root, pages.shelf.prices)
            if what == "dry-run":
                return _form(reader, seq, form, pages, plan=plan)
            blocked = plan.needs.run_blocked if what == "run" else plan.needs.send_blocked
            if blocked:
                return _form(reader, seq, form, pages, plan=plan, error=f"Nothing was started: {blocked}")
            options = [*work.options, *_limits(form, is_run=what == "run")]
            job = jobs.start(
                Order(
                    mode="run" if what == "run" else "send",
                    record_id=reader.record_id,
                    seq_num=seq,
                    root=run.root.record_id,
                    options=options,
                    files=work.files,
                    fields=[(name, value) for name, value in fields if name != "do"],
                )
            )
        except UnspoolError as exc:
            return _form(reader, seq, form, pages, error=str(exc))
    return RedirectResponse(f"/fork/{job.name}", 303)


def _changed(form: ForkForm, what: str, number: str) -> ForkForm:
    """The form after a button that only changes what it shows."""
    at = int(number) if number.isascii() and number.isdigit() and len(number) < 8 else 0
    if what == "open":
        form.opened = at
    elif what == "add":
        form.added.append(Added(at, "user", ""))
    elif what == "drop" and 0 < at <= len(form.added):
        del form.added[at - 1]
    elif what == "earlier" and form.shown_from is not None:
        form.shown_from = max(form.shown_from - 400, 1)
    return form


def _limits(form: ForkForm, *, is_run: bool) -> list[str]:
    """The options that say how to run or send."""
    options = [f"--samples={form.samples}"]
    if form.max_calls is not None:
        options.append(f"--max-calls={form.max_calls}")
    if form.max_cost is not None:
        options.append(f"--max-cost={form.max_cost!r}")
    if is_run:
        options += [f"--live-tools={name}" for name in (["*"] if form.all_tools else form.live_tools)]
    else:
        options += [f"--base-url={form.base_url}"] if form.base_url else []
        options += [f"--key-env={form.key_env}"] if form.key_env else []
    return options


def _form(
    reader: RecordReader, seq: int, form: ForkForm, pages: Pages, *, plan: PlanView | None = None, error: str = ""
) -> Page:
    try:
        desk = open_desk(reader, seq, keep_state=form.keep_state)
    except UsageError as exc:
        if form.keep_state:
            raise
        # It leans on state that is not recorded: as it is it can go out all the same, which the form says and offers.
        desk = open_desk(reader, seq, keep_state=True)
        form.keep_state, error = True, error or str(exc)
    run = pages.shelf.run(pages.shelf.root_of(reader.record_id))
    jobs = _jobs(pages)
    return "fork.html", {
        "run": run,
        "view": "step",
        "gaps": [],
        "page_title": run.name,
        "page": fork_page(desk, form, run, may_choose_server=jobs.may_choose_server),
        "plan": plan,
        "error": error,
        "form_token": pages.door.form_token,
    }


def text_of_field(request: Request, pages: Pages) -> Response:
    """The text of a message (by its number), of the system prompt or the recorded answer, for a field of the form."""
    _jobs(pages)
    record_id, seq, which = (request.path_params[name] for name in ("record_id", "seq", "which"))
    with pages.shelf.reader(record_id) as reader:
        desk = open_desk(reader, seq, keep_state=request.query_params.get("keep-state", "") == "1")
        if which == "answer":
            text = answer_text(desk.point.answer)
        elif which == "system":
            text = desk.prompt
        else:
            number = int(which) if which.isascii() and which.isdigit() and len(which) < 8 else 0
            line = next((one for one in desk.draft.lines if one.number == number), None)
            if line is None:
                raise SeqNotFound(reader.record_id, number, len(desk.draft.lines))
            if refusal_of(line):
                raise UsageError(refusal_of(line))
            text = line.text
    if len(text) > LONGEST:
        raise UsageError(f"{len(text):,} characters are too many for a page. Use: unspool fork … --edit")
    return JSONResponse({"text": shown(text)})


# --- the jobs --------------------------------------------------------------------------------------------------------


def list_page(request: Request, pages: Pages) -> Page:
    """What this server has started."""
    return "forks.html", {"jobs": jobs_page(_jobs(pages)), "page_title": "forks"}


def watch_page(request: Request, pages: Pages) -> Page:
    """One fork: how it stands, what it says, what came of it."""
    job = _jobs(pages).get(request.path_params["job"])
    page = job_page(job, pages.links, pages.shelf.store)
    live = f"/fork/{job.name}/live" if page.state == "running" else ""
    return "forkjob.html", {"page": page, "live": live, "page_title": "fork", "form_token": pages.door.form_token}


def stop_posted(request: Request, pages: Pages, fields: Fields) -> Response:
    """Ask a fork to end."""
    job = _jobs(pages).get(request.path_params["job"])
    job.stop()
    return RedirectResponse(f"/fork/{job.name}", 303)


def _follow_job(pages: Pages) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            job = _jobs(pages).get(request.path_params["job"])
        except UnspoolError as exc:
            return Response(str(exc), 404, media_type="text/plain")
        asked = False

        def state() -> Signature:
            nonlocal asked
            if not asked:  # it may have ended between the page and this: the page is told once in any case
                asked = True
                return ()
            return job.signature()

        return stream(request, state)

    return endpoint
