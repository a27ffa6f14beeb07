"""The server of the web view: a socket, a token, and the address to open."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

import uvicorn

from unspool.cli.prices import Prices
from unspool.errors import StoreError, UsageError
from unspool.store import Store
from unspool.web.app import create_app
from unspool.web.guard import Door, is_loopback

__all__ = ["serve"]

_TOKEN_LEAST = 16  # characters of a token that somebody chose
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
) -> None:
    """Serve until interrupted.

    Args:
        port: 0 takes a free one.
        token: what the address must hold; made up if None, unless `insecure`.
        insecure: ask for no token.
        started: called with the address to open, once requests are answered.

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
    listening = _listen(host, port)
    door = Door(host, listening.getsockname()[1], None if insecure else token or secrets.token_urlsafe(24))
    config = uvicorn.Config(
        create_app(store, prices, door), log_level="warning", access_log=False, lifespan="off", server_header=False,
        date_header=False, timeout_graceful_shutdown=_CLOSE_S, proxy_headers=False,
    )  # fmt: skip
    address = door.origin + (f"/?token={door.token}" if door.token is not None else "/")
    with listening:
        _Server(config, lambda: started(address)).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
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
    """Uvicorn's server, which says when it is up."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._say_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn."""
        await super().startup(sockets=sockets)
        if self.started:
            self._say_started()
