"""Active, warm, cold or leaked: what of a context is in use, decided by who refers to it.

Ages count model outputs. `active`: one of the last `ACTIVE_OUTPUTS` refers to it (or it is too new to have been
answered); `warm`: one of the last `WARM_OUTPUTS`; `cold`: none since. `leaked` are tool results that could go without
loss: nobody referred to them since they came, another result says the same, or the same call was made again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from unspool.context.memory import Texts
from unspool.context.uses import INSTRUCTION_ROLES, OUTPUT_ROLES, Use, find_uses
from unspool.events import CtxMessage, ToolCall

__all__ = [
    "ACTIVE_OUTPUTS",
    "ENOUGH_OUTPUTS",
    "WARM_OUTPUTS",
    "Examined",
    "Leak",
    "Replacement",
    "State",
    "Verdict",
    "examine",
    "is_tool_result",
    "judge",
]

State = Literal["active", "warm", "cold", "leaked"]
Leak = Literal["unused", "duplicate", "superseded"]

# In the Claude Code sessions of ../shared/data a result that an output has just referred to is referred to again by the
# next one in 33 of 100 cases; after one, two, three, four, five outputs without it in 21, 16, 9, 10, 4.
ACTIVE_OUTPUTS: Final = 3
WARM_OUTPUTS: Final = 6
ENOUGH_OUTPUTS: Final = 3
"""Outputs that must have passed a result by before it counts as used by nobody.

Of the results there that are ever referred to, three in four are within three outputs.
"""

TOOL_ROLES: Final = frozenset({"tool", "function"})
# Short answers such as "ok" or "File written" are acknowledgements: the model goes on and never says them again.
_ACK_CHARS: Final = 24
_ACK_WORDS: Final = 3
_DUPLICATE_CHARS: Final = 48  # "no matches found" twice is two findings, not one result stored twice
_FAILED: Final = re.compile(r"\s*(?:<[^>]*>\s*)?(?:error|exception|traceback|failed|timed? ?out)\b", re.IGNORECASE)


class Verdict(Struct, frozen=True):
    """What is thought of one message and why; `last_used_by` is the index of the last output that refers to it."""

    state: State
    reason: str
    last_used_by: int | None = None
    quote: str = ""
    leak: Leak | None = None


class Replacement(Struct, frozen=True):
    """What took the place of a message: the index of a later one, and how."""

    by: int
    leak: Leak
    reason: str


class Examined(Struct, frozen=True):
    """What is known of each message: the verdict, the outputs that refer to it, and what took its place."""

    verdicts: list[Verdict]
    uses: list[list[Use]]
    replaced: dict[int, Replacement]


def is_tool_result(message: CtxMessage) -> bool:
    """Whether a message carries what a tool gave back."""
    if message.role in TOOL_ROLES:
        return True
    return message.tool_call_id is not None and message.role not in OUTPUT_ROLES | INSTRUCTION_ROLES


def judge(system_prompt: str, messages: Sequence[CtxMessage], calls: Sequence[ToolCall | None]) -> list[Verdict]:
    """A verdict for each message.

    Args:
        calls: for each message the tool call it answers, None where there is none.
    """
    return examine(system_prompt, messages, calls).verdicts


def examine(
    system_prompt: str,
    messages: Sequence[CtxMessage],
    calls: Sequence[ToolCall | None],
    texts: Texts | None = None,
) -> Examined:
    """As `judge`, with what the verdicts rest on. `texts` is what is known of the messages already."""
    replaced = _replacements(messages, calls)
    uses = find_uses(system_prompt, messages, {index: one.by for index, one in replaced.items()}, texts)
    passed = _outputs_after(messages)
    verdicts = [
        _verdict(index, message, uses[index], passed, replaced.get(index)) for index, message in enumerate(messages)
    ]
    return Examined(_calls_follow_results(messages, calls, verdicts), uses, replaced)


def _outputs_after(messages: Sequence[CtxMessage]) -> list[int]:
    """For each message how many outputs come after it."""
    after, counts = 0, [0] * len(messages)
    for index in range(len(messages) - 1, -1, -1):
        counts[index] = after
        after += messages[index].role in OUTPUT_ROLES
    return counts


def _verdict(
    index: int, message: CtxMessage, uses: list[Use], passed: list[int], replaced: Replacement | None
) -> Verdict:
    if message.role in INSTRUCTION_ROLES:
        return Verdict("active", "instructions hold for the whole run")
    last = uses[-1] if uses else None
    if replaced is not None and (last is None or last.by < replaced.by):
        used_by, quote = (last.by, last.mark.shown) if last is not None else (None, "")
        return Verdict("leaked", replaced.reason, used_by, quote, replaced.leak)
    if last is not None:
        age = passed[last.by]
        return Verdict(_by_age(age), f"{_HOW[last.mark.kind]} in message {last.by}", last.by, last.mark.shown)
    age = passed[index]
    if age == 0:
        return Verdict("active", "no output since it arrived")
    if not is_tool_result(message):
        # Nothing of it is taken up by name, yet the first output after a turn is the answer to it.
        return Verdict(_by_age(age - (message.role not in OUTPUT_ROLES)), "not referred to since it was answered")
    if age < ENOUGH_OUTPUTS:
        return Verdict(_by_age(age - 1), f"only {_outputs(age)} since it arrived: too few to judge")
    if _is_acknowledgement(message.content):
        reason = "too short to be recognised" if message.content.strip() else "no text to be recognised by"
        return Verdict(_by_age(age - 1), reason)
    return Verdict("leaked", f"none of the {_outputs(age)} since it arrived refers to it", leak="unused")


_HOW: Final = {
    "quote": "quoted",
    "path": "path named",
    "identifier": "identifier named",
    "number": "number given",
    "word": "its words used",
}


def _by_age(age: int) -> State:
    if age < ACTIVE_OUTPUTS:
        return "active"
    return "warm" if age < WARM_OUTPUTS else "cold"


def _outputs(count: int) -> str:
    return f"{count} output{'' if count == 1 else 's'}"


def _is_acknowledgement(text: str) -> bool:
    stripped = text.strip()
    if not any(char.isalnum() for char in stripped[:1000]):
        return True  # an image, a rule of dashes, an emoji: nothing an output could be seen to repeat
    return len(stripped) <= _ACK_CHARS and len(stripped.split()) <= _ACK_WORDS


def _calls_follow_results(
    messages: Sequence[CtxMessage], calls: Sequence[ToolCall | None], verdicts: list[Verdict]
) -> list[Verdict]:
    """A call is in use while its result is: providers refuse one without the other."""
    owner = {id(call): index for index, message in enumerate(messages) for call in message.tool_calls or ()}
    result = list(verdicts)
    for index, call in enumerate(calls):
        asked = owner.get(id(call)) if call is not None else None
        if asked is None or verdicts[index].state == "leaked":
            continue
        if _HEAT[verdicts[index].state] > _HEAT[result[asked].state]:
            result[asked] = Verdict(
                verdicts[index].state,
                f"its result, message {index}, is {verdicts[index].state}",
                verdicts[index].last_used_by,
                verdicts[index].quote,
            )
    return result


_HEAT: Final = {"leaked": 0, "cold": 1, "warm": 2, "active": 3}


# --- results that another one makes needless -------------------------------------------------------------------------


def _replacements(messages: Sequence[CtxMessage], calls: Sequence[ToolCall | None]) -> dict[int, Replacement]:
    """Results whose place a later one took: the same call again, or the same content from another call.

    The later one stays: it is what the model reads nearest, and the newest state.
    """
    replaced: dict[int, Replacement] = {}
    by_call: dict[tuple[str, str], int] = {}
    by_content: dict[bytes, int] = {}
    for index, message in enumerate(messages):
        if not is_tool_result(message):
            continue
        call = calls[index]
        if call is not None:
            key = (call.name, _canonical(call.arguments))
            earlier = by_call.get(key)
            if earlier is not None and _says_less(message, messages[earlier]):
                # The call failed this time: what it gave before is still the best there is.
                continue
            if earlier is not None:
                reason = f"superseded: {call.name} was called again, message {index}"
                replaced[earlier] = Replacement(index, "superseded", reason)
            by_call[key] = index
        if (digest := _digest(message)) is not None:
            earlier = by_content.get(digest)
            if earlier is not None:
                reason = f"duplicate: message {index} holds the same"
                replaced.setdefault(earlier, Replacement(index, "duplicate", reason))
            by_content[digest] = index
    return replaced


def _says_less(later: CtxMessage, earlier: CtxMessage) -> bool:
    return _is_failure(later) and not _is_failure(earlier)


def _is_failure(message: CtxMessage) -> bool:
    if not message.content.strip():
        return not message.parts
    return _FAILED.match(message.content, 0, 200) is not None


def _canonical(arguments: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments), order="sorted").decode()
    except (msgspec.DecodeError, RecursionError):
        return arguments.strip()


def _digest(message: CtxMessage) -> bytes | None:
    """Of the content without the white space around it; None for what is too short to be worth telling."""
    text = message.content.strip()
    if len(text) < _DUPLICATE_CHARS and not message.parts:
        return None
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    for part in message.parts or ():
        digest.update(repr((part.kind, part.text, part.data)).encode("utf-8", "surrogatepass"))
    return digest.digest()
