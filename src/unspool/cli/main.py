"""The `unspool` command: the table of subcommands, and what holds for all of them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

import click

from unspool.cli.options import common_options
from unspool.cli.terminal import STDOUT, Settings, note, red, use_color
from unspool.errors import Divergence, UnspoolError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "cli", "main"]

# name: (module in unspool.cli, which has a command of the same name; what it does). Modules load when they are used;
# a test compares the texts with the commands' own.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run", "Run a command and record it."),
    "strace": ("strace", "Show the calls of an agent, live or recorded."),
    "ps": ("ps", "Show the agents that are running."),
    "top": ("top", "Watch agents in a full-screen table."),
    "ls": ("ls", "List recordings, newest first."),
    "show": ("show", "Show a recording, or one event of it in full."),
    "blame": ("blame", "Say why a run was slow, dear or wrong."),
    "ctx": ("ctx", "Show what fills a context, and what of it is used."),
    "growth": ("growth", "Show how a context grew, and when it will be full."),
    "trace": ("trace", "Show traces: what called what, when, and for how long."),
    "flame": ("flame", "Print folded stacks, or draw a flame graph."),
    "diff": ("diff", "Compare two runs step by step, or the contexts at two points."),
    "log": ("log", "Draw the tree of runs and forks, newest first."),
    "fork": ("fork", "Change one thing at a point of a recording, and go on from there."),
    "replay": ("replay", "Step through a recording, forwards and backwards."),
    "bisect": ("bisect", "Find the model call that made a run fail."),
    "rerun": ("rerun", "Run a recorded command again, served from its recording."),
    "doctor": ("doctor", "Find what makes an agent irreproducible."),
    "import": ("import_", "Import runs that other tools recorded."),
    "serve": ("serve", "Take OpenTelemetry traces over HTTP and keep them in the store."),
    "export": ("export", "Write a run or a trace in the format of another tool."),
    "web": ("web", "Look at recordings in a browser."),
    "report": ("report", "Write a run into one HTML file that opens offline."),
    "rm": ("rm", "Remove recordings."),
    "gc": ("gc", "Remove old recordings."),
    "demo": ("demo", "Record a demo agent and show around."),
    "model-server": ("model_server", "Serve scripted model answers, for tests and demos."),
    "completion": ("completion", "Print the script for shell completion."),
}

_EPILOG: Final = """\b
REC is a record id or a unique beginning of one, a PID, os:N (an OS process),
last, or last-fork; REC@SEQ, REC@step:N and REC@call:N are points in it.

\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the rerun diverged,
130 interrupted (Ctrl-C). run and strace -- CMD give back the command's own,
128+N if signal N ended it.

\b
Start with:   unspool demo
Record:       unspool run -- python agent.py
"""

COMPLETE_VARIABLE: Final = "_UNSPOOL_COMPLETE"
_INTERRUPTED = 130
_BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended
_WARNINGS_MAX = 5


class Commands(click.Group):
    """A group that imports a command when it is used, and turns exceptions into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"unspool.cli.{module}"), module)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the known names in the message."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            ctx.fail(f"no command {name!r}. {meant}Commands: {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands, from the table, and the options of the group itself."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, from the table: no command is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command line and exit."""
        _leave_recording()
        _accept_all_text()
        instruction = os.environ.get(COMPLETE_VARIABLE)
        if instruction:
            sys.exit(_complete(self, instruction))
        common = Settings()
        try:
            code = self._run(list(sys.argv[1:] if args is None else args), common, extra)
            code = _put_out(code, common)
        except BrokenPipeError:
            code = _BROKEN_PIPE
        except KeyboardInterrupt:
            code = _INTERRUPTED
        _discard_output(sys.stdout)
        # What could not be said must not change the exit code (to 120), which may be that of the user's command.
        _discard_output(sys.stderr)
        sys.exit(code)

    def _run(self, args: list[str], common: Settings, extra: dict[str, Any]) -> int:
        try:
            with _Warnings(), self.make_context("unspool", args, obj=common, **extra) as context:
                self.invoke(context)
        except click.exceptions.Exit as exc:
            return exc.exit_code
        except click.Abort:
            note("")  # ends the line of the prompt
            return _INTERRUPTED
        except click.ClickException as exc:
            _report(exc, _in_plain_words(exc.format_message()), common)
            where = getattr(exc, "ctx", None)
            if where is not None:
                note(f"Help: {where.command_path} --help")
            return exc.exit_code
        except UnspoolError as exc:
            return _report(exc, str(exc), common)
        except BrokenPipeError:
            raise
        except OSError as exc:
            return _report(exc, _what_failed(exc), common)
        except Exception as exc:  # noqa: BLE001 - the last resort: a defect is reported, not thrown at the user
            what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
            return _report(exc, f"this is a defect of unspool: {what}. Show where with: unspool --traceback …", common)
        return 0


def _put_out(code: int, common: Settings) -> int:
    """Write what is still held back; the exit code, which is a failure if that cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        return code or _report(exc, f"{exc.strerror or exc}: {STDOUT}", common)
    return code


def _in_plain_words(message: str) -> str:
    """A message of click on one line, with what people call the type that it names."""
    line = " ".join(message.split())
    return line.replace("a valid integer range", "a whole number").replace("a valid float range", "a number")


def _what_failed(error: OSError) -> str:
    """What the system said, and of what."""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def _complete(group: click.Group, instruction: str) -> int:
    """Answer a shell that completes a line; whatever goes wrong, the user's prompt stays clean."""
    from click.shell_completion import shell_complete

    try:
        return shell_complete(group, {}, "unspool", COMPLETE_VARIABLE, instruction)
    except Exception:  # noqa: BLE001 - see above; the command itself will say what is wrong
        return 1


def _report(error: Exception, message: str, common: Settings) -> int:
    from unspool.text import escape_controls

    if common.traceback:
        import traceback

        note("".join(traceback.format_exception(error)).rstrip())
    with click.Context(cli, obj=common):
        color = use_color(sys.stderr)
    note(f"{red('unspool:', color)} {escape_controls(message)}")
    return 2 if isinstance(error, UsageError) else 3 if isinstance(error, Divergence) else 1


class _Warnings(logging.Handler):
    """While it is entered, warnings of the library are said on standard error; the first few, and how many more."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = 0
        self._logger = logging.getLogger("unspool")

    def emit(self, record: logging.LogRecord) -> None:
        self._said += 1
        if self._said <= _WARNINGS_MAX:
            from unspool.text import escape_controls

            note(f"unspool: warning: {escape_controls(record.getMessage())}")

    def __enter__(self) -> None:
        self._logger.addHandler(self)
        self._propagate, self._logger.propagate = self._logger.propagate, False

    def __exit__(self, *_exc: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate
        if self._said > _WARNINGS_MAX:
            note(f"unspool: … and {self._said - _WARNINGS_MAX} more warnings")


def _leave_recording() -> None:
    """Started by a recorded program, this process was entered too; it is no agent, and what it starts is not either."""
    armed = sys.modules.get("unspool.capture.runtime")
    if armed is not None and armed.runtime.armed:
        for process in reversed(list(armed.runtime.processes)):
            process.end("exited")
        armed.runtime.disarm()


def _accept_all_text() -> None:
    """A terminal that cannot show a character gets an escape for it, not an exception; nor does one that is closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the program runs
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _discard_output(stream: TextIO | None) -> None:
    """Drop what this stream cannot take any more: the interpreter's own flush at exit must not complain about it."""
    if stream is None or stream.closed:
        return
    try:
        stream.flush()
    except OSError:  # nobody reads it, or the disk it goes to is full
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, stream.fileno())
        os.close(quiet)


cli = Commands(
    name="unspool",
    help="A time-travel debugger and profiler for LLM agents: record, watch, replay.",
    epilog=_EPILOG,
    params=common_options(hidden=False),
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(context: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from unspool import __version__

        click.echo(f"unspool {__version__}")
        context.exit()


cli.params.append(
    click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version."
    )
)


def main() -> NoReturn:
    """The entry point of the `unspool` program and of `python -m unspool`."""
    cli.main()
