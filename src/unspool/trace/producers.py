"""Who produced each message of a prompt: which tool call gave the result, which model call said the turn.

By what ties them together in the data: the id of a tool call stands in the model's turn and in the message with its
result; the tool call's arguments are those the tool was called with; an answer stands in the next request of its lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from unspool.events import CtxMessage, RecordEvent, SpanID, ToolCall
from unspool.recording.prompts import Prompt, Prompts
from unspool.trace.again import Again
from unspool.trace.from_recording import RecordedProcess
from unspool.trace.names import CALL, count_of
from unspool.trace.spans import Span

__all__ = ["Part", "Producer", "Producers"]

_SYSTEM_ROLES = ("system", "developer")


class Producer(Struct, frozen=True):
    """Who put something into prompts: `kind` is tool, model, user, system, tools (their definitions), provider (what no
    request holds) or unknown.

    `span` is the call that produced it, if it is known and recorded; else the agent's. `key` tells producers apart.
    """

    kind: str
    name: str
    span: Span
    key: tuple[str, str]

    @property
    def sort_key(self) -> tuple[int, str, str]:
        """By time, and always the same way."""
        return self.span.start_time_ns, self.kind, self.key[1]


class Part(NamedTuple):
    """One message of a call: who produced it, its tokens, and whether an element of the array ends with it.

    `number` is that of its element: the same wherever that is sent.
    """

    producer: Producer
    tokens: float
    closes: bool
    number: int


class Producers:
    """Finds the producers of the messages of one process, call by call in the order in which they were made.

    `needed` collects pairs (earlier, later) of span ids of which the data shows that the later one used what the
    earlier one gave.
    """

    def __init__(self, process: RecordedProcess, prompts: Prompts) -> None:
        self._process = process
        self._prompts = prompts
        self._tools: dict[int | None, list[tuple[Span, RecordEvent]]] = {}
        for span, event in process.tools:
            self._tools.setdefault(event.call, []).append((span, event))
        self._called: dict[str, tuple[ToolCall, Span | None]] = {}  # by the id of the tool call
        self._said: dict[tuple[str, ...], Producer] = {}  # turns, by their text and the ids of their tool calls
        self._spans: dict[int, Span] = {}  # model calls, by the seq_num of their snapshot
        self._again = Again()
        self._known: dict[int, list[Producer]] = {}  # of the messages of an element, by its number
        self._claimed: set[SpanID] = set()
        self.needed: list[tuple[SpanID, SpanID]] = []
        agent = process.agent
        self.agent_id = agent.span_id
        self.system_prompt = Producer("system", "system prompt", agent, ("system", agent.span_id))
        self.tool_definitions = Producer("tools", "tool definitions", agent, ("tools", agent.span_id))
        self.provider = Producer("provider", "not in the requests", agent, ("provider", agent.span_id))
        self._user = Producer("user", "user messages", agent, ("user", agent.span_id))
        self._unknown = Producer("unknown", "other messages", agent, ("unknown", agent.span_id))
        self._given = Producer("unknown", "model turns of unknown origin", agent, ("model", agent.span_id))

    def of(self, prompt: Prompt, span: Span | None) -> Iterator[Part]:
        """The messages that a call added behind what it kept."""
        sent = prompt.sent
        before = self._spans.get(sent.prev) if sent.prev is not None else None
        if span is not None:
            self._spans[sent.snapshot.seq_num] = span
            if before is not None and sent.snapshot.context is not None and sent.snapshot.context.retry:
                self._need(before, span)
        places, above = self._again.place(prompt)
        before = self._spans.get(above.sent.snapshot.seq_num) if above is not None else None
        answering = before if above is not None and above is prompt.before and prompt.kept == above.count else None
        for element, place in zip(sent.added, places, strict=True):
            if place.again:
                answering = before if place.closes else None
                producers = self._known[place.number]
            else:
                producers = self._known[place.number] = []
                for message in element.parts:
                    if message.role == "assistant":
                        producers.append(self._turn(message, answering))
                        if answering is not None and span is not None:
                            self._need(answering, span)
                    else:
                        answering = None  # what follows is not the answer to the call before
                        producers.append(self._other(message, span))
            for index, producer in enumerate(producers):
                is_last = index == len(producers) - 1
                yield Part(producer, self._prompts.tokens_of(element, index), is_last, place.number)

    def _need(self, earlier: Span, later: Span) -> None:
        self.needed.append((earlier.span_id, later.span_id))

    def _turn(self, message: CtxMessage, answering: Span | None) -> Producer:
        said = (message.content, *(call.id or call.name for call in message.tool_calls or ()))
        if answering is None and said in self._said:
            return self._said[said]  # in a new lane: after an edit, or what a compaction left
        for call in message.tool_calls or ():
            tool = self._run_of(call, answering)
            if tool is not None and answering is not None:
                self._need(answering, tool)
            self._called[call.id or call.name] = call, tool
        if answering is None:
            return self._given
        self._said[said] = producer = Producer("model", answering.name, answering, ("model", answering.span_id))
        return producer

    def _other(self, message: CtxMessage, span: Span | None) -> Producer:
        if message.role == "tool":
            call, tool = self._called.get(message.tool_call_id or message.tool_name or "", (None, None))
            if tool is None:
                tool = self._by_result(call, message)
            if tool is not None:
                if span is not None:
                    self._need(tool, span)
                return Producer("tool", tool.name, tool, ("tool", tool.span_id))
            name = message.tool_name or (call.name if call is not None else "unknown tool")
            agent = self._process.agent
            return Producer("tool", name, agent, (f"tool {name}", agent.span_id))
        if message.role in _SYSTEM_ROLES:
            return self.system_prompt
        return self._user if message.role == "user" else self._unknown

    # --- which run of a tool answers a tool call ---------------------------------------------------------------------

    def _run_of(self, call: ToolCall, answering: Span | None) -> Span | None:
        """The run of a tool that a model call asked for: of this name and with these arguments."""
        number = count_of(answering, CALL) if answering is not None else None
        runs = [
            one
            for one in self._tools.get(number, ())
            if one[0].span_id not in self._claimed and _same_tool(one[0].name, call.name)
        ]
        arguments = _arguments(call)
        for span, event in runs:
            if self._input(event) == arguments:
                self._claimed.add(span.span_id)
                return span
        if len(runs) == 1:
            self._claimed.add(runs[0][0].span_id)
            return runs[0][0]
        return None

    def _input(self, event: RecordEvent) -> Any:
        args = event.syscall.args.get("input") if event.syscall is not None else None
        if isinstance(args, dict) and any(isinstance(value, dict) for value in args.values()):
            # Long texts are references; only here they are needed, so only here they are read.
            whole = self._process.reader.whole(msgspec.structs.replace(event, syscall=_copied(event)))
            return whole.syscall.args.get("input") if whole.syscall is not None else None
        return args

    def _by_result(self, call: ToolCall | None, message: CtxMessage) -> Span | None:
        """The run whose result is this message, where names do not tell: a tool recorded under another name."""
        for span, event in reversed(self._process.tools[-_LOOK_BACK:]):
            result = event.syscall.result if event.syscall is not None else None
            if isinstance(result, str) and result == message.content and result and span.span_id not in self._claimed:
                self._claimed.add(span.span_id)
                if call is not None:
                    self._called[call.id or call.name] = call, span
                return span
        return None


_LOOK_BACK = 64  # runs of tools that are compared with one message


def _copied(event: RecordEvent) -> Any:
    return msgspec.structs.replace(event.syscall) if event.syscall is not None else None


def _same_tool(recorded: str, asked: str) -> bool:
    """MCP servers and frameworks put a prefix before the name: `github/create_issue`, `mcp__github__create_issue`."""
    if recorded == asked:
        return True
    last = recorded.rpartition("/")[2]
    return last == asked or asked.endswith((f"_{last}", f".{last}", f"-{last}"))


def _arguments(call: ToolCall) -> Any:
    try:
        return msgspec.json.decode(call.arguments or "{}")
    except (ValueError, RecursionError):
        return None
