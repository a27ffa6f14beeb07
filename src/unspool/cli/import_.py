"""`unspool import`: runs that other tools recorded."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from unspool.cli.amounts import counted
from unspool.cli.options import Command, json_option, store_option
from unspool.cli.terminal import hint, note, put
from unspool.interop.formats import FORMATS
from unspool.interop.importing import Imported, import_paths, result_as_json
from unspool.store import Store, find_store
from unspool.text import dump_json, show_text

__all__ = ["import_"]


@click.command("import", cls=Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    type=click.Choice(list(FORMATS)),
    help=f"The format of the files: {', '.join(FORMATS)}.  [default: that of each by its content]",
)
@click.option("--again", is_flag=True, help="Import what is in the store already once more.")
@click.option(
    "--recordings",
    is_flag=True,
    help="Of OpenTelemetry spans that carry messages make recordings too: for diff, replay.",
)
@store_option
@json_option
def import_(
    files: tuple[Path, ...], *, format_name: str | None, again: bool, recordings: bool, store: str | None, as_json: bool
) -> None:
    """Import runs that other tools recorded.

    Session files (Claude Code, Codex), cassettes, Langfuse exports and benchmark runs become recordings; OpenTelemetry
    spans become traces. What a file does not have is shown as missing. A file may be gzip; of a folder everything in a
    known format is taken.

    \b
        unspool import ~/.claude/projects/my-project/
        unspool import trace.json spans.pb
        unspool import cassettes/test_agent.yaml
    """
    place = find_store(store)
    was_there = place.path.exists()
    results = import_paths(files, place, format_name=format_name, again=again, recordings=recordings)
    if not was_there and not any(result.records or result.traces for result in results):
        _take_back(place)
    if as_json:
        put(dump_json({"imported": [result_as_json(result) for result in results]}))
    else:
        _print(results)
        first = next((one for result in results for one in result.records), None)
        trace = next((one for result in results for one in result.traces), None)
        if first is not None:
            hint(f"Look at it: unspool show {first.record_id}")
        elif trace is not None:
            hint(f"Look at it: unspool trace show {trace}")
    if not all(result.is_whole for result in results):
        raise click.exceptions.Exit(1)


def _take_back(store: Store) -> None:
    """Remove a store that was made for what then could not be imported; one that holds anything stays."""
    with contextlib.suppress(OSError):
        for folder in (store.records, store.traces):
            if folder.exists():
                folder.rmdir()
        for name in (".gitignore", "pid"):
            (store.path / name).unlink(missing_ok=True)
        store.path.rmdir()


def _print(results: list[Imported]) -> None:
    for result in results:
        where = show_text(result.paths[0]) + (f" (+{len(result.paths) - 1} files)" if len(result.paths) > 1 else "")
        for one in result.records:
            counts = [counted(one.events, "event")]
            if one.model_calls >= 0:
                counts += [counted(one.model_calls, "model call"), counted(one.tool_calls, "tool call")]
            put(f"{one.record_id}  {', '.join(counts)}  {show_text(one.intent, 60)}")
        for trace_id, count in result.traces.items():
            put(f"{trace_id}  {counted(count, 'span')}")
        if result.already:
            shown = ", ".join(result.already[:3]) + (", …" if len(result.already) > 3 else "")
            note(f"{where}: imported before as {shown}. Import it once more with --again.")
        missing = sorted({word for one in result.records for word in one.missing})
        if missing:
            note(f"{where} ({result.format}): not in the file: {', '.join(missing)}")
        for text in result.notes:
            note(show_text(text))
        for problem in result.problems:
            said = show_text(problem) if "\n" not in problem else "\n".join(map(show_text, problem.split("\n")))
            note(f"{'not imported' if result.failed else 'left out'}: {said}")
