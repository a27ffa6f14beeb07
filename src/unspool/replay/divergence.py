"""A divergence explained: where the program asked, what it asked, how that differs from what was recorded, and why."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from unspool.replay.cause import Cause
from unspool.replay.causes import find_causes
from unspool.replay.diff import ContextDiff
from unspool.replay.nearest import Near, Recorded, nearest, place_of
from unspool.replay.requests import Request, body_changes, compare_contexts, recorded_request, request_of, text_changes
from unspool.replay.scene import Scene
from unspool.replay.settings import ValueChange
from unspool.serving.fingerprint import request_key
from unspool.serving.journal import Entry
from unspool.serving.plan import Offer

__all__ = ["DivergenceReport", "explain"]


class DivergenceReport(Struct, kw_only=True):
    """One request, or tool call, that the recording does not hold.

    Attributes:
        what: what was asked for: method and URL, or the tool's device path.
        reason: why it was not served, in the words of the process that asked.
        at: `file:line function` of the agent's code.
        stack: the agent's frames, innermost first.
        task: place in the tree of tasks.
        os_pid: the OS process.
        record_id: the recording it replays; None if it is none that was recorded.
        expected: the call that the recording had next there; None if it had none.
        context: of a model call: how its context differs from the expected one's.
        url: of any request: the recorded and the asked URL, if they differ.
        values: of a request with a JSON body, where the context is the same or there is none: the values that differ.
        lines: of a body that is no JSON: a unified diff.
        detail: of a tool call: arguments as recorded and as asked, shortened.
        nearest: the recorded exchanges most like it, without the expected one.
        causes: what probably made it so, the best evidence first.
    """

    what: str
    reason: str | None = None
    at: str | None = None
    stack: list[str] = field(default_factory=list)
    task: str | None = None
    os_pid: int = 0
    record_id: str | None = None
    expected: Recorded | None = None
    context: ContextDiff | None = None
    url: tuple[str, str] | None = None
    values: list[ValueChange] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)
    nearest: list[Near] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)


def explain(entry: Entry, scene: Scene) -> DivergenceReport:
    """Explain one divergence: a line of the journal."""
    asked = request_of(entry, scene.folder)
    expected = _expected(entry, asked, scene)
    readers = scene.readers
    recorded = None
    if expected is not None and expected.kind != "tool" and expected.record_id in readers:
        recorded = recorded_request(expected, readers[expected.record_id])
    diff = compare_contexts(recorded, asked) if recorded is not None else None
    report = DivergenceReport(
        what=f"{entry.method} {entry.url}" if entry.method else entry.path or "?",
        reason=entry.reason,
        at=entry.at,
        stack=entry.stack,
        task=entry.task,
        os_pid=entry.os_pid,
        record_id=entry.record_id,
        expected=place_of(expected) if expected is not None else None,
        context=diff if diff is not None and not diff.is_empty else None,
        detail=dict(entry.detail),
    )
    if recorded is not None:
        _compare_requests(report, recorded, asked)
    if asked.method is not None:
        report.nearest = nearest(asked, entry, expected, scene)
    report.causes = find_causes(entry, asked, recorded, diff, expected, scene=scene)
    return report


def _expected(entry: Entry, asked: Request, scene: Scene) -> Offer | None:
    """The call that the process said it had next, else the next of its kind in its place."""
    if entry.offer is not None:
        return next((one for one in scene.offers if one.number == entry.offer), None)
    if entry.method is None:
        return None
    kind = "llm" if asked.snapshot is not None else "http"
    here = (entry.record_id, entry.task or "0")
    return next(
        (
            one
            for one in scene.offers
            if one.kind == kind and one.number not in scene.made and (one.record_id, one.task) == here
        ),
        None,
    )


def _key(request: Request) -> str:
    """What counts of its method and URL: to which host a model call goes does not."""
    return request_key(request.method or "", request.url or "", is_model_call=request.snapshot is not None)


def _compare_requests(report: DivergenceReport, recorded: Request, asked: Request) -> None:
    if recorded.url is not None and asked.url is not None and _key(recorded) != _key(asked):
        report.url = f"{recorded.method} {recorded.url}", f"{asked.method} {asked.url}"
    if report.context is not None or recorded.body is None or asked.body is None or recorded.body == asked.body:
        return
    values = body_changes(recorded.body, asked.body)
    if values is None:
        report.lines = text_changes(recorded.body, asked.body)
    else:
        report.values = values
