"""Entering an unmodified program: what `sitecustomize` of the boot folder calls in every Python started under `run`."""

from __future__ import annotations

import os
import sys

from unspool.capture import environment, rerun, stopping
from unspool.capture.credentials import clean_argv
from unspool.capture.guard import guard
from unspool.capture.process import AgentProcess
from unspool.capture.runtime import runtime, started

__all__ = ["arm_from_environment"]


def arm_from_environment(loaded_before: frozenset[str] = frozenset()) -> None:
    """Arm capture as the environment says. Never raises.

    Args:
        loaded_before: names of the modules that were loaded before unspool was.
    """
    lineage = None
    with guard:
        lineage = environment.lineage_from(os.environ)
        if lineage is None or runtime.armed or _is_unspool():
            return
        if lineage.rerun is not None:
            try:
                rerun.start(lineage.rerun)
            except Exception as exc:  # noqa: BLE001 - whatever it is, going on would be a live run
                why = f"the rerun folder {lineage.rerun} cannot be read: {type(exc).__name__}: {exc}"
                stopping.refuse_to_run(why)
        # A Python that an agent started by itself is a worker of it and appears once it does something.
        is_agent = lineage.parent is None or lineage.forked_at is not None
        process = AgentProcess(
            lineage,
            intent=lineage.intent or _command_line(),
            role="agent" if is_agent else "worker",
            on_start=started,
        )
        runtime.arm(process, for_good=True)
        if is_agent:
            process.ensure()
        from unspool.capture import output

        output.install(runtime)
    if lineage is not None and lineage.rerun is not None and not runtime.armed:
        stopping.refuse_to_run(f"capture could not be armed: {guard.last}")
    with guard:
        _give_way(loaded_before)


def _is_unspool() -> bool:
    """Whether this Python runs our own command line: it watches agents and is none."""
    words = sys.orig_argv[1:]
    module = words[words.index("-m") + 1 : words.index("-m") + 2] if "-m" in words else []
    return module == ["unspool"] or bool(words and os.path.basename(words[0]) == "unspool")


def _command_line() -> str:
    return " ".join(clean_argv([os.path.basename(sys.executable or "python"), *sys.orig_argv[1:]]))


def _give_way(loaded_before: frozenset[str]) -> None:
    """Forget modules of the standard library that we loaded and that the program has its own of.

    A file `secrets.py` beside the script is found before the standard library's, but not before what is already
    loaded; without us it would not be.
    """
    try:
        own = {name.partition(".")[0] for name in os.listdir(_program_folder() or "")}
    except OSError:
        return
    ours_only = (own & sys.stdlib_module_names & sys.modules.keys()) - loaded_before - set(sys.builtin_module_names)
    for name in ours_only:
        for loaded in [module for module in sys.modules if module == name or module.startswith(name + ".")]:
            del sys.modules[loaded]


def _program_folder() -> str | None:
    """The folder that Python will put first on `sys.path`, which it has not done yet; None if there is none."""
    words = iter(sys.orig_argv[1:])
    for word in words:
        if not word.startswith("-") or word == "-":
            return os.path.dirname(os.path.realpath(word)) if word != "-" else os.getcwd()
        if word in ("-W", "-X", "--check-hash-based-pycs"):
            next(words, None)
        elif not word.startswith("--") and any(letter in word for letter in "cm"):
            return os.getcwd()
    return os.getcwd()
