"""The options of `unspool run` that limit it, and amounts of tokens, shares and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar

import click
from msgspec import Struct

from unspool.cli.options import DOLLARS, SECONDS_MAX
from unspool.events import RecordMetadata

__all__ = ["TOKENS", "Limits", "OnCritical", "budget_of", "limit_options", "limits_from"]

F = TypeVar("F", bound=Callable[..., Any])
OnCritical: TypeAlias = Literal["warn", "pause", "stop"]
_AMOUNT: Final = re.compile(r"(\d+(?:[.,_]\d+)*)\s*([kKmM]?)")
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TOKENS_MAX: Final = 1e12


class _Tokens(click.ParamType[int]):
    """`200000`, `200k`, `1.5M`."""

    name = "tokens"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        found = _AMOUNT.fullmatch(text)
        try:
            number = float(found[1].replace("_", "").replace(",", "")) if found else -1.0
        except ValueError:  # two points
            number = -1.0
        if found is None or not 0 <= number <= _TOKENS_MAX:
            self.fail(f"{text!r} is no number of tokens. Write for example 200000, 200k or 1.5M", param, ctx)
        amount = round(number * {"": 1, "k": 1_000, "m": 1_000_000}[found[2].lower()])
        if amount < 1:
            self.fail("a budget is at least one token; leave it out to use the model's context window", param, ctx)
        return amount


TOKENS: Final = _Tokens()


class Limits(Struct):
    """What a run may take.

    Attributes:
        budget: tokens of a context; None is the model's window.
        warn: share of it at which to warn.
        on_critical: what to do when less than a tenth of it is left; None: contexts are not watched.
        max_cost: US dollars; `max_time` seconds.
    """

    budget: int | None = None
    warn: float = 0.8
    on_critical: OnCritical | None = None
    max_cost: float | None = None
    max_steps: int | None = None
    max_time: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to watch."""
        return self.on_critical is None and self.max_cost is None and self.max_steps is None and self.max_time is None

    @property
    def can_say_no(self) -> bool:
        """Whether a model call may be kept from being sent."""
        return self.on_critical in {"pause", "stop"} or self.max_cost is not None or self.max_steps is not None


class _Percent(click.ParamType[float]):
    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            self.fail(f"{text!r} is no share of the budget. Write for example 80% or 0.8", param, ctx)
        return share


class _Duration(click.ParamType[float]):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = _TIME.fullmatch(str(value).strip())
        seconds = float(found[1]) * _SECONDS[found[2] or "s"] if found is not None else 0.0
        if not 0 < seconds <= SECONDS_MAX:
            self.fail(f"{value!r} is no time. Write for example 90s, 20m or 2h", param, ctx)
        return seconds


def budget_of(metadata: RecordMetadata) -> int | None:
    """The tokens of a context that `unspool run --budget` gave the run of a recording; None if it gave none."""
    budget = metadata.extra.get("budget")
    # A recording from elsewhere may hold anything.
    return budget if type(budget) is int and 0 < budget <= _TOKENS_MAX * 1_000_000 else None


def limit_options(function: F) -> F:
    """`--budget`, `--warn`, `--on-critical`, `--max-cost`, `--max-steps`, `--max-time`."""
    for option in reversed(
        (
            click.option(
                "--budget",
                type=TOKENS,
                metavar="TOKENS",
                help="Watch the contexts: tokens that fit, such as 200k.  [default with --warn or --on-critical: the "
                "model's window]",
            ),
            click.option(
                "--warn", type=_Percent(), metavar="SHARE", help="Say so when this much is used.  [default: 80%]"
            ),
            click.option(
                "--on-critical",
                type=click.Choice(["warn", "pause", "stop"]),
                help="When less than 10% would be left: say so; or, before that call is sent, stop the processes until "
                "you continue them, or end them.  [default: warn]",
            ),
            click.option(
                "--max-cost",
                type=DOLLARS,
                metavar="USD",
                help="End the command instead of sending a model call when this much is spent.",
            ),
            click.option(
                "--max-steps",
                type=click.IntRange(min=1),
                metavar="N",
                help="End it instead of sending a model call beyond so many steps.",
            ),
            click.option("--max-time", type=_Duration(), metavar="TIME", help="End it after 90s, 20m, 2h."),
        )
    ):
        function = option(function)
    return function


def limits_from(given: dict[str, Any]) -> Limits:
    """What the options say."""
    is_watched = any(given[name] is not None for name in ("budget", "warn", "on_critical"))
    return Limits(
        given["budget"],
        given["warn"] or 0.8,
        (given["on_critical"] or "warn") if is_watched else None,
        given["max_cost"],
        given["max_steps"],
        given["max_time"],
    )
