"""`unspool web`: the recordings of a store in a browser."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final

import click

from unspool.cli.options import Command, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.terminal import note, put
from unspool.errors import UsageError
from unspool.store import find_store
from unspool.text import show_text

__all__ = ["page_module", "web"]

_NEEDED: Final = ("jinja2", "starlette", "uvicorn")


def page_module(name: str) -> ModuleType:
    """A module of the web view, by name: views stand on the commands and not the other way round.

    Raises:
        UsageError: a library it needs is not installed.
    """
    missing = next((one for one in _NEEDED if find_spec(one) is None), None)
    if missing is not None:
        raise UsageError(f"pages need {missing}, which is not installed: pip install 'unspool[web]'")
    return import_module(f"unspool.web.{name}")


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", "-p", type=click.IntRange(0, 65535), default=4848, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--token", metavar="TEXT", envvar="UNSPOOL_WEB_TOKEN",
    help="The secret in the address, 16 characters or more.  [default: a new one each time]",
)  # fmt: skip
@click.option("--insecure", is_flag=True, help="Ask for no token: whoever reaches the address reads the recordings.")
@click.option("--read-only", is_flag=True, help="Only show: start no forks.")
@click.option(
    "--allow-fork", is_flag=True,
    help="Start forks, which run programs, though other machines may reach the page or no token is asked for.",
)  # fmt: skip
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
@prices_option
@store_option
def web(
    host: str,
    port: int,
    token: str | None,
    *,
    insecure: bool,
    read_only: bool,
    allow_fork: bool,
    open_it: bool,
    prices: str | None,
    store: str | None,
) -> None:
    """Look at recordings in a browser.

    Runs with search, the timeline of a run, every step with its messages and exact bytes, contexts, blame, two runs
    side by side; runs that go on are followed. From any step a fork can be tried, run and watched, with the keys of
    this environment. Prints the address to open, with a token in it, and serves until Ctrl-C, which stops forks that
    run. Nothing else is changed, and nothing is fetched from anywhere.

    \b
        unspool web
        unspool web --port 0 --open
    """
    serve = page_module("serve").serve
    place = find_store(store)

    def started(address: str) -> None:
        put(address)
        sys.stdout.flush()  # a program may be reading it, and nothing else comes
        note(f"Serving {show_text(str(place.path))}. Stop with Ctrl-C.")
        if open_it:
            click.launch(address)

    serve(
        place,
        prices_for(place, prices),
        host=host,
        port=port,
        token=token,
        insecure=insecure,
        started=started,
        read_only=read_only,
        allow_fork=allow_fork,
        prices_file=prices,
    )
