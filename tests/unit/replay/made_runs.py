"""Runs of an agent made by hand: OpenAI's chat completions, with bodies as capture stores them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from unspool.events import (
    ContextSnapshotData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.recording.recorder import Recorder

URL = "https://api.openai.com/v1/chat/completions"
MILLISECOND = 1_000_000
_ids = itertools.count(1)


class MadeRun:
    """Writes one recording: conversations with model calls and tool calls, a millisecond each."""

    def __init__(self, base: Path, pid: int, *, intent: str = "test", model: str = "gpt-4.1-mini", **fields: Any):
        self.recorder = Recorder(base, pid, intent, fields=fields)
        self.model = model
        self.now = 0
        self.last_call: RecordEvent | None = None

    @property
    def folder(self) -> Path:
        return self.recorder.record_dir

    @property
    def record_id(self) -> str:
        return self.recorder.record_id

    def __enter__(self) -> MadeRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.recorder.close(exit_code=0)

    def event(self, kind: RecordEventType, call: RecordEvent | None = None, **fields: Any) -> RecordEvent:
        place = {} if call is None else {"call": call.call, "step": call.step}
        return RecordEvent(kind, 0, self.now, self.recorder.pid, **place, **fields)

    def chat(self, system: str = "be brief", *said: str, task: str = "0", **params: Any) -> Chat:
        return Chat(self, [{"role": "system", "content": system}, *map(user, said)], task, params)

    def tool(self, name: str, given: Any, result: Any, *, err: str = "", call: RecordEvent | None = None, **more: Any):
        data = SyscallEventData("ToolCall", {"path": f"/dev/tool/{name}", "input": given}, result, err, MILLISECOND)
        self.recorder.write_event(
            self.event(RecordEventType.SYSCALL, call or self.last_call, syscall=data, task="0", **more)
        )
        self.now += MILLISECOND


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class Chat:
    """One conversation. Ids are as a provider invents them: never the same twice, unless they are given."""

    def __init__(self, run: MadeRun, messages: list[dict[str, Any]], task: str, params: dict[str, Any]) -> None:
        self.run = run
        self.messages = messages
        self.params = params
        self.task = task
        self.call: RecordEvent | None = None
        self._conversation: Any = None
        self.span: str | None = None
        self.around: str | None = None

    def say(self, text: str) -> Chat:
        self.messages.append(user(text))
        return self

    def send(self, **event: Any) -> Chat:
        """The request goes out; nothing has come back."""
        run = self.run
        run.now += MILLISECOND
        body = json.dumps({"model": run.model, "messages": self.messages, **self.params}).encode()
        request = HttpRequest(method="POST", url=URL, headers=[("content-type", "application/json")])
        data = ContextSnapshotData(provider="openai_chat", model=run.model, request=request)
        snapshot = run.event(RecordEventType.CONTEXT_SNAPSHOT, context=data, task=self.task, span_id=self.span, **event)
        self.call, placed = run.recorder.write_request(snapshot, body, "messages")
        assert placed is not None
        self._conversation = placed.conversation
        run.last_call = self.call
        return self

    def answer(
        self,
        text: str = "",
        calls: list[tuple[str, Any]] | None = None,
        *,
        status: int = 200,
        err: str = "",
        **event: Any,
    ) -> list[str]:
        """What came back; gives the ids of the tool calls."""
        run, call = self.run, self.call
        assert call is not None
        number = next(_ids)
        functions = [{"name": name, "arguments": json.dumps(given)} for name, given in calls or []]
        tools = [
            {"id": f"call_{number}_{index}", "type": "function", "function": one} for index, one in enumerate(functions)
        ]
        message = {"role": "assistant", "content": text, **({"tool_calls": tools} if tools else {})}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}
        body: dict[str, Any] = {"id": f"chatcmpl-{number}", "model": run.model, "created": number, "choices": [choice]}
        if err:
            body = {"error": {"message": err, "type": "server_error", "code": None}}
        path = f"/dev/llm/openai/{run.model}"
        data = SyscallEventData("LLMCall", {"path": path, "messages": len(self.messages)}, None, err, MILLISECOND)
        spans = {"span_id": self.span, "parent_span_id": self.around}
        run.recorder.write_event(
            run.event(RecordEventType.SYSCALL, call, syscall=data, task=self.task, **spans, **event)
        )
        run.now += MILLISECOND
        counts = (None, None) if err else (10 * len(self.messages), 5)
        llm = LLMResponseData(run.model, *counts)
        llm.response = HttpResponse(status=status, headers=[("content-type", "application/json")])

        def prepare(bodies: Any) -> None:
            assert llm.response is not None
            llm.response.body = bodies.put(json.dumps(body).encode(), is_json=True)
            bodies.heads.store(llm.response)

        event_fields = {"llm": llm, "task": self.task, **event}
        run.recorder.write_with_bodies(run.event(RecordEventType.LLM_RESPONSE, call, **event_fields), prepare)
        self._conversation.busy, self._conversation.failed = False, bool(err)
        if not err:
            self.messages.append(message)
        return [tool["id"] for tool in tools]

    def ask(self, text: str = "", calls: list[tuple[str, Any]] | None = None, **more: Any) -> list[str]:
        """A call that is answered."""
        return self.send().answer(text, calls, **more)

    def use(self, name: str, given: Any, result: str, *, say: str = "", seen: str | None = None) -> None:
        """A call that is answered with one tool call, and the tool; `seen` is what the model is told, if not that."""
        [call_id] = self.ask(say, [(name, given)])
        self.run.tool(name, given, result, call=self.call)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": result if seen is None else seen})
