"""`unspool top`: agents that are running and those that ran lately, watched in a table."""

from __future__ import annotations

import click

from unspool.cli.options import Command, store_option
from unspool.cli.screens import INSTALL, can_take_screen, screen_module
from unspool.cli.terminal import put, use_color, width
from unspool.errors import UsageError
from unspool.store import find_store

__all__ = ["top"]


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Print the table once, as plain text.")
@click.option("--all", "-a", "everything", is_flag=True, help="All that are in the store, not only recent ones.")
@store_option
def top(once: bool, everything: bool, store: str | None) -> None:
    """Watch agents in a full-screen table.

    A tree of the agents that are running or ended lately: state, model, step, what each is doing, how full its context
    is (and in how many steps it will be full), tokens and cost a minute, errors. Enter opens one in the debugger, p
    pauses its process, x stops it, ? shows all keys.

    \b
        unspool top
        unspool top --once --all
    """
    screen = screen_module("top")
    if screen is None:
        raise UsageError(f"top needs textual: {INSTALL}. What runs is shown without it by: unspool ps")
    place = find_store(store)
    if once:
        put(screen.one_frame(place, everything=everything, width=width(), color=use_color()))
    elif not can_take_screen():
        raise UsageError("top needs a terminal. One frame as plain text: unspool top --once")
    else:
        screen.run_top(place, everything=everything)
