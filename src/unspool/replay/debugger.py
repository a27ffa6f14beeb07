"""The interactive line debugger behind `unspool replay`: reads commands, moves a session, prints what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec import Struct

from unspool.errors import Cancelled, NoSnapshot, UnspoolError, UsageError
from unspool.events import RecordEvent
from unspool.replay.detail import event_in_full, format_context, format_event_in_full
from unspool.replay.diff_format import diff_document, format_context_diff
from unspool.replay.format import format_replay_event, format_replay_list, format_replay_summary
from unspool.replay.prompt import CommandInput, PipedInput
from unspool.replay.reader import Reader
from unspool.replay.session import ReplaySession
from unspool.replay.snapshots import SnapshotFinder
from unspool.replay.workbench import Workbench
from unspool.serving.edits import DIALECTS
from unspool.text import dump_json, show_text

__all__ = ["PROMPT", "LineDebugger"]

PROMPT = "replay> "

_LIST_CONTEXT = 5
_RED, _RESET = "\x1b[91m", "\x1b[0m"


class Out(Protocol):
    """Where replies go."""

    def write(self, text: str, /) -> Any:
        """Take some text."""

    def flush(self) -> Any:
        """Pass it on."""


class Reply(Struct):
    """What a command found out, as data and as text."""

    data: Any
    text: str


class LineDebugger:
    """Runs commands on a replay session until `quit` or the end of input.

    Args:
        session: the cursor to move.
        reader: the recording it moves over.
        out: replies are written here, one flush each.
        interactive: a person types: prompt, Ctrl-C ends a command and not the program, failures have no exit code.
        color: ANSI colours in text replies.
        json: exactly one JSON object with the keys `ok`, `data` and `error` for each command, and nothing else.
        workbench: what `edit`, `send` and `run` work with; without one they say that they are not there.
    """

    def __init__(
        self,
        session: ReplaySession,
        reader: Reader,
        out: Out,
        *,
        interactive: bool,
        color: bool,
        json: bool = False,
        workbench: Workbench | None = None,
    ) -> None:
        self._session = session
        self._reader = reader
        self._out = out
        self._interactive = interactive
        self._color = color and not json
        self._json = json
        self._workbench = workbench
        self._failed = False
        self._quit = False
        self._last_motion: tuple[Command, str] | None = None

    def run(self, lines: Iterable[str] | CommandInput) -> int:
        """Read and obey commands; gives the exit code: 1 if piped commands failed, else 0.

        A reader of `out` that went away ends the session quietly.
        """
        source = PipedInput(lines) if isinstance(lines, Iterable) else lines
        try:
            if not self._json:
                self._write(format_replay_summary(self._reader.metadata, self._reader.event_count, self._color))
            while not self._quit:
                self._turn(source)
        except EOFError:
            if self._interactive and not self._json:
                self._write("")  # the shell's prompt belongs on a line of its own
        except BrokenPipeError:
            return self._exit_code()
        return self._exit_code()

    def _turn(self, source: CommandInput) -> None:
        try:
            line = source.read_line(PROMPT if self._interactive and not self._json else "")
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            if not self._json:
                self._write("")
        else:
            self._obey(line.strip())

    def _exit_code(self) -> int:
        return 1 if self._failed and not self._interactive else 0

    # --- one command -------------------------------------------------------------------------------------------------

    def _obey(self, line: str) -> None:
        try:
            reply = self._reply_to(line)
        except UnspoolError as exc:
            self._failed = True
            self._write_error(exc)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            self._write_error(Cancelled("interrupted; the cursor has not moved"))
        else:
            self._write_reply(reply)

    def _reply_to(self, line: str) -> Reply | None:
        if line:
            word, *rest = line.split(maxsplit=1)
            command, argument = _command_named(word), rest[0] if rest else ""
            if not command.argument and argument:
                raise UsageError(f"{command.name} takes no argument, got {argument!r}")
            if command.is_motion:
                self._last_motion = command, argument
        elif self._last_motion is not None:
            command, argument = self._last_motion
        else:
            return None
        return command.action(self, argument)

    def _write_reply(self, reply: Reply | None) -> None:
        if self._json:
            self._write(dump_json({"ok": True, "data": None if reply is None else reply.data, "error": None}))
        elif reply is not None and reply.text:
            self._write(reply.text)

    def _write_error(self, error: UnspoolError) -> None:
        if self._json:
            problem = {"code": type(error).__name__, "message": str(error)}
            self._write(dump_json({"ok": False, "data": None, "error": problem}))
        else:
            text = show_text(str(error))
            self._write(f"{_RED}{text}{_RESET}" if self._color else text)

    def _write(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    # --- motions -----------------------------------------------------------------------------------------------------

    def next(self, _argument: str) -> Reply:
        """Go to the next event."""
        return self._arrived(self._session.next())

    def prev(self, _argument: str) -> Reply:
        """Go to the previous event."""
        return self._arrived(self._session.prev())

    def step_next(self, _argument: str) -> Reply:
        """Go to the next step of the agent: its next context snapshot."""
        return self._arrived(self._session.next_step())

    def step_prev(self, _argument: str) -> Reply:
        """Go to the previous step."""
        return self._arrived(self._session.prev_step())

    def goto(self, argument: str) -> Reply:
        """Go to an event, or to the start of a model call or a step."""
        return self._arrived(self._session.goto(self._point("goto", argument)))

    def find(self, argument: str) -> Reply:
        """Go to the next event that mentions the text, in any case; after the end it goes on at the beginning."""
        if not argument:
            raise UsageError("find needs a text to look for")
        before, _ = self._session.position()
        reply = self._arrived(self._session.find(argument))
        after, _ = self._session.position()
        wrapped = after <= before
        reply.data["wrapped"] = wrapped
        if wrapped:
            reply.text = "(wrapped around to the beginning)\n" + reply.text
        return reply

    def next_error(self, _argument: str) -> Reply:
        """Go to the next event that failed."""
        return self._arrived(self._session.next_error())

    def _arrived(self, event: RecordEvent) -> Reply:
        position, total = self._session.position()
        text = f"{format_replay_event(event, color=self._color)}  [{position + 1}/{total}]"
        return Reply({"position": position + 1, "total": total, "event": event}, text)

    # --- views -------------------------------------------------------------------------------------------------------

    def list(self, argument: str) -> Reply:
        """Show the events around the cursor."""
        items = self._session.list(_number("list", argument) if argument else _LIST_CONTEXT)
        text = format_replay_list(items, self._color) or "not started. Start with: next"
        return Reply({"items": items}, text)

    def print(self, _argument: str) -> Reply:
        """Show the current event in full, with the texts of its request and response."""
        event = self._session.current()
        position, total = self._session.position()
        data = {"position": position + 1, "total": total, **event_in_full(event, self._reader)}
        return Reply(data, format_event_in_full(event, self._reader, self._color))

    def context(self, _argument: str) -> Reply:
        """Show the messages the model saw at this point."""
        seq_num = self._session.current().seq_num
        context = self._reader.context_at(seq_num)
        return Reply({"seq_num": seq_num, "context": context}, format_context(context, self._color))

    def diff(self, argument: str) -> Reply:
        """Show how the context at one point became that at another, or that at the cursor became that at a point."""
        points = [self._point("diff", word) for word in argument.split()]
        if len(points) == 1:
            diff = self._session.diff_from_cursor(points[0])
        elif len(points) == 2:
            diff = self._session.diff(*points)
        else:
            raise UsageError(f"diff takes one point or two, got {len(points)}")
        return Reply(diff_document(diff), format_context_diff(diff, self._color).rstrip("\n"))

    # --- forks -------------------------------------------------------------------------------------------------------

    def fork(self, _argument: str) -> Reply:
        """Show what a fork at the cursor would start from, with the edits made there."""
        context = self._session.fork()
        if self._workbench is not None and context.provider in DIALECTS:
            edited = self._workbench.show(self._session.current().seq_num)
            if edited is not None:
                return Reply(*edited)
        return Reply(context, context.summary())

    def edit(self, argument: str) -> Reply:
        """Change the context at the cursor: in the editor, or: prompt TEXT, append ROLE TEXT, remove N, …"""
        return Reply(*self._bench("edit").edit(self._session.current().seq_num, argument))

    def send(self, argument: str) -> Reply:
        """Send the model call at the cursor with the edits, N times, and show the answers beside the recorded one."""
        times = _number("send", argument) if argument else 1
        return Reply(*self._bench("send").send(self._session.current().seq_num, times))

    def run_on(self, argument: str) -> Reply:
        """Run the program with the edits, N times: served up to the cursor, live from there on."""
        times = _number("run", argument) if argument else 1
        return Reply(*self._bench("run").run(self._session.current().seq_num, times))

    def _bench(self, command: str) -> Workbench:
        if self._workbench is None:
            raise UsageError(f"{command} is not there: this recording can only be looked at")
        return self._workbench

    # --- where and what ----------------------------------------------------------------------------------------------

    def where(self, _argument: str) -> Reply:
        """Show where the cursor is: event, step, call, task, line of the agent's code."""
        cursor, total = self._session.position()
        if cursor < 0:
            return Reply({"position": None, "total": total}, f"not started: before the first of {total} events")
        event = self._session.current()
        data: dict[str, Any] = {"position": cursor + 1, "total": total, "seq_num": event.seq_num}
        parts = [f"event {cursor + 1} of {total} (#{event.seq_num:03d})"]
        for name in ("step", "call", "task", "lane", "at"):
            data[name] = getattr(event, name)
            if data[name] is not None:
                parts.append(f"{name} {show_text(str(data[name]))}")
        data["snapshot"] = self._snapshot_at(event.seq_num)
        if data["snapshot"] is not None:
            parts.append(f"context of #{data['snapshot']:03d}")
        return Reply(data, ", ".join(parts))

    def info(self, _argument: str) -> Reply:
        """Show what was recorded."""
        metadata, count = self._reader.metadata, self._reader.event_count
        return Reply({"metadata": metadata, "event_count": count}, format_replay_summary(metadata, count, self._color))

    def help(self, _argument: str) -> Reply:
        """Show this list."""
        rows = [(_usage(command), command.summary) for command in COMMANDS]
        lines = [f"{usage:<24}{summary}" for usage, summary in rows]
        lines.append("Unique beginnings of a command are enough; an empty line repeats the last motion.")
        return Reply([{"usage": usage, "summary": summary} for usage, summary in rows], "\n".join(lines))

    def quit(self, _argument: str) -> Reply:
        """Leave."""
        self._quit = True
        return Reply(None, "")

    def _point(self, command: str, text: str) -> int:
        """The event that N, call:N or step:N stands for; that there is an event N is not checked."""
        kind, _, number = text.rpartition(":")
        if kind == "call":
            return self._session.seq_of_call(_number(command, number))
        if kind == "step":
            return self._session.seq_of_step(_number(command, number))
        if kind:
            raise UsageError(f"{command} takes N, call:N or step:N, got {text!r}")
        return _number(command, number)

    def _snapshot_at(self, seq_num: int) -> int | None:
        try:
            return SnapshotFinder(self._reader.events()).find_nearest_before(seq_num).seq_num
        except NoSnapshot:
            return None


class Command(Struct, frozen=True):
    """A command of the debugger: its method, its names and how its argument is called."""

    name: str
    action: Callable[[LineDebugger, str], Reply]
    alias: str = ""
    argument: str = ""
    is_motion: bool = False

    @property
    def summary(self) -> str:
        """What it does: the first line of its method."""
        return (self.action.__doc__ or "").partition("\n")[0]


COMMANDS = (
    Command("next", LineDebugger.next, "n", is_motion=True),
    Command("prev", LineDebugger.prev, "p", is_motion=True),
    Command("step-next", LineDebugger.step_next, "sn", is_motion=True),
    Command("step-prev", LineDebugger.step_prev, "sp", is_motion=True),
    Command("goto", LineDebugger.goto, "g", "N|call:N|step:N", is_motion=True),
    Command("find", LineDebugger.find, "f", "TEXT", is_motion=True),
    Command("next-error", LineDebugger.next_error, "ne", is_motion=True),
    Command("list", LineDebugger.list, "l", "[K]"),
    Command("print", LineDebugger.print),
    Command("context", LineDebugger.context, "c"),
    Command("diff", LineDebugger.diff, "d", "[A] B"),
    Command("fork", LineDebugger.fork),
    Command("edit", LineDebugger.edit, argument="[WHAT]"),
    Command("send", LineDebugger.send, argument="[N]"),
    Command("run", LineDebugger.run_on, argument="[N]"),
    Command("where", LineDebugger.where, "w"),
    Command("info", LineDebugger.info, "i"),
    Command("help", LineDebugger.help, "h"),
    Command("quit", LineDebugger.quit, "q"),
)


def _command_named(word: str) -> Command:
    for command in COMMANDS:
        if word in (command.name, command.alias):
            return command
    candidates = [command for command in COMMANDS if command.name.startswith(word)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise UsageError(f"{word!r} could be {' or '.join(command.name for command in candidates)}")
    names = ", ".join(f"{command.name} ({command.alias})" if command.alias else command.name for command in COMMANDS)
    raise UsageError(f"unknown command {word!r}. Commands: {names}")


def _usage(command: Command) -> str:
    names = f"{command.name}, {command.alias}" if command.alias else command.name
    return f"{names} {command.argument}".rstrip()


def _number(command: str, text: str) -> int:
    # Twenty digits hold every 64-bit number; int() refuses very long ones with an error about itself.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise UsageError(f"{command} needs a number, got {text!r}")
    return int(text)
