"""What a fork's form says, as data: read from the fields that a browser posts, before it meets the recording.

A field that cannot be read is said to be so, with what was typed in it; all others are read all the same.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct, field

from unspool.errors import UsageError
from unspool.replay.livecall import server_of
from unspool.web.answering import Fields

__all__ = ["Added", "ForkForm", "read_form"]

_NUMBERED: Final = re.compile(r"(text|new-after|new-role|new-text)-(\d{1,7})")
_MOST_SAMPLES: Final = 100
_LIMITS: Final = ("max-calls", "max-cost", "samples", "base-url", "key-env")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


class Added(Struct):
    """A message that is to be added behind message `after`; 0 is before the first."""

    after: int
    role: str
    text: str


class ForkForm(Struct):
    """A form as it was filled in. A text that was never opened is not in it, and is not changed.

    Attributes:
        system: the system prompt.
        texts: of messages, by their number from 1.
        removed: numbers of messages to leave out.
        added: messages to add, in the order of the form.
        model: None where the form has no such field.
        params: texts of parameters, by name; "" takes one away.
        more_params: further ones, `NAME=VALUE` a line.
        response: what the model is to have said; None asks the model.
        response_text: what the field for it holds, used or not.
        answer_given: the answer is to be the one in the field.
        keep_state: send requests that lean on state at the provider as they are.
        live_tools: tools that may run for real.
        all_tools: all may.
        max_calls, max_cost, samples: as `unspool fork` takes them.
        base_url, key_env: where one call is sent instead, and the variable with the key.
        shown_from: the first message that the page shows.
        opened: a message that the page is asked to show a text field for.
        written: what was typed for limits, server and key, by the field's name, as it was typed.
        faults: what is wrong with a field, by its name. Nothing may be started with a form that has any.
    """

    system: str | None = None
    texts: dict[int, str] = {}
    removed: set[int] = field(default_factory=set)
    added: list[Added] = []
    model: str | None = None
    params: dict[str, str] = {}
    more_params: str = ""
    response: str | None = None
    response_text: str | None = None
    answer_given: bool = False
    keep_state: bool = False
    live_tools: list[str] = []
    all_tools: bool = False
    max_calls: int | None = None
    max_cost: float | None = None
    samples: int = 1
    base_url: str | None = None
    key_env: str | None = None
    shown_from: int | None = None
    opened: int | None = None
    written: dict[str, str] = {}
    faults: dict[str, str] = {}

    @property
    def problem(self) -> str:
        """What is wrong with it, a sentence a line; "" if nothing is."""
        return "\n".join(self.faults.values())


def read_form(fields: Fields) -> ForkForm:
    """What the fields say, and in `faults` what is wrong with them: a number is none, or is out of range."""
    form = ForkForm()
    news: dict[int, Added] = {}
    for name, given in fields:
        value = given.replace("\0", "\ufffd")  # as browsers show it
        try:
            _read_field(form, news, name, value)
        except UsageError as exc:
            form.faults[name] = str(exc)
        if "\0" in name or value != given:
            form.faults[name] = _holds_nul(name)
    form.added = [news[number] for number in sorted(news)]
    if form.answer_given:
        form.response = form.response_text
        if not (form.response_text or "").strip():
            said = "an answer is to be given, but it has no text: write one, or let the model be asked"
            form.faults.setdefault("response", said)
    return form


def _holds_nul(name: str) -> str:
    shown = name[:80].replace("\0", "\ufffd")
    return f"the field {shown!r} holds a character with the number 0, which no option can have: take out the \ufffd"


def _read_field(form: ForkForm, news: dict[int, Added], name: str, value: str) -> None:
    numbered = _NUMBERED.fullmatch(name)
    if numbered is not None:
        _read_numbered(form, news, numbered[1], int(numbered[2]), value)
    elif name.startswith("param."):
        form.params[name.removeprefix("param.")] = value
    elif name == "system":
        form.system = value
    elif name == "remove":
        form.removed.add(_count("the number of a message to leave out", value, 10_000_000))
    elif name == "model":
        form.model = value.strip()
    elif name == "more-params":
        form.more_params = value
    elif name == "answer-given":
        form.answer_given = True
    elif name == "response":
        form.response_text = value
    elif name == "keep-state":
        form.keep_state = True
    elif name == "live-tool":
        form.live_tools.append(value)
    elif name == "all-tools":
        form.all_tools = True
    elif name == "shown-from":
        form.shown_from = _count("the first message that is shown", value, 10_000_000)
    elif value.strip() and name in _LIMITS:
        form.written[name] = value
        _read_limit(form, name, value.strip())


def _read_numbered(form: ForkForm, news: dict[int, Added], name: str, number: int, value: str) -> None:
    if name == "text":
        form.texts[number] = value
        return
    one = news.setdefault(number, Added(0, "user", ""))
    if name == "new-after":
        one.after = _count("the number of the message that a new one comes behind", value, 10_000_000)
    elif name == "new-role":
        one.role = value
    else:
        one.text = value


def _read_limit(form: ForkForm, name: str, value: str) -> None:
    if name == "max-calls":
        form.max_calls = _count("the limit of model calls", value, 1_000_000)
    elif name == "samples":
        form.samples = _count("how many times", value, _MOST_SAMPLES, least=1)
    elif name == "max-cost":
        form.max_cost = _dollars(value)
    elif name == "base-url":
        server_of(value)
        form.base_url = value
    elif name == "key-env":
        if not _VARIABLE.fullmatch(value):
            raise UsageError(f"{value[:80]!r} is no name of an environment variable. Write for example OPENAI_API_KEY")
        form.key_env = value


def _count(what: str, value: str, most: int, *, least: int = 0) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10 and least <= int(value) <= most):
        bounds = f"from {least} up to {most:,}" if least else f"up to {most:,}"
        raise UsageError(f"{what} is a whole number {bounds}, not {value[:40]!r}")
    return int(value)


def _dollars(value: str) -> float:
    try:
        dollars = float(value)
    except ValueError:
        dollars = -1.0
    if not 0 <= dollars < 1e6:
        raise UsageError(f"the limit of costs is an amount in US dollars such as 0.50, not {value[:40]!r}")
    return dollars
