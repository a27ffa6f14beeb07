"""`unspool gc`: remove old recordings."""

from __future__ import annotations

import click

from unspool.cli import amounts
from unspool.cli.moments import age_seconds
from unspool.cli.options import Command, json_option, store_option
from unspool.cli.removal import forget, remove_leftovers, remove_recordings, size_of
from unspool.cli.rerunfolders import remove_left_reruns
from unspool.cli.runs import Run, runs
from unspool.cli.terminal import put
from unspool.errors import UsageError
from unspool.store import find_store
from unspool.text import dump_json, show_text

__all__ = ["gc"]


def _seconds(_context: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """An age such as `7d`, in seconds."""
    if value is None:
        return None
    seconds = age_seconds(value)
    if seconds is None:
        raise click.BadParameter(f"{value!r} is no age: a number and s, m, h, d or w, for example 7d")
    return seconds


@click.command(cls=Command)
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep the newest N runs.")
@click.option(
    "--older-than", callback=_seconds, metavar="AGE", help="Remove runs that began longer ago: 30m, 12h, 7d, 4w."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@store_option
@json_option
def gc(keep: int | None, older_than: float | None, dry_run: bool, store: str | None, as_json: bool) -> None:
    """Remove old recordings.

    A run is a recording with those of all the processes it started; it goes or stays as a whole, and stays while any of
    them is running. With both options a run must be old and not among the newest N to go. What reruns that were killed
    left behind goes too.

    \b
        unspool gc --keep 100
        unspool gc --older-than 7d --dry-run
    """
    if keep is None and older_than is None:
        raise UsageError("say what to remove: --keep N, --older-than 7d, or both; --dry-run only shows it")
    place = find_store(store)
    everything = runs(place)
    going = [run for run in everything[keep or 0 :] if _is_old(run, older_than) and not run.is_running]
    sizes = [sum(size_of(place.records / one.record_id) for one in run.records) for run in going]
    if not dry_run:
        remove_leftovers(place)
        if going:
            remove_recordings(place, [one for run in going for one in run.records])
            forget(place, [one.record_id for run in going for one in run.records])
        remove_left_reruns(place)
    if as_json:
        removed = [
            {
                "record_id": run.root.record_id,
                "intent": run.root.intent,
                "recordings": [one.record_id for one in run.records],
                "bytes": size,
            }
            for run, size in zip(going, sizes, strict=True)
        ]
        left = len(everything) - len(going)
        put(dump_json({"dry_run": dry_run, "removed": removed, "bytes": sum(sizes), "kept": left}))
        return
    for run, size in zip(going, sizes, strict=True):
        put(
            f"{show_text(run.root.record_id)}  {amounts.age(amounts.seconds_since(run.root.start_time)):>4}  "
            f"{amounts.bytes_text(size):>9}  {show_text(run.root.intent, 40)}"
        )
    verb = "would remove" if dry_run else "removed"
    count = sum(len(run.records) for run in going)
    put(
        f"{verb} {amounts.counted(len(going), 'run')} ({amounts.counted(count, 'recording')}), "
        f"{amounts.bytes_text(sum(sizes))}; {amounts.counted(len(everything) - len(going), 'run')} kept"
    )


def _is_old(run: Run, seconds: float | None) -> bool:
    began = amounts.seconds_since(run.root.start_time)
    return seconds is None or (began is not None and began > seconds)
