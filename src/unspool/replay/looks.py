"""What texts that differ look like: a time, something drawn, a number, words in another order, the result of a tool."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from unspool.recording.reader import RecordReader
from unspool.replay.cause import Cause, Change
from unspool.replay.scene import Scene
from unspool.replay.varying import varying_pieces
from unspool.text import quote

__all__ = ["looks_causes", "order_cause", "tool_cause"]

_SHOWN: Final = 60  # code points of a value in the evidence
_NONDET_READ_MAX: Final = 8 << 20  # bytes of nondet.jsonl searched for where a value came from
_EVIDENCE_MAX: Final = 4

_CLOCK_READS: Final = ("time", "time_ns", "datetime.now", "datetime.utcnow", "date.today")


def tool_cause(changes: Sequence[Change], scene: Scene) -> Cause | None:
    evidence = []
    for change in changes:
        if change.role != "tool":
            continue
        name = f" of {change.tool}" if change.tool else ""
        evidence.append(
            f"{change.where} is the result{name} of a tool, and differs"
            if not name
            else f"{change.where} is the result{name}, and differs"
        )
        if change.tool is None:
            continue
        live = next(
            (
                one
                for one in scene.journal
                if one.kind == "tool" and one.match == "live" and _tail(one.path) == change.tool
            ),
            None,
        )
        if live is not None:
            evidence.append(f"{change.tool} ran for real{f' at {live.at}' if live.at else ''}: {live.reason}")
        elif not any(one.kind == "tool" and _tail(one.name) == change.tool for one in scene.offers):
            evidence.append(f"{change.tool} was not recorded as a tool (no @unspool.tool), so that it runs for real")
    return Cause("tool", evidence[:_EVIDENCE_MAX]) if evidence else None


def _tail(path: str | None) -> str:
    return (path or "").rpartition("/")[2]


def _is_read(kind: str, what: str) -> bool:
    """Whether reading `what` gives values of this form."""
    return (what in _CLOCK_READS) is (kind == "clock")


def looks_causes(changes: Sequence[Change], scene: Scene, reader: RecordReader) -> Iterator[Cause]:
    """Causes by the form of what differs, for texts in which nothing else does."""
    found: dict[str, list[tuple[Change, str, str]]] = {}
    for change in changes:
        for kind, before, after in varying_pieces(change.before, change.after):
            found.setdefault(kind, []).append((change, before, after))
    if pairs := found.get("clock"):
        yield Cause("clock", [*_shown(pairs), *_noise("clock", pairs, scene, reader)])
    if pairs := found.get("random"):
        yield Cause("random", [*_shown(pairs), *_noise("random", pairs, scene, reader)])
    if pairs := found.get("number"):
        more = "a measured duration (those are never pinned), a count, or a number drawn"
        yield Cause("number", [*_shown(pairs), *([more] if scene.plan.pin else [more, _NOT_PINNED])])


def order_cause(changes: Sequence[Change], scene: Scene, reader: RecordReader) -> Cause | None:
    """The same words in another order: a set was written out."""
    mixed = [one for one in changes if one.before != one.after and _words(one.before) == _words(one.after)]
    if not mixed:
        return None
    seed = (reader.metadata.env or {}).get("PYTHONHASHSEED")
    if not scene.plan.pin:
        why = "the order of a set of strings hangs on the hash seed, which is not that of the recording (--no-pin)"
    elif seed is None:
        why = "the order of a set of strings hangs on the hash seed, which was not recorded (PYTHONHASHSEED)"
    else:
        why = "the order of files in a folder, of threads or of sets of plain objects is never pinned: sort it"
    return Cause("order", [f"{mixed[0].where} has the same words in another order", why])


def _words(text: str) -> list[str]:
    return sorted(re.findall(r"\w+", text))


_NOT_PINNED: Final = "clock and random numbers are not those of the recording (--no-pin)"


def _shown(pairs: Sequence[tuple[Change, str, str]]) -> list[str]:
    return [
        f"{change.where}: {quote(before, _SHOWN)} when recorded, {quote(after, _SHOWN)} now"
        for change, before, after in pairs[:_EVIDENCE_MAX]
    ]


def _noise(
    kind: Literal["clock", "random"], pairs: Sequence[tuple[Change, str, str]], scene: Scene, reader: RecordReader
) -> Iterator[str]:
    """Where values of this form came from, and why they are others now, as far as it is known."""
    for name, at in _origins(reader, [before for _, before, _ in pairs], kind):
        yield f"{name} was read at {at} when it was recorded, and gave this"
    pins = [one for one in scene.journal if one.kind == "pin" and _is_read(kind, one.path or "")]
    for one in pins[:_EVIDENCE_MAX]:
        yield f"{one.path} at {one.at}: {one.reason or 'it could not be given its recorded value'}"
    if not scene.plan.pin:
        yield _NOT_PINNED


class _Read(msgspec.Struct):
    """A line of nondet.jsonl."""

    k: str
    v: object = None
    at: str | None = None


def _origins(reader: RecordReader, values: Sequence[str], kind: str) -> list[tuple[str, str]]:
    """What was read, and where, that gave one of these values when it was recorded."""
    try:
        with (reader.record_dir / "nondet.jsonl").open("rb") as file:
            lines = file.read(_NONDET_READ_MAX).split(b"\n")[:-1]
    except OSError:  # nothing was read
        return []
    found: dict[tuple[str, str], None] = {}
    for line in lines:
        try:
            read = msgspec.json.decode(line, type=_Read)
        except msgspec.DecodeError:  # torn, or damaged
            continue
        if read.at is not None and _is_read(kind, read.k) and any(_gave(read.v, value) for value in values):
            found[read.k, read.at] = None
    return list(found)[:_EVIDENCE_MAX]


def _gave(read: object, shown: str) -> bool:
    """Whether a value that was read may be the text that is shown."""
    if isinstance(read, str):
        plain = shown.replace("-", "").lower()
        texts = (shown, shown.replace(" ", "T"))
        return len(shown) >= 8 and (
            any(read.startswith(text) for text in texts) or read.replace("-", "").lower() == plain
        )
    if isinstance(read, int | float) and not isinstance(read, bool):
        return len(shown) >= 8 and (str(read).startswith(shown) or str(int(read)) == shown)
    return False
