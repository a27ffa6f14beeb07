"""Comparing the standard output of two runs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from unspool.recording.stdout import STDOUT_NAME, STDOUT_NOTES_NAME, StdoutNote
from unspool.replay.outputs import compare_outputs


def output(folder: Path, name: str, text: bytes | None, *notes: StdoutNote, isatty: bool = False) -> Path:
    """A recording's folder, as far as its output is concerned."""
    path = folder / name
    path.mkdir()
    lines = [StdoutNote(isatty=isatty), *notes] if text is not None else list(notes)
    (path / STDOUT_NOTES_NAME).write_bytes(b"".join(msgspec.json.encode(note) + b"\n" for note in lines))
    if text is not None:
        (path / STDOUT_NAME).write_bytes(text)
    return path


def test_equal_outputs_are_identical_and_their_size_is_told(tmp_path: Path) -> None:
    found = compare_outputs([output(tmp_path, "a", b"one\ntwo\n")], [output(tmp_path, "b", b"one\ntwo\n")])
    assert (found.verdict, found.recorded_bytes, found.diff) == ("identical", 8, [])


def test_a_beginning_is_told_from_a_difference(tmp_path: Path) -> None:
    first = output(tmp_path, "a", b"one\ntwo\n")
    assert compare_outputs([first], [output(tmp_path, "b", b"one\n")]).verdict == "beginning"
    found = compare_outputs([first], [output(tmp_path, "c", b"one\ntwo\nthree\n")])
    assert found.verdict == "different"
    assert "+three" in found.diff


def test_a_difference_far_down_is_shown_with_its_own_line_numbers(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(5000)]
    before = "\n".join(lines)
    lines[4000] = "something else"
    after = "\n".join(lines)
    found = compare_outputs([output(tmp_path, "a", before.encode())], [output(tmp_path, "b", after.encode())])
    assert found.diff[2] == "@@ -3998,7 +3998,7 @@"
    assert [line for line in found.diff[3:] if line[0] in "+-"] == ["-line 4000", "+something else"]


def test_a_long_difference_is_cut_and_says_so(tmp_path: Path) -> None:
    before, after = (b"".join(b"%s %d\n" % (word, number) for number in range(500)) for word in (b"old", b"new"))
    found = compare_outputs([output(tmp_path, "a", before)], [output(tmp_path, "b", after)])
    assert found.diff_cut
    assert len(found.diff) == 60


def test_what_is_not_recorded_is_unknown_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    here = output(tmp_path, "a", b"x")
    assert compare_outputs([tmp_path / "old"], [here]).verdict == "unknown"
    left = output(tmp_path, "b", None, StdoutNote(missing="sys.stdout is a StringIO"))
    found = compare_outputs([here], [left])
    assert found.verdict == "unknown"
    assert "StringIO" in (found.reason or "")


def test_the_hash_of_what_is_not_kept_counts(tmp_path: Path) -> None:
    one, same, other = (
        output(tmp_path, name, b"kept", StdoutNote(rest=9, sha256=digest))
        for name, digest in (("a", "00"), ("b", "00"), ("c", "11"))
    )
    assert compare_outputs([one], [same]).verdict == "identical"
    assert compare_outputs([one], [other]).verdict == "different"


def test_lines_that_served_tools_wrote_may_be_missing_and_no_others(tmp_path: Path) -> None:
    text = b"start\nfrom the tool\nend\n"
    before = output(tmp_path, "a", text, StdoutNote(tool="span", start=6, end=20))
    after = output(tmp_path, "b", b"start\nend\n")
    assert compare_outputs([before], [after]).verdict == "different"
    found = compare_outputs([before], [after], frozenset(["span"]))
    assert (found.verdict, found.by_tools) == ("identical", 1)
    without_end = output(tmp_path, "c", b"start\nfrom the tool\n")
    assert compare_outputs([before], [without_end], frozenset(["span"])).verdict == "beginning"


def test_children_are_matched_by_what_they_wrote(tmp_path: Path) -> None:
    root, again = output(tmp_path, "a", b"root"), output(tmp_path, "b", b"root")
    one, two = output(tmp_path, "c", b"1"), output(tmp_path, "d", b"2")
    assert compare_outputs([root, one, two], [again, two, one]).verdict == "identical"
    other = output(tmp_path, "e", b"3")
    found = compare_outputs([root, one, two], [again, two, other])
    assert (found.verdict, found.reason) == ("different", "of a child process")


def test_another_kind_of_stdout_is_named(tmp_path: Path) -> None:
    found = compare_outputs([output(tmp_path, "a", b"x\n")], [output(tmp_path, "b", b"y\n", isatty=True)])
    assert "no terminal" in (found.reason or "")
