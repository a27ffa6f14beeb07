"""`unspool model-server`: scripted answers in the wire formats of the providers."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from unspool.cli.options import Command
from unspool.cli.terminal import hint, put
from unspool.errors import UnspoolError, UsageError

__all__ = ["model_server"]


@click.command(cls=Command, name="model-server")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.  [default: a free one]")
@click.option(
    "--script",
    metavar="FILE.py:NAME|MODULE:NAME",
    help="A function that gives a Reply for a ModelRequest; PAGES beside it, a mapping, are what GET /page/NAME gives. "
    "The demo's is unspool.demo.story:play.  [default: by the model's name: echo, tools, count, …]",
)
def model_server(host: str, port: int, script: str | None) -> None:
    """Serve scripted model answers, for tests and demos.

    Speaks the OpenAI chat and responses APIs, Anthropic messages and Gemini. Prints its URL and serves until Ctrl-C.

    \b
        unspool model-server --port 8080
        OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=x python agent.py
    """
    from unspool.demo.server import serve_forever

    def ready(url: str) -> None:
        put(url)
        sys.stdout.flush()
        hint("Serving until Ctrl-C. OpenAI clients take OPENAI_BASE_URL=" + url + "/v1")

    function, pages = (None, None) if script is None else _script(script)
    try:
        serve_forever(host, port, function, pages=pages, on_ready=ready)
    except OSError as exc:
        raise UnspoolError(f"cannot listen on {host}:{port}: {exc.strerror or exc}. Choose another --port.") from exc


def _script(text: str) -> tuple[Any, Any]:
    """The function named, and the pages beside it."""
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"--script takes FILE.py:NAME or MODULE:NAME, got {text!r}")
    try:
        names = runpy.run_path(place) if place.endswith(".py") else vars(import_module(place))
    except Exception as exc:  # the user's code may raise anything
        raise UsageError(f"--script: cannot load {place}: {type(exc).__name__}: {exc}") from exc
    found, pages = names.get(name), names.get("PAGES")
    if not callable(found):
        raise UsageError(f"--script: {place} has no function {name}")
    return found, pages if isinstance(pages, Mapping) else None
