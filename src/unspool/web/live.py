"""Server-sent events: a line to the page whenever the files of what it shows have grown, or a writer of them ended."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from unspool.errors import StoreError, UnspoolError
from unspool.store import writer_is_alive
from unspool.web.newsteps import NewSteps
from unspool.web.shelf import Shelf, Signature

__all__ = ["follow_run", "follow_store", "stream"]

_POLL_S = 0.05  # a page knows of an event this soon after it was written
_ALIVE_S = 15.0  # a line that says nothing, so that a closed page is noticed
_MEMBERS_S = 1.0  # how often a run is asked for new processes

_LARGE = 1_000  # a list of more recordings than that takes a while to make: it is made
_LARGE_S = 1.0  # once in so many seconds
_NEWEST = 200  # recordings of a list whose files are looked at; of others only those that go on
_STAMP_NS = 1_000_000_000  # a folder that changed so long ago shows it in its time, however coarse the clock

# Browsers open six connections to a server. Pages that follow hold one each, so that a seventh would wait for ever.
_MOST: Final = 4
_following: Counter[tuple[str, str, str]] = Counter()  # streams, by server and browser

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
        steps, writers = NewSteps(shelf, root), _Writers(shelf.store.records)
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
            return writers.look(shelf.signature(names))

        return stream(request, state, lambda: steps.look(names))

    return endpoint


def follow_store(shelf: Shelf) -> Endpoint:
    """An endpoint that follows the list of runs: recordings that come, go, end, grow or are read for the first time."""

    async def endpoint(request: Request) -> Response:
        known: Signature = ()
        until = 0.0
        names, writers = _Names(shelf), _Writers(shelf.store.records)

        def state() -> Signature:
            nonlocal known, until
            now = asyncio.get_running_loop().time()
            if now < until:
                return known
            listed = names.look()
            until = now + _LARGE_S if names.count > _LARGE else 0.0
            known = (*writers.look(shelf.signature(listed)), ("", shelf.indexer.progress(), 0))
            return known

        return stream(request, state)

    return endpoint


class _Names:
    """Which recordings of the store a list follows: the newest ones, and all that go on."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._changed = -1  # when a recording came or went
        self._newest: list[str] = []
        self._changes = -1  # what the catalog had counted
        self._going_on: list[str] = []
        self.count = 0

    def look(self) -> list[str]:
        """Their names; the folder is listed only if something came or went."""
        catalog = self._shelf.catalog
        try:
            changed = os.stat(self._shelf.store.records).st_mtime_ns
        except OSError:
            changed = 0
        if changed != self._changed or time.time_ns() - changed < _STAMP_NS:
            try:
                names = catalog.names()
            except StoreError:
                names = []
            self._changed, self._newest, self.count = changed, names[:_NEWEST], len(names)
        if catalog.changes != self._changes:
            self._changes = catalog.changes
            self._going_on = [name for name, entry in catalog.snapshot().items() if not entry.ended]
        return list(dict.fromkeys([*self._newest, *self._going_on]))


class _Writers:
    """Whether recordings are being written. One that is not is asked again only when its files have changed."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._ended: dict[str, tuple[str, int, int]] = {}

    def look(self, files: Signature) -> Signature:
        """The state of these files, and of who writes them: a process that is killed changes no file."""
        alive = []
        for one in files:
            name = one[0]
            if self._ended.get(name) == one:
                continue
            if writer_is_alive(self._records / name):
                self._ended.pop(name, None)
                alive.append((f"writer of {name}", 0, 0))
            else:
                self._ended[name] = one
        return (*files, *alive)


def stream(request: Request, state: Callable[[], Signature], news: News | None = None) -> Response:
    """A line whenever `state` gives something else than before; the second number of each of its parts is a size.

    Args:
        news: what is new then, as markup of rows; called in a thread.

    A browser that has as many streams as it may gets one that says `full` and ends: its page asks again later.
    """
    client = request.client.host if request.client is not None else ""
    browser = (str(request.scope.get("server")), client, request.headers.get("user-agent", ""))

    async def lines() -> AsyncIterator[str]:
        if _following[browser] >= _MOST:
            yield "event: full\ndata: \n\n"
            return
        _following[browser] += 1
        try:
            async for line in told():
                yield line
        finally:
            _following[browser] -= 1
            if not _following[browser]:
                del _following[browser]

    async def told() -> AsyncIterator[str]:
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
