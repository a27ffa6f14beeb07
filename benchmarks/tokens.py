"""Counts of calls predicted from those of others (goal: mean error under 2 %), against four characters a token.

Claude Code sessions and HTTP cassettes with three or more calls whose counts are known: fitted on the even calls of
each run, the odd ones are predicted. Cassettes of a few dozen tokens with a prompt of their own for each call have
nothing to be predicted from; what requests lean on and do not hold (a conversation that the provider keeps, pages it
searched) cannot be seen. So the mean over all calls stands beside the one weighted by tokens and that of runs whose
calls share most of their prompts; requests that say themselves that they are partial are left out.
"""

from __future__ import annotations

import gzip
import json
import statistics
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from msgspec import structs

from unspool.context.calibrate import Counted, answer_tokens, calibrate
from unspool.events import Context, CtxMessage, Usage
from unspool.providers import PROVIDERS, match
from unspool.text import dump_json
from unspool.tokens import estimate_message, estimate_tokens, estimate_tool

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST_CALLS = 3


class Call(NamedTuple):
    counted: Counted
    characters: int


class Score(NamedTuple):
    tokens: int
    error: float
    plain: float
    is_alike: bool


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def claude_code() -> Iterator[list[Call]]:
    """The chain of lines before each call: a session file has no system prompt and no tools."""
    parse = PROVIDERS["anthropic"].parse_request
    for path in sorted((DATA / "claude_code").rglob("*.jsonl.gz")):
        rows = {row["uuid"]: row for row in _lines(path) if row.get("uuid")}
        calls: dict[str, list[dict[str, Any]]] = {}
        for row in rows.values():
            message = row.get("message")
            is_answer = row["type"] == "assistant" and isinstance(message, dict) and message.get("usage")
            if is_answer and message.get("model") != "<synthetic>":
                calls.setdefault(message["id"], []).append(row)
        run = []
        said: dict[str, tuple[list[CtxMessage], str]] = {}
        for group in calls.values():
            usage = group[-1]["message"]["usage"]
            keys = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            chain, at, seen = [], group[0].get("parentUuid"), set()
            while at in rows and at not in seen:
                seen.add(at)
                if rows[at]["type"] in ("user", "assistant") and isinstance(rows[at].get("message"), dict):
                    chain.append(at)
                at = rows[at].get("parentUuid")
            parts: dict[Hashable, float] = {}
            characters = 0
            for uuid in reversed(chain):
                if uuid not in said:
                    message = {key: rows[uuid]["message"].get(key) for key in ("role", "content")}
                    body = json.dumps({"messages": [message]})
                    said[uuid] = list(parse("", body.encode()).messages), body
                messages, body = said[uuid]
                parts[uuid] = sum(map(estimate_message, messages))
                characters += len(body)
            tokens = sum(usage.get(key) or 0 for key in keys)
            model = group[-1]["message"].get("model") or ""
            run.append(Call(Counted("", sum(parts.values()), 0.0, tokens, model, parts), characters))
        yield run


def cassettes() -> Iterator[list[Call]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted((DATA / "http_cassettes").rglob("*.yaml.gz")):
        try:
            document = yaml.load(gzip.decompress(path.read_bytes()), Loader=loader)
        except yaml.YAMLError:
            continue
        run = []
        answers: dict[str, Usage] = {}
        for one in document.get("interactions", ()):
            found = _exchange(one["request"], one["response"])
            if found is not None:
                context, tokens, size, answer = found
                run.append(Call(_counted(context, tokens, answers), size))
                answers.update(answer)
        yield run


def _exchange(
    request: dict[str, Any], response: dict[str, Any]
) -> tuple[Context, int | None, int, dict[str, Usage]] | None:
    provider = match(request.get("method", "POST"), request["uri"])
    if provider is None:
        return None
    body, answer = _bytes(request), _bytes(response)
    headers = {name.lower(): value for name, value in (response.get("headers") or {}).items()}
    kind = headers.get("content-type")
    status = response.get("status_code") or (response.get("status") or {}).get("code", 200)
    context = provider.parse_request(request["uri"], body)
    said = provider.parse_response(request["uri"], answer, kind[0] if isinstance(kind, list) else kind, status, True)
    if context.partial is not None:
        return None
    known: dict[str, Usage] = {}
    if said.usage is not None and said.usage.output_tokens:
        known[_said_key(said.text, [call.name for call in said.tool_calls])] = said.usage
    return context, said.usage.input_tokens if said.usage else None, len(body), known


def _said_key(text: str, calls: Sequence[str]) -> str:
    return dump_json([text.strip(), calls])


def _bytes(message: dict[str, Any]) -> bytes:
    if message.get("parsed_body") is not None:
        return json.dumps(message["parsed_body"]).encode()
    body = message.get("body")
    body = body.get("string") if isinstance(body, dict) else body
    raw = body.encode() if isinstance(body, str) else body or b""
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def _counted(context: Context, tokens: int | None, answers: dict[str, Usage]) -> Counted:
    tools = sum(map(estimate_tool, context.tools))
    system = context.system_prompt or ""
    head = (context.provider, context.model, system, dump_json(context.tools))
    parts: dict[Hashable, float] = {("tools", head[3]): float(tools), ("system", system): estimate_tokens(system)}
    exact = 0.0
    for place, message in enumerate(context.messages):
        weight: float = estimate_message(message)
        key = _said_key(message.content, [call.name for call in message.tool_calls or ()])
        usage = answers.get(key) if message.role == "assistant" else None
        known = usage and answer_tokens(message, weight, usage.output_tokens, usage.reasoning_tokens, context.provider)
        if known:
            exact += known
        else:
            parts[place, dump_json(message)] = weight
    return Counted(head, sum(parts.values()), exact, tokens, context.model or "", parts)


def _scores(runs: Iterator[list[Call]]) -> tuple[int, list[Score]]:
    used, scores = 0, []
    for run in runs:
        calls = [call for call in run if call.counted.tokens]
        if len(calls) < LEAST_CALLS:
            continue
        used += 1
        hidden = [
            call.counted if place % 2 else structs.replace(call.counted, tokens=None)
            for place, call in enumerate(calls)
        ]
        predicted = calibrate(hidden).predicted
        heads = [call.counted.head for call in calls]
        for place in range(0, len(calls), 2):
            truth = calls[place].counted.tokens or 1
            error = abs(predicted[place] - truth) / truth
            plain = abs(calls[place].characters / 4 - truth) / truth
            scores.append(Score(truth, error, plain, heads[place] in heads[1::2]))
    return used, scores


def _print(name: str, scores: Sequence[Score]) -> None:
    total = sum(score.tokens for score in scores)
    error = 100 * statistics.mean(score.error for score in scores)
    middle = 100 * statistics.median(score.error for score in scores)
    plain = 100 * statistics.mean(score.plain for score in scores)
    within = sum(score.error < 0.02 for score in scores)
    weighted = 100 * sum(score.error * score.tokens for score in scores) / total
    print(
        f"{name}: {len(scores)} calls, error {error:.2f} % in the mean, {middle:.2f} % in the median, "
        f"{weighted:.2f} % of the tokens, {within} calls within 2 %; four characters a token: {plain:.1f} %"
    )


def main() -> None:
    if not DATA.is_dir():
        print(f"no data at {DATA}: nothing measured")
        return
    everything: list[Score] = []
    for name, runs in (("Claude Code", claude_code()), ("cassettes", cassettes())):
        used, scores = _scores(runs)
        print(f"{used} runs with {LEAST_CALLS} or more counts: ", end="")
        _print(name, scores)
        _print("  of these with a prompt head that a fitted call has too", [one for one in scores if one.is_alike])
        everything += scores
    _print("all", everything)


if __name__ == "__main__":
    main()
