"""Server-sent events: a line to the page whenever the files of what it shows have grown."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from unspool.errors import UnspoolError
from unspool.web.shelf import Shelf, Signature

__all__ = ["follow_run", "follow_store"]

_POLL_S = 0.1  # a page knows of an event this soon after it was written
_ALIVE_S = 15.0  # a line that says nothing, so that a closed page is noticed
_MEMBERS_S = 1.0  # how often a run is asked for new processes

Endpoint = Callable[[Request], Awaitable[Response]]


def follow_run(shelf: Shelf) -> Endpoint:
    """An endpoint that follows the run in its address."""

    async def endpoint(request: Request) -> Response:
        record_id = request.path_params["record_id"]
        try:
            root = await asyncio.to_thread(shelf.root_of, record_id)
        except UnspoolError as exc:
            return Response(str(exc), 404, media_type="text/plain")
        names = [root]
        asked = 0.0

        def state() -> Signature:
            nonlocal names, asked
            now = asyncio.get_running_loop().time()
            if now - asked > _MEMBERS_S:
                names, asked = shelf.members(root), now
            return shelf.signature(names)

        return _stream(request, state)

    return endpoint


def follow_store(shelf: Shelf) -> Endpoint:
    """An endpoint that follows the list of runs: recordings that come, go, end or grow."""

    async def endpoint(request: Request) -> Response:
        def state() -> Signature:
            try:
                names = sorted(os.listdir(shelf.store.records), reverse=True)
            except OSError:
                return ()
            return shelf.signature(names[:200])

        return _stream(request, state)

    return endpoint


def _stream(request: Request, state: Callable[[], Signature]) -> Response:
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
                yield f"event: grew\ndata: {sum(one[1] for one in now)}\n\n"
            elif quiet >= _ALIVE_S:
                quiet = 0.0
                yield ": still here\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})
