"""`unspool report`: a run as one HTML file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from unspool.cli.amounts import bytes_text, counted
from unspool.cli.options import Command, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.terminal import hint, note
from unspool.cli.web import page_module
from unspool.errors import StoreError, UsageError
from unspool.store import find_store
from unspool.text import show_text

__all__ = ["report"]


@click.command(cls=Command)
@recording_argument("recording", metavar="REC|TRACE")
@click.option("--output", "-o", type=click.Path(dir_okay=False, allow_dash=True), help="The file.  [default: REC.html]")
@click.option("--full", is_flag=True, help="Every text whole. Without it texts are cut, and addresses and keys masked.")
@click.option(
    "--steps", metavar="N", type=click.IntRange(min=0), default=500, show_default=True,
    help="Steps at most, failed ones first; 0 for all of them.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite the file.")
@prices_option
@store_option
def report(
    recording: str, output: str | None, *, full: bool, steps: int, force: bool, prices: str | None, store: str | None
) -> None:
    """Write a run into one HTML file that opens offline.

    The pages of `unspool web` in one file: timeline, steps, contexts, blame, flame graphs. It fetches nothing. It is
    redacted unless --full is given: of each text the beginning, with e-mail addresses, keys and long numbers masked.
    Look through it before you send it on. `-o -` writes to standard output.

    \b
        unspool report last
        unspool report 12 --full -o run.html
    """
    make_report, shelf_of = page_module("report").make_report, page_module("shelf").Shelf
    place = find_store(store)
    target = Path(output or f"{recording.replace('/', '_').replace(':', '_')}.html")
    to_stdout = output == "-"
    if "@" in recording:
        alone = recording.partition("@")[0]
        raise UsageError(f"{show_text(recording)} is a point in a recording; give the recording alone: {alone}")
    if not to_stdout and target.exists() and not force:
        raise UsageError(f"{target} exists. Overwrite it with --force, or name another with -o.")
    made = make_report(shelf_of(place, prices_for(place, prices)), recording, full=full, limit=steps)
    kind = "everything in it" if full else "redacted"
    left_out = f", {counted(made.left_out, 'step')} left out (--steps 0 takes all)" if made.left_out else ""
    where = "standard output" if to_stdout else show_text(str(target))
    note(f"{bytes_text(made.size)}, {counted(made.steps, 'step')}{left_out}, {kind}: writing {where}")
    data = made.text.encode("utf-8", "replace")
    if to_stdout:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        target.write_bytes(data)
    except OSError as exc:
        raise StoreError(f"cannot write {target}: {exc.strerror or exc}. Name another file with -o.") from exc
    hint(f"Open it in a browser: {where}")
