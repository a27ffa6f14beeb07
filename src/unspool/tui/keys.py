"""The one map of keys: what the debugger and `top` bind, and what `?` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from textual.binding import Binding, BindingType

__all__ = ["DEBUGGER_KEYS", "TOP_KEYS", "Key", "bindings", "help_lines"]


class Key(NamedTuple):
    """Keys in Textual's names, how they are written for people, the action, and what it does."""

    keys: str
    shown: str
    action: str
    does: str


Section = tuple[str, Sequence[Key]]

# What the views have in common is written once, so that a key means the same in each of them.
_MOVING: Final = (
    Key("j,down", "j ↓", "move(1)", "next (in a text: a line down)"),
    Key("k,up", "k ↑", "move(-1)", "previous (rr: reverse-next)"),
    Key("ctrl+f,pagedown", "PgDn ^f", "page(1)", "a page on"),
    Key("ctrl+b,pageup", "PgUp ^b", "page(-1)", "a page back"),
    Key("g,home", "g Home", "first", "first"),
    Key("G,end", "G End", "last", "last"),
)
_HELP: Final = (
    Key("question_mark,f1", "?", "help", "this list"),
    Key("T", "T", "theme", "light or dark"),
)

DEBUGGER_KEYS: Final[Sequence[Section]] = (
    (
        "Events",
        (
            *_MOVING,
            Key("s,right_square_bracket", "s ]", "step(1)", "next step: the next model call"),
            Key("S,left_square_bracket", "S [", "step(-1)", "previous step (reverse-step)"),
            Key("e", "e", "error(1)", "next error"),
            Key("E", "E", "error(-1)", "previous error"),
            Key("c", "c", "continue(1)", "continue to the next bookmark"),
            Key("C", "C", "continue(-1)", "back to the bookmark before (reverse-continue)"),
            Key("colon", ":", "goto", "go to an event: N, step:N or call:N"),
            Key("slash", "/", "search", "search in everything events say"),
            Key("n", "n", "again(1)", "next match"),
            Key("N", "N", "again(-1)", "previous match"),
            Key("m", "m a", "mark", "bookmark, with any letter or digit"),
            Key("apostrophe", "' a", "jump", "go to that bookmark; '' goes back"),
            Key("F", "F", "follow", "follow a run that goes on"),
        ),
    ),
    (
        "Panes",
        (
            Key("1", "1", "show('context')", "the context: what the model saw"),
            Key("2", "2", "show('exchange')", "answer, request and response; a tool's input and result"),
            Key("3", "3", "show('diff')", "difference to the model call before"),
            Key("4", "4", "show('tree')", "spans with time bars; Enter goes to one"),
            Key("5", "5", "show('fill')", "what fills the context, block by block"),
            Key("6", "6", "show('parent')", "of a fork: its parent beside it; Enter goes to an event"),
            Key("tab", "Tab", "other", "between list and pane: keys above move there"),
            Key("enter", "Enter", "enter", "into a sub-agent, or to what a line means"),
            Key("z", "z", "zoom", "pane alone, or list and pane"),
            Key("u", "u", "use", "next use of the block chosen in 5 (else of the newest message)"),
        ),
    ),
    (
        "Fork",
        (
            Key("f", "f", "fork", "fork here: edit, send, run"),
            Key("y", "y", "address", "the address of this event for other commands"),
        ),
    ),
    (
        "Look",
        (
            *_HELP,
            Key("escape", "Esc", "cancel", "close the prompt, call off a search"),
            Key("q,ctrl+c", "q", "leave", "back to where this recording was opened from; at the first one: quit"),
        ),
    ),
)

TOP_KEYS: Final[Sequence[Section]] = (
    (
        "Agents",
        (
            *_MOVING,
            Key("enter,o", "Enter o", "open", "open in the debugger; q comes back"),
            Key("F", "F", "follow", "keep the newest agent chosen"),
            Key("s,greater_than_sign", "s >", "sort(1)", "sort by the next column"),
            Key("S,less_than_sign", "S <", "sort(-1)", "sort by the column before"),
            Key("slash", "/", "filter", "only agents that mention a text"),
            Key("a", "a", "recent", "running only, or recent ones too"),
        ),
    ),
    (
        "Processes",
        (
            Key("p", "p", "pause", "pause the process (SIGSTOP), or let it go on (SIGCONT)"),
            Key("x", "x", "stop", "end the process (SIGTERM)"),
        ),
    ),
    (
        "Look",
        (
            *_HELP,
            Key("escape", "Esc", "cancel", "drop the filter"),
            Key("q,ctrl+c", "q", "leave", "quit"),
        ),
    ),
)


def bindings(sections: Sequence[Section]) -> list[BindingType]:
    """The map as Textual wants it. With priority each key is obeyed before the next one is looked at."""
    return [Binding(key.keys, key.action, key.does, show=False, priority=True) for _, keys in sections for key in keys]


def help_lines(sections: Sequence[Section]) -> list[str]:
    """The map for people."""
    lines: list[str] = []
    for title, keys in sections:
        lines += ["", f"\x1b[1m{title}\x1b[0m"] if lines else [f"\x1b[1m{title}\x1b[0m"]
        lines += [f"  {key.shown:<9} {key.does}" for key in keys]
    return lines
