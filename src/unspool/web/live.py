"""Server-sent events: a line to the page whenever the files of what it shows have grown."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from unspool.errors import UnspoolError
from unspool.web.newsteps import NewSteps
from unspool.web.shelf import Shelf, Signature

__all__ = ["follow_run", "follow_store", "stream"]

_POLL_S = 0.05  # a page knows of an event this soon after it was written
_ALIVE_S = 15.0  # a line that says nothing, so that a closed page is noticed
_MEMBERS_S = 1.0  # how often a run is asked for new processes

_LARGE = 1_000  # a list of more recordings than that takes a while to make: it is made
_LARGE_S = 1.0  # once in so many seconds

Endpoint = Callable[[Request], Awaitable[Response]]
News = Callable[[], Sequence[str]]


def follow_run(shelf: Shelf) -> Endpoint:
    """An endpoint that follows the run in its address: its new steps as rows, then that it grew."""

    async def endpoint(request: Request) -> Response:
        record_id = request.path_params["record_id"]
        try:
            root = await asyncio.to_thread(shelf.root_of, record_id)
            names = await asyncio.to_thread(shelf.members, root)
        except UnspoolError as exc:
            return Response(str(exc), 404, media_type="text/plain")
        steps = NewSteps(shelf, root)
        await asyncio.to_thread(steps.look, names, is_first=True)
        loop = asyncio.get_running_loop()
        asked = loop.time()
        asking: asyncio.Task[list[str]] | None = None

        def state() -> Signature:
            nonlocal names, asked, asking
            if asking is not None and asking.done():
                names = asking.result() if asking.exception() is None else names
                asking = None
            elif asking is None and loop.time() - asked > _MEMBERS_S:
                asking, asked = loop.create_task(asyncio.to_thread(shelf.members, root)), loop.time()
            return shelf.signature(names)

        return stream(request, state, lambda: steps.look(names))

    return endpoint


def follow_store(shelf: Shelf) -> Endpoint:
    """An endpoint that follows the list of runs: recordings that come, go, end, grow or are read for the first time."""

    async def endpoint(request: Request) -> Response:
        known: Signature = ()
        until = 0.0

        def state() -> Signature:
            nonlocal known, until
            now = asyncio.get_running_loop().time()
            if now < until:
                return known
            try:
                names = sorted(os.listdir(shelf.store.records), reverse=True)
            except OSError:
                names = []
            until = now + _LARGE_S if len(names) > _LARGE else 0.0
            known = (*shelf.signature(names[:200]), ("", shelf.indexer.progress(), 0))
            return known

        return stream(request, state)

    return endpoint


def stream(request: Request, state: Callable[[], Signature], news: News | None = None) -> Response:
    """A line whenever `state` gives something else than before; the second number of each of its parts is a size.

    Args:
        news: what is new then, as markup of rows; called in a thread.
    """

    async def lines() -> AsyncIterator[str]:
        known = state()
        yield "retry: 1000\n\nevent: ready\ndata: \n\n"
        quiet = 0.0
        while not await request.is_disconnected():
            await asyncio.sleep(_POLL_S)
            quiet += _POLL_S
            now = state()
            if now != known:
                known, quiet = now, 0.0
                rows = await asyncio.to_thread(news) if news is not None else []
                if rows:
                    yield f"event: rows\ndata: {json.dumps(rows)}\n\n"
                yield f"event: grew\ndata: {sum(one[1] for one in now)}\n\n"
            elif quiet >= _ALIVE_S:
                quiet = 0.0
                yield ": still here\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})
