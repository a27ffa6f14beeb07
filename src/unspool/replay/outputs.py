"""Whether two runs wrote the same to standard output, and the lines that differ."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from unspool.recording.stdout import Stdout, read_stdout

__all__ = ["OutputComparison", "compare_outputs"]

_DIFF_MAX: Final = 60  # lines of a diff
_COMPARED_MAX: Final = 2_000  # lines of each side between the first and the last difference: finding a diff is costly

Verdict = Literal["identical", "beginning", "different", "unknown"]


class OutputComparison(Struct, frozen=True):
    """What came of comparing.

    Attributes:
        verdict: `identical`; `beginning`: the second run wrote the beginning of what the first did, and no more;
            `different`; `unknown`: one of them was not recorded, or not to its end.
        recorded_bytes, rerun_bytes: how much each wrote, as far as is known.
        by_tools: lines of the first that tools wrote which did not run the second time; they are left out of account.
        diff: a unified diff by lines, at most 60 of them, texts as they are.
        diff_cut: the diff is longer.
        reason: why it is unknown, or what else is to be said.
    """

    verdict: Verdict
    recorded_bytes: int = 0
    rerun_bytes: int = 0
    diff: list[str] = []
    diff_cut: bool = False
    by_tools: int = 0
    reason: str | None = None


def compare_outputs(
    recorded: Sequence[Path], rerun: Sequence[Path], served_tools: frozenset[str] = frozenset()
) -> OutputComparison:
    """Compare the outputs of two runs, process by process.

    The first of each is the process that was started; the others are its children, whose output is matched by what it
    is: their order is no part of it.

    Args:
        recorded: folders of the recordings of the first run, its root first.
        rerun: those of the second.
        served_tools: spans of the tool calls of the first that the second was given the results of. What they had
            written need not be there.
    """
    before = [read_stdout(one) for one in recorded]
    after = [read_stdout(one) for one in rerun]
    if not before or not after:
        return OutputComparison("unknown", reason="there is no recording of it")
    found = _compare(before[0], after[0])
    if found.verdict != "identical":
        without = _without_tools(before[0], after[0], served_tools)
        if without is not None:
            sizes = before[0].size, after[0].size
            found = OutputComparison("identical", *sizes, by_tools=without, reason=found.reason)
    if found.verdict != "identical":
        return found
    children, theirs = (sorted((one for one in side[1:] if one.size), key=_content) for side in (before, after))
    if list(map(_content, children)) == list(map(_content, theirs)):
        total = sum(one.size for one in before)
        return msgspec.structs.replace(found, recorded_bytes=total, rerun_bytes=sum(one.size for one in after))
    left = [one for one in children if _content(one) not in set(map(_content, theirs))]
    right = [one for one in theirs if _content(one) not in set(map(_content, children))]
    other = _compare((left or [Stdout()])[0], (right or [Stdout()])[0])
    if other.verdict == "identical":  # one of several equal ones is missing
        return OutputComparison("different", other.recorded_bytes, other.rerun_bytes, reason="of child processes")
    return OutputComparison(
        other.verdict,
        other.recorded_bytes,
        other.rerun_bytes,
        other.diff,
        other.diff_cut,
        reason="of a child process",
    )


def _without_tools(before: Stdout, after: Stdout, served_tools: frozenset[str]) -> int | None:
    """How many lines the first has that the second lacks, if all of them were written while these tools ran.

    Other tasks may have written meanwhile: a line of that time may be missing, and need not.
    """
    spans = [(start, end) for span, start, end in before.tools if span in served_tools]
    if not spans or before.missing or after.missing or before.rest != 0 or after.rest != 0:
        return None
    now = after.kept.splitlines(keepends=True)
    at = place = skipped = 0
    for line in before.kept.splitlines(keepends=True):
        if at < len(now) and now[at] == line:
            at += 1
        elif any(start <= place and place + len(line) <= end for start, end in spans):
            skipped += 1
        else:
            return None
        place += len(line)
    return skipped if at == len(now) else None


def _content(output: Stdout) -> tuple[bytes, int, str]:
    return output.kept, output.rest or 0, output.rest_sha256 or ""


def _compare(before: Stdout, after: Stdout) -> OutputComparison:
    if before.missing is not None or after.missing is not None:
        if before.missing == after.missing and before.isatty == after.isatty and "closed" in (before.missing or ""):
            return OutputComparison("identical", reason=before.missing)  # neither could write anything
        whose, why = ("recorded", before.missing) if before.missing is not None else ("rerun's", after.missing)
        return OutputComparison("unknown", before.size, after.size, reason=f"the {whose} one is not there: {why}")
    terminal = None
    if before.isatty != after.isatty and None not in (before.isatty, after.isatty):
        kinds = {True: "a terminal", False: "no terminal"}
        terminal = f"it was {kinds[bool(before.isatty)]} when it was recorded, and {kinds[bool(after.isatty)]} now"
    sizes = before.size, after.size
    if before.kept == after.kept:
        if before.rest is None or after.rest is None:
            return OutputComparison("unknown", *sizes, reason=f"only its first {len(before.kept):,} bytes are known")
        if (before.rest, before.rest_sha256) == (after.rest, after.rest_sha256):
            return OutputComparison("identical", *sizes, reason=terminal)
        more = f"its first {len(before.kept):,} bytes are the same, which is what is kept"
        return OutputComparison("different", *sizes, reason=f"{more}; {terminal}" if terminal else more)
    verdict: Verdict = "beginning" if not after.rest and before.kept.startswith(after.kept) else "different"
    lines, was_cut = _diff(before.kept, after.kept)
    return OutputComparison(verdict, *sizes, lines, was_cut, reason=terminal)


def _diff(before: bytes, after: bytes) -> tuple[list[str], bool]:
    old, new = (side.decode("utf-8", "backslashreplace").split("\n") for side in (before, after))
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(first - 3, 0)  # what stands before the first difference costs nothing
    a, b = old[start : start + _COMPARED_MAX], new[start : start + _COMPARED_MAX]
    script = difflib.unified_diff(a, b, "recorded", "rerun", n=3, lineterm="")
    lines = list(islice(script, _DIFF_MAX + 1))
    was_cut = len(lines) > _DIFF_MAX or max(len(old), len(new)) > start + _COMPARED_MAX
    # The places a diff names count from what it was given.
    shifted = [_shifted(line, start) if line.startswith("@@ ") else line for line in lines[:_DIFF_MAX]]
    return shifted, was_cut


def _shifted(line: str, by: int) -> str:
    def moved(place: str) -> str:
        number, comma, count = place[1:].partition(",")
        return f"{place[0]}{int(number) + by}{comma}{count}"

    _, old, new, _ = line.split(" ", 3)
    return f"@@ {moved(old)} {moved(new)} @@"
