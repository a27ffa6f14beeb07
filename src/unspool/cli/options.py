"""Options and arguments that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from unspool.cli.terminal import Settings

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["DOLLARS", "SECONDS", "SECONDS_MAX", "Command", "json_option", "recording_argument", "store_option"]

F = TypeVar("F", bound=Callable[..., Any])
_COMPLETIONS_MAX = 50
SECONDS_MAX: Final = 10 * 365 * 86400
"""What sleeps and waits can take, and nobody will wait for."""


class Command(click.Command):
    """A subcommand: takes the options that hold everywhere after its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common_options(hidden=True))


def common_options(*, hidden: bool) -> list[click.Option]:
    """`--color` and `--traceback`, which write into the settings and not into the command's arguments."""

    def set_color(context: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Settings).color = value  # type: ignore[assignment]  # a Choice of these words
            context.color = {"always": True, "never": False}.get(value)

    def set_traceback(context: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Settings).traceback = True

    return [
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            hidden=hidden,
            expose_value=False,
            callback=set_color,
            is_eager=True,
            help="Colour the output: auto is on a terminal, unless NO_COLOR is set.  [default: auto]",
        ),
        click.Option(
            ["--traceback"],
            is_flag=True,
            hidden=hidden,
            expose_value=False,
            callback=set_traceback,
            is_eager=True,
            help="Show where in unspool an error came from.",
        ),
    ]


def complete_recording(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of recordings for the shell, the newest first."""
    from click.shell_completion import CompletionItem

    from unspool.errors import UnspoolError
    from unspool.recording.address import newest_first
    from unspool.store import find_store
    from unspool.text import show_text

    items = [CompletionItem("last", help="the newest")] if "last".startswith(incomplete) else []
    try:
        for metadata in newest_first(find_store(ctx.params.get("store"))):
            if len(items) >= _COMPLETIONS_MAX:
                break
            if metadata.record_id.startswith(incomplete):
                items.append(CompletionItem(metadata.record_id, help=show_text(metadata.intent, 40)))
    except UnspoolError:
        return items  # a store that cannot be read completes nothing; the command itself will say so
    return items


def recording_argument(name: str, *, metavar: str, required: bool = True, nargs: int = 1) -> Callable[[F], F]:
    """An argument that is the address of a recording."""
    return click.argument(name, metavar=metavar, required=required, nargs=nargs, shell_complete=complete_recording)


def store_option(function: F) -> F:
    """`--store DIR`."""
    return click.option(
        "--store",
        metavar="DIR",
        type=click.Path(file_okay=False),
        is_eager=True,
        help="The store's folder.  [default: $UNSPOOL_STORE, else the nearest .unspool upward]",
    )(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(function)


class _Dollars(click.ParamType[float]):
    """`0.5`, `5`, `$5`."""

    name = "dollars"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            amount = float(str(value).strip().removeprefix("$"))
        except ValueError:
            amount = -1.0
        if not 0 <= amount < math.inf:  # and no NaN, which is in no order with anything
            self.fail(f"{value!r} is no amount of US dollars. Write for example 5 or 0.25", param, ctx)
        return amount


class _Seconds(click.ParamType[float]):
    """`600`, `1.5`: more than none, and no longer than a wait can be."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= SECONDS_MAX:
            self.fail(f"{value!r} is no number of seconds. Write for example 600 or 1.5", param, ctx)
        return seconds


DOLLARS: Final = _Dollars()
SECONDS: Final = _Seconds()
