"""Where things are in the web view, and inside a report: one address for everything that can be looked at."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote, urlencode

__all__ = ["Links", "PageLinks", "ReportLinks"]


class Links(Protocol):
    """Addresses of what templates and drawings link to; "" where there is nothing to go to."""

    def run(self, record_id: str, view: str = "", **query: object) -> str:
        """A run, or one view of it."""

    def step(self, record_id: str, seq_num: int, view: str = "", **query: object) -> str:
        """One step of a recording."""

    def fork(self, record_id: str, seq_num: int) -> str:
        """Where a fork is made at a step."""


def _query(query: dict[str, object]) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "", False)}
    return f"?{urlencode(given)}" if given else ""


class PageLinks:
    """Addresses of the server's pages; those of forks only where forking is on."""

    def __init__(self, forking: bool = False) -> None:
        self._forking = forking

    def run(self, record_id: str, view: str = "", **query: object) -> str:
        """A run, or one view of it: `context`, `blame`."""
        return f"/run/{quote(record_id, safe='')}{f'/{view}' if view else ''}{_query(query)}"

    def step(self, record_id: str, seq_num: int, view: str = "", **query: object) -> str:
        """One step, or one view of it: `diff`, `context`, `raw`."""
        return f"/run/{quote(record_id, safe='')}/step/{seq_num}{f'/{view}' if view else ''}{_query(query)}"

    def fork(self, record_id: str, seq_num: int) -> str:
        """The form of a fork; "" where forking is off."""
        return self.step(record_id, seq_num, "fork") if self._forking else ""


class ReportLinks:
    """Places inside a report, which is one file."""

    def __init__(self, steps: set[tuple[str, int]]) -> None:
        self._steps = steps

    def run(self, record_id: str, view: str = "", **query: object) -> str:
        """A section of the report."""
        return f"#{view or 'top'}"

    def step(self, record_id: str, seq_num: int, view: str = "", **query: object) -> str:
        """A step of the report; "" for one that is not in it."""
        return f"#step-{quote(record_id, safe='')}-{seq_num}" if (record_id, seq_num) in self._steps else ""

    def fork(self, record_id: str, seq_num: int) -> str:
        """Nothing: a file starts no program."""
        return ""
