"""The server of the web view: a socket, a token, and the address to open."""

from __future__ import annotations

import asyncio
import gc
import secrets
import socket
import sys
from collections.abc import Callable

import uvicorn

from unspool.cli.prices import Prices
from unspool.errors import StoreError, UsageError
from unspool.store import Store
from unspool.web.app import create_app
from unspool.web.forkjobs import Jobs
from unspool.web.guard import Door, is_loopback

__all__ = ["serve"]

_TOKEN_LEAST = 16  # characters of a token that somebody chose
_COLLECT = (20_000, 20, 1_000)
_TURN_S = 0.0005  # that a thread may keep the interpreter while others wait
_CLOSE_S = 1  # pages that follow a run are cut off this long after Ctrl-C


def serve(
    store: Store,
    prices: Prices,
    *,
    host: str,
    port: int,
    token: str | None,
    insecure: bool,
    started: Callable[[str], None],
    read_only: bool = False,
    allow_fork: bool = False,
    prices_file: str | None = None,
) -> None:
    """Serve until interrupted; forks that still run then are stopped.

    Args:
        port: 0 takes a free one.
        token: what the address must hold; made up if None, unless `insecure`.
        insecure: ask for no token.
        started: called with the address to open, once requests are answered.
        read_only: start no forks.
        allow_fork: start forks though others may reach the server, or no token is asked for.
        prices_file: the price list behind `prices`, for forks.

    Raises:
        UsageError: the address is no address of this machine's own and nothing keeps others out.
        StoreError: the address cannot be listened on.
    """
    if insecure and token is not None:
        raise UsageError("--insecure asks for no token, and --token gives one: choose one of them")
    if not is_loopback(host) and token is None and not insecure:
        raise UsageError(
            f"--host {host} lets other machines read the recordings, prompts and all: give a secret with --token, "
            "or say --insecure if everybody there may"
        )
    if token is not None and len(token) < _TOKEN_LEAST:
        raise UsageError(f"--token has {len(token)} characters, which can be guessed: give {_TOKEN_LEAST} or more")
    if read_only and allow_fork:
        raise UsageError("--read-only starts no forks, and --allow-fork does: choose one of them")
    is_private = is_loopback(host) and not insecure
    forking = not read_only and (is_private or allow_fork)
    listening = _listen(host, port)
    secret = None if insecure else token or secrets.token_urlsafe(24)
    door = Door(host, listening.getsockname()[1], secret, forking)
    jobs = Jobs(store, prices_file, may_choose_server=is_private) if forking else None
    config = uvicorn.Config(
        create_app(store, prices, door, jobs), log_level="warning", access_log=False, lifespan="off",
        server_header=False, date_header=False, timeout_graceful_shutdown=_CLOSE_S, proxy_headers=False,
    )  # fmt: skip
    address = door.origin + (f"/?token={door.token}" if door.token is not None else "/")
    # A page reads in many small pieces and waits for its turn after each: a short one while other threads are busy.
    sys.setswitchinterval(_TURN_S)
    # Runs that were read are large and hold no cycles: going through all of them takes half a second and finds nothing.
    gc.set_threshold(*_COLLECT)
    with listening:
        _Server(config, lambda: started(address), jobs).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Named as TCP, its connections send at once (asyncio sets TCP_NODELAY): otherwise each answer waits 40 ms for
        # the browser to acknowledge its headers.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as exc:
        raise StoreError(f"cannot listen on {host}:{port}: {exc.strerror or exc}. Another port: --port 0") from exc
    return listening


class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it is up, and stops the forks before it goes down."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], jobs: Jobs | None) -> None:
        super().__init__(config)
        self._say_started = started
        self._jobs = jobs

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn."""
        await super().startup(sockets=sockets)
        if self.started:
            self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn. The forks go here and not behind `run`, which ends with the signal that stopped it."""
        if self._jobs is not None:
            await asyncio.to_thread(self._jobs.close)
        await super().shutdown(sockets=sockets)
