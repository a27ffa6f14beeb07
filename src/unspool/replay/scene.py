"""What a rerun's divergences are explained from: its rules, what it could serve, what happened, the recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unspool.recording.reader import RecordReader
from unspool.serving.journal import Entry
from unspool.serving.plan import Offer, Plan

__all__ = ["Scene"]


@dataclass(frozen=True)
class Scene:
    """A rerun that has ended.

    Attributes:
        folder: the rerun's folder.
        plan: its rules.
        offers: all that could be served.
        journal: all lines.
        made: numbers of the offers whose call was made: served, or sent for real.
        readers: of the recordings that are served, by record id.
    """

    folder: Path
    plan: Plan
    offers: Sequence[Offer]
    journal: Sequence[Entry]
    made: frozenset[int]
    readers: Mapping[str, RecordReader]
