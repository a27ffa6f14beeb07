"""Colour is for terminals whose user did not say no."""

from __future__ import annotations

import io

import pytest

from unspool.strace import Options, default_options


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("no_color", "color"),
    [(None, True), ("", True), ("1", False), ("0", False)],
)
def test_no_color_counts_when_set_and_not_empty(monkeypatch, no_color, color):
    if no_color is None:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert default_options(Terminal()) == Options(color=color)


def test_files_pipes_closed_files_and_odd_writers_get_no_color(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    closed = io.StringIO()
    closed.close()
    for stream in (io.StringIO(), closed, object()):
        assert default_options(stream) == Options(color=False, verbose=False, json=False, formatter=None)


def test_the_default_stream_is_standard_output_at_the_time_of_the_call(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", Terminal())
    assert default_options().color
