"""Run files of agent benchmarks: tau-bench, SWE-agent, mini-swe-agent, Who&When, tau2-bench's voice simulations.

None of them says what a model call cost or when it was made; some say how long a tool took. Scores, labels and totals
of a run are kept as details of the recording and are not spread over its calls.
"""

from __future__ import annotations

import re
from typing import Any, Final

from unspool.events import CtxMessage, LLMResponse
from unspool.interop.conversations import answer_of, as_chat, conversation_items, parsed_arguments
from unspool.interop.imported import Item, ModelCall, Process, Run, Step, ToolUse, epoch_ns
from unspool.interop.sources import ImportFault, Source
from unspool.providers.turns import leading_system
from unspool.providers.wire import as_list, as_object, as_text, decode_json

__all__ = ["read_mini_swe_agent", "read_swe_agent", "read_tau2_voice", "read_tau_bench", "read_who_and_when"]

_TIMES: Final = ("times", "tokens", "tool definitions", "request parameters")
_TERMINALS: Final = ("Computer_terminal",)  # Who&When: what ran code, which is a tool
_SPEAKER: Final = re.compile(r"(?P<agent>.*?)\s*\((?P<what>.*)\)\s*\Z", re.DOTALL)


def read_tau_bench(source: Source) -> list[Run]:
    """Each run of a tau-bench results file."""
    runs = []
    for number, value in enumerate(as_list(source.document())):
        entry = as_object(value)
        trajectory = entry.get("traj")
        if not isinstance(trajectory, list):
            source.problems.append(f"run {number}: no list under traj")
            continue
        task, trial = entry.get("task_id"), entry.get("trial")
        info = as_object(entry.get("info"))
        details = {"task_id": task, "trial": trial, "reward": entry.get("reward"), "user_cost": info.get("user_cost")}
        process = Process(
            key=f"{task}-{trial}",
            intent=f"tau-bench task {task}, trial {trial}",
            items=conversation_items(as_chat(trajectory), provider="openai_chat"),
            missing=[*_TIMES, "models"],
            details=_known(details),
        )
        runs.append(Run([process]))
    return runs


def read_mini_swe_agent(source: Source) -> list[Run]:
    """A mini-swe-agent trajectory: a list of messages, or an object that has one and facts about the run."""
    document = source.document()
    facts = as_object(document)
    messages = document if isinstance(document, list) else as_list(facts.get("messages"))
    info = as_object(facts.get("info"))
    model = as_text(as_object(as_object(info.get("config")).get("model")).get("model_name"))
    chat = as_chat(messages)
    skipped = len(chat) - len(leading_system(chat)[1])
    items: list[Item] = []
    for item in conversation_items(chat, model=model):
        items.append(item)
        following = chat[skipped + len(item.messages) + 1 :] if isinstance(item, ModelCall) else []
        command = _bash_command(item.answer.text) if isinstance(item, ModelCall) else None
        if command is not None and following and following[0].role == "user":
            items.append(_bash(command, following[0].content))
    details = {"exit_status": info.get("exit_status"), "model_stats": info.get("model_stats")}
    missing = [*_TIMES, *([] if model else ["models"])]
    intent = next((one.content for one in chat if one.role == "user"), source.name)
    return [Run([Process("run", _short(intent), items, missing=missing, details=_known(details))])]


def _bash_command(text: str) -> str | None:
    """The one command of an answer, in a fenced block, if it has exactly one."""
    found: list[str] = re.findall(r"```(?:mswea_bash_command|bash)\s*\n(.*?)\n```", text, re.DOTALL)
    return found[0].strip() if len(found) == 1 else None


def _bash(command: str, observation: str) -> ToolUse:
    code = re.search(r"<returncode>(-?\d+)</returncode>", observation)
    failed = code is not None and code.group(1) != "0"
    return ToolUse(
        "bash",
        {"command": command},
        result=None if failed else observation,
        err=f"exit code {code.group(1)}\n{observation}" if failed and code is not None else "",
    )


def read_swe_agent(source: Source) -> list[Run]:
    """A SWE-agent .traj file."""
    document = as_object(source.document())
    info = as_object(document.get("info"))
    history = [as_object(one) for one in as_list(document.get("history"))]
    chat = [_swe_message(one) for one in history]
    model = _swe_model(document.get("replay_config"))
    spoken = [index for index, one in enumerate(history) if one.get("role") == "assistant" and not one.get("is_demo")]
    items: list[Item] = []
    for number, value in enumerate(as_list(document.get("trajectory"))):
        step = as_object(value)
        said = spoken[number] if number < len(spoken) else len(chat)
        answer = answer_of(chat[said]) if said < len(chat) else LLMResponse()
        answer.text = as_text(step.get("response")) or answer.text
        answer.model = model
        system, context = leading_system(chat[:said])
        if answer.text or answer.tool_calls:
            items.append(ModelCall(messages=context, answer=answer, system_prompt=system, model=model))
        action = as_text(step.get("action")) or ""
        if action.strip():
            call = answer.tool_calls[0] if len(answer.tool_calls) == 1 else None
            took = step.get("execution_time")
            items.append(
                ToolUse(
                    name=call.name if call is not None else action.split(None, 1)[0],
                    input=parsed_arguments(call) if call is not None else {"action": action},
                    result=as_text(step.get("observation")),
                    duration=round(took * 1e9) if isinstance(took, int | float) and took >= 0 else None,
                    key=call.id if call is not None else None,
                )
            )
    stats = as_object(info.get("model_stats"))
    details = {
        "exit_status": info.get("exit_status"),
        "environment": document.get("environment"),
        "model_stats": stats or None,
    }
    missing = ["times of model calls", "tokens of each call", "tool definitions", "request parameters"]
    intent = next((one.content for one, raw in zip(chat, history, strict=True)
                   if raw.get("role") == "user" and not raw.get("is_demo")), source.name)  # fmt: skip
    if model is None:
        missing.append("models")
    if not any(stats.get(name) for name in ("tokens_sent", "tokens_received")):
        details["note"] = "no tokens were counted: a demonstration or a replay, not a run of a model"
    return [Run([Process("run", _short(intent), items, missing=missing, details=_known(details))])]


def _swe_message(raw: dict[str, Any]) -> CtxMessage:
    ids = [one for one in as_list(raw.get("tool_call_ids")) if isinstance(one, str)]
    wire = {name: raw[name] for name in ("role", "content", "tool_calls") if raw.get(name) is not None}
    return as_chat([{**wire, **({"tool_call_id": ids[0]} if ids else {})}])[0]


def _swe_model(config: Any) -> str | None:
    if isinstance(config, str):
        try:
            config = decode_json(config)
        except ValueError:
            return None
    name = as_text(as_object(as_object(as_object(config).get("agent")).get("model")).get("name"))
    return name if name not in ("replay", "human", "human_thought", "instant_empty_submit") else None


def read_who_and_when(source: Source) -> list[Run]:
    """A Who&When log: one process for each agent that speaks, under one that lists the turns in order."""
    document = as_object(source.document())
    history = [as_object(one) for one in as_list(document.get("history"))]
    prompts = as_object(document.get("system_prompt"))
    agents: dict[str, Process] = {}
    turns: list[Item] = []
    before: list[CtxMessage] = []
    missing = [*_TIMES, "models", "structured tool calls"]
    for index, entry in enumerate(history):
        content = as_text(entry.get("content")) or ""
        name, aside = _speaker(entry)
        offset = index * 10
        if name in _TERMINALS:
            turns.append(ToolUse(name, {"step": index}, result=content, offset=offset))
        elif name == "human":
            turns.append(Step("Turn", {"path": "/dev/agent/human", "step": index}, result=content, offset=offset))
        else:
            turns.append(Step("Turn", _known({"path": f"/dev/agent/{name}", "step": index, "aside": aside}),
                              result=content, offset=offset))  # fmt: skip
            agent = agents.setdefault(name, Process(name, name, [], parent="run", missing=missing))
            system = as_text(prompts.get(name))
            call = ModelCall(list(before), LLMResponse(text=content), system_prompt=system, offset=offset)
            call.partial = "what each agent saw is not in the file; these are all turns before"
            agent.items.append(call)
        before.append(CtxMessage(role="assistant" if name != "human" else "user", content=f"[{name}] {content}"))
    labels = {name: document.get(name) for name in ("mistake_agent", "mistake_step", "mistake_reason")}
    details = _known({"question_id": document.get("question_ID"), "level": document.get("level"), **labels})
    question = as_text(document.get("question")) or source.name
    root = Process("run", _short(question), turns, missing=missing, details=details)
    return [Run([root, *agents.values()])]


def _speaker(entry: dict[str, Any]) -> tuple[str, str | None]:
    """Who speaks, and what stands beside the name in brackets (`thought`, `-> WebSurfer`)."""
    name = as_text(entry.get("name")) or as_text(entry.get("role")) or "unknown"
    match = _SPEAKER.match(name)
    return (match["agent"] or name, match["what"]) if match is not None else (name, None)


def read_tau2_voice(source: Source) -> list[Run]:
    """A tau2-bench voice simulation: who spoke when. What was said is not in these files."""
    document = as_object(source.document())
    items: list[Item] = []
    speaking: dict[str, Step] = {}
    for value in as_list(document.get("ticks")):
        tick = as_object(value)
        at = epoch_ns(tick.get("timestamp"))
        for who in ("agent", "user"):
            chunk = as_object(tick.get(f"{who}_chunk"))
            step = speaking.get(who)
            if chunk.get("contains_speech") is not True:
                speaking.pop(who, None)
            elif step is None:
                speaking[who] = step = Step("Speech", {"path": f"/dev/agent/{who}"}, started_ns=at, duration=0)
                items.append(step)
            if step is not None and at is not None and step.started_ns is not None:
                step.duration = at - step.started_ns
    names = ("id", "task_id", "trial", "seed", "mode", "termination_reason")
    started, ended = epoch_ns(document.get("start_time")), epoch_ns(document.get("end_time"))
    process = Process(
        key="run",
        intent=f"tau2-bench voice task {document.get('task_id')}",
        items=items,
        started_ns=started,
        ended_ns=ended,
        missing=["messages", "model calls", "tokens"],
        details=_known({name: document.get(name) for name in names}),
    )
    if not as_list(document.get("ticks")):
        raise ImportFault(f"{source.path}: a simulation without ticks")
    return [Run([process])]


def _known(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value is not None}


def _short(text: str) -> str:
    return " ".join(text.split())[:200]
