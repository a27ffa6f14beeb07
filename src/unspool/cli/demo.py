"""`unspool demo`: record the demo agent, then show around, in the terminal or in the browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from unspool.cli.options import Command, store_option
from unspool.cli.prices import prices_for
from unspool.cli.terminal import note, put
from unspool.cli.web import page_module
from unspool.errors import UsageError
from unspool.store import find_store

__all__ = ["demo"]

_PATH: Final = """
The agent paid 411.25 USD where 355.32 are owed. To find out why, and to mend it:
  1. Click the red 2 in the list of runs, then exchange_rate, the tool that failed.
  2. Below the error stands what came of it: a rate of 2018, and call 10, which took it. Click that call.
  3. Its system prompt says why. Press f, take that line out, and press Dry run.
  4. Tick “All tools may run”, press Run the program from here, and compare it with its parent.
The scripted model stays up for that until Ctrl-C.
"""


@click.command(cls=Command)
@click.option("--no-tour", is_flag=True, help="Only record.")
@click.option("--web", "in_browser", is_flag=True, help="Show it in the browser, with the model up to fork it there.")
@click.option(
    "--port", "-p", type=click.IntRange(0, 65535), default=0, help="Port of the page (--web).  [default: a free one]"
)  # fmt: skip
@click.option("--open", "open_it", is_flag=True, help="Open the page in the browser (--web).")
@store_option
@click.pass_context
def demo(
    context: click.Context, *, no_tour: bool, in_browser: bool, port: int, open_it: bool, store: str | None
) -> None:
    """Record a demo agent and show around.

    A support agent on the real OpenAI SDK settles a refund ticket, with a planted bug, against a scripted model on this
    machine: no key, no network. Needs the SDK: pip install 'unspool[demo]'.

    \b
        unspool demo
        unspool demo --web
        unspool demo --no-tour --store /tmp/demo
    """
    from unspool.demo.tour import run_demo

    if no_tour and in_browser:
        raise UsageError("--no-tour only records, and --web shows: choose one of them")
    serve = page_module("serve").serve if in_browser else None  # says what is missing before anything is recorded

    def show_pages(environment: Mapping[str, str]) -> int:
        assert serve is not None, "asked for with --web"
        os.environ.update(environment)  # forks are started from here, and find the model by it
        place = find_store(store)

        def started(address: str) -> None:
            put(f"\n{address}")
            sys.stdout.flush()  # a program may be reading it, and nothing else comes
            note(_PATH.rstrip())
            if open_it:
                click.launch(address)

        serve(place, prices_for(place), host="127.0.0.1", port=port, token=None, insecure=False, started=started)
        return 0

    then = show_pages if in_browser else None
    context.exit(run_demo(Path(store) if store else None, not no_tour, sys.stdout, then=then))
