"""What the terminal is like, decided in one place: colour, width, and who is told what."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import IO, Any, Final, Literal

import click

__all__ = [
    "STDOUT",
    "Settings",
    "bold",
    "dim",
    "hint",
    "is_terminal",
    "note",
    "put",
    "red",
    "settings",
    "use_color",
    "width",
]

ColorChoice = Literal["auto", "always", "never"]
_DEFAULT_WIDTH: Final = 80
STDOUT: Final = "standard output"


@dataclass
class Settings:
    """The options that every command has."""

    color: ColorChoice = "auto"
    traceback: bool = False


def settings() -> Settings:
    """Those of the command that is running."""
    context = click.get_current_context(silent=True)
    if context is None:
        return Settings()
    return context.ensure_object(Settings)


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether somebody may be looking at this stream right now."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def use_color(stream: IO[Any] | None = None) -> bool:
    """Whether to colour what goes to `stream` (standard output if None): by `--color`, `NO_COLOR`, what it is."""
    choice = settings().color
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal(stream or sys.stdout)


def width(stream: IO[Any] | None = None) -> int | None:
    """Columns to fit into; None where nothing has to fit, because no terminal shows it."""
    if os.environ.get("COLUMNS", "").isdigit() or is_terminal(stream or sys.stdout):
        return max(shutil.get_terminal_size((_DEFAULT_WIDTH, 24)).columns, 40)
    return None


def put(text: str) -> None:
    """A result, to standard output.

    Raises:
        BrokenPipeError: nobody reads it any more.
        OSError: it cannot be written; its `filename` says that it was standard output.
    """
    try:
        sys.stdout.write(text + "\n")
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, STDOUT) from exc


def note(text: str) -> None:
    """What must be said, to standard error; a standard error that is gone is no reason to fail."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return


def hint(text: str) -> None:
    """What is nice to know, to standard error; only said to a person."""
    if is_terminal(sys.stderr):
        note(text)


def bold(text: str, on: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if on else text


def dim(text: str, on: bool) -> str:
    return f"\x1b[90m{text}\x1b[0m" if on else text


def red(text: str, on: bool) -> str:
    return f"\x1b[91m{text}\x1b[0m" if on else text
