"""What a recorded command is started with again: its words, its working directory, its environment."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from unspool.errors import UsageError
from unspool.events import RecordMetadata
from unspool.replay.rerun import Surroundings
from unspool.store import host_name

__all__ = ["PLACEHOLDER", "Restart", "restart"]

PLACEHOLDER: Final = "unspool-rerun-placeholder"

_VARIABLE_IN_WORD = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BOOT = os.path.join("unspool", "capture", "_boot")
# Of the shell, the terminal and the desktop session: absent or different each time, and no agent's business.
_PASSING = re.compile(
    r"_|SHLVL|OLDPWD|PS\d|HIST\w*|LS_COLORS|LESS\w*|PAGER|EDITOR|VISUAL|COLORTERM|WINDOWID|DISPLAY|LOGNAME|MAIL|STY"
    r"|(?:UNSPOOL|SSH|XDG|DBUS|TMUX|TERM|GPG|DESKTOP|GNOME|KDE|QT|GTK|VSCODE|ITERM|WAYLAND|PYTEST|COV)_\w*|TMUX"
)


@dataclass
class Restart:
    """How to start it.

    Attributes:
        argv: the command.
        cwd: the working directory it had.
        environ: this process' environment, with the recorded values in it.
        surroundings: what is not as it was, for the report.
    """

    argv: list[str]
    cwd: str
    environ: dict[str, str]
    surroundings: Surroundings = field(default_factory=Surroundings)


def restart(metadata: RecordMetadata, argv: Sequence[str] | None = None, *, pin: bool = True) -> Restart:
    """The command of a recording as it can be started now.

    Args:
        metadata: of the first process of the recorded run.
        argv: a command to start in its place.
        pin: give it the hash seed it had, on which the order of sets hangs; else that of now.

    Raises:
        UsageError: the recording has no command, or its working directory or program is gone.
    """
    about = Surroundings()
    environ = _environment(metadata, about)
    if not pin:
        environ["PYTHONHASHSEED"] = os.environ.get("PYTHONHASHSEED", "random")
    cwd = _working_directory(metadata)
    if cwd is not None:
        environ["PWD"] = cwd
    words = list(argv) if argv else _words(metadata, environ, about)
    _check_program(metadata, words, cwd or os.getcwd(), environ, given=bool(argv))
    return Restart(words, cwd or os.getcwd(), environ, about)


def _working_directory(metadata: RecordMetadata) -> str | None:
    cwd = metadata.launched_in if metadata.launched else metadata.cwd
    if cwd is not None and not os.path.isdir(cwd):
        raise UsageError(
            f"{metadata.record_id} was recorded in {cwd}, which is not there any more. Make it again (with the "
            f"program's files), or record anew: unspool run -- …"
        )
    return cwd


def _words(metadata: RecordMetadata, environ: dict[str, str], about: Surroundings) -> list[str]:
    recorded = metadata.launched or metadata.command
    if not recorded:
        raise UsageError(f"{metadata.record_id} does not say what command it was. Give it: unspool rerun REC -- CMD…")
    return [_filled(word, metadata, environ, about) for word in recorded]


def _filled(word: str, metadata: RecordMetadata, environ: dict[str, str], about: Surroundings) -> str:
    """A word with the credentials that were kept out of the recording, from now or as placeholders."""
    from unspool.capture.credentials import REDACTED, is_credential_variable

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not is_credential_variable(name):
            return match[0]  # the program's own text
        if name not in environ:
            environ[name] = PLACEHOLDER
            about.placeholders.append(name)
        return environ[name]

    if REDACTED in word:
        about.notes.append("a word of the command was a credential, which is not recorded: it is started with REDACTED")
    return _VARIABLE_IN_WORD.sub(value, word)


def _check_program(
    metadata: RecordMetadata, argv: Sequence[str], cwd: str, environ: Mapping[str, str], *, given: bool
) -> None:
    program = os.path.join(cwd, argv[0]) if os.sep in argv[0] else argv[0]
    if shutil.which(program, path=environ.get("PATH")) is None:
        if given:
            raise UsageError(
                f"{argv[0]}: command not found or not executable in {cwd}, where {metadata.record_id} was recorded. "
                f"Nothing was started"
            )
        raise UsageError(
            f"{argv[0]}: the program that {metadata.record_id} ran is not there any more, or is not executable. "
            f"Give one: unspool rerun {metadata.record_id} -- CMD…"
        )
    script = _script(argv)
    if script is not None and not os.path.exists(os.path.join(cwd, script)):
        if given:
            raise UsageError(
                f"{os.path.join(cwd, script)}: no such file. A command starts where {metadata.record_id} was recorded. "
                f"Nothing was started"
            )
        raise UsageError(
            f"{os.path.join(cwd, script)}: the program that {metadata.record_id} ran is not there any more. "
            f"Put it back, or give another: unspool rerun {metadata.record_id} -- CMD…"
        )


def _script(argv: Sequence[str]) -> str | None:
    """The file that a `python FILE …` runs; None where there is none or it is not told so simply."""
    if not Path(argv[0]).name.startswith("python"):
        return None
    word = next(iter(argv[1:]), "-")
    return word if not word.startswith("-") and word.endswith(".py") else None


# --- environment -----------------------------------------------------------------------------------------------------


def _environment(metadata: RecordMetadata, about: Surroundings) -> dict[str, str]:
    """Values that were recorded as they were, the others from now; a credential that is missing gets a placeholder."""
    from unspool.capture.credentials import REDACTED, clean_environment, is_credential_variable

    now = {name: value for name, value in os.environ.items() if name != "UNSPOOL_RUN"}
    if metadata.env is None:
        about.notes.append("its environment is not recorded: the program got that of now")
        return now
    recorded = dict(metadata.env)
    if metadata.host is not None and metadata.host != host_name():
        about.notes.append(f"it was recorded on {metadata.host}: PATH is that of here")
        recorded.pop("PATH", None)
    elif "PATH" not in recorded and "PATH" in now:
        recorded["PATH"] = now["PATH"]
    for name in clean_environment(now)[0]:
        if name not in recorded and name != "PATH":
            del now[name]  # it was not set
    for name, value in recorded.items():
        if REDACTED not in value:
            now[name] = value
        elif name not in now:
            about.missing.append(name)
    _drop_boot_folder(now)
    for name in metadata.env_names or ():
        if name in now or name in recorded or _PASSING.fullmatch(name):
            continue
        if is_credential_variable(name):
            now[name] = PLACEHOLDER
            about.placeholders.append(name)
        else:
            about.missing.append(name)
    return now


def _drop_boot_folder(environ: dict[str, str]) -> None:
    """The recorded process had been entered by the folder that enters the new one, perhaps of another installation."""
    parts = [part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part and not part.endswith(_BOOT)]
    environ.pop("PYTHONPATH", None)
    if parts:
        environ["PYTHONPATH"] = os.pathsep.join(parts)
