"""The tour's parts, with small programs in the place of the command line."""

from __future__ import annotations

import io
import os
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from unspool.demo import tour
from unspool.demo.tour import TOUR, Section, run_demo, show

ECHO = (sys.executable, "-c", "import sys; print(sys.argv[1:], repr(sys.stdin.read()))")
LINES = (sys.executable, "-c", "for n in range(9): print('line', n)")


def shown(section: Section, command: tuple[str, ...]) -> tuple[list[str], bool]:
    out = io.StringIO()
    is_well = show(section, os.environ, out, command=command)
    return out.getvalue().splitlines(), is_well


def test_a_section_shows_the_command_as_one_would_type_it_and_its_output() -> None:
    section = Section("Title", "Why.", ("replay", "last"), stdin="find x\nquit\n")
    lines, is_well = shown(section, ECHO)
    assert lines == [
        "",
        "== Title",
        "Why.",
        "",
        r"$ printf 'find x\nquit\n' | unspool replay last",
        r"['replay', 'last'] 'find x\nquit\n'",
    ]
    assert is_well


def test_long_output_is_cut_and_says_so() -> None:
    first, _ = shown(Section("T", "E", ("ls",), lines=2), LINES)
    assert first[-3:] == ["line 0", "line 1", "  … 7 more lines"]
    last, _ = shown(Section("T", "E", ("ls",), keep="last", lines=2), LINES)
    assert last[-3:] == ["  … 7 more lines", "line 7", "line 8"]
    [*_, wide], _ = shown(Section("T", "E", ("ls",)), (sys.executable, "-c", "print('x' * 900)"))
    assert len(wide) == 160


def test_a_command_that_fails_is_shown_and_told() -> None:
    lines, is_well = shown(Section("T", "E", ("ls",)), (sys.executable, "-c", "import sys; sys.exit('no store')"))
    assert lines[-2:] == ["no store", "(exit code 1)"]
    assert not is_well


def test_every_section_calls_one_command_and_says_why() -> None:
    assert len({section.title for section in TOUR}) == len(TOUR)
    for section in TOUR:
        assert section.explanation.endswith(".")
        assert not section.stdin or section.stdin.endswith("quit\n")


def test_without_the_sdk_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tour, "find_spec", lambda name: None)
    out = io.StringIO()
    assert run_demo(tmp_path, True, out) == 1
    assert "pip install 'unspool[demo]'" in capsys.readouterr().err
    assert out.getvalue() == ""


def test_something_else_can_be_done_in_place_of_the_tour_while_the_model_is_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openai")
    seen: list[str] = []

    def look(environment: Mapping[str, str]) -> int:
        with urllib.request.urlopen(environment["OPENAI_BASE_URL"] + "/models") as answer:
            seen.append(str(answer.status))
        return 7

    assert run_demo(tmp_path / "store", True, io.StringIO(), then=look) == 7
    assert seen == ["200"]
