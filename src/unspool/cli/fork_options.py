"""The options of `unspool fork` that say what to change, from text to `ForkOptions`; and the editor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unspool.cli.terminal import is_terminal, note
from unspool.errors import UsageError
from unspool.replay.forkdoc import BrokenDocument, read_document, write_document
from unspool.serving.edits import Draft

__all__ = ["edit_document", "parse_appends", "parse_params", "parse_tool_results", "text_or_file"]


def text_or_file(option: str, value: str) -> str:
    """The text given, or that of the file behind an `@`; `@@` begins a text with an at sign.

    Raises:
        UsageError: the file cannot be read.
    """
    if value.startswith("@@"):
        return value[1:]
    if not value.startswith("@"):
        return value
    return read_text(option, Path(value[1:]), hint=". A text that begins with @ is written @@…")


def read_text(option: str, path: Path, *, errors: str = "strict", hint: str = "") -> str:
    """The text of a file.

    Args:
        errors: as `bytes.decode` takes it; `surrogatepass` for a document that may quote half of a surrogate pair.
        hint: what to say besides when there is no such file.

    Raises:
        UsageError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8", errors)
    except OSError as exc:
        raise UsageError(f"{option}: cannot read {path}: {exc.strerror or exc}{hint}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{option}: {path} is no UTF-8 text: {exc}") from exc


def parse_appends(values: Iterable[str]) -> list[tuple[str, str]]:
    """Role and text of each `--append`.

    Raises:
        UsageError: one has no role.
    """
    out: list[tuple[str, str]] = []
    for value in values:
        role, colon, text = value.partition(":")
        if not colon or not role.isidentifier():
            raise UsageError(f"--append {value!r}: write ROLE:TEXT, for example --append 'user:Check the date.'")
        out.append((role, text_or_file("--append", text)))
    return out


def parse_tool_results(values: Iterable[str]) -> list[tuple[str, str]]:
    """Call and text of each `--tool-result`.

    Raises:
        UsageError: one has no call.
    """
    out: list[tuple[str, str]] = []
    for value in values:
        call, equals, text = value.partition("=")
        if not equals or not call:
            raise UsageError(f"--tool-result {value!r}: write CALL_ID=TEXT or CALL_ID=@FILE")
        out.append((call, text_or_file("--tool-result", text)))
    return out


def parse_params(values: Iterable[str]) -> dict[str, Any]:
    """Name and value of each `--set`; a value that is no JSON is a text.

    Raises:
        UsageError: one has no name.
    """
    out: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not all(name.split(".")):
            raise UsageError(f"--set {value!r}: write KEY=VALUE, for example --set temperature=0")
        try:
            out[name] = json.loads(text)
        except (ValueError, RecursionError):
            out[name] = text
    return out


def edit_document(draft: Draft, file: Path | None = None) -> bool:
    """Have a person edit a draft in `$VISUAL` or `$EDITOR`, or take what a file says; whether it holds anything.

    Raises:
        UsageError: there is no editor, or it failed, or the document cannot be read back. It is kept then.
    """
    if file is not None:
        text = read_text("--edit-file", file, errors="surrogatepass")
        try:
            read_document(text, draft)
        except BrokenDocument as exc:
            raise UsageError(f"{file}, {exc}") from exc
        return True
    fd, name = tempfile.mkstemp(prefix="unspool-fork-", suffix=".txt")
    path = Path(name)
    with os.fdopen(fd, "wb") as stream:
        stream.write(write_document(draft).encode("utf-8", "surrogatepass"))
    _run_editor(path)
    text = path.read_bytes().decode("utf-8", "surrogatepass")
    if not text.strip():
        path.unlink()
        return False
    try:
        read_document(text, draft)
    except BrokenDocument as exc:
        raise UsageError(
            f"{path}, {exc}. Your text is kept there: mend it and give it with --edit-file {path}"
        ) from exc
    path.unlink()
    return True


def _run_editor(path: Path) -> None:
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if chosen is None and not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        path.unlink()
        raise UsageError(
            "--edit: there is no terminal for an editor. Set EDITOR, or give the text with --edit-file FILE"
        )
    command = chosen or "vi"
    try:
        words = shlex.split(command)
        code = subprocess.run([*words, str(path)], check=False).returncode
    except (OSError, ValueError, IndexError) as exc:
        path.unlink()
        raise UsageError(f"cannot start the editor {command!r}: {exc}. Set VISUAL or EDITOR") from exc
    if code:
        note(f"unspool: your text is kept in {path}")
        raise UsageError(f"the editor {command!r} ended with code {code}, so nothing is forked")
