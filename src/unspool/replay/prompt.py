"""Where the debugger's commands come from: a terminal or a pipe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Protocol

try:
    import readline as _readline_module
except ImportError:  # not part of every build of Python; without it there is no history and no line editing
    _readline: ModuleType | None = None
else:
    _readline = _readline_module

__all__ = ["CommandInput", "PipedInput", "TerminalInput"]

_HISTORY_LENGTH = 1000


class CommandInput(Protocol):
    """A source of command lines."""

    def read_line(self, prompt: str) -> str:
        """The next line, without its newline; raises EOFError when there are no more."""


class PipedInput:
    """Commands from a file, a pipe or a list; shows no prompt."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)

    def read_line(self, prompt: str) -> str:
        """The next line; `prompt` is for terminals."""
        for line in self._lines:
            return line.rstrip("\r\n")
        raise EOFError


class TerminalInput:
    """Commands typed at a terminal, with line editing and a history that survives the program.

    Use as a context manager: the history is read at its start and written (mode 0600) at its end. A history that cannot
    be read or written is done without.
    """

    def __init__(self, history_file: str | os.PathLike[str] | None = None) -> None:
        self._history_file = None if history_file is None else Path(history_file)

    def read_line(self, prompt: str) -> str:
        """The next line typed; Ctrl-D raises EOFError, Ctrl-C KeyboardInterrupt."""
        return input(prompt)

    def __enter__(self) -> TerminalInput:
        if _readline is not None and self._history_file is not None:
            with contextlib.suppress(OSError):  # there is none yet, or it is not ours to read
                _readline.read_history_file(self._history_file)
            _readline.set_history_length(_HISTORY_LENGTH)
        return self

    def __exit__(self, *_exc: object) -> None:
        if _readline is not None and self._history_file is not None:
            with contextlib.suppress(OSError):  # a read-only home costs the history, not the session
                # Made first, because readline would create it readable for all; searched-for text may be private.
                os.close(os.open(self._history_file, os.O_WRONLY | os.O_CREAT, 0o600))
                _readline.write_history_file(self._history_file)
