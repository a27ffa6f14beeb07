"""How a page is answered: a handler's data as HTML or JSON, an error in one shape, a form only with its token."""

from __future__ import annotations

import dataclasses
import hmac
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from unspool.errors import (
    AmbiguousRecordID,
    CorruptRecording,
    InvalidID,
    NoSnapshot,
    RecordingNotFound,
    SeqNotFound,
    StoreError,
    UnspoolError,
    UsageError,
)
from unspool.text import dump_json, show_text
from unspool.web.forkjobs import JobNotFound, Jobs
from unspool.web.guard import LARGEST_FORM, Door
from unspool.web.links import PageLinks
from unspool.web.render import html
from unspool.web.shelf import LoadedRun, Shelf

__all__ = ["FORM_TOKEN", "Fields", "ForkingOff", "Handler", "Page", "Pages", "answer", "form_route", "page_routes"]

FORM_TOKEN: Final = "form-token"
_MOST_FIELDS: Final = 20_000

Page: TypeAlias = tuple[str, dict[str, Any]]
Handler: TypeAlias = Callable[[Request, "Pages"], "Page | Response"]
Fields: TypeAlias = Sequence[tuple[str, str]]
FormHandler: TypeAlias = Callable[[Request, "Pages", Fields], "Page | Response"]

_NO_RUN: Final = (RecordingNotFound, AmbiguousRecordID, InvalidID)
_MISSING: Final = (RecordingNotFound, SeqNotFound, NoSnapshot, InvalidID, AmbiguousRecordID, JobNotFound)
# Where a page has a form its address goes along as the referrer, to this server only: with `no-referrer` browsers send
# `Origin: null` when the form is posted, and such a post is refused.
_WITH_FORM: Final = {"referrer-policy": "same-origin"}

logger = logging.getLogger("unspool")


class FormRefused(UnspoolError):
    """A form that does not come from a page of this server, or cannot be read."""


class ForkingOff(UnspoolError):
    """This server only shows."""


# The first that fits counts.
_TITLES: Final[tuple[tuple[type[UnspoolError], str], ...]] = (
    (RecordingNotFound, "No such run"),
    (InvalidID, "No such run"),
    (AmbiguousRecordID, "More than one run fits"),
    (SeqNotFound, "No such step"),
    (NoSnapshot, "Nothing of this kind here"),
    (JobNotFound, "No such fork"),
    (CorruptRecording, "The recording is damaged"),
    (StoreError, "The store cannot be used"),
    (FormRefused, "The form was not taken"),
    (ForkingOff, "Forking is off"),
    (UsageError, "This cannot be done"),
    (UnspoolError, "This cannot be shown"),
)


class Pages:
    """What all handlers share.

    Attributes:
        jobs: the forks that this server runs; None where forking is off.
    """

    def __init__(self, shelf: Shelf, door: Door, jobs: Jobs | None = None) -> None:
        self.shelf = shelf
        self.door = door
        self.jobs = jobs
        self.links = PageLinks(forking=jobs is not None)


def page_routes(path: str, handler: Handler, pages: Pages) -> list[Route]:
    """The routes of a page and of the same as data."""

    def endpoint(request: Request) -> Response:
        return answer(request, pages, handler)

    every = [Route(path, endpoint, methods=["GET"])]
    return [Route(f"{path}.json", endpoint, methods=["GET"]), *every] if path != "/" else every


def form_route(path: str, handler: FormHandler, pages: Pages) -> Route:
    """The route of a form, which `Guard` has let in: read whole, and refused without the token of its page."""

    async def endpoint(request: Request) -> Response:
        fields: list[tuple[str, str]] = []
        try:
            fields = _fields(await _body(request), pages.door)
        except UnspoolError as exc:
            problem = exc  # the name of an exception is gone behind its block

            def refuse(_request: Request, _pages: Pages) -> Page:
                raise problem

            return await run_in_threadpool(answer, request, pages, refuse)
        return await run_in_threadpool(answer, request, pages, lambda asked, all_: handler(asked, all_, fields))

    return Route(path, endpoint, methods=["POST"])


async def _body(request: Request) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > LARGEST_FORM:  # the header said otherwise
            raise FormRefused("the form is larger than it said")
        pieces.append(piece)
    return b"".join(pieces)


def _fields(body: bytes, door: Door) -> list[tuple[str, str]]:
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as exc:
        raise FormRefused(f"the form cannot be read: {exc}") from exc
    given = next((value for name, value in fields if name == FORM_TOKEN), "")
    if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), door.form_token.encode()):
        raise FormRefused(
            "the form is not of this server, or of one that was started anew: nothing was done. Load the page again"
        )
    return [(name, value) for name, value in fields if name != FORM_TOKEN]


def answer(request: Request, pages: Pages, handler: Handler) -> Response:
    """A handler's page as HTML or JSON; an error in one shape."""
    try:
        with pages.shelf.indexer.aside():
            found = handler(request, pages)
            return found if isinstance(found, Response) else _shown(request, pages, found, 200)
    except UnspoolError as exc:
        status = _status(exc)
        error = {"title": _title(request, exc), "message": str(exc), "status": status, "kind": type(exc).__name__}
        error |= _ways_back(request, pages, exc)
    except Exception as exc:  # noqa: BLE001 - a defect must not end the server, nor show its insides
        logger.warning("%s: %s: %s", show_text(request.url.path), type(exc).__name__, show_text(str(exc)))
        what = f"This is a defect of unspool: {type(exc).__name__}: {exc}"
        status, error = 500, {"title": "A defect", "message": what, "status": 500, "kind": "Defect"}
        error |= _ways_back(request, pages, exc)
    return _shown(request, pages, ("error.html", error), status)


def _shown(request: Request, pages: Pages, page: Page, status: int) -> Response:
    template, context = page
    if request.url.path.endswith(".json"):
        document = (
            _document(context)
            if status == 200
            else {"error": {"title": context["kind"], "message": context["message"], "status": status}}
        )
        return Response(dump_json(document), status, media_type="application/json")
    with_form = FORM_TOKEN.replace("-", "_") in context
    if status != 200:
        context = {"page_title": context["title"], **context}
    text = html(template, links=pages.links, **{"live": "", **context})
    return HTMLResponse(text, status, headers=_WITH_FORM if with_form else None)


def _title(request: Request, exc: UnspoolError) -> str:
    """What a page about an error is called, in plain words."""
    if request.url.path.endswith("/fork") and isinstance(exc, UsageError | NoSnapshot):
        return "No fork can be made here"
    own = getattr(exc, "title", None)
    return own if isinstance(own, str) else next(words for kind, words in _TITLES if isinstance(exc, kind))


def _ways_back(request: Request, pages: Pages, exc: Exception) -> dict[str, str]:
    """Where to go from an error: to the step that it is about, and to the run; "" for what is not there."""
    record_id, seq = request.path_params.get("record_id"), request.path_params.get("seq")
    if not isinstance(record_id, str) or isinstance(exc, _NO_RUN):
        return {"run_href": "", "step_href": ""}
    run, step = pages.links.run(record_id), pages.links.step(record_id, seq) if isinstance(seq, int) else ""
    here = request.url.path.removesuffix(".json")
    is_step_there = here != step and not isinstance(exc, SeqNotFound | CorruptRecording)
    return {"run_href": run if here != run else "", "step_href": step if is_step_there else ""}


def _status(exc: UnspoolError) -> int:
    if isinstance(exc, FormRefused | ForkingOff):
        return 403
    return 404 if isinstance(exc, _MISSING) else 400 if isinstance(exc, UsageError) else 500


def _document(context: dict[str, Any]) -> dict[str, Any]:
    """What a page shows, as data: without drawings and without what only places things on a page."""
    left_out = ("live", "page_title", "run", "view", "snippets", "form_token")
    return {key: _plain(value) for key, value in context.items() if key not in left_out}


def _plain(value: Any) -> Any:
    if isinstance(value, LoadedRun):
        return value.subject.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
