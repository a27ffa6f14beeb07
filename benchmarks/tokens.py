"""Counts of calls predicted from those of others (goal: mean error under 2 %), against four characters a token.

Claude Code sessions and HTTP cassettes with three or more calls whose counts are known: fitted on the even calls of
each run, the odd ones are predicted, every one of them, and without a tokenizer. Of some the recording shows that the
provider counted more than was sent: a tool that ran at the provider while it answered, one that it defines itself, a
conversation that it compacted or keeps. Their figure stands apart, beside that of the others and that of all; the size
of an error is never what tells them apart.

What is assumed before a run has counts (`Prior`) is also chosen anew for each run, on the others.
"""

from __future__ import annotations

import gzip
import json
import statistics
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from msgspec import structs

from unspool.events import Context, CtxMessage, LLMResponse, Usage
from unspool.providers import PROVIDERS, match
from unspool.providers.beyond import is_provider_tool, kept_parts, left_by_tools, ran_tools
from unspool.text import dump_json
from unspool.tokens import Family, estimate_parts, estimate_tokens, estimate_tool, family_of, own_tokens
from unspool.tokens.calibrate import PRIOR, Counted, Prior, answer_tokens, calibrate

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST_CALLS = 3
SCALES, WORTHS = (0.9, 1.0, 1.1, 1.2, 1.3), (1_000.0, 2_000.0, 4_000.0, 8_000.0)


class Call(NamedTuple):
    counted: Counted
    characters: int
    beyond: str | None = None


class Score(NamedTuple):
    tokens: int
    error: float
    plain: float
    beyond: str | None


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
                parts[uuid] = float(sum(_weight(one, "anthropic") for one in messages))
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
            call = _exchange(one["request"], one["response"], answers)
            if call is not None:
                run.append(call)
        yield run


def _exchange(request: dict[str, Any], response: dict[str, Any], answers: dict[str, Usage]) -> Call | None:
    provider = match(request.get("method", "POST"), request["uri"])
    if provider is None:
        return None
    body, answer = _bytes(request), _bytes(response)
    headers = {name.lower(): value for name, value in (response.get("headers") or {}).items()}
    kind = headers.get("content-type")
    status = response.get("status_code") or (response.get("status") or {}).get("code", 200)
    context = provider.parse_request(request["uri"], body)
    said = provider.parse_response(request["uri"], answer, kind[0] if isinstance(kind, list) else kind, status, True)
    counted = _counted(context, said, answers)
    beyond = context.partial or ran_tools(answer) or next(filter(None, map(kept_parts, context.messages)), None)
    if beyond is None and any(map(is_provider_tool, context.tools)):
        beyond = "a tool that the provider defines"
    usage = said.usage
    if usage is not None and usage.output_tokens:
        answers[_said_key(said.text, [call.name for call in said.tool_calls])] = usage
    ran = context.partial is not None or ran_tools(answer) is not None
    kept = tuple(filter(None, map(kept_parts, context.messages)))
    again = tuple(float(estimate_tokens(left)) for left in left_by_tools(answer))
    counted = structs.replace(counted, tokens=usage.input_tokens if usage else None, beyond=ran, kept=kept, again=again)
    return Call(counted, len(body), beyond)


def _said_key(text: str, calls: Sequence[str]) -> str:
    return dump_json([text.strip(), calls])


def _bytes(message: dict[str, Any]) -> bytes:
    if message.get("parsed_body") is not None:
        return json.dumps(message["parsed_body"]).encode()
    body = message.get("body")
    body = body.get("string") if isinstance(body, dict) else body
    raw = body.encode() if isinstance(body, str) else body or b""
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def _counted(context: Context, said: LLMResponse, answers: dict[str, Usage]) -> Counted:
    model = said.model or context.model or ""
    family = family_of(context.provider, model)
    system = context.system_prompt or ""
    if any(message.role in ("system", "developer") for message in context.messages):
        system = ""  # it stands among the messages
    head = (context.provider, model, context.system_prompt, dump_json(context.tools))
    parts: dict[Hashable, float] = {
        ("tool", context.tools[:place].count(tool), dump_json(tool)): float(estimate_tool(tool, family=family))
        for place, tool in enumerate(context.tools)
    }
    if system:
        parts["system", system] = float(_weight(CtxMessage("system", system), family))
    exact = 0.0
    for place, message in enumerate(context.messages):
        weight = float(_weight(message, family))
        key = _said_key(message.content, [call.name for call in message.tool_calls or ()])
        usage = answers.get(key) if message.role == "assistant" else None
        counts = (usage.output_tokens, usage.reasoning_tokens) if usage else (None, None)
        known = answer_tokens(message, weight, counts, context.provider, model)
        exact += known or 0.0
        parts[place, dump_json(message)] = known or weight
    own = own_tokens(family, model, bool(context.tools))
    return Counted(head, sum(parts.values()) - exact, exact, None, model, parts, own)


def _weight(message: CtxMessage, family: Family) -> int:
    return sum(tokens for _, tokens in estimate_parts(message, family=family))


def _scores(run: Sequence[Call], prior: Prior = PRIOR) -> list[Score]:
    """The odd calls of a run, predicted from the even ones."""
    calls = [call for call in run if call.counted.tokens]
    if len(calls) < LEAST_CALLS:
        return []
    hidden = [
        call.counted if place % 2 else structs.replace(call.counted, tokens=None) for place, call in enumerate(calls)
    ]
    predicted = calibrate(hidden, prior).predicted
    scores = []
    for place in range(0, len(calls), 2):
        truth = calls[place].counted.tokens or 1
        error = abs(predicted[place] - truth) / truth
        plain = abs(calls[place].characters / 4 - truth) / truth
        scores.append(Score(truth, error, plain, calls[place].beyond))
    return scores


def _left_out(runs: Sequence[Sequence[Call]]) -> tuple[float, Counter[Prior]]:
    """Mean error where the prior of each run is the one that is best for all the others; and which those are."""
    priors = [Prior(scale, worth) for scale in SCALES for worth in WORTHS]
    errors = {prior: [[one.error for one in _scores(run, prior)] for run in runs] for prior in priors}
    sums = {prior: [sum(one) for one in found] for prior, found in errors.items()}
    chosen: Counter[Prior] = Counter()
    total = 0.0
    for place in range(len(runs)):
        # Of equally good ones the nearest to the usual.
        best = min(priors, key=lambda one: (round(sum(sums[one]) - sums[one][place], 9), abs(one.scale - PRIOR.scale)))
        chosen[best] += 1
        total += sums[best][place]
    return total / sum(map(len, errors[PRIOR])), chosen


def _print(name: str, scores: Sequence[Score]) -> None:
    if not scores:
        return
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
    for name, found in (("Claude Code", claude_code()), ("cassettes", cassettes())):
        runs = [run for run in found if _scores(run)]
        scores = [score for run in runs for score in _scores(run)]
        print(f"{len(runs)} runs with {LEAST_CALLS} or more counts: ", end="")
        _print(name, scores)
        _print("  whose content is whole", [one for one in scores if one.beyond is None])
        _print("  whose recording shows that more was counted than was sent", [one for one in scores if one.beyond])
        error, chosen = _left_out(runs)
        said = ", ".join(
            f"{prior.scale:g} worth {prior.worth:,.0f} for {runs}" for prior, runs in chosen.most_common(3)
        )
        print(f"  all, with the prior that is best for the other runs: {100 * error:.2f} % ({said})")
        everything += scores
    _print("all", everything)
    _print("  whose content is whole", [one for one in everything if one.beyond is None])


if __name__ == "__main__":
    main()
