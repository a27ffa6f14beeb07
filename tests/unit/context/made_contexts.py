"""Runs for the tests of contexts: real request bodies, counted by a made-up provider with a tokenizer and a cache."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from unspool.events import (
    ContextSnapshotData,
    ErrorData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder

SECOND = 1_000_000_000
URLS = {
    "openai_chat": "https://api.openai.com/v1/chat/completions",
    "anthropic": "https://api.anthropic.com/v1/messages",
}
VENDORS = {"openai_chat": "openai", "anthropic": "anthropic"}
_ids = itertools.count(1)


def tokens_in(text: str) -> int:
    """The provider's own tokenizer: a token for four letters of a word begun, and for each other character."""
    return sum(-(-len(word) // 4) for word in re.findall(r"\w+", text)) + len(re.findall(r"[^\w\s]", text))


def tool(name: str, about: str = "") -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": about or f"Runs {name}.",
            "parameters": {"type": "object", "properties": {"of": {"type": "string", "description": "what"}}},
        },
    }


class Talk:
    """One agent's run, written down call by call; its provider caches prefixes of prompts."""

    def __init__(self, folder: Path, pid: int = 1, *, provider: str = "openai_chat", model: str = "gpt-5") -> None:
        self.recorder = Recorder(folder, pid, "a made run")
        self.provider, self.model = provider, model
        self.system: str | None = "You are an agent. Do what you are asked, and nothing else."
        self.tools: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.now = 0
        self.unseen = 40
        self.more: dict[str, Any] = {}  # of the request, beside its messages
        self.is_counted = True
        self._cached: list[str] = []
        self._conversation: Any = None
        self._call: RecordEvent | None = None

    def user(self, text: str | list[dict[str, Any]]) -> Talk:
        self.messages.append({"role": "user", "content": text})
        return self

    def body(self) -> dict[str, Any]:
        messages = self.messages
        body: dict[str, Any] = {"model": self.model, **self.more}
        if self.system is not None:
            if self.provider == "openai_chat":
                messages = [{"role": "system", "content": self.system}, *messages]
            else:
                body["system"] = self.system
        if self.tools:
            body["tools"] = self.tools
        return {**body, "messages": messages}

    def send(self) -> Talk:
        """The request goes out."""
        self.now += SECOND
        request = HttpRequest(method="POST", url=URLS[self.provider], headers=[("content-type", "application/json")])
        data = ContextSnapshotData(provider=self.provider, model=self.model, request=request)
        raw = json.dumps(self.body()).encode()
        system_keys = () if self.provider == "openai_chat" else ("system",)
        snapshot = self._event(RecordEventType.CONTEXT_SNAPSHOT, context=data)
        self._call, placed = self.recorder.write_request(snapshot, raw, "messages", system_keys)
        assert placed is not None
        self._conversation = placed.conversation
        return self

    def answer(
        self,
        text: str,
        calls: dict[str, Any] | None = None,
        *,
        error: str = "",
        keep: bool = True,
        marks: list[dict[str, Any]] | None = None,
    ) -> list[str]:
        """What came back; gives the ids of the tool calls. `marks` are the answer's annotations, not sent again."""
        ids = [f"call_{next(_ids)}" for _ in calls or {}]
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [
                {"id": one, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
                for one, (name, given) in zip(ids, calls.items(), strict=True)
            ]
        self.now += SECOND
        path = f"/dev/llm/{VENDORS[self.provider]}/{self.model}"
        syscall = SyscallEventData("LLMCall", {"path": path}, None, error, SECOND)
        assert self._call is not None
        number = self._call.call
        self.recorder.write_event(self._event(RecordEventType.SYSCALL, syscall=syscall, call=number))
        llm = LLMResponseData(self.model, None, None)
        if error:
            llm.error = ErrorData("server_error", error)
        elif self.is_counted:
            llm.request_tokens, llm.cached_tokens = self._count()
            llm.response_tokens = tokens_in(json.dumps(message))
        llm.response = HttpResponse(status=500 if error else 200, headers=[("content-type", "application/json")])
        said = {**message, "annotations": marks} if marks else message
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        document = {"id": f"chatcmpl-{next(_ids)}", "model": self.model, "choices": [choice]}
        raw = json.dumps({"error": {"message": error}} if error else document).encode()

        def prepare(bodies: Any) -> None:
            assert llm.response is not None
            llm.response.body = bodies.put(raw, is_json=True)
            bodies.heads.store(llm.response)

        self.recorder.write_with_bodies(self._event(RecordEventType.LLM_RESPONSE, llm=llm, call=number), prepare)
        self._conversation.busy, self._conversation.failed = False, bool(error)
        if keep and not error:
            self.messages.append(message)
        return ids

    def ask(self, text: str = "Done.", **more: Any) -> Talk:
        """A call that is answered with a text."""
        self.send().answer(text, **more)
        return self

    def use(self, name: str, result: str, *, say: str = "", given: Any = None) -> Talk:
        """A call that is answered with one tool call, and the tool's result."""
        [call_id] = self.send().answer(say, {name: given if given is not None else {"of": name}})
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": result})
        return self

    def read(self) -> RecordReader:
        return RecordReader(self.recorder.record_dir, live=True)

    def close(self) -> RecordReader:
        self.recorder.close()
        return self.read()

    def _event(self, kind: RecordEventType, **fields: Any) -> RecordEvent:
        return RecordEvent(kind, 0, self.now, self.recorder.pid, task="0", **fields)

    def _count(self) -> tuple[int, int]:
        body = self.body()
        pieces = [json.dumps(body.get("tools", "")), body.get("system", "")]
        pieces += [json.dumps(message) for message in body["messages"]]
        counts = [tokens_in(piece) for piece in pieces]
        same = 0
        while same < min(len(pieces), len(self._cached)) and pieces[same] == self._cached[same]:
            same += 1
        cached = self.unseen + sum(counts[:same]) if same and self._cached else 0
        self._cached = pieces
        return self.unseen + sum(counts), cached
