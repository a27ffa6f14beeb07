"""`unspool demo`: record the demo agent, then show around."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from unspool.cli.options import Command, store_option

__all__ = ["demo"]


@click.command(cls=Command)
@click.option("--no-tour", is_flag=True, help="Only record.")
@store_option
@click.pass_context
def demo(context: click.Context, no_tour: bool, store: str | None) -> None:
    """Record a demo agent and show around.

    A support agent on the real OpenAI SDK settles a refund ticket, with a planted bug, against a scripted model on this
    machine: no key, no network. Needs the SDK: pip install 'unspool[demo]'.

    \b
        unspool demo
        unspool demo --no-tour --store /tmp/demo
    """
    from unspool.demo.tour import run_demo

    context.exit(run_demo(Path(store) if store else None, not no_tour, sys.stdout))
