"""Editing, sending and running on from the debugger's cursor: what has been changed at which model call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

from unspool.errors import UsageError
from unspool.providers.wire import decode_json
from unspool.recording.reader import RecordReader
from unspool.replay.fork_format import format_fork_plan, plan_document
from unspool.replay.forkplan import ForkOptions, ForkPlan, draft_of, plan_fork
from unspool.replay.forkpoint import ForkPoint, kept_state, point_of
from unspool.replay.restore import SnapshotRestorer
from unspool.serving.edits import Draft

__all__ = ["Edit", "Go", "Workbench"]

Edit = Callable[[Draft], bool]
"""Has a person edit a draft; whether anything is left of it."""
Go = Callable[[ForkPlan, int], tuple[Any, str]]
"""Sends, or runs, so many times; what came of it as data and as text."""

_FORMS: Final = (
    "prompt TEXT, append ROLE TEXT, remove N, replace TEXT, tool CALL_ID TEXT, model NAME, set KEY VALUE, "
    "response TEXT, drop"
)


class Workbench:
    """The edits made so far at one model call, in the order they were made; an edit at another call begins anew.

    Args:
        reader: the recording.
        edit: None where there is nobody to edit a document.
        send: sends the call alone.
        run: runs the program from there.
    """

    def __init__(self, reader: RecordReader, *, edit: Edit | None, send: Go, run: Go) -> None:
        self._reader = reader
        self._edit = edit
        self._send = send
        self._run = run
        self._seq_num: int | None = None  # of the call that is edited
        self._draft: Draft | None = None
        self._response: str | None = None

    def edit(self, seq_num: int, argument: str) -> tuple[Any, str]:
        """Change something at the call of an event: with an argument that, without one the whole document.

        Raises:
            UsageError: the argument is none of those there are, or fits nothing there. Nothing is changed then.
        """
        point = point_of(self._reader, seq_num)
        mine = point.seq_num == self._seq_num and self._draft is not None and argument != "drop"
        draft = copy.deepcopy(self._draft) if mine and self._draft is not None else self._fresh(point)
        response = self._response if mine else None
        if not argument:
            if self._edit is None:
                raise UsageError(f"there is no terminal for an editor. Say what to change: edit {_FORMS}")
            if not self._edit(draft):
                raise UsageError("the document is empty, so nothing is changed")
        elif argument.startswith("response "):
            response = argument.removeprefix("response ")
        elif argument != "drop":
            _change(draft, argument)
        plan = self._plan_of(point, draft, response, seq_num)
        self._seq_num, self._draft, self._response = point.seq_num, draft, response
        return plan_document(plan), format_fork_plan(plan)

    def show(self, seq_num: int) -> tuple[Any, str] | None:
        """What a fork at an event would be, if something was changed at its call."""
        if self._draft is None or point_of(self._reader, seq_num).seq_num != self._seq_num:
            return None
        plan = self._plan(seq_num)
        return plan_document(plan), format_fork_plan(plan)

    def send(self, seq_num: int, times: int) -> tuple[Any, str]:
        """Send the call with the changes."""
        return self._send(self._plan(seq_num), times)

    def run(self, seq_num: int, times: int) -> tuple[Any, str]:
        """Run the program with the changes."""
        return self._run(self._plan(seq_num), times)

    def _plan(self, seq_num: int) -> ForkPlan:
        point = point_of(self._reader, seq_num)
        if self._draft is not None and point.seq_num == self._seq_num:
            return self._plan_of(point, self._draft, self._response, seq_num)
        return self._plan_of(point, self._fresh(point), None, seq_num)

    def _fresh(self, point: ForkPoint) -> Draft:
        return draft_of(point, kept_state(self._reader, point), ForkOptions())

    def _plan_of(self, point: ForkPoint, draft: Draft, response: str | None, seq_num: int) -> ForkPlan:
        context = SnapshotRestorer(self._reader).restore_context(seq_num)
        return plan_fork(point, draft, ForkOptions(response=response), context)


def _change(draft: Draft, argument: str) -> None:
    """One change, as it was typed."""
    what, _, rest = argument.partition(" ")
    first, _, text = rest.partition(" ")
    if what == "prompt":
        draft.set_system = rest
    elif what == "append" and text:
        draft.append(first, text)
    elif what == "remove" and rest.isascii() and rest.isdigit() and 0 < len(rest) < 10:
        draft.remove_last(int(rest))
    elif what == "replace" and rest:
        draft.replace_last(rest)
    elif what == "tool" and text:
        draft.set_tool_result(first, text)
    elif what == "model" and rest:
        draft.model = rest
    elif what == "set" and text:
        try:
            draft.params[first] = decode_json(text)
        except ValueError:
            draft.params[first] = text
    else:
        raise UsageError(f"edit takes nothing (then the editor opens), or: {_FORMS}; got {argument!r}")
