"""`unspool demo`: record the demo agent, then show what can be seen, with real commands and their real output."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TextIO

from unspool.demo import story
from unspool.demo.agent import RIGHT_ANSWER, SUPPORT_PROMPT
from unspool.demo.server import ModelServer

__all__ = ["FIXED_PROMPT", "TOUR", "Section", "run_demo", "show"]

_UNSPOOL = (sys.executable, "-m", "unspool")
_WIDTH = 160
FIXED_PROMPT = "".join(line for line in SUPPORT_PROMPT.splitlines(keepends=True) if "first exchange rate" not in line)
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Section:
    """One stop of the tour.

    Attributes:
        arguments: what follows `unspool` on the command line.
        stdin: what is piped into it.
        keep: which end of a long output is shown, and in how many lines.
        offline: shown when the model's server has been stopped.
    """

    title: str
    explanation: str
    arguments: tuple[str, ...]
    stdin: str = ""
    keep: Literal["first", "last"] = "first"
    lines: int = 16
    offline: bool = False


TOUR: tuple[Section, ...] = (
    Section(
        "What was recorded",
        "One line for each agent run. The investigator that the support desk asked has a PID of its own.",
        ("ls",),
    ),
    Section(
        "What the agent did",
        "Every call it made, in order: model calls, tools, sub-agents, and the processes and sockets below them.",
        ("strace", "last"),
        lines=40,
    ),
    Section(
        "Why it was slow, and dear",
        "One tool takes 800 ms. The model calls all carry a payment log of 40 KB, of which one line is ever used; all "
        "of it is paid again in each later call.",
        ("blame", "last"),
        lines=30,
    ),
    Section(
        "What of the context was used",
        "Of that log one line was. What would the run have cost without the rest, and does the model still say the "
        "same? It is asked again to make sure.",
        ("ctx", "last", "--without", "payment_log", "--verify"),
    ),
    Section(
        "One model call in full",
        "Any point of a recording has an address. This is the fifth model call, with its exact request and answer.",
        ("show", "last@call:5"),
        lines=24,
    ),
    Section(
        "What went wrong",
        "The answer above is wrong: 329.00 EUR are 355.32 USD, not 411.25. Step through the run to see where the rate "
        "came from: it is of 2018, the system prompt forbids to ask again, and so the model multiplied with it.",
        ("replay", "last"),
        stdin="next-error\nfind 2018-02-01\nprint\nwhere\ndiff call:10 call:11\nquit\n",
        lines=40,
    ),
    Section(
        "Which call decided",
        "Fork the run at a call, ask the model afresh from there on, and see whether it comes out right: the last call "
        "where it can is the one that went wrong. Everything before it is served from the recording.",
        (
            *("bisect", "last", "--check", f"grep -q '^ANSWER: {RIGHT_ANSWER}'"),
            *("--calls", "9-11", "--live-tools", "*", "--yes"),
        ),
    ),
    Section(
        "Go back and change one thing",
        "The same run, forked where it went wrong, without the sentence that forbids to ask for a second rate. Nine "
        "model calls are served from the recording; the rest is live.",
        ("fork", "last@call:10", "--set-system", FIXED_PROMPT, "--live-tools", "*", "--run"),
        keep="last",
        lines=12,
    ),
    Section(
        "What the change did",
        "Two runs, aligned step by step.",
        ("diff", "last", "last-fork"),
        lines=24,
    ),
    Section(
        "Run it again without the model",
        "The server is stopped now. The program runs again, unchanged; every request is checked against the recording "
        "and answered from it, and no tool runs.",
        ("rerun", "last"),
        keep="last",
        lines=8,
        offline=True,
    ),
)


def run_demo(
    store: Path | None,
    tour: bool,
    out: TextIO,
    *,
    then: Callable[[Mapping[str, str]], int] | None = None,
) -> int:
    """Record the demo agent against the scripted model, then show around; returns an exit code.

    Args:
        store: where the recording goes; None: where `unspool run` puts it by itself.
        tour: False stops after the recording.
        then: done in place of the tour, while the model can still be asked; gets the environment that leads to it, and
            gives the exit code.
    """
    # find_spec, not an import: the SDK belongs into the agent's process, and takes half a second to load.
    if find_spec("openai") is None:
        print("the demo agent needs the OpenAI SDK: pip install 'unspool[demo]'", file=sys.stderr)
        return 1
    with ModelServer(story.play, pages=story.PAGES) as server:
        _heading("A support agent settles a refund ticket", out)
        print("A plain program on the OpenAI SDK, talking to a scripted model on this machine.\n", file=out)
        environment = _agent_environment(server.url)
        arguments = ["run", "--name", "demo", *(["--store", str(store)] if store else [])]
        arguments += ["--", sys.executable, "-m", "unspool.demo.agent"]
        print(f"$ {shlex.join(['unspool', *arguments])}", file=out, flush=True)
        code = _run_agent([*_UNSPOOL, *arguments], environment, out)
        if code:
            print(f"\nthe demo agent ended with exit code {code}", file=sys.stderr)
            return code
        if then is not None:
            return then(environment)
        if not tour:
            return 0
        if store:
            environment["UNSPOOL_STORE"] = str(store.resolve())
            print(
                f"\nTo type these commands yourself: export UNSPOOL_STORE={shlex.quote(str(store.resolve()))}", file=out
            )
        failed = [one.title for one in TOUR if not one.offline and not show(one, environment, out)]
    failed += [one.title for one in TOUR if one.offline and not show(one, environment, out)]
    _heading("From here", out)
    print("Record your own agent:  unspool run -- python your_agent.py", file=out)
    print("Go through this one:    unspool replay last", file=out)
    if failed:
        print(f"\nthese parts of the tour failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def show(section: Section, environment: Mapping[str, str], out: TextIO, *, command: Sequence[str] = _UNSPOOL) -> bool:
    """Run the section's command and print it with its output; False when it failed."""
    _heading(section.title, out)
    print(section.explanation + "\n", file=out)
    line = shlex.join(["unspool", *section.arguments])
    typed = section.stdin.replace("\n", "\\n")
    print(f"$ printf '{typed}' | {line}" if typed else f"$ {line}", file=out, flush=True)
    try:
        done = subprocess.run(
            [*command, *section.arguments],
            input=section.stdin,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"(no end after {_TIMEOUT_S} s)", file=out)
        return False
    for shown in _shortened(done.stdout.splitlines(), section):
        print(shown, file=out)
    if done.returncode:
        print(f"(exit code {done.returncode})", file=out)
    return done.returncode == 0


def _shortened(lines: list[str], section: Section) -> list[str]:
    """At most `section.lines` lines of the output, each at most `_WIDTH` wide, and a note of what is left out."""
    cut = [line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…" for line in lines]
    left_out = len(cut) - section.lines
    if left_out <= 0:
        return cut
    note = f"  … {left_out} more line{'s' if left_out > 1 else ''}"
    return [*cut[: section.lines], note] if section.keep == "first" else [note, *cut[-section.lines :]]


def _run_agent(command: Sequence[str], environment: Mapping[str, str], out: TextIO) -> int:
    """Run it with its output passed on line by line, as `out` need not be a file."""
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None, "asked for with PIPE"
        for line in process.stdout:
            print(line, end="", file=out, flush=True)
    return process.returncode


def _agent_environment(url: str) -> dict[str, str]:
    # A proxy configured for the real network must not get the calls to this machine.
    bypass = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1"]))
    return {
        **os.environ,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "unspool-demo-key",
        "NO_PROXY": bypass,
        "no_proxy": bypass,
    }


def _heading(title: str, out: TextIO) -> None:
    if out.isatty():
        from rich.console import Console
        from rich.rule import Rule

        console = Console(file=out)
        console.print()
        console.print(Rule(title, align="left"))
    else:
        print(f"\n== {title}", file=out)
