"""The prompts of one recording in tokens: what each message takes, fitted to the provider's counts.

All that says what a message takes or cost asks here, so that the same message has the same number everywhere: its own
count where it is an answer sent again; else what the call that sent it first counted above the call before, shared out
by estimates among what was new; else its estimate times the scale of the model. What the provider counted beyond the
messages of a call is `unseen`: put in front by the provider, or what its own tools read. Where the parts come to more
than the count, they are scaled down to it.

Calls form trees, each extending another, and the work is in what is new with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from unspool.events import CtxMessage, RecordEvent
from unspool.providers.beyond import kept_parts, left_by_tools, ran_tools
from unspool.recording.sent import SentCall, SentMessage
from unspool.tokens import apportion, estimate_tokens
from unspool.tokens.calibrate import BELIEVED_WHOLE, Calibration, Counted, answer_tokens, calibrate

__all__ = ["Prompt", "Prompts", "Said"]

# A difference of counts this far from the estimate of what was added holds something else: dropped thinking, say.
_PLAUSIBLE: Final = (0.3, 3.0)
_OUTPUT_ROLES: Final = frozenset({"assistant", "model", "ai"})


class Said(NamedTuple):
    """What the provider said of a call. `ran` names the tools that it ran itself, None if none.

    `again` has the estimated tokens that each of them left in the answer: behind each the prompt was read once more.
    """

    model: str | None = None
    tokens: int | None = None
    output: int | None = None
    reasoning: int | None = None
    ran: str | None = None
    again: tuple[float, ...] = ()

    def after(self, body: bytes) -> Said:
        """The same with what an answer says of the tools that the provider ran."""
        left = tuple(float(estimate_tokens(one)) for one in left_by_tools(body))
        ran = ran_tools(body)
        times = f"; the prompt was read {len(left) + 1} times" if ran is not None and left else ""
        return self._replace(ran=None if ran is None else f"{ran}{times}", again=left)


class Prompt(Struct, eq=False):
    """One call's prompt. After the fit: `tokens` of the whole, `weight` of what can be seen of it, and `unseen`.

    Attributes:
        position: among the prompts of the recording, from 0.
        before: the one it extends; `kept` leading elements of the array are its.
        root: the first of those it goes back to.
        ends: estimated and exact tokens up to the end of each element it added.
        reach: tokens up to the same places, after the fit.
        up: the nearest one before that added something of what is kept: calls that all keep a short head would
            otherwise be gone through by each that comes after.
    """

    position: int
    sent: SentCall
    provider: str | None
    model: str
    before: Prompt | None
    kept: int
    root: int
    ends: list[tuple[float, float]]
    names: tuple[str, ...] = ()
    partial: str | None = None
    said: Said = Said()
    tokens: int = 0
    weight: float = 0.0
    unseen: float = 0.0
    scale: float = 1.0
    head_scale: float = 1.0
    reach: list[float] = []
    up: Prompt | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it has a count that holds nothing but what is sent, as far as can be known."""
        return bool(self.said.tokens) and self.said.ran is None and self.partial is None

    @property
    def count(self) -> int:
        """Elements of its message array."""
        return self.kept + len(self.ends)

    @property
    def head(self) -> float:
        """Tokens of what stands beside the messages."""
        return self.of_head(self.sent.system) + self.tools

    @property
    def tools(self) -> float:
        """Tokens of the tool definitions."""
        return sum(map(self.of_head, self.sent.tool_sizes))

    def of_head(self, estimate: float) -> float:
        """Tokens of something beside the messages: whole ones, so that it has the same number wherever it is named."""
        return float(round(self.head_scale * estimate))

    @property
    def factor(self) -> float:
        """Tokens of this call for one of weight: below 1 where the parts come to more than its count."""
        return (self.tokens - self.unseen) / self.weight if self.weight else 0.0

    @property
    def beyond(self) -> str | None:
        """Why the count holds more than was sent."""
        return self.partial or self.said.ran or next(iter(self.names), None)

    def end_of(self, count: int) -> tuple[float, float]:
        """Estimated and exact tokens of the first `count` elements."""
        prompt = self
        while count <= prompt.kept:
            if prompt.up is None or not count:
                return 0.0, 0.0
            prompt = prompt.up
        return prompt.ends[count - prompt.kept - 1] if prompt.ends else (0.0, 0.0)

    def weight_of(self, count: int) -> float:
        """Tokens of the first `count` elements."""
        prompt = self
        while count <= prompt.kept:
            if prompt.up is None or not count:
                return 0.0
            prompt = prompt.up
        return prompt.reach[count - prompt.kept - 1] if prompt.reach else 0.0


class Prompts:
    """Takes the calls of a recording in their order, then fits them."""

    def __init__(self) -> None:
        self.calls: list[Prompt] = []
        self._parts: dict[tuple[int, int], tuple[float, float | None, int]] = {}
        self._held: list[Sequence[SentMessage]] = []  # parts go by identity, so they must stay
        self._sizes: dict[tuple[int, int], float] = {}  # tokens of parts, after the fit

    def add(self, snapshot: RecordEvent, sent: SentCall, before: Prompt | None) -> Prompt:
        """The prompt of a call. `before` is the one that `sent` extends, whose answer was given to it by now."""
        data = snapshot.context
        assert data is not None, "only snapshots come here"
        kept = sent.kept if before is not None else 0
        position = len(self.calls)
        self._held.append(sent.added)
        answer = self._answer(sent, before, data.provider)
        estimate, exact = before.end_of(kept) if before is not None else (0.0, 0.0)
        names = before.names if before is not None and kept == before.count else ()
        ends = []
        for element in sent.added:
            for index, message in enumerate(element.parts):
                key = id(element), index
                if key not in self._parts:
                    size = float(sum(tokens for _, tokens in element.shares[index]))
                    known = answer if message is sent.added[0].parts[0] else None
                    self._parts[key] = size, known, position
                size, known, _ = self._parts[key]
                if known is None:
                    estimate += size
                else:
                    exact += known
                if (named := kept_parts(message)) is not None:
                    names = (*names, named)
            ends.append((estimate, exact))
        root = before.root if before is not None and kept else position
        up = before
        while up is not None and kept <= up.kept:
            up = up.up
        prompt = Prompt(
            position, sent, data.provider, data.model or "", before, kept, root, ends, names, data.partial, up=up
        )  # fmt: skip
        self.calls.append(prompt)
        return prompt

    def _answer(self, sent: SentCall, before: Prompt | None, provider: str | None) -> float | None:
        """Tokens of the first message that a call adds, which is the answer to the call it extends, by their count."""
        if before is None or sent.kept != before.count or not sent.added:
            return None
        messages = [message for element in sent.added for message in element.parts]
        if not _is_answer(messages[0]) or (len(messages) > 1 and _is_answer(messages[1])):
            return None  # in several pieces: the count is that of all
        size = sum(tokens for _, tokens in sent.added[0].shares[0])
        return answer_tokens(messages[0], size, (before.said.output, before.said.reasoning), provider, before.model)

    def fit(self, *, check: bool = True) -> Calibration:
        """Fit all calls to their counts; afterwards parts and calls have tokens.

        Args:
            check: find out how far off the fit is, which is the most of the work.
        """
        counted = []
        for call in self.calls:
            estimate, exact = call.end_of(call.count)
            said = call.said
            counted.append(
                Counted(
                    (call.provider, said.model or call.model, call.root), estimate + call.sent.system + call.sent.tools,
                    exact, said.tokens, said.model or call.model, None, call.sent.own,
                    said.ran is not None or call.partial is not None, call.names, said.again,
                )
            )  # fmt: skip
        fitted = calibrate(counted, check=check)
        scales: dict[object, float] = {}
        for call, one in zip(self.calls, counted, strict=True):
            head = call.provider, one.model, call.sent.system, call.sent.tool_sizes
            call.scale = fitted.scale_of(one.model)
            shown = self._solve(call)
            call.head_scale = scales.setdefault(head, shown or call.scale)
        for call, tokens in zip(self.calls, fitted.predicted, strict=True):
            at = call.weight_of(call.kept)
            for element in call.sent.added:
                at += sum(self.tokens_of(element, index) for index in range(len(element.parts)))
                call.reach.append(at)
            call.tokens, call.weight = tokens, call.head + at
            call.unseen = max(tokens - call.weight, 0.0)
        return fitted

    def _solve(self, call: Prompt) -> float | None:
        """Share out what a call counted above the one it goes back to among what is new.

        Returns the scale that the whole of a prompt shows, None where it shows none.
        """
        if not call.is_plain:
            return None
        parts, first = self._new_parts(call), call
        while (above := first.before) is not None and _goes_on(first, above) and not above.said.tokens:
            parts, first = parts + self._new_parts(above), above  # refused, so not counted, but sent
        known = sum(size for _, size in parts if size is not None)
        sizes = {key: self._parts[key][0] for key, size in parts if size is None}
        if above is not None and _goes_on(first, above):
            added = (call.said.tokens or 0) - (above.said.tokens or 0) - known
            estimate = sum(sizes.values())
            if above.is_plain and above.names == call.names and _is_plausible(added, estimate):
                shares = apportion([round(size) for size in sizes.values()], round(added))
                if len(sizes) < sum(size is None for _, size in parts):  # the same one twice
                    shares = [round(size * added / estimate) for size in sizes.values()]
                self._sizes.update(zip(sizes, map(float, shares), strict=True))
            return None
        if first.kept:
            return None  # cut in the middle of a history: what is new has no equation of its own
        whole = first.sent.system + first.sent.tools + sum(self._parts[key][0] for key, size in parts if size is None)
        scale = ((call.said.tokens or 0) - call.sent.own - known) / whole if whole else 0.0
        if abs(scale - call.scale) > BELIEVED_WHOLE * call.scale or call.names:
            return None
        self._sizes.update((key, float(round(size * scale))) for key, size in sizes.items())
        return scale

    def _new_parts(self, call: Prompt) -> list[tuple[tuple[int, int], float | None]]:
        """What a call added: the key of each part, and its tokens where they are known by now."""
        keys = [(id(element), index) for element in call.sent.added for index in range(len(element.parts))]
        return [(key, self._sizes.get(key, self._parts[key][1])) for key in keys]

    def tokens_of(self, element: SentMessage, index: int) -> float:
        """Tokens of one message of an element, the same in all calls of the run."""
        known = self._sizes.get((id(element), index))
        if known is None:
            size, exact, position = self._parts[id(element), index]
            known = exact if exact is not None else float(round(self.calls[position].scale * size))
        return known


def _goes_on(call: Prompt, above: Prompt) -> bool:
    """Whether a prompt is another one and additions at its end."""
    sent, other = call.sent, above.sent
    return (
        call.before is above and call.kept == above.count
        and (sent.system, sent.tool_sizes) == (other.system, other.tool_sizes)
    )  # fmt: skip


def _is_plausible(tokens: float, estimate: float) -> bool:
    return estimate > 0 and _PLAUSIBLE[0] * estimate <= tokens <= _PLAUSIBLE[1] * estimate


def _is_answer(message: CtxMessage) -> bool:
    return message.role in _OUTPUT_ROLES
