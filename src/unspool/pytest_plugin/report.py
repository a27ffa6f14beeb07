"""What the report of a failed test says about its requests. Pure functions but for reading the rerun's files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from unspool import providers
from unspool.pytest_plugin.bodies import body_bytes
from unspool.pytest_plugin.cassette import CassetteExchange
from unspool.recording.reader import RecordReader
from unspool.replay.divergence import explain
from unspool.replay.rerun_format import format_divergence
from unspool.replay.scene import Scene
from unspool.serving.journal import read_journal
from unspool.serving.plan import CLAIMS_NAME, Offer, Plan
from unspool.text import show_text

__all__ = ["divergence_text", "unused_text"]

_LISTED = 10
_TEXT_LIMIT = 120


def divergence_text(
    folder: Path, plan: Plan, offers: Sequence[Offer], readers: Mapping[str, RecordReader], name: str
) -> str | None:
    """How the requests of a test differ from its cassette; None if none does.

    Args:
        folder: of the rerun.
        readers: of the recordings that stand for the cassette, by record id.
        name: what to call the cassette.
    """
    journal = read_journal(folder)
    diverged = [entry for entry in journal if entry.kind == "divergence"]
    if not diverged:
        return None
    claims = frozenset(int(one) for one in os.listdir(folder / CLAIMS_NAME) if one.isdecimal())
    scene = Scene(folder, plan, offers, journal, claims, readers)
    report = explain(diverged[0], scene)
    report.causes = [cause for cause in report.causes if cause.kind != "unknown"]
    if report.url is not None and _path(report.url[0]) == _path(report.url[1]) and report.expected is not None:
        report.url = None if report.expected.kind == "llm" else report.url  # a model may be reached anywhere
    text = format_divergence(report)
    for record_id in readers:
        text = text.replace(record_id, name)
    lines = ["The test asked for what its cassette does not hold.", *text.rstrip("\n").splitlines()]
    if len(diverged) > 1:
        lines.append(f"… and {len(diverged) - 1} more requests after that")
    return "\n".join(lines)


def _path(request: str) -> tuple[str, str]:
    """Method and path of `POST https://host/path?query`."""
    method, _, url = request.partition(" ")
    return method, url.partition("://")[2].partition("/")[2]


def unused_text(exchanges: Sequence[CassetteExchange], name: str) -> str | None:
    """Which recorded exchanges the test did not make; None if it made all."""
    if not exchanges:
        return None
    count = "1 exchange" if len(exchanges) == 1 else f"{len(exchanges)} exchanges"
    lines = [f"The test did not make {count} that {name} holds:"]
    lines += [f"  {_called(one)}" for one in exchanges[:_LISTED]]
    if len(exchanges) > _LISTED:
        lines.append(f"  … and {len(exchanges) - _LISTED} more")
    lines.append('If that may be so: @pytest.mark.unspool(unused="ignore")')
    return "\n".join(lines)


def _called(exchange: CassetteExchange) -> str:
    asked = exchange.request
    text = f"{asked.method} {asked.url}"
    provider = providers.match(asked.method, asked.url)
    if provider is not None and asked.body is not None:
        messages = provider.parse_request(asked.url, body_bytes(asked.body)).messages
        newest = next((one for one in reversed(messages) if one.content and one.role != "assistant"), None)
        if newest is not None:
            text += f"  [{newest.role}] {newest.content}"
    return show_text(text, _TEXT_LIMIT)
