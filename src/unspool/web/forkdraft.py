"""A form's edits as the document that `unspool fork --edit-file` takes, so that page and command do the same.

A browser does not give a text back as it got it: line ends become CRLF, and characters that act on a page were written
out. So a line that comes back as it was shown is the line of the recording, byte for byte and with its own end; others
are as typed, with the end of the line in whose place they are.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from msgspec import Struct

from unspool.cli.fork_options import parse_params
from unspool.errors import UsageError
from unspool.events import LLMResponse
from unspool.recording.reader import RecordReader
from unspool.replay.forkdoc import read_document, write_document
from unspool.replay.forkplan import ForkOptions, ForkPlan, draft_of, plan_fork
from unspool.replay.forkpoint import ForkPoint, Kept, kept_state, point_of
from unspool.replay.restore import SnapshotRestorer
from unspool.serving.edits import Draft, Line
from unspool.text import dump_json, escape_controls
from unspool.web.forkform import ForkForm
from unspool.web.forkjobs import OptionFile
from unspool.web.linematch import matching_lines

__all__ = ["LONGEST", "Desk", "Work", "answer_text", "open_desk", "param_text", "shown", "typed", "work_out"]

LONGEST: Final = 1_000_000  # characters of a text that is edited on a page
_PARAM_LONGEST: Final = 4_000  # and of a parameter's value
_BREAK: Final = re.compile(r"\r\n|\n|\r")
_BREAKS: Final = ("\n", "\r\n", "\r")


class Desk(Struct):
    """A recorded call taken apart on the page.

    Attributes:
        draft: as recorded; not to be changed.
        prompt: the recorded system prompt.
    """

    point: ForkPoint
    kept: Kept
    draft: Draft
    prompt: str


def open_desk(reader: RecordReader, seq_num: int, *, keep_state: bool = False) -> Desk:
    """Take the call of an event apart.

    Raises:
        SeqNotFound, NoSnapshot, UsageError: there is nothing to fork there; the message says why.
    """
    point = point_of(reader, seq_num)
    kept = kept_state(reader, point)
    draft = draft_of(point, kept, ForkOptions(keep_state=keep_state))
    return Desk(point, kept, draft, draft.context.system_prompt or "")


class Work(Struct):
    """What a form makes of a call: the plan, and the options that make the command do the same."""

    plan: ForkPlan
    options: list[str]
    files: list[OptionFile]


def work_out(reader: RecordReader, desk: Desk, form: ForkForm) -> Work:
    """The plan of a form. The desk is not changed.

    Raises:
        UsageError: an edit does not fit.
    """
    options: list[str] = []
    files: list[OptionFile] = []
    params = _changed_params(desk, form)
    given = ForkOptions(params=parse_params(params), keep_state=form.keep_state)
    options += [f"--set={one}" for one in params]
    if form.keep_state:
        options.append("--keep-state")
    if form.model and form.model != shown(desk.draft.context.model or ""):
        given.model = form.model
        options.append(f"--model={form.model}")
    if form.response is not None:
        given.response = _BREAK.sub("\n", form.response)
        files.append(OptionFile("--set-response=@", "response.txt", given.response))
    document = _document(desk, form)
    draft = draft_of(desk.point, desk.kept, given)
    if document is not None:
        read_document(document, draft)
        files.append(OptionFile("--edit-file=", "edits.txt", document))
    context = SnapshotRestorer(reader).restore_context(desk.point.seq_num)
    return Work(plan_fork(desk.point, draft, given, context), options, files)


def _document(desk: Desk, form: ForkForm) -> str | None:
    """The edited document; None where no text was changed."""
    fresh = draft_of(desk.point, desk.kept, ForkOptions(keep_state=form.keep_state))
    before = write_document(fresh)
    by_number = {line.number: line for line in fresh.lines}
    for number, text in form.texts.items():
        line = by_number.get(number)
        if line is None:
            raise UsageError(f"there is no message {number} in this call: it has {len(by_number)}")
        line.text = typed(line.text, text)
    if form.system is not None:
        prompt = typed(desk.prompt, form.system)
        if prompt != desk.prompt:
            fresh.set_system = prompt
    behind: dict[int, list[Line]] = {}
    for one in form.added:
        behind.setdefault(min(one.after, len(fresh.lines)), []).append(fresh.said(one.role, _BREAK.sub("\n", one.text)))
    lines = list(behind.get(0, ()))
    for line in fresh.lines:
        if line.number not in form.removed:
            lines.append(line)
        lines += behind.get(line.number, ())
    fresh.lines = lines
    after = write_document(fresh)
    return None if after == before else after


# --- texts on a page -------------------------------------------------------------------------------------------------


def shown(text: str) -> str:
    """A text as a field of a page has it: what acts on a page written out, lines ended by line feeds."""
    return escape_controls(_BREAK.sub("\n", text), keep="\n\t")


def typed(old: str, posted: str) -> str:
    """The text that came back from a field that showed `old`."""
    new = _BREAK.sub("\n", posted)
    if new == shown(old):
        return old
    pieces: list[str] = re.split(r"(\r\n|\n|\r)", old)
    texts, ends = pieces[::2], [*pieces[1::2], ""]
    views, lines = [shown(text) for text in texts], new.split("\n")
    usual = max(_BREAKS, key=ends.count)
    known = dict(zip(reversed(views), reversed(texts), strict=True))  # lines that were moved; the first of such
    made: list[tuple[str, str, bool]] = []
    start = new_start = 0
    for at, new_at in [*matching_lines(views, lines), (len(views), len(lines))]:
        fresh = [known.get(line, line) for line in lines[new_start:new_at]]
        for text, end in zip(fresh, _ends(ends[start:at], len(fresh), usual), strict=True):
            made.append((text, end or usual, False))
        if at < len(texts):
            made.append((texts[at], ends[at] or usual, bool(ends[at])))
        start, new_start = at + 1, new_at + 1
    return _joined(made)


def _joined(lines: list[tuple[str, str, bool]]) -> str:
    """Lines with their ends, and whether these are recorded. CR and LF of two ends must not become one."""
    made: list[str] = []
    for number, (text, end, is_kept) in enumerate(lines):
        is_first = not is_kept and end == "\r" and [one[:2] for one in lines[number + 1 : number + 2]] == [("", "\n")]
        is_second = (text, end) == ("", "\n") and made[-1:] == ["\r"]
        made += (text, "\r\n" if is_first or is_second else end)
    return "".join(made[:-1])


def _ends(old: list[str], count: int, usual: str) -> list[str]:
    """The ends of `count` lines in the place of others: the last one's stays what it was, as do those of the first."""
    if not count or not old:
        return [usual] * count
    kept = old[: min(len(old), count) - 1]
    return [*kept, *([usual] * (count - len(kept) - 1)), old[-1]]


def answer_text(answer: LLMResponse | None) -> str:
    """A recorded answer in a form that `--set-response` takes: its words, with tool calls as JSON."""
    if answer is None:
        return ""
    if not answer.tool_calls:
        return answer.text or ""
    calls = [
        {"name": call.name, "arguments": _plain_arguments(call.arguments)} | ({"id": call.id} if call.id else {})
        for call in answer.tool_calls
    ]
    return json.dumps({"text": answer.text or "", "tool_calls": calls}, indent=2, ensure_ascii=False)


def _plain_arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# --- parameters ------------------------------------------------------------------------------------------------------


def param_text(name: str, value: Any) -> str | None:
    """A parameter's value as a field has it: JSON, a plain text as it is; None where a page is no place for it."""
    text = value if isinstance(value, str) and not _is_json(value) else dump_json(value)
    if len(text) > _PARAM_LONGEST or "." in name or "=" in name or shown(text) != text or "\n" in text:
        return None
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _changed_params(desk: Desk, form: ForkForm) -> list[str]:
    """`NAME=VALUE` of every parameter that was changed, as `--set` takes it."""
    changed: list[str] = []
    recorded = desk.draft.context.params or {}
    for name, text in form.params.items():
        old = param_text(name, recorded.get(name)) if name in recorded else None
        if old is None or text == old:
            continue
        changed.append(f"{name}={text.strip() or 'null'}")
    changed += [line.strip() for line in _BREAK.split(form.more_params) if line.strip()]
    long = next((one for one in changed if len(one) > 4 * _PARAM_LONGEST), None)
    if long is not None:
        raise UsageError(f"the value of {long.partition('=')[0]} is too long for a page. Use unspool fork … --set")
    parse_params(changed)  # says what is wrong before anything else is done
    return changed
