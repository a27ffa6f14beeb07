"""`unspool rm`: remove recordings."""

from __future__ import annotations

import sys

import click

from unspool.cli import amounts
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.removal import forget, remove_recordings, size_of
from unspool.cli.runs import descendants
from unspool.cli.terminal import is_terminal, put
from unspool.errors import StoreError, UsageError
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import Address, resolve
from unspool.recording.manager import RecordManager
from unspool.store import Store, find_store, writer_is_alive
from unspool.text import dump_json, show_text

__all__ = ["rm"]


@click.command(cls=Command)
@recording_argument("recordings", metavar="REC...", nargs=-1)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
@json_option
def rm(recordings: tuple[str, ...], yes: bool, store: str | None, as_json: bool) -> None:
    """Remove recordings.

    With each goes what its process started: its workers and sub-agents. Forks of it stay. One that is still being
    written is refused, and nothing is removed then.

    \b
        unspool rm 12
        unspool rm --yes 12 13 last
    """
    place = find_store(store)
    records = _to_remove(place, recordings)
    size = sum(size_of(place.records / one.record_id) for one in records)
    what = f"{amounts.counted(len(records), 'recording')}, {amounts.bytes_text(size)}"
    if not yes:
        if not is_terminal(sys.stdin):
            raise UsageError(f"rm would remove {what}. There is no terminal to ask at: add --yes")
        for one in records:
            click.echo(f"{show_text(one.record_id)}  {show_text(one.intent, 60)}", err=True)
        if not click.confirm(f"Remove {what}?", err=True):
            raise click.exceptions.Exit(1)
    remove_recordings(place, records)
    forget(place, [one.record_id for one in records])
    if as_json:
        put(dump_json({"removed": [one.record_id for one in records], "bytes": size}))
    else:
        put(f"removed {what}")


def _to_remove(store: Store, addresses: tuple[str, ...]) -> list[RecordMetadata]:
    """What goes, each once; everything is looked at before anything is touched."""
    found: dict[str, RecordMetadata] = {}
    for text in addresses:
        address = resolve(store, text)
        if address.point is not None:
            raise UsageError(f"rm removes whole recordings, {text!r} is a point in one")
        root = _metadata_of(store, address)
        for one in (root, *descendants(store, address.record_id)):
            if one.status is RecordStatus.RECORDING:
                raise StoreError(
                    f"{one.record_id} is still being written by OS process {one.os_pid}: nothing was removed. "
                    f"Wait for it or end it: kill {one.os_pid}"
                )
            found.setdefault(one.record_id, one)
    return list(found.values())


def _metadata_of(store: Store, address: Address) -> RecordMetadata:
    """What is known of a recording; one that cannot be read can be removed all the same."""
    found = RecordManager(store.records).describe(address.record_dir)
    if found is not None:
        return found
    status = RecordStatus.RECORDING if writer_is_alive(address.record_dir) else RecordStatus.INTERRUPTED
    return RecordMetadata(address.record_id, 0, "", status=status)
