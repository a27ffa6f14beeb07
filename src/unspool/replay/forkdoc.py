r"""A context as a document to edit: system prompt and messages under headings, read back into a draft.

    === system prompt
    You are the support desk …

    === 1 user
    Settle ticket T-881.

    === 2 assistant
    #: calls get_ticket({"ticket_id": "T-881"}) [call_1]
    I start with the ticket.

Lines that begin with `#:` are comments. A line of a text that begins like a heading or a comment has a backslash before
it. Blocks without a number are new messages; numbers that are gone are messages that were taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from unspool.errors import UsageError
from unspool.serving.edits import DIALECTS, Draft, Line
from unspool.text import show_text

__all__ = ["BrokenDocument", "read_document", "write_document"]

_HEADING: Final = re.compile(r"===(?:\s+(?P<number>\d{1,9}))?\s+(?P<role>[a-z_]+(?: prompt)?)(?:\s.*)?")
_SPECIAL: Final = re.compile(r"\\*(===|#:)")
_COMMENT_LIMIT: Final = 200
# Editors look for settings in the first and last lines of a file: none of a recording's text stands there.
_TOP: Final = (
    "#: Edit, save and close. Nothing changed, or an empty file: nothing is forked.",
    "#: Texts can be changed, blocks deleted, and new ones added between the others, each under a heading",
    "#:     === user        (or: {roles})",
    "#: Messages keep their numbers and their order. Tool calls are shown as comments and stay as they are.",
    "#: A line of text that begins with === or #: is written with a backslash before it.",
)
_BOTTOM: Final = ("#:",) * 5 + ("#: End. A message can be added above this line.",)


class BrokenDocument(UsageError):
    """A document that cannot be read back; `line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {problem}")


def write_document(draft: Draft) -> str:
    """The document of a draft."""
    roles = ", ".join(f"=== {role}" for role in DIALECTS[draft.provider].ROLES[1:])
    blocks = ["\n".join(_TOP).format(roles=roles) + "\n"]
    blocks.append(_block("=== system prompt", _prompt(draft), ()))
    for line in draft.lines:
        heading = f"=== {line.number} {line.role}" if line.number else f"=== {line.role}"
        blocks.append(_block(heading, line.text, _comments(line)))
    return "\n".join(blocks) + "\n" + "\n".join(_BOTTOM) + "\n"


def read_document(text: str, draft: Draft) -> None:
    """Make a draft say what a document says. Trailing blank lines of a text count for nothing.

    Raises:
        BrokenDocument: it cannot be understood; the draft is as it was.
        UsageError: it adds a message of a role that the wire format does not have.
    """
    if re.search(r"^===[^\r\n]*\r$", text, re.MULTILINE):  # an editor that ends all lines so
        text = text.replace("\r\n", "\n")
    by_number = {line.number: line for line in draft.lines if line.number}
    prompt: str | None = None
    lines: list[tuple[Line, str]] = []
    seen: dict[int, int] = {}
    highest = 0
    for block in _blocks(text):
        if block.role == "system prompt":
            if prompt is not None or lines:
                raise BrokenDocument(block.line, "the system prompt stands once, before all messages")
            prompt = block.text
            continue
        if block.number is None:
            try:
                lines.append((draft.said(block.role, ""), block.text))
            except UsageError as exc:
                raise BrokenDocument(block.line, str(exc)) from exc
            continue
        known = by_number.get(block.number)
        if known is None:
            raise BrokenDocument(block.line, f"there is no message {block.number}. A new message has no number")
        if block.number in seen:
            raise BrokenDocument(block.line, f"message {block.number} stands in line {seen[block.number]} already")
        if block.number < highest:
            raise BrokenDocument(
                block.line, f"message {block.number} stands behind message {highest}: messages keep their order"
            )
        if block.role != known.role:
            raise BrokenDocument(
                block.line,
                f"message {block.number} is of role {known.role}, not {block.role}. To change a role, delete the "
                f"message and add one under === {block.role}",
            )
        seen[block.number], highest = block.line, block.number
        lines.append((known, block.text))
    for line, said in lines:
        line.text = _kept(line.text, said)
    draft.lines = [line for line, _ in lines]
    old = _prompt(draft)
    if prompt is not None and _kept(old, prompt) != old:
        draft.set_system = _kept(old, prompt)
    elif prompt is None and old:
        draft.set_system = ""


def _prompt(draft: Draft) -> str:
    return (draft.set_system if draft.set_system is not None else draft.context.system_prompt) or ""


def _kept(old: str, new: str) -> str:
    """What a text became: editors add and drop blank space at ends of lines and of files, which is no change."""
    if _bare(old) == _bare(new):
        return old
    return new.rstrip("\n") + old[len(old.rstrip("\n")) :]


def _bare(text: str) -> str:
    lines = re.split(r"\r\n|\n|\r", text)
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


# --- writing ---------------------------------------------------------------------------------------------------------


def _block(heading: str, text: str, comments: tuple[str, ...]) -> str:
    lines = [("\\" + line) if _SPECIAL.match(line) else line for line in text.split("\n")]
    return "\n".join([heading, *comments, *lines]) + "\n"


def _comments(line: Line) -> tuple[str, ...]:
    message = line.message
    if message is None:
        return ()
    out: list[str] = []
    if line.role == "tool":
        called = " ".join(
            filter(None, (message.tool_name, f"[{message.tool_call_id}]" if message.tool_call_id else ""))
        )
        out.append(f"result of {called or 'a call'}")
    calls = message.tool_calls or ()
    out += [f"calls {call.name}({call.arguments})" + (f" [{call.id}]" if call.id else "") for call in calls]
    out += [f"{part.kind}: {part.text}" if part.text else part.kind for part in message.parts or ()]
    return tuple(f"#: {show_text(text, _COMMENT_LIMIT)}" for text in out)


# --- reading ---------------------------------------------------------------------------------------------------------


class _Block(Struct):
    """A heading and the text below it; `line` is that of the heading."""

    line: int
    number: int | None
    role: str
    text: str


def _blocks(text: str) -> Iterator[_Block]:
    current: _Block | None = None
    said: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("#:"):
            continue
        if line.startswith("==="):
            heading = _HEADING.fullmatch(line.rstrip())
            if heading is None:
                raise BrokenDocument(
                    number,
                    f"{show_text(line, 60)!r} is no heading: write === system prompt, === user, or === N ROLE for a "
                    "message that was there. A text may not begin with ===; put a backslash before it",
                )
            if current is not None:
                yield _finished(current, said)
            given = heading["number"]
            current = _Block(number, None if given is None else int(given), heading["role"], "")
            said = []
        elif current is not None:
            said.append(line[1:] if line.startswith("\\") and _SPECIAL.match(line) else line)
        elif line.strip():
            raise BrokenDocument(number, f"{show_text(line, 60)!r} stands before the first heading")
    if current is not None:
        yield _finished(current, said)


def _finished(block: _Block, said: list[str]) -> _Block:
    # One empty line stands between blocks, and editors end a file as they like.
    block.text = "\n".join(said).rstrip("\n")
    return block
