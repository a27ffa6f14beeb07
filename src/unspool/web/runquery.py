"""What the list of runs is asked for: the fields of its form and address, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from unspool.cli.moments import WAYS, moment

__all__ = ["SORTS", "STATES", "TIMES", "Query"]

SORTS: Final = ("age", "steps", "tokens", "cost", "errors", "duration")
STATES: Final = ("running", "completed", "failed", "stopped", "interrupted")
TIMES: Final = ("today", "24h", "7d", "30d")


@dataclass
class Query:
    """What the list is asked for: each field narrows it, empty ones do not. `sort` "" keeps forks under their runs.

    Attributes:
        since, until: when a run began: an age, a date or a time, as they were written.
        min_cost, max_cost: US dollars, as they were written.
        wrong: what could not be understood, a sentence each.
    """

    text: str = ""
    state: str = ""
    model: str = ""
    tool: str = ""
    errors: bool = False
    min_cost: str = ""
    max_cost: str = ""
    since: str = ""
    until: str = ""
    sort: str = ""
    page: int = 1
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """From the address of the page."""
        page = given.get("page", "1")
        sort = given.get("sort", "")
        state = given.get("state", "")
        found = cls(
            text=given.get("q", "").strip(),
            state=state if state in STATES else "",
            model=given.get("model", ""),
            tool=given.get("tool", ""),
            errors=given.get("errors", "") not in ("", "0"),
            min_cost=given.get("min_cost", "").strip(),
            max_cost=given.get("max_cost", "").strip(),
            since=given.get("since", "").strip(),
            until=given.get("until", "").strip(),
            sort=sort if sort in SORTS else "",
            page=max(int(page), 1) if page.isascii() and page.isdigit() and len(page) < 8 else 1,
        )
        for name in ("min_cost", "max_cost"):
            text = getattr(found, name)
            if text and _dollars(text) is None:
                found.wrong.append(f"“{text}” is no amount of US dollars, such as 0.05, and narrows nothing.")
        for name in ("since", "until"):
            text = getattr(found, name)
            if text and moment(text) is None:
                found.wrong.append(f"“{text}” is no time and narrows nothing. Give {WAYS}.")
        return found

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves any run out."""
        used = (self.text, self.state, self.model, self.tool, self.errors)
        return any(used) or self.asks_for_cost or self.first is not None or self.last is not None

    @property
    def asks_for_cost(self) -> bool:
        """Whether it names an amount."""
        return self.least is not None or self.most is not None

    @property
    def least(self) -> float | None:
        """The lowest cost, in US dollars."""
        return _dollars(self.min_cost)

    @property
    def most(self) -> float | None:
        """The highest cost, in US dollars."""
        return _dollars(self.max_cost)

    @property
    def first(self) -> datetime | None:
        """Runs that began before this are left out."""
        return moment(self.since) if self.since else None

    @property
    def last(self) -> datetime | None:
        """Runs that began at this time or later are left out."""
        return moment(self.until, end=True) if self.until else None

    def query(self, **change: Any) -> dict[str, Any]:
        """The fields of an address, with some changed."""
        now = {
            "q": self.text, "state": self.state, "model": self.model, "tool": self.tool,
            "errors": "1" if self.errors else "", "min_cost": self.min_cost, "max_cost": self.max_cost,
            "since": self.since, "until": self.until, "sort": self.sort,
        }  # fmt: skip
        return {name: value for name, value in {**now, **change}.items() if value not in ("", None)}


def _dollars(text: str) -> float | None:
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
