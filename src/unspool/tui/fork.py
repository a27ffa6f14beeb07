"""Forking at the cursor: what a fork would be, edits typed or made in the editor, and running it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

import click
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from unspool.cli.fork_bench import make_workbench
from unspool.errors import UnspoolError
from unspool.recording.reader import RecordReader
from unspool.replay import ForkContext, ReplaySession
from unspool.replay.workbench import Workbench
from unspool.store import Store
from unspool.text import escape_controls, show_text
from unspool.tui.pane import Pane, PaneLine

__all__ = ["ForkScreen", "command_option"]

_HELP: Final = (
    "Type an edit, Enter makes it:  prompt TEXT · append ROLE TEXT · remove N · replace TEXT · tool CALL_ID TEXT · "
    "model NAME · set KEY VALUE · response TEXT · drop"
)
_KEYS: Final = (
    "^E editor   ^G send the call   ^R run the program from here   (or type editor, send, run)   PgDn   Esc back"
)
_SHOWN: Final = 200  # messages that are listed, the newest ones
_PREVIEW: Final = 300  # characters of each


class ForkScreen(ModalScreen[str]):
    """Gives back the id of the fork that was run, to be opened; nothing else leaves it.

    Args:
        reader: of the recording, not closed here.
        seq_num: of the event at the cursor.
    """

    DEFAULT_CSS = """
    ForkScreen { align: center middle; }
    ForkScreen Vertical { width: 96%; height: 92%; border: round $primary; background: $surface; }
    ForkScreen #plan { height: 1fr; }
    ForkScreen Static { height: auto; }
    ForkScreen Input { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", priority=True),
        Binding("ctrl+e", "edit", priority=True),
        # ^S too, for who is used to it; where a terminal does flow control it never arrives.
        Binding("ctrl+g,ctrl+s", "send", priority=True),
        Binding("ctrl+r", "run", priority=True),
        Binding("pagedown", "scroll(10)", priority=True),
        Binding("pageup", "scroll(-10)", priority=True),
    ]

    def __init__(self, store: Store, reader: RecordReader, seq_num: int) -> None:
        super().__init__()
        self._reader = reader
        self._seq = seq_num
        self._options: list[str] = []
        self._bench: Workbench = make_workbench(store, reader, interactive=True, color=True, as_json=False)

    def compose(self) -> ComposeResult:
        """The plan, what can be typed, the command."""
        with Vertical():
            yield Pane(id="plan")
            yield Static(id="command", markup=False)
            yield Static(_HELP, markup=False)
            yield Input(id="edit", placeholder="edit", select_on_focus=False, compact=True)
            yield Static(_KEYS, markup=False)

    def on_mount(self) -> None:
        """Show what a fork without changes is."""
        self._show_plan()
        self.query_one(Input).focus()

    def _show_plan(self, error: str = "") -> None:
        lines: list[PaneLine] = []
        try:
            found = self._bench.show(self._seq)
            context = ReplaySession(self._reader).fork_at(self._seq)
            text = found[1] if found is not None else context.summary()
            lines = [*(PaneLine(line) for line in text.split("\n")), PaneLine(""), *_messages(context)]
        except UnspoolError as exc:
            error = error or str(exc)
        if error:
            lines[:0] = [PaneLine(f"\x1b[91m{escape_controls(error)}\x1b[0m"), PaneLine("")]
        self.query_one(Pane).show(lines)
        words = ["unspool", "fork", f"{self._reader.record_id}@{self._seq}", *self._options, "--run"]
        self.query_one("#command", Static).update(f"$ {show_text(shlex.join(words))}")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Make an edit."""
        argument = event.value.strip()
        if not argument:
            return
        if argument in ("editor", "send", "run"):
            self.query_one(Input).value = ""
            {"editor": self.action_edit, "send": self.action_send, "run": self.action_run}[argument]()
            return
        try:
            self._bench.edit(self._seq, argument)
        except UnspoolError as exc:
            self._show_plan(str(exc))
            return
        self._options = [] if argument == "drop" else [*self._options, *command_option(argument)]
        self.query_one(Input).value = ""
        self._show_plan()

    def action_scroll(self, count: int) -> None:
        """The plan by so many lines."""
        self.query_one(Pane).move(count)

    def action_edit(self) -> None:
        """The whole document in the editor."""
        if self._aside(lambda: self._bench.edit(self._seq, ""), waits=False) is not None:
            self._options = ["--edit"]
            self._show_plan()

    def action_send(self) -> None:
        """Send the call once, and show the answer in the terminal."""
        self._aside(lambda: self._bench.send(self._seq, 1))

    def action_run(self) -> None:
        """Run the program in the terminal, then open what came of it."""
        found = self._aside(lambda: self._bench.run(self._seq, 1))
        forks = found.get("forks", []) if isinstance(found, dict) else []
        made = next((fork["record_id"] for fork in reversed(forks) if fork.get("record_id")), None)
        if made is not None:
            self.dismiss(made)

    def _aside(self, work: Callable[[], tuple[Any, str]], *, waits: bool = True) -> Any:
        """Leave the full screen for work that talks to the terminal; gives its data, None if it failed."""
        try:
            with self.app.suspend():
                try:
                    data, text = work()
                except KeyboardInterrupt:
                    self.call_later(self._show_plan, "interrupted")
                    return None
                except (UnspoolError, OSError) as exc:
                    self.call_later(self._show_plan, str(exc))
                    return None
                if waits:
                    click.echo(text)
                    click.pause("Press any key to go back.")
                return data
        except SuspendNotSupported:
            self._show_plan("this terminal cannot leave the full screen; use the command that is shown")
            return None


def _messages(context: ForkContext) -> Iterator[PaneLine]:
    """The recorded context, a line a message: what edits can be aimed at, with the ids of tool calls."""
    yield PaneLine(f"\x1b[1m{'─── as recorded ':─<60}\x1b[0m")
    yield PaneLine(f"\x1b[36mprompt\x1b[0m  {show_text(context.system_prompt, _PREVIEW) or '(none)'}")
    left = len(context.messages) - _SHOWN
    if left > 0:
        yield PaneLine(f"\x1b[90m… {left:,} older messages\x1b[0m")
    for number, message in enumerate(context.messages[max(left, 0) :], max(left, 0) + 1):
        name = f" {show_text(message.tool_name, 60)}" if message.tool_name else ""
        call = f" [{show_text(message.tool_call_id, 80)}]" if message.tool_call_id else ""
        said = show_text(message.content, _PREVIEW)
        said += "".join(
            f" → {show_text(one.name, 60)}({show_text(one.arguments, 100)})" for one in message.tool_calls or ()
        )
        yield PaneLine(f"\x1b[36m{number} {show_text(message.role, 20)}{name}{call}\x1b[0m  {said.strip()}")


def command_option(argument: str) -> list[str]:
    """The options of `unspool fork` that make the same edit."""
    what, _, rest = argument.partition(" ")
    first, _, text = rest.partition(" ")
    plain = f"@{rest}" if rest.startswith("@") else rest  # a text, not a file
    return {
        "prompt": ["--set-system", plain],
        "append": ["--append", f"{first}:{'@' if text.startswith('@') else ''}{text}"],
        "remove": ["--remove-last", rest],
        "replace": ["--replace-last", plain],
        "tool": ["--tool-result", f"{first}={'@' if text.startswith('@') else ''}{text}"],
        "model": ["--model", rest],
        "set": ["--set", f"{first}={text}"],
        "response": ["--set-response", plain],
    }.get(what, [])
