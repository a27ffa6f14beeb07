"""Whole texts of steps, each at an address of its own: what a page had to cut off is behind a link to it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from unspool.errors import NoSnapshot
from unspool.text import cut
from unspool.web.answering import Pages, answer
from unspool.web.wholetexts import texts_of

__all__ = ["text_routes"]


def text_routes(pages: Pages) -> list[Route]:
    """The route of whole texts."""
    path = "/run/{record_id}/step/{seq:int}/text/{name}"
    return [Route(path, lambda request: answer(request, pages, whole_text), methods=["GET"])]


def whole_text(request: Request, pages: Pages) -> Response:
    """One text of a step to its end, as plain text: nothing that a browser would show as a page.

    Raises:
        NoSnapshot: the step has no such text.
    """
    record_id, seq, name = (request.path_params[key] for key in ("record_id", "seq", "name"))
    with pages.shelf.reader(record_id) as reader:
        found = next((one for one in texts_of(reader, seq) if one.name == name), None)
    if found is None:
        raise NoSnapshot(f"event {seq} of {record_id} has no text of the name {cut(name, 40)}", seq_num=seq)
    headers = {"content-security-policy": "sandbox"}
    return PlainTextResponse(found.text.encode("utf-8", "backslashreplace"), headers=headers)
