"""What probably made a rerun ask for something else: each cause with its evidence; without evidence none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.replay.cause import Cause, Change
from unspool.replay.diff import ContextDiff
from unspool.replay.looks import looks_causes, order_cause, tool_cause
from unspool.replay.messages import seen_context
from unspool.replay.nearest import place_of
from unspool.replay.requests import Request, body_changes, recorded_request
from unspool.replay.scene import Scene
from unspool.replay.varying import masked
from unspool.serving.fingerprint import body_digest, canonical_digest, request_key
from unspool.serving.journal import Entry
from unspool.serving.plan import Offer
from unspool.text import display_value, show_text

__all__ = ["find_causes"]

_SHOWN: Final = 60  # code points of a value in the evidence
_EVIDENCE_MAX: Final = 4


def find_causes(
    entry: Entry,
    asked: Request,
    recorded: Request | None,
    diff: ContextDiff | None,
    expected: Offer | None,
    *,
    scene: Scene,
) -> list[Cause]:
    """The probable causes of a divergence, the one with the best evidence first.

    Args:
        entry: the line of the journal.
        asked: the request.
        recorded: the one that was expected, if any.
        diff: how their contexts differ, if they have any.
        expected: the offer of `recorded`.
        scene: what else is known.
    """
    reader = scene.readers.get(entry.record_id or scene.plan.root) or scene.readers[scene.plan.root]
    if (gap := _gap(expected, scene, reader)) is not None:
        return [gap]  # it says nothing about the program
    changes = list(_changes(diff, asked, recorded, entry))
    found = [
        _missing(entry, asked, expected, scene),
        _concurrency(entry, asked, scene),
        _inserted(entry, asked, expected, scene),
        tool_cause(changes, scene),
        *looks_causes(changes, scene, reader),
        order_cause(changes, scene, reader),
    ]
    found.append(_code(entry, expected, reader))
    nothing = Cause("unknown", ["nothing in the recording or the program's files says why"])
    return [cause for cause in found if cause is not None] or [nothing]


def _gap(expected: Offer | None, scene: Scene, reader: RecordReader) -> Cause | None:
    """The recording ends here, or does not hold what was asked at this point."""
    if expected is None and reader.metadata.status is RecordStatus.INTERRUPTED:
        said = ["it ends here, because its program was killed; this one went on"]
        return Cause("recording", said if scene.plan.target else [*said, "to send what follows: --on-divergence live"])
    if expected is not None and expected.unservable is not None and not expected.key:
        return Cause("recording", [f"{_called(expected)}: {expected.unservable}"])
    return None


# --- what differs ----------------------------------------------------------------------------------------------------


def _changes(diff: ContextDiff | None, asked: Request, recorded: Request | None, entry: Entry) -> Iterator[Change]:
    if diff is not None and recorded is not None:
        yield from _context_changes(diff, recorded)
    elif recorded is not None and recorded.body is not None and asked.body is not None:
        if recorded.url != asked.url:
            yield Change("the URL", "", recorded.url or "", asked.url or "")
        if recorded.body != asked.body:
            values = body_changes(recorded.body, asked.body)
            if values is None:
                sides = (side.decode("utf-8", "backslashreplace") for side in (recorded.body, asked.body))
                yield Change("the body", "", *sides)
            else:
                for value in values:
                    yield Change(value.path, "", display_value(value.before), display_value(value.after))
    differs = entry.detail.get("differs")
    if isinstance(differs, dict):
        for name, sides in differs.items():
            if isinstance(sides, dict) and "recorded" in sides and "asked" in sides:
                before, after = display_value(sides["recorded"]), display_value(sides["asked"])
                yield Change(f"argument {name}", "", before, after)


def _context_changes(diff: ContextDiff, recorded: Request) -> Iterator[Change]:
    if diff.prompt_words:
        sides = ("".join(w.text for w in diff.prompt_words if w.op in ("equal", op)) for op in ("removed", "added"))
        yield Change("the system prompt", "system", *sides)
    messages = (recorded.snapshot.messages if recorded.snapshot is not None else None) or []
    for edited in diff.messages.edited:
        message = messages[edited.from_index] if edited.from_index < len(messages) else None
        tool = getattr(message, "tool_name", None)
        is_result = edited.role == "tool" or getattr(message, "tool_call_id", None) is not None
        where = f"message {edited.to_index + 1} ({edited.role})"
        yield Change(where, "tool" if is_result else edited.role, edited.before, edited.after, tool)
    if len(diff.messages.added) == len(diff.messages.removed):
        # Short messages that share few words: still one in the place of the other.
        for before, after in zip(diff.messages.removed, diff.messages.added, strict=True):
            role = after[1:].partition("]")[0] if after.startswith("[") else ""
            yield Change(f"a message ({role or 'unknown'})", role, before, after)
    for change in diff.params:
        if change.change == "changed":
            yield Change(change.path, "", display_value(change.before), display_value(change.after))


# --- the order of calls ----------------------------------------------------------------------------------------------


def _is_same(asked: Request, entry: Entry, offer: Offer) -> bool:
    if entry.path is not None and offer.kind == "tool":
        return False
    if asked.method is None or asked.url is None or asked.body is None or offer.kind == "tool":
        return False
    key = request_key(asked.method, asked.url, is_model_call=offer.kind == "llm")
    digests = (body_digest(asked.body), canonical_digest(asked.body))
    return offer.key == key and offer.sha256 in digests


def _missing(entry: Entry, asked: Request, expected: Offer | None, scene: Scene) -> Cause | None:
    """The request is one that was recorded later at this place: what stands before it was not asked for."""
    if expected is None:
        return None
    here = [one for one in scene.offers if (one.record_id, one.task) == (expected.record_id, expected.task)]
    left = [one for one in here if one.number > expected.number and one.number not in scene.made]
    later = next((one for one in left if _is_same(asked, entry, one)), None)
    likeness = "is"
    if later is None:
        later, likeness = next((one for one in left if _is_alike(asked, one, scene)), None), "is like"
        if _is_alike(asked, expected, scene):
            return None
    if later is None:
        return None
    skipped = [
        one
        for one in here
        if expected.number <= one.number < later.number and one.number not in scene.made and one.kind == later.kind
    ]
    if not skipped:
        return None
    said = (
        f"the request {likeness} that of {_called(later)}, and the program did not make {_called(skipped[0])} before it"
    )
    return Cause("missing", [said, *(f"nor {_called(one)}" for one in skipped[1:_EVIDENCE_MAX])])


def _is_alike(asked: Request, offer: Offer, scene: Scene) -> bool:
    """Whether a recorded model call differs in nothing but times, ids and numbers."""
    if asked.snapshot is None or offer.kind != "llm" or offer.record_id not in scene.readers:
        return False
    recorded = recorded_request(offer, scene.readers[offer.record_id])
    return bool(_said(recorded)) and _said(recorded) == _said(asked)


def _said(request: Request) -> list[str]:
    if request.snapshot is None:
        return []
    seen = seen_context(request.snapshot)
    return [masked(seen.system_prompt or ""), *(masked(message.text) for message in seen.messages)]


def _concurrency(entry: Entry, asked: Request, scene: Scene) -> Cause | None:
    same = [one for one in scene.offers if one.number not in scene.made and _is_same(asked, entry, one)]
    place = (entry.record_id, entry.task or "0")
    other = next((one for one in same if (one.record_id, one.task) != place), None)
    if other is None or any((one.record_id, one.task) == place for one in same):
        return None
    here = f"task {entry.task or '0'}"
    there = f"task {other.task}" + (f" of {other.record_id}" if other.record_id != entry.record_id else "")
    return Cause(
        "concurrency", [f"the same request is recorded as {_called(other)}, made in {there}; here {here} made it"]
    )


def _inserted(entry: Entry, asked: Request, expected: Offer | None, scene: Scene) -> Cause | None:
    evidence = []
    same = [one for one in scene.offers if _is_same(asked, entry, one)]
    if same and all(one.number in scene.made for one in same):
        times = "once" if len(same) == 1 else f"{len(same)} times"
        evidence.append(f"the recording has this very request {times}, and each was served already")
    if expected is None and asked.snapshot is not None:
        calls = [one for one in scene.offers if one.kind == "llm" and one.record_id == entry.record_id]
        evidence.append(f"every model call that the recording has here was made already ({len(calls)} in all)")
    sites = {one.at for one in scene.offers if one.at is not None}
    in_file = entry.at is not None and _parts(entry.at)[0] in {_parts(site)[0] for site in sites}
    if entry.at is not None and in_file and entry.at not in sites and not _is_moved(entry.at, sites):
        evidence.append(f"no recorded call was made at {entry.at}")
    return Cause("inserted", evidence) if evidence else None


def _is_moved(at: str, sites: set[str]) -> bool:
    """Whether a recorded call was made in the same function on another line: lines move when a file is edited."""
    file, _, function = _parts(at)
    return any((file, function) == _parts(site)[::2] for site in sites)


def _parts(at: str) -> tuple[str, str, str]:
    place, _, function = at.partition(" ")
    file, _, line = place.rpartition(":")
    return file, line, function


def _called(offer: Offer) -> str:
    place = place_of(offer)
    what = f"model call {place.call}" if place.kind == "llm" and place.call else f"the call of {place.name}"
    return f"{what} ({place.at})" if place.at else what


# --- the program -----------------------------------------------------------------------------------------------------


def _code(entry: Entry, expected: Offer | None, reader: RecordReader) -> Cause | None:
    metadata = reader.metadata
    evidence = []
    for file in _files(entry, metadata):
        changed = _changed_at(file)
        if changed is not None and metadata.start_time is not None and changed > metadata.start_time:
            when = f"{changed:%Y-%m-%d %H:%M:%S} UTC"
            evidence.append(f"{show_text(file)} was changed at {when}, after it was recorded")
    if expected is not None and expected.at and entry.at and expected.at != entry.at:
        same_function = _parts(expected.at)[::2] == _parts(entry.at)[::2]
        if same_function and evidence:
            evidence.append(f"the recorded call was made at {expected.at}, this one at {entry.at}")
    return Cause("code", evidence[:_EVIDENCE_MAX]) if evidence else None


def _files(entry: Entry, metadata: RecordMetadata) -> list[str]:
    """Files of the agent's own code that were running, and the script that was started."""
    cwd = metadata.cwd or ""
    places = [place for place in (entry.at, *entry.stack) if place]
    names = [_parts(place)[0] for place in places]
    names += [word for word in (metadata.command or ())[1:] if word.endswith(".py")]
    return list(dict.fromkeys(os.path.join(cwd, name) for name in names if name and not name.startswith("<")))


def _changed_at(file: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(Path(file).stat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return None
