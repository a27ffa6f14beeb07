"""A whole run as a list of steps: every model call and tool call of its processes, each with what tells it apart.

Made for comparing runs: a step is known by what was new in its request and by what came back, so that a step means the
same in two runs however long the conversation before it is. Contexts are not restored for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from unspool.durations import later
from unspool.events import CtxMessage, LLMResponse, LLMResponseData, RecordEvent, RecordMetadata
from unspool.recording.reader import RecordReader
from unspool.replay.asked import Asked, AskedReader, answer_key, digest
from unspool.text import cut, display_value

__all__ = ["Price", "RunStep", "place_of", "read_steps"]

LLM_PREFIX = "/dev/llm/"
TOOL_PREFIXES = ("/dev/tool/", "/dev/mcp/")
_OWN_SPAN = "00000001"  # of a process as a whole
_TEXT_LIMIT = 400  # code points of what was asked and answered that a step shows

Price: TypeAlias = Callable[[str, LLMResponseData, datetime | None], float | None]
"""US dollars of an answered call, None if unknown: its device path, what the provider reported, when it was made."""


class RunStep(Struct, frozen=True):
    """A model call or a tool call.

    Attributes:
        kind: `model` or `tool`.
        record_id, pid: the recording it is in.
        seq_num: its event; of a model call the snapshot.
        call: the number of the model call, or of the one before the tool call; None if not numbered.
        lane: the conversation it belongs to, unique in the run.
        place: which process of the run it is in, in terms that another run shares: the roles and intents from the root.
        name: device path, such as `/dev/llm/openai/gpt-5`.
        asked: the newest message, or the tool's input, cut to a few lines.
        answered: what the model said, or the tool's result, cut likewise; None if nothing came back.
        start_ns: since the run began. `duration_ns` is None for a call that was never answered.
        error: "" for none.
        origin: as in its events: `served`, `edited`, `live`, or None.
        span_id: of the call.
        inside: the spans around it, the innermost first.
        asked_key: equal where the new messages, or the tool's input, are the same.
        settings_key: equal where model, system prompt, tool definitions and parameters are the same.
        answer_key: equal where the answers, or the results, are the same.

    Left out of the keys are the ids that providers invent, the reasoning beside an answer, and in a request the
    model's own words from the answer before.
    """

    kind: Literal["model", "tool"]
    record_id: str
    pid: int
    seq_num: int
    call: int | None
    lane: str
    place: str
    name: str
    asked: str
    answered: str | None
    start_ns: int
    duration_ns: int | None = None
    error: str = ""
    origin: str | None = None
    retry: bool = False
    at: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    span_id: str | None = None
    inside: tuple[str, ...] = ()
    cost_usd: float | None = None
    asked_key: str = ""
    settings_key: str = ""
    answer_key: str = ""

    @property
    def point(self) -> str:
        """The address of the step."""
        where = f"call:{self.call}" if self.kind == "model" and self.call is not None else self.seq_num
        return f"{self.record_id}@{where}"


def read_steps(
    reader: RecordReader,
    *,
    start_ns: int = 0,
    place: str = "",
    price: Price | None = None,
    around: dict[str, str] | None = None,
) -> tuple[list[RunStep], int]:
    """The steps of one recording in order of their start, and how many of its calls failed, of whatever kind.

    Args:
        start_ns: when the recording began, since the run began.
        place: see `RunStep`.
        price: what a call cost; without it no cost is known.
        around: the span around each span of the run's recordings read before; this one's are added.
    """
    reading = _Reading(reader, start_ns, place, price, {} if around is None else around)
    for event in reader.bare_events():
        reading.add(event)
    return reading.steps(), reading.errors


class _Call:
    """A model call while its events come in."""

    def __init__(self, event: RecordEvent) -> None:
        self.first = event
        self.snapshot: RecordEvent | None = None
        self.syscall: RecordEvent | None = None
        self.answer: RecordEvent | None = None


class _Reading:
    def __init__(
        self, reader: RecordReader, start_ns: int, place: str, price: Price | None, around: dict[str, str]
    ) -> None:
        self._reader = reader
        self._start_ns = start_ns
        self._place = place
        self._price = price
        self._calls: dict[int, _Call] = {}
        self._unnumbered: list[_Call] = []
        self._order: list[_Call | RecordEvent] = []
        self._asked = AskedReader(reader)
        self._around = around
        own, root = reader.metadata.span_base, reader.metadata.parent_span_id
        if own is not None and root is not None:
            around[own + _OWN_SPAN] = root
        self.errors = 0

    # --- collecting --------------------------------------------------------------------------------------------------

    def add(self, event: RecordEvent) -> None:
        if event.context is not None:
            self._new_call(event).snapshot = event
        elif event.llm is not None:
            self._open_call(event).answer = event
        elif event.syscall is not None:
            # What fails inside a span of the program's own is counted where it fails.
            self.errors += bool(event.syscall.err) and event.syscall.syscall != "Span"
            if event.span_id is not None and event.parent_span_id is not None:
                self._around[event.span_id] = event.parent_span_id
            path = event.syscall.args.get("path")
            if not isinstance(path, str):
                return
            if path.startswith(LLM_PREFIX):
                self._open_call(event).syscall = event
            elif path.startswith(TOOL_PREFIXES):
                self._order.append(event)

    def _new_call(self, event: RecordEvent) -> _Call:
        call = _Call(event)
        self._order.append(call)
        if event.call is None:
            self._unnumbered.append(call)
        else:
            self._calls[event.call] = call
        return call

    def _open_call(self, event: RecordEvent) -> _Call:
        """The call that an event without messages belongs to; recordings by others number nothing."""
        if event.call is not None:
            return self._calls.get(event.call) or self._new_call(event)
        last = self._unnumbered[-1] if self._unnumbered else None
        if last is not None and (last.answer is None or (event.llm is None and last.syscall is None)):
            return last
        return self._new_call(event)

    # --- reading -----------------------------------------------------------------------------------------------------

    def steps(self) -> list[RunStep]:
        found: list[RunStep] = []
        lanes: dict[int | None, str] = {}  # of a call's number
        tasks: dict[str | None, str] = {}  # the last conversation of a task
        for item in self._order:
            if isinstance(item, _Call):
                step = self._model_step(item)
                lanes[step.call] = tasks[item.first.task] = step.lane
            else:
                known = lanes.get(item.call) if item.call is not None else None
                lane = known or tasks.get(item.task) or self._lane(f"task {item.task or 0}")
                step = self._tool_step(item, lane)
            found.append(step)
        found.sort(key=lambda step: (step.start_ns, step.seq_num))
        return found

    def _lane(self, name: str) -> str:
        return f"{self._reader.record_id} {name}"

    def _model_step(self, call: _Call) -> RunStep:
        first, snapshot = call.first, call.snapshot
        nothing = Asked(f"task {first.task or 0}", "", "", None)
        asked = nothing if snapshot is None else self._asked.asked(snapshot)
        answer = self._answer(call)
        data = call.answer.llm if call.answer is not None else None
        syscall = call.syscall.syscall if call.syscall is not None else None
        name = str(syscall.args["path"]) if syscall is not None else self._path_of(call)
        error = answer.error if answer is not None else None
        return RunStep(
            kind="model",
            record_id=self._reader.record_id,
            pid=first.pid,
            seq_num=first.seq_num,
            call=first.call,
            lane=self._lane(asked.conversation),
            place=self._place,
            name=name,
            asked=_message_text(asked.newest),
            answered=None if answer is None else _answer_text(answer),
            start_ns=self._start_ns + first.timestamp,
            duration_ns=None if syscall is None else syscall.duration,
            error=(syscall.err if syscall is not None else "") or (error.type if error is not None else ""),
            origin=next((one.origin for one in (call.answer, call.syscall, snapshot) if one and one.origin), None),
            retry=snapshot is not None and snapshot.context is not None and snapshot.context.retry,
            at=first.at,
            span_id=first.span_id,
            inside=spans_around(first.span_id, self._around),
            input_tokens=data.request_tokens if data is not None else None,
            output_tokens=data.response_tokens if data is not None else None,
            cost_usd=self._cost(name, call.answer),
            asked_key=asked.key,
            settings_key=asked.settings_key,
            answer_key="" if answer is None else answer_key(answer),
        )

    def _path_of(self, call: _Call) -> str:
        context = call.snapshot.context if call.snapshot is not None else None
        model = (context.model if context is not None else None) or (
            call.answer.llm.model if call.answer is not None and call.answer.llm is not None else None
        )
        return f"{LLM_PREFIX}{(context.provider if context is not None else None) or 'unknown'}/{model or 'unknown'}"

    def _cost(self, path: str, answer: RecordEvent | None) -> float | None:
        if self._price is None or answer is None or answer.llm is None:
            return None
        began = self._reader.metadata.start_time
        at = later(began, answer.timestamp)
        return self._price(path, answer.llm, at)

    def _answer(self, call: _Call) -> LLMResponse | None:
        event = call.answer
        data = event.llm if event is not None else None
        if data is None or event is None:
            return None
        answer = None if data.text is not None else self._reader.response_of(event)
        if answer is None:
            answer = LLMResponse(
                text=data.text or "",
                tool_calls=data.tool_calls or [],
                finish_reason=data.finish_reason,
                error=data.error,
                partial=data.partial,
            )
        self._asked.answered(answer)
        return answer

    def _tool_step(self, bare: RecordEvent, lane: str) -> RunStep:
        event = self._reader.whole(bare)
        data = event.syscall
        assert data is not None
        given = data.args.get("input", {name: value for name, value in data.args.items() if name != "path"})
        return RunStep(
            kind="tool",
            record_id=self._reader.record_id,
            pid=event.pid,
            seq_num=event.seq_num,
            call=event.call,
            lane=lane,
            place=self._place,
            name=str(data.args["path"]),
            asked=display_value(given, _TEXT_LIMIT),
            answered=_result_text(data.result),
            start_ns=self._start_ns + event.timestamp,
            duration_ns=data.duration,
            error=data.err,
            origin=event.origin,
            at=event.at,
            span_id=event.span_id,
            inside=spans_around(event.span_id, self._around),
            asked_key=digest(given),
            answer_key=digest([data.result, data.err, data.result_type]),
        )


def _answer_text(answer: LLMResponse) -> str:
    pieces = [answer.text] if answer.text else []
    pieces += [f"→ {call.name}({call.arguments})" for call in answer.tool_calls]
    if answer.error is not None:
        pieces.append(f"{answer.error.type}: {answer.error.message}".removesuffix(": "))
    return cut(" ".join(pieces), _TEXT_LIMIT)


def _message_text(message: CtxMessage | None) -> str:
    if message is None:
        return ""
    pieces = [message.content] if message.content else []
    pieces += [f"({part.kind})" for part in message.parts or ()]
    return cut(f"[{message.role}] {' '.join(pieces)}", _TEXT_LIMIT)


def _result_text(result: Any) -> str:
    return cut(result, _TEXT_LIMIT) if isinstance(result, str) else display_value(result, _TEXT_LIMIT)


def spans_around(span: str | None, around: Mapping[str, str]) -> tuple[str, ...]:
    """The spans around one, the innermost first."""
    found: list[str] = []
    while span is not None and (span := around.get(span)) is not None and span not in found:
        found.append(span)
    return tuple(found)


def place_of(metadata: RecordMetadata, above: str | None) -> str:
    """Where a process stands in its run, in terms that another run of the same program shares."""
    return "" if above is None else f"{above}/{metadata.role} {metadata.intent}"
