"""The calls of a recording read into blocks: which message is which block, and which call goes on from which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from unspool.context.calls import Block, Call, Category, Run
from unspool.context.temperature import is_tool_result
from unspool.context.uses import INSTRUCTION_ROLES, OUTPUT_ROLES
from unspool.events import CtxMessage, RecordEvent, ToolCall, ToolDef
from unspool.providers import PROVIDERS
from unspool.recording.again import message_key, slid_over
from unspool.recording.prompts import Prompts, Said
from unspool.recording.reader import RecordReader
from unspool.recording.sent import SentCall, SentMessage, SentReader, weigh_system
from unspool.text import dump_json
from unspool.tokens import Count, Family, PartKind, estimate_tokens, estimate_tool
from unspool.tokens.calibrate import Calibration
from unspool.tokens.tokenizer import counter_for

__all__ = ["read_run"]

_SAME_HISTORY = 0.6  # of the messages of a call that must come again in one with another beginning
_LEAST_SAID = 200  # characters of an answer that stands in a later context: a summary that took the place of a history


def read_run(reader: RecordReader, counters: Callable[[str], Count | None] = counter_for) -> Run:
    """Read the contexts of a recording. Damage leaves out what cannot be read, and nothing is raised for it.

    Args:
        counters: gives the tokenizer of a model, None where there is none: then texts are estimated.
    """
    found = _Reading(reader, counters)
    for event in reader.bare_events():
        if event.context is not None:
            found.snapshot(event)
        elif event.llm is not None:
            found.answer(event)
        elif event.syscall is not None:
            path = event.syscall.args.get("path")
            if isinstance(path, str) and path.startswith("/dev/llm/"):
                found.path(event, path)
    return found.result()


class _Reading:
    def __init__(self, reader: RecordReader, counters: Callable[[str], Count | None]) -> None:
        self._reader = reader
        self._count: Count = estimate_tokens
        self._family: Family = ""
        self._sent: SentReader = reader.sent(counters)
        self._prompts = Prompts()
        self._made: dict[int, tuple[SentMessage, int]] = {}  # where in what was sent a block stood first, by identity
        self._calls: list[Call] = []
        self._blocks: list[Block] = []
        self._by_seq: dict[int, Call] = {}
        self._by_call: dict[int | None, Call] = {}
        self._elements: dict[int, list[list[Block]]] = {}  # blocks of each element of the message array, by seq_num
        self._heads: dict[bytes, list[Block]] = {}
        self._digests: dict[int, tuple[SentMessage, list[bytes]]] = {}
        self._keys: dict[int, bytes] = {}  # of blocks, by identity
        self._tool_calls: dict[str, ToolCall] = {}
        self._conversations: list[list[int]] = []
        self._ended: list[bool] = []
        self._numbers: list[int] = []
        self._rewritten: list[int] = []
        self._openings: dict[tuple[str | None, bytes], Call] = {}  # the latest call that begins with this message
        self._holders: dict[tuple[str | None, bytes], int] = {}  # the conversation that sent this message last

    # --- events ------------------------------------------------------------------------------------------------------

    def path(self, event: RecordEvent, path: str) -> None:
        call = self._by_call.get(event.call) if event.call is not None else None
        if call is None and self._calls and event.call is None:
            call = self._calls[-1]
        if call is not None:
            call.path = path

    def answer(self, event: RecordEvent) -> None:
        call = self._by_call.get(event.call) if event.call is not None else None
        if call is None and event.call is None and self._calls and self._calls[-1].answer is None:
            call = self._calls[-1]
        if call is None:
            return
        call.answer = event
        data = event.llm
        assert data is not None, "only events with an answer come here"
        call.model = data.model or call.model
        prompt = self._prompts.calls[call.position]
        prompt.said = Said(data.model, data.request_tokens, data.response_tokens, data.reasoning_tokens)
        body = self._body_of(event) if prompt.sent.is_hosted else None
        if body is not None:
            prompt.said = prompt.said.after(body)

    def snapshot(self, event: RecordEvent) -> None:
        data = event.context
        assert data is not None, "only snapshots come here"
        self._count, self._family = self._sent.ruler_of(data)
        sent = self._sent.call(event)
        before = self._by_seq.get(sent.prev) if sent is not None and sent.prev is not None else None
        if sent is not None and sent.kept and before is None:
            sent = self._sent.call(event, whole=True)
        if sent is None:
            context = self._reader.context_of(data)
            sent = self._sent.given(event, context)
            head = self._made_head(context.system_prompt or "", context.tools, sent)
            partial = context.partial
        else:
            head, partial = self._head_of(event, sent), data.partial
        origin = self._by_seq.get(data.prev) if data.prev is not None else None
        elements = list(self._elements[before.seq_num][: sent.kept]) if before is not None and sent.kept else []
        kept = sum(map(len, elements))
        position = len(self._calls)
        earlier = before
        if before is None or not any(block.category != "system" for blocks in elements for block in blocks):
            earlier = self._slid(sent, data.provider) or before or self._resumed(sent, data.provider) or origin
        left = self._leftover(earlier, sent.kept if before is not None and earlier is before else 0)
        added: list[Block] = []
        conversation, is_rewritten = self._conversation(event, earlier, sent, left)
        for element in sent.added:
            blocks = [
                self._block((element, index), digest, left, conversation, position)
                for index, digest in enumerate(self._digests_of(element))
            ]
            elements.append(blocks)
            added += blocks
        self._holders.update(((data.provider, self._keys[id(block)]), conversation) for block in added)
        call = Call(
            position, event.seq_num, event.call, event.step, event.timestamp, data.provider, data.model or "",
            conversation, head, [*(before.messages[:kept] if before is not None else ()), *added],
            before.position if before is not None else None, kept, event.lane, data.retry, partial,
        )  # fmt: skip
        if is_rewritten:
            self._rewritten.append(position)
        self._conversations[conversation].append(position)
        self._prompts.add(event, sent, self._prompts.calls[before.position] if before is not None else None)
        self._said(call, added, before)
        self._calls.append(call)
        self._by_seq[event.seq_num] = self._by_call[event.call] = call
        self._elements[event.seq_num] = elements
        opening = next((block for block in call.messages if block.category != "system"), None)
        if opening is not None:
            self._openings[data.provider, self._keys[id(opening)]] = call

    def result(self) -> Run:
        for call in self._calls:
            for block in call.head:
                block.last = call.position
        # What a call keeps of another is held by both: only what no later one keeps must be looked at.
        handed_on = [0] * len(self._calls)
        for call in self._calls:
            if call.prev is not None:
                handed_on[call.prev] = max(handed_on[call.prev], call.kept)
        for call in self._calls:
            for block in call.messages[handed_on[call.position] :]:
                block.last = max(block.last, call.position)
        calibration = self._calibrated()
        return Run(self._calls, self._blocks, calibration, self._conversations, self._rewritten)

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _digests_of(self, element: SentMessage) -> list[bytes]:
        known = self._digests.get(id(element))
        if known is None:
            known = self._digests[id(element)] = element, [message_key(message) for message in element.parts]
        return known[1]

    def _leftover(self, before: Call | None, kept: int) -> dict[bytes, list[Block]]:
        """Blocks of the call before that are not among those kept in place: they may come again further on."""
        left: dict[bytes, list[Block]] = {}
        if before is not None:
            for blocks in reversed(self._elements[before.seq_num][kept:]):
                for block in reversed(blocks):
                    left.setdefault(self._keys[id(block)], []).append(block)
        return left

    def _block(
        self,
        part: tuple[SentMessage, int],
        digest: bytes,
        left: dict[bytes, list[Block]],
        conversation: int,
        position: int,
    ) -> Block:
        message = part[0].parts[part[1]]
        again = left.get(digest)
        if again:
            return again.pop()
        for call in message.tool_calls or ():
            self._tool_calls[call.id or call.name] = call
        block = self._new(message, part[0].shares[part[1]], conversation, position)
        self._keys[id(block)] = digest
        self._made[id(block)] = part
        return block

    def _new(
        self, message: CtxMessage, shares: Sequence[tuple[PartKind, int]], conversation: int, position: int
    ) -> Block:
        answers = None
        if message.tool_call_id is not None and is_tool_result(message):
            answers = self._tool_calls.get(message.tool_call_id)
        category = _category(message)
        if category != "system":
            self._numbers[conversation] += 1
        block = Block(
            0 if category == "system" else self._numbers[conversation],
            category,
            message.content,
            _shares(shares, category),
            (message.tool_name or (answers.name if answers else "") or "unknown") if category == "tool results" else "",
            message,
            answers,
            first=position,
            last=position,
            conversation=conversation,
        )
        self._blocks.append(block)
        return block

    def _head_of(self, event: RecordEvent, sent: SentCall) -> list[Block]:
        data = event.context
        assert data is not None, "only snapshots come here"
        if data.messages is not None or data.message_list is not None:
            return self._made_head(data.system_prompt or "", data.tools or (), sent)
        emptied = self._reader.emptied_request(data) or b""
        known = self._heads.get(emptied)
        if known is None:
            provider = PROVIDERS.get(data.provider or "")
            context = provider.parse_request("", emptied) if provider is not None else None
            known = self._heads[emptied] = (
                [] if context is None else self._made_head(context.system_prompt or "", context.tools, sent)
            )
        return known

    def _made_head(self, system: str, tools: Iterable[ToolDef], sent: SentCall) -> list[Block]:
        """Tool definitions and system prompt; the latter only where it is not among the messages."""
        position = len(self._calls)
        key = dump_json([system, list(tools)]).encode("utf-8", "surrogatepass")
        if key in self._heads:
            return self._heads[key]
        head = []
        for tool in tools:
            text = dump_json({"name": tool.name, "description": tool.description, "schema": tool.schema})
            block = Block(
                0,
                "tools",
                text,
                [("tools", float(estimate_tool(tool, self._count, self._family)))],
                tool.name,
                first=position,
            )
            head.append(block)
        instructions = [
            message.content for one in sent.added for message in one.parts if message.role in INSTRUCTION_ROLES
        ]
        if system and system not in instructions and system != "\n".join(instructions):
            message = CtxMessage("system", system)
            size = sum(tokens for _, tokens in weigh_system(system, self._count, self._family))
            share: list[tuple[Category, float]] = [("system", float(size))]
            head.append(Block(0, "system", system, share, message=message, first=position))
        self._blocks += head
        self._heads[key] = head
        return head

    # --- conversations -----------------------------------------------------------------------------------------------

    def _conversation(
        self, event: RecordEvent, before: Call | None, sent: SentCall, left: dict[bytes, list[Block]]
    ) -> tuple[int, bool]:
        """The conversation a call goes on with, and whether its history was rewritten for it."""
        if before is not None and before.lane == event.lane and event.lane is not None:
            return before.conversation, False
        if before is not None:
            positions = self._conversations[before.conversation]
            is_last = positions[-1] == before.position and before.answer is not None
            if is_last and before.seq_num and self._takes_over(sent, left, before):
                return before.conversation, True
        self._conversations.append([])
        self._numbers.append(0)
        if before is not None and sent.kept:
            self._numbers[-1] = max((b.number for b in self._calls[before.position].messages), default=0)
        return len(self._conversations) - 1, False

    def _resumed(self, sent: SentCall, provider: str | None) -> Call | None:
        """The call that a request goes on from although it begins otherwise: a clock in the system prompt, say."""
        digests = self._told(sent)
        before = self._openings.get((provider, digests[0])) if digests else None
        if before is None or before.answer is None:
            return None
        earlier = [self._keys[id(block)] for block in before.messages if block.category != "system"]
        shared = len(set(earlier).intersection(digests))
        return before if len(digests) > len(earlier) and shared >= _SAME_HISTORY * len(earlier) else None

    def _slid(self, sent: SentCall, provider: str | None) -> Call | None:
        """The call over whose history a window has slid to make this request: it begins with the end of that one."""
        digests = self._told(sent)
        holder = self._holders.get((provider, digests[0])) if digests else None
        if holder is None:
            return None
        before = self._calls[self._conversations[holder][-1]]
        count = slid_over([self._keys[id(block)] for block in before.messages if block.category != "system"], digests)
        if count == 1 and len(digests) > 1:  # one message may be said again by chance, unless it is answered here
            following = [
                message for one in sent.added for message in one.parts if message.role not in INSTRUCTION_ROLES
            ]
            return before if following[1].role in OUTPUT_ROLES else None
        return before if 1 < count < len(digests) else None

    def _told(self, sent: SentCall) -> list[bytes]:
        """The messages that a call added, without instructions."""
        return [
            digest
            for element in sent.added
            for message, digest in zip(element.parts, self._digests_of(element), strict=True)
            if message.role not in INSTRUCTION_ROLES
        ]

    def _takes_over(self, sent: SentCall, left: dict[bytes, list[Block]], before: Call) -> bool:
        """Whether a context that does not continue the one before took its place.

        It shares messages with it beyond the instructions, or holds a text that the model said in it: the summary.
        """
        for element in sent.added:
            for message, digest in zip(element.parts, self._digests_of(element), strict=True):
                if message.role not in INSTRUCTION_ROLES and digest in left:
                    return True
        kept = self._elements[before.seq_num][: sent.kept]
        if any(block.category != "system" for blocks in kept for block in blocks):
            # A fork has the same beginning too; of what was cut there is less than there was.
            return len(sent.added) + sent.kept <= len(self._elements[before.seq_num])
        return self._holds_summary(sent, before)

    def _holds_summary(self, sent: SentCall, before: Call) -> bool:
        texts = [message.content for one in sent.added[:4] for message in one.parts if message.role == "user"]
        if not any(len(text) >= _LEAST_SAID for text in texts) or before.answer is None:
            return False
        said = self._reader.response_of(before.answer)
        summary = said.text.strip() if said is not None else ""
        return len(summary) >= _LEAST_SAID and any(summary in text for text in texts)

    # --- counts ------------------------------------------------------------------------------------------------------

    def _said(self, call: Call, added: Sequence[Block], before: Call | None) -> None:
        """The first of what a call adds is the answer to the call it extends."""
        if before is None or before.llm is None or not added or added[0].category != "assistant":
            return
        if added[0].first != call.position or call.kept != len(before.messages):
            return
        added[0].said_by = before.position

    def _body_of(self, event: RecordEvent) -> bytes | None:
        """The answer as it came."""
        response = event.llm.response if event.llm is not None else None
        return self._reader.body(response.body) if response is not None and response.body is not None else None

    def _calibrated(self) -> Calibration:
        """Fit the estimates to the counts; afterwards weights are tokens."""
        fitted = self._prompts.fit()
        for call, prompt in zip(self._calls, self._prompts.calls, strict=True):
            for block in call.head:
                if block.first == call.position:
                    block.weight = prompt.of_head(sum(share for _, share in block.shares))
        for block in self._blocks:
            if (part := self._made.get(id(block))) is not None:
                block.weight = self._prompts.tokens_of(*part)
        sums: dict[int, float] = {}
        for call, prompt in zip(self._calls, self._prompts.calls, strict=True):
            before = self._calls[call.prev] if call.prev is not None else None
            is_whole = before is not None and call.kept == len(before.messages)
            fresh = call.messages[call.kept :] if is_whole else call.messages
            start = sums[before.position] if before is not None and is_whole else 0.0
            sums[call.position] = start + sum(block.weight for block in fresh)
            call.weight = sums[call.position] + sum(block.weight for block in call.head)
            call.tokens, call.is_counted = prompt.tokens, bool(prompt.said.tokens)
            call.unseen = max(round(call.tokens - call.weight), 0) if call.weight else call.tokens
            call.beyond = prompt.beyond
        return fitted


def _category(message: CtxMessage) -> Category:
    if message.role in INSTRUCTION_ROLES:
        return "system"
    if is_tool_result(message):
        return "tool results"
    return "assistant" if message.role in OUTPUT_ROLES else "user"


def _shares(parts: Sequence[tuple[PartKind, int]], category: Category) -> list[tuple[Category, float]]:
    found: dict[Category, float] = {}
    for kind, tokens in parts:
        name: Category = "images" if kind == "image" else "reasoning" if kind == "reasoning" else category
        found[name] = found.get(name, 0.0) + tokens
    return list(found.items())
