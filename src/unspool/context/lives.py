"""The life of every block of a run: when it came, who used it, what it cost, and when it should have gone.

A tool result that nobody used goes cold after `ENOUGH_OUTPUTS` outputs; a duplicate or a superseded one when what
replaces it arrives; one that was used, `WARM_OUTPUTS` outputs after the last of them. Of a long result of which a few
lines were used, the others could have gone as soon as the first output had read it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from unspool.context.calls import Block, Call, Run
from unspool.context.charges import Charge, RatesOf
from unspool.context.marks import Key, held_marks, message_text, spoken_text
from unspool.context.memory import AnswerOf, Memory
from unspool.context.temperature import ENOUGH_OUTPUTS, WARM_OUTPUTS, Leak, State, examine
from unspool.context.usedpart import LEAST_CHARS, UsedPart, used_part
from unspool.context.uses import OUTPUT_ROLES
from unspool.events import CtxMessage

__all__ = ["AnswerOf", "Fate", "Life", "Lives", "Reference", "live"]

_PLACE = re.compile(r"\bmessage (\d+)")

Fate: TypeAlias = Literal["unused", "duplicate", "superseded", "mostly unused", "cold"]
"""Why a block should have gone: how it leaked, or that nothing refers to it any more."""


class Reference(Struct, frozen=True):
    """A use of a block: the call whose answer refers to it (None: an output from before the run) and by what."""

    call: int | None
    quote: str
    kind: str


class Life(Struct):
    """What became of one block.

    Attributes:
        state, reason, leak: its temperature at the end of the calls looked at.
        uses: in order.
        replaced_by: what took its place.
        fate: why it should have gone, None if it should not; `gone_at` is the position of the first call that should
            have done without it (None: no call after that held it).
        part: the lines of it that were used, where it is `mostly unused`.
        charge: what all calls paid for it; `wasted` what those from `gone_at` on did, less the part that was used.
    """

    block: Block
    state: State
    reason: str
    leak: Leak | None = None
    uses: list[Reference] = []
    replaced_by: Block | None = None
    fate: Fate | None = None
    gone_at: int | None = None
    part: UsedPart | None = None
    charge: Charge = Charge()
    wasted: Charge = Charge()


class Lives(Struct):
    """The blocks of one conversation up to a call, in order of arrival, and that call."""

    call: Call
    calls: list[Call]
    lives: list[Life]

    def of(self, block: Block) -> Life | None:
        """The life of a block."""
        return next((life for life in self.lives if life.block is block), None)


def live(
    run: Run, call: Call, answer_of: AnswerOf, rates_of: RatesOf | None = None, *, memory: Memory | None = None
) -> Lives:
    """The lives of the blocks of the conversation of a call, judged by the outputs up to that call's own.

    Costs are those of the whole conversation, also after that call.

    Args:
        memory: of this run and these rates; the next look at another call of it is cheap.
    """
    memory = memory or Memory()
    whole = run.conversation_of(call)
    calls = [one for one in whole if one.position <= call.position]
    script = _Script(calls, answer_of, memory)
    answered = [block.answers if block else None for block in script.blocks]
    examined = examine(script.system, script.messages, answered, memory.texts)
    lives = []
    for index, block in enumerate(script.blocks):
        if block is None:
            continue
        verdict = examined.verdicts[index]
        uses = [
            Reference(script.said_by[use.by], use.mark.shown, use.mark.kind)
            for use in examined.uses[index]
            if script.was_held(block, use.by)
        ]
        replaced = examined.replaced.get(index)
        life = Life(
            block,
            verdict.state,
            _named(verdict.reason, script),
            verdict.leak,
            uses,
            script.blocks[replaced.by] if replaced is not None else None,
        )
        lives.append(life)
    # Tool definitions, and a system prompt beside the messages.
    heads = {id(block): block for one in calls for block in one.head}
    lives = [_standing(block) for block in heads.values()] + lives
    _judge(lives, script, whole)
    _charge(lives, whole, rates_of, memory)
    return Lives(call, calls, lives)


def _named(reason: str, script: _Script) -> str:
    """A reason with the names of blocks for the places of messages."""

    def name(found: re.Match[str]) -> str:
        index = int(found[1])
        block, by = script.blocks[index], script.said_by[index]
        if by is not None:
            return f"the answer of {script.calls[script.place_of[by]].name}"
        return block.key if block is not None else "an answer"

    return _PLACE.sub(name, reason)


def _standing(block: Block) -> Life:
    what = "the system prompt is" if block.category == "system" else "tool definitions are"
    return Life(block, "active", f"{what} sent with every call")


class _Script:
    """A conversation as one list of messages in order of arrival, with the answers nobody sent again."""

    def __init__(self, calls: Sequence[Call], answer_of: AnswerOf, memory: Memory) -> None:
        self.texts = memory.texts
        self.calls = calls
        self.messages: list[CtxMessage] = []
        self.blocks: list[Block | None] = []
        self.said_by: list[int | None] = []
        self.system = "\n".join(
            dict.fromkeys(block.text for call in calls for block in call.head if block.category == "system")
        )
        self.answered = [call.position for call in calls if call.llm is not None and call.llm.error is None]
        self.place_of = {call.position: place for place, call in enumerate(calls)}
        repeated = {block.said_by for call in calls for block in call.messages[call.kept :]}
        seen: set[int] = set()
        for place, call in enumerate(calls):
            before = calls[place - 1] if place else None
            fresh = call.messages[call.kept :] if before is not None and call.prev == before.position else call.messages
            for block in fresh:
                if id(block) not in seen and block.message is not None:
                    seen.add(id(block))
                    self._add(block.message, block, block.said_by)
            is_missing = call.position not in repeated and call.llm is not None and call.llm.error is None
            said = memory.answer(call, answer_of) if is_missing else None
            if said is not None:
                self._add(said, None, call.position)

    def _add(self, message: CtxMessage, block: Block | None, said_by: int | None) -> None:
        self.messages.append(message)
        self.blocks.append(block)
        self.said_by.append(said_by)

    def was_held(self, block: Block, output: int) -> bool:
        """Whether the call that gave this output had the block in its prompt."""
        by = self.said_by[output]
        return by is None or block.first <= by <= block.last

    def after(self, position: int, outputs: int) -> int | None:
        """The first call after so many outputs, those of the calls from a position on."""
        place = bisect_left(self.answered, position) + outputs - 1
        if place >= len(self.answered):
            return None
        following = self.place_of[self.answered[place]] + 1
        return self.calls[following].position if following < len(self.calls) else None


def _judge(lives: Sequence[Life], script: _Script, whole: Sequence[Call]) -> None:
    for life in lives:
        block = life.block
        used_by = [use.call for use in life.uses if use.call is not None]
        if not block.is_tool_result:
            # Others are not dropped, but what nobody refers to can be summarised.
            if block.number == 1 and block.message is not None and block.message.role == "user":
                life.state, life.reason = "active", "the task: it comes first, and all of the run answers it"
            if life.state != "cold" or block.number <= 1:
                continue
            life.fate, gone_at = "cold", script.after(max(used_by, default=block.first), WARM_OUTPUTS)
        elif life.leak in ("duplicate", "superseded") and life.replaced_by is not None:
            if block.last < life.replaced_by.first:  # no prompt held both
                life.state, life.leak = "cold", None
                life.reason = f"it had left the context before {life.replaced_by.key} came"
                continue
            life.fate, gone_at = life.leak, life.replaced_by.first
        elif life.leak == "unused":
            life.fate, gone_at = "unused", script.after(block.first, ENOUGH_OUTPUTS)
        else:
            if len(block.text) >= LEAST_CHARS and used_by:
                life.part = _used_part(block, script)
            if life.part is not None:
                life.fate, gone_at = "mostly unused", script.after(block.first, 1)
            elif life.state == "cold":
                life.fate, gone_at = "cold", script.after(max(used_by, default=block.first), WARM_OUTPUTS)
            else:
                continue
        # The last output may make it go cold when no call of those looked at is left, yet there are later ones.
        if gone_at is None:
            gone_at = next((one.position for one in whole if one.position > script.calls[-1].position), None)
        life.gone_at = gone_at if gone_at is not None and gone_at <= block.last else None


def _used_part(block: Block, script: _Script) -> UsedPart | None:
    place = next(index for index, one in enumerate(script.blocks) if one is block)
    outputs = [
        index
        for index in range(place + 1, len(script.messages))
        if script.messages[index].role in OUTPUT_ROLES and script.was_held(block, index)
    ]
    said = [script.texts.spoken(script.messages[index]) for index in outputs]
    asked: set[Key] = {key for one in said for key in one.all_keys()}
    known: set[Key] = held_marks(script.system, asked)[0]
    for message in script.messages[:place]:
        text = spoken_text(message) if message.role in OUTPUT_ROLES else message_text(message)
        known |= held_marks(text, asked)[0]
    return used_part(block.text, said, known)


def _charge(lives: Sequence[Life], whole: Sequence[Call], rates_of: RatesOf | None, memory: Memory) -> None:
    asked = [(life.block, whole[0].position) for life in lives]
    asked += [(life.block, life.gone_at) for life in lives if life.gone_at is not None]
    found = memory.charges(whole, rates_of, asked)
    for life in lives:
        life.charge = found[id(life.block), whole[0].position]
        if life.gone_at is not None:
            wasted = found[id(life.block), life.gone_at]
            share = 1.0 - life.part.share if life.part is not None else 1.0
            life.wasted = wasted._replace(
                tokens=wasted.tokens * share, cached=wasted.cached * share, usd=wasted.usd * share
            )
