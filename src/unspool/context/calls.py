"""The contexts of a run as blocks: each message once, with the calls whose prompts held it.

A block is one message (or the system prompt, or one tool's definition). Calls refer to blocks; the same message sent
again is the same block, also when the history before it was cut or its cache mark moved. The work is in the text that
is new with each call.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from unspool.events import CtxMessage, LLMResponseData, RecordEvent, ToolCall
from unspool.tokens.calibrate import Calibration

__all__ = ["CATEGORIES", "Block", "Call", "Category", "Run"]

Category: TypeAlias = Literal["system", "tools", "user", "assistant", "tool results", "reasoning", "images"]
CATEGORIES: tuple[Category, ...] = ("system", "tools", "user", "assistant", "tool results", "reasoning", "images")


class Block(Struct, eq=False):
    """One piece of contexts.

    Attributes:
        number: its place in its conversation, from 1, as `unspool show` numbers messages; 0 for the system prompt and
            tool definitions.
        category: what it is; `shares` are its estimated tokens by category, an assistant's reasoning and images apart.
        name: of the tool, for a result or a definition.
        message: None for a tool definition.
        answers: the tool call it is the result of.
        weight: tokens of the whole, the same in all calls of the run.
        calls: positions of the first and the last call that held it.
        said_by: position of the call whose answer it repeats.
    """

    number: int
    category: Category
    text: str
    shares: list[tuple[Category, float]]
    name: str = ""
    message: CtxMessage | None = None
    answers: ToolCall | None = None
    weight: float = 0.0
    first: int = 0
    last: int = 0
    said_by: int | None = None
    conversation: int = 0

    @property
    def is_tool_result(self) -> bool:
        """Whether it is what a tool gave back."""
        return self.category == "tool results"

    @property
    def key(self) -> str:
        """How a person names it: `#7`, `system`, `def:search`."""
        if self.number:
            return f"#{self.number}"
        return f"def:{self.name}" if self.category == "tools" else "system"


class Call(Struct, eq=False):
    """One model call and the blocks of its prompt, in the order in which providers read it.

    Attributes:
        position: among the calls of the run, from 0.
        seq_num, call, step: where it stands in the recording.
        conversation: calls that go on from one another have the same.
        head: tool definitions, then the system prompt where it stands outside the messages.
        messages: the others. The first `kept` are those of the call at `prev`, in the same places.
        answer: its own event, None while there is none.
        tokens: of the prompt: the provider's count, else predicted from the others (`is_counted` says which).
        unseen: tokens of the count that no part of the request explains; `beyond` says why, where the recording does.
        factor: tokens of the prompt for one of weight, which makes the parts sum to `tokens`.
    """

    position: int
    seq_num: int
    call: int | None
    step: int | None
    timestamp: int
    provider: str | None
    model: str
    conversation: int
    head: list[Block]
    messages: list[Block]
    prev: int | None = None
    kept: int = 0
    lane: int | None = None
    is_retry: bool = False
    partial: str | None = None
    path: str = ""
    answer: RecordEvent | None = None
    tokens: int = 0
    is_counted: bool = False
    unseen: int = 0
    weight: float = 0.0
    beyond: str | None = None

    @property
    def llm(self) -> LLMResponseData | None:
        """What is on disk of its answer."""
        return self.answer.llm if self.answer is not None else None

    @property
    def blocks(self) -> list[Block]:
        """All blocks of the prompt, in order."""
        return [*self.head, *self.messages]

    @property
    def factor(self) -> float:
        """Tokens for one of weight."""
        return (self.tokens - self.unseen) / self.weight if self.weight else 0.0

    def goes_on_from(self, before: Call) -> bool:
        """Whether its prompt is that of another call and nothing but additions at the end."""
        return self.prev == before.position and self.kept == len(before.messages) and self.head is before.head

    @property
    def is_paid(self) -> bool:
        """Whether the provider took the prompt: a refused call, and one without an answer so far, cost nothing."""
        return self.llm is not None and (self.llm.error is None or self.llm.request_tokens is not None)

    @property
    def name(self) -> str:
        """`call 4`, as in an address."""
        return f"call {self.call if self.call is not None else self.position + 1}"


class Run(Struct):
    """The model calls of one recording, what they sent, and how the provider counted it.

    `conversations` are positions of calls, in order, by conversation; `rewritten` are positions of calls whose history
    is another than that of the call before in their conversation: compacted, cut, or edited.
    """

    calls: list[Call]
    blocks: list[Block]
    calibration: Calibration
    conversations: list[list[int]] = []
    rewritten: list[int] = []

    def conversation_of(self, call: Call) -> list[Call]:
        """The calls that this one belongs to."""
        return [self.calls[position] for position in self.conversations[call.conversation]]
