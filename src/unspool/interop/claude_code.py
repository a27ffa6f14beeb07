"""Claude Code session files: `<session>.jsonl` and the `agent-<id>.jsonl` of its sub-agents.

A line is a node of a tree (`uuid`, `parentUuid`): a session that was rewound has branches, and what the model saw is
the way from the root, not the file from its start. The blocks of one answer are lines of their own that share a message
id and each carry a usage; the counts grow while the answer streams, so those of the last line hold. Results of tools
that ran at the same time hang beside each other, and only one of them is on the way to the next call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from unspool.events import CtxMessage, ErrorData, LLMResponse
from unspool.interop.imported import ModelCall, Process, Run, ToolUse, epoch_ns
from unspool.interop.sources import Source
from unspool.providers import anthropic
from unspool.providers.turns import name_tool_results
from unspool.providers.wire import as_list, as_object, as_text

__all__ = ["read_sessions"]

_MISSING: Final = ("system prompt", "tool definitions", "request parameters", "times of requests")
_SYNTHETIC: Final = "<synthetic>"  # the model of an answer that Claude Code wrote itself, about an error
_COUNTS: Final = ("output_tokens", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class _Node(Struct):
    """One line of the tree. `above` is its parent; the messages are what it adds to a context. `place` is
    where it stands in its conversation; `is_cut`: the parent it names is not in the file.
    """

    line: dict[str, Any]
    order: int
    place: int = 0
    above: _Node | None = None
    at_ns: int | None = None
    messages: list[CtxMessage] = []
    answer: _Answer | None = None
    is_cut: bool = False


class _Answer(Struct):
    """The lines of one model call."""

    nodes: list[_Node]
    blocks: list[dict[str, Any]] = []
    turn: list[CtxMessage] = []
    results: list[_Node] = []  # nodes that hold results of its tools


class _Part(Struct):
    """One agent: the main conversation of a session, or a sub-agent."""

    session: str
    agent: str | None
    nodes: list[_Node]
    source: Source


def read_sessions(sources: Sequence[Source]) -> Run:
    """The session of these files as a run: its main conversation first, then its sub-agents.

    Args:
        sources: a session's file and those of its sub-agents, in any order; or any one of them.
    """
    parts = [part for source in sources for part in _parts(source)]
    parts.sort(key=lambda part: (part.agent is not None, part.nodes[0].at_ns or 0))
    started_by = _started_by(parts)
    keys = {part.agent or part.session for part in parts}
    processes: dict[str, Process] = {}
    for part in parts:
        key = part.agent or part.session
        if key in processes:
            key = f"{key}/{len(processes)}"
        process = _process(part, key)
        above, use = started_by.get(part.agent or "", (None, None))
        if part.agent is not None:
            process.parent = above if above in keys and above != key else part.session if part.session in keys else None
            process.parent_use = use
            if process.parent is None:
                process.missing = [*process.missing, "the session that started this sub-agent"]
        processes[key] = process
    return Run(_parents_first(processes))


def _parents_first(processes: dict[str, Process]) -> list[Process]:
    ordered: dict[str, Process] = {}

    def place(process: Process, inside: frozenset[str]) -> None:
        above = processes.get(process.parent or "")
        if above is not None and above.key in inside:
            process.parent = above = None  # a damaged file: two agents that started each other
        if above is not None and above.key not in ordered:
            place(above, inside | {process.key})
        ordered.setdefault(process.key, process)

    for process in processes.values():
        place(process, frozenset((process.key,)))
    return list(ordered.values())


def _parts(source: Source) -> list[_Part]:
    """The conversations in one file: older versions wrote sub-agents (sidechains) between the lines of the session."""
    nodes: dict[str, _Node] = {}
    for number, line in source.objects():
        uuid = as_text(line.get("uuid"))
        if uuid is None or not as_text(line.get("sessionId")):
            continue  # summaries, file snapshots, queue operations: about the session, not part of the conversation
        if uuid in nodes:
            source.problems.append(f"line {number}: uuid {uuid} is there twice; the first one holds")
            continue
        nodes[uuid] = _Node(line, len(nodes), at_ns=epoch_ns(line.get("timestamp")))
    for node in nodes.values():
        parent = as_text(node.line.get("parentUuid"))
        above = nodes.get(parent or "")
        # A parent stands before its child; anything else would be a circle.
        if above is not None and above.order < node.order:
            node.above = above
        else:
            node.is_cut = parent is not None
    found: dict[tuple[str, str | None], _Part] = {}
    side: dict[int, str | None] = {}  # by order: the sub-agent a node belongs to
    for node in nodes.values():
        agent = as_text(node.line.get("agentId"))
        if agent is None and node.line.get("isSidechain") is True:
            agent = side.get(node.above.order) if node.above is not None else None
            agent = agent or f"sidechain-{as_text(node.line.get('uuid'))}"
        side[node.order] = agent
        session = node.line["sessionId"]
        part = found.setdefault((session, agent), _Part(session, agent, [], source))
        node.place = len(part.nodes)
        part.nodes.append(node)
    return [part for part in found.values() if any(_is_turn(node) for node in part.nodes)]


def _is_turn(node: _Node) -> bool:
    return node.line.get("type") in ("user", "assistant") and isinstance(node.line.get("message"), dict)


def _started_by(parts: Iterable[_Part]) -> dict[str, tuple[str, str]]:
    """For each sub-agent the conversation that started it, and the id of the tool use that did."""
    found: dict[str, tuple[str, str]] = {}
    for part in parts:
        for node in part.nodes:
            agent = as_text(as_object(node.line.get("toolUseResult")).get("agentId"))
            if agent is None:
                continue
            for block in _blocks(node.line):
                if block.get("type") == "tool_result" and isinstance(block.get("tool_use_id"), str):
                    found.setdefault(agent, (part.agent or part.session, block["tool_use_id"]))
    return found


def _blocks(line: dict[str, Any]) -> list[dict[str, Any]]:
    return [as_object(block) for block in as_list(as_object(line.get("message")).get("content"))]


# --- one conversation ------------------------------------------------------------------------------------------------


def _process(part: _Part, key: str) -> Process:
    answers = _answers(part)
    items: list[ModelCall | ToolUse] = []
    results = _results(part)
    for answer in answers:
        items.append(call := _model_call(part, answer))
        ended = (call.started_ns or 0) + (call.duration or 0) if call.started_ns is not None else None
        items += _tools(answer, results, ended)
    items.sort(key=lambda item: item.started_ns or 0)  # stable; what ran at the same time stays in the order asked for
    times = [node.at_ns for node in part.nodes if node.at_ns is not None]
    missing = list(_MISSING)
    if not any(node.line.get("type") == "user" for node in part.nodes if _is_turn(node)):
        missing.append("messages")
    elif any(node.is_cut for node in part.nodes):
        missing.append("the beginning of the conversation")
    details = {
        name: value
        for name, value in (
            ("session", part.session),
            ("agent", part.agent),
            ("version", _last_text(part, "version")),
            ("git_branch", _last_text(part, "gitBranch")),
        )
        if value
    }
    return Process(
        key=key,
        intent=_intent(part),
        items=list(items),
        started_ns=min(times, default=None),
        ended_ns=max(times, default=None),
        cwd=_last_text(part, "cwd"),
        missing=missing,
        details=details,
    )


def _last_text(part: _Part, name: str) -> str | None:
    return next((text for node in reversed(part.nodes) if (text := as_text(node.line.get(name)))), None)


def _intent(part: _Part) -> str:
    """What the first prompt a person (or the parent) wrote asks for; lines about local commands are none."""
    for node in part.nodes:
        line = node.line
        if line.get("type") != "user" or line.get("isMeta") is True or not _is_turn(node):
            continue
        content = as_object(line["message"]).get("content")
        if isinstance(content, list):
            texts = [block.get("text") for block in _blocks(line) if block.get("type") == "text"]
            content = next((text for text in texts if isinstance(text, str)), None)
        if isinstance(content, str) and content.strip() and not content.lstrip().startswith("<"):
            return " ".join(content.split())[:200]
    return f"sub-agent {part.agent}" if part.agent else f"session {part.session}"


def _answers(part: _Part) -> list[_Answer]:
    """The model calls, in the order of their first line; fills in what each node adds to a context."""
    found: dict[str, _Answer] = {}
    for node in part.nodes:
        if not _is_turn(node):
            continue
        message = node.line["message"]
        if node.line["type"] == "user":
            node.messages = _messages(message)
            continue
        known = found.setdefault(as_text(message.get("id")) or f"line {node.order}", _Answer([]))
        known.nodes.append(node)
        known.blocks += _blocks(node.line)
        node.answer = known
    by_use = {
        block["id"]: answer
        for answer in found.values()
        for block in answer.blocks
        if block.get("type") == "tool_use" and isinstance(block.get("id"), str)
    }
    for node in part.nodes:
        if node.line.get("type") == "user" and _is_turn(node):
            asked = {id(one): one for one in (by_use.get(use) for use in _answered(node)) if one is not None}
            for answer in asked.values():
                answer.results.append(node)
    for answer in found.values():
        answer.turn = _messages({"role": "assistant", "content": answer.blocks})
    return list(found.values())


def _answered(node: _Node) -> list[str]:
    uses = (block.get("tool_use_id") for block in _blocks(node.line) if block.get("type") == "tool_result")
    return [use for use in uses if isinstance(use, str)]


def _messages(message: dict[str, Any]) -> list[CtxMessage]:
    return anthropic.parse_request("", _json({"messages": [message]})).messages


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _context(first: _Node) -> tuple[list[CtxMessage], str | None]:
    """What stands between the root and the first line of an answer, results of tools beside the way included; and why
    that is not all the model saw.
    """
    way: list[_Node] = []
    node = first.above
    while node is not None:
        way.append(node)
        node = node.above
    messages: list[CtxMessage] = []
    taken: set[int] = set()
    for one in reversed(way):
        if one.order in taken:
            continue
        if one.answer is None:
            messages += one.messages
            taken.add(one.order)
            continue
        if one.answer is first.answer:
            continue
        taken.update(node.order for node in one.answer.nodes)
        messages += one.answer.turn
        for result in one.answer.results:
            if result.order < first.order and result.order not in taken:
                taken.add(result.order)
                messages += result.messages
    name_tool_results(messages)
    if not messages:
        return messages, "the messages are not in the file"
    return messages, "the beginning of the conversation is not in the file" if (way or [first])[-1].is_cut else None


def _model_call(part: _Part, answer: _Answer) -> ModelCall:
    first, last = answer.nodes[0], answer.nodes[-1]
    message = as_object(last.line.get("message"))
    said = anthropic.parse_response(
        "", _json({**message, "content": answer.blocks, "usage": _usage(answer)}), "application/json", 200, True
    )
    model = as_text(message.get("model"))
    if model == _SYNTHETIC:
        said = LLMResponse(error=ErrorData("error", said.text))
        model = None
    elif last.line.get("isApiErrorMessage") is True:
        said.error = ErrorData("error", said.text)
    messages, partial = _context(first)
    ended = max((node.at_ns for node in answer.nodes if node.at_ns is not None), default=None)
    # The request left when the last line before it was there: that is the earliest, and what can be known.
    before = (node.at_ns for node in part.nodes[: first.place] if node.at_ns is not None and _is_turn(node))
    began = max((at for at in before if first.at_ns is None or at <= first.at_ns), default=first.at_ns)
    return ModelCall(
        messages=messages,
        answer=said,
        model=model,
        provider="anthropic",
        vendor="anthropic",
        partial=partial,
        started_ns=began,
        duration=max(ended - began, 0) if ended is not None and began is not None else None,
        request_id=as_text(last.line.get("requestId")),
    )


def _usage(answer: _Answer) -> dict[str, Any]:
    """The final counts: the lines are written while the answer streams, and the counts only grow."""
    best: dict[str, Any] = {}
    for node in answer.nodes:
        usage = as_object(as_object(node.line.get("message")).get("usage"))
        if usage and _size(usage) >= _size(best):
            best = usage
    return best


def _size(usage: dict[str, Any]) -> tuple[int, ...]:
    return tuple(value if isinstance(value := usage.get(name), int) else -1 for name in _COUNTS)


def _results(part: _Part) -> dict[str, tuple[_Node, dict[str, Any]]]:
    return {
        block["tool_use_id"]: (node, block)
        for node in reversed(part.nodes)  # the first result of a use holds
        if node.line.get("type") == "user"
        for block in _blocks(node.line)
        if block.get("type") == "tool_result" and isinstance(block.get("tool_use_id"), str)
    }


def _tools(answer: _Answer, results: dict[str, tuple[_Node, dict[str, Any]]], ended: int | None) -> Iterable[ToolUse]:
    for node in answer.nodes:
        for block in _blocks(node.line):
            use = block.get("id")
            if block.get("type") != "tool_use" or not isinstance(use, str) or use not in results:
                continue  # a use without a result never ran, or the session ended in it
            after, result = results[use]
            began = node.at_ns if node.at_ns is not None else ended
            name = as_text(block.get("name")) or "unknown"
            mcp = name.startswith("mcp__") and name.count("__") >= 2
            content = "\n".join(message.content for message in _messages({"role": "user", "content": [result]}))
            failed = result.get("is_error") is True
            yield ToolUse(
                name="/".join(name.split("__", 2)[1:]) if mcp else name,
                input=block.get("input"),
                result=None if failed else content,
                err=(content or "error") if failed else "",
                key=use,
                mcp=mcp,
                started_ns=began,
                duration=max(after.at_ns - began, 0) if after.at_ns is not None and began is not None else None,
            )
