"""Planted tool results, used in five ways or in none: precision (goal 0.95) and recall (goal 0.85) of `leaked`.

Each context is a run of an agent whose tool results are later quoted, named by an identifier (in another spelling), by
a path, by a number alone or in other words, or not at all; some hold what an earlier one holds, some repeat a call.
What is not used is made to look used: it echoes the path of the call, and the outputs speak of the same subjects.
Results with fewer than three later outputs are not judged. The reference's rule stands beside: a tool message of more
than 1,000 bytes that is older than its two windows.

The planted text is made up; so, where ../shared/data is present, real tool results are also planted into real Claude
Code sessions of another project, where nobody can have used them: how many are called used by chance is printed.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unspool.context import ContextData, analyze_context
from unspool.events import CtxMessage, ToolCall

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CONTEXTS, TURNS, JUDGED_AFTER = 120, 30, 3


def words_of(text: str) -> list[str]:
    return text.split()


COMMON = words_of("""
    the a to of and in is it that for on with as this be are was by at from or an have not but all can will one
    has we there which when about error file value test module service request response server client user account
    order payment result return function class method change update check build deploy release version config
    setting option number total record table column query index search page list item entry field name type state
    status message before after between during first second next last other another same different new old small
    large many few some
""")
SUBJECTS = words_of("""
    authentication billing scheduler inventory notifications reporting telemetry storage gateway checkout
    onboarding permissions migration localisation thumbnails webhooks invoices subscriptions replication failover
    throttling caching
""")
PARTS = words_of("""
    refresh token handler retry policy queue worker batch ledger cursor window shard bucket lease probe digest
    channel broker replica packet frame vector matrix anchor signal ticket voucher parcel courier beacon harbor
    pivot lattice
""")
SYLLABLES = words_of("""
    ba ko ri tu men sol var dex pli gra nor fi qua zen lor mip tas vel hun cro
""")
TOOLS = ("read_file", "grep", "run_command", "query_db", "fetch_page")
USES = ("quote", "identifier", "path", "number", "words")


@dataclass
class Planted:
    """A tool result and the truth about it: how it is used ("" never) and in which turn, and whether it leaked."""

    at: int
    text: str
    call: ToolCall
    use: str
    said_in: int
    leaked: bool
    kind: str = ""


@dataclass
class Run:
    """A context under construction; `due` are sentences to be said at later turns."""

    random: random.Random
    messages: list[CtxMessage] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)
    due: dict[int, list[str]] = field(default_factory=dict)

    def sentence(self, least: int = 6, most: int = 16) -> str:
        words = self.random.choices(COMMON, k=self.random.randint(least, most))
        if self.random.random() < 0.4:
            words[self.random.randrange(len(words))] = self.random.choice(SUBJECTS)
        return " ".join(words).capitalize() + "."

    def identifier(self) -> list[str]:
        return self.random.sample(PARTS, self.random.choice((2, 3)))

    def rare_word(self) -> str:
        return "".join(self.random.sample(SYLLABLES, self.random.choice((3, 4))))

    def path(self) -> str:
        folder, stem = self.random.choice(SUBJECTS), "_".join(self.identifier())
        return f"src/{folder}/{stem}.{self.random.choice(('py', 'ts', 'go', 'sql'))}"

    def number(self) -> str:
        kind = self.random.random()
        if kind < 0.1:
            return str(self.random.randint(11, 99))  # hardly a proof of anything, and it does occur
        if kind < 0.4:
            return str(self.random.randint(101, 999))
        if kind < 0.7:
            return f"{self.random.randint(1_000, 999_999):,}"
        return f"{self.random.randint(1_000, 99_999):,}.{self.random.randint(1, 99):02}"


def spell(parts: Sequence[str], style: int) -> str:
    """snake_case, camelCase, PascalCase or plain words."""
    if style == 0:
        return "_".join(parts)
    if style == 1:
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return "".join(part.capitalize() for part in parts) if style == 2 else " ".join(parts)


def content_and_sentence(run: Run, use: str, asked: str) -> tuple[str, str]:
    """A tool result, and the sentence by which an output uses it ("" for none)."""
    pick = run.random
    quote = f"{run.rare_word()} {pick.choice(PARTS)} of {run.rare_word()} {pick.choice(COMMON)} {pick.choice(PARTS)}"
    identifier, path, number = run.identifier(), run.path(), run.number()
    words = [run.rare_word() for _ in range(4)]
    lines = [run.sentence() for _ in range(pick.randint(3, 60))]
    planted = [
        f"# {asked}",
        f"note: {quote}",
        f"def {spell(identifier, pick.randint(0, 2))}(value):",
        f"see {path}:{pick.randint(1, 400)}",
        f"total {number} rows",
        f"{words[0]} and {words[1]}, then {words[2]} with {words[3]}",
        f"elapsed {pick.randint(1, 9)}.{pick.randint(10, 99)} s, exit {pick.randint(0, 2)}",
    ]
    for line in planted:
        lines.insert(pick.randint(0, len(lines)), line)
    said = {
        "": "",
        "quote": f'The output says "{quote}", which explains it.',
        "identifier": f"So the {spell(identifier, pick.randint(0, 3))} is what we need.",
        "path": f"I will open {path} next.",
        "number": f"That makes {number.replace(',', '') if pick.random() < 0.5 else number} in all.",
        "words": f"It is a matter of {words[2]}, {words[0]} and perhaps {words[3]}.",
    }[use]
    return "\n".join(lines), said


def make_run(seed: int) -> tuple[ContextData, list[Planted]]:
    """One context and the truth about its tool results."""
    run = Run(random.Random(seed))
    pick = run.random
    run.messages.append(CtxMessage("user", " ".join(run.sentence() for _ in range(3))))
    for turn in range(TURNS):
        said = [run.sentence(), *run.due.pop(turn, []), run.sentence()]
        pick.shuffle(said)
        asked, call_id = run.path(), f"call_{seed}_{turn}"
        arguments = f'{{"target": "{asked}", "limit": {pick.choice((10, 20, 50))}}}'
        call = ToolCall(pick.choice(TOOLS), arguments, call_id)
        kind = pick.random()
        candidates = [one for one in run.planted if one.kind != "older"] if kind < 0.2 else []
        older = pick.choice(candidates) if candidates else None
        is_copy = older is not None and kind < 0.1
        use, said_in = "", -1
        if older is not None and is_copy:
            text = older.text
            if older.said_in > turn:
                use, said_in = older.use, older.said_in  # what is still to be said is read from the later copy
            older.leaked, older.kind = True, "older"
        else:
            if older is not None:
                call = ToolCall(older.call.name, older.call.arguments, call_id)
                older.leaked, older.kind = older.said_in <= turn, "older"
            use = pick.choice(USES) if pick.random() < 0.5 else ""
            text, sentence = content_and_sentence(run, use, asked)
            said_in = turn + 1 + min(int(pick.expovariate(0.45)), 9)
            if sentence and said_in < TURNS:
                run.due.setdefault(said_in, []).append(sentence)
            else:
                use, said_in = "", -1
        run.messages.append(CtxMessage("assistant", " ".join(said), tool_calls=[call]))
        run.messages.append(CtxMessage("tool", text, call_id))
        run.planted.append(Planted(len(run.messages) - 1, text, call, use, said_in, leaked=not use))
    return ContextData("You are a careful agent.", run.messages), run.planted


def unspool_rule(data: ContextData) -> set[int]:
    """What `analyze_context` calls leaked."""
    evidence = analyze_context(data, 1, 1, 0, 0).evidence
    return {block.index for block in evidence if block.state == "leaked" and block.index is not None}


def reference_rule(data: ContextData) -> set[int]:
    """Tool messages of more than 1,000 bytes before the last max(4, n/5) + max(6, 3n/10) messages."""
    count = len(data.messages)
    old = data.messages[: max(count - max(4, count // 5) - max(6, 3 * count // 10), 0)]
    return {at for at, message in enumerate(old) if message.role == "tool" and len(message.content.encode()) > 1000}


def _report(
    name: str, rule: Callable[[ContextData], set[int]], runs: Sequence[tuple[ContextData, list[Planted]]]
) -> None:
    counts: Counter[tuple[bool, bool]] = Counter()
    missed: Counter[str] = Counter()
    wronged: Counter[str] = Counter()
    for data, planted in runs:
        called = rule(data)
        outputs = [at for at, message in enumerate(data.messages) if message.role == "assistant"]
        for one in planted:
            if sum(at > one.at for at in outputs) < JUDGED_AFTER:
                continue
            counts[one.at in called, one.leaked] += 1
            if one.leaked and one.at not in called:
                missed[one.kind or "never used"] += 1
            if not one.leaked and one.at in called:
                wronged[one.use] += 1
    right, wrong, lost = counts[True, True], counts[True, False], counts[False, True]
    print(
        f"{name:<16} precision {right / max(right + wrong, 1):.3f}, recall {right / max(right + lost, 1):.3f} "
        f"({right + lost} leaked of {sum(counts.values())} judged)"
    )
    print(f"{'':<16} wrongly called leaked, by use: {_listed(wronged)}; missed: {_listed(missed)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


# --- real results where nobody can have used them --------------------------------------------------------------------


def sessions() -> Iterator[tuple[str, list[CtxMessage]]]:
    """Claude Code sessions with eight or more model outputs: the project, and the messages."""
    for path in sorted((DATA / "claude_code").rglob("*.jsonl.gz")):
        messages: list[CtxMessage] = []
        model_turn = None
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                entry = json.loads(line) if line.strip() else {}
                message = entry.get("message")
                if isinstance(message, dict) and entry.get("type") in ("user", "assistant"):
                    _append(messages, message, message.get("id") == model_turn)
                    model_turn = message.get("id")
        if sum(message.role == "assistant" for message in messages) >= 8:
            yield path.relative_to(DATA).parts[1], messages


def _append(messages: list[CtxMessage], message: dict[str, Any], goes_on: bool) -> None:
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if message["role"] == "assistant" and not (goes_on and messages):
        messages.append(CtxMessage("assistant", "", tool_calls=[]))
    for block in blocks:
        if block["type"] == "tool_result":
            inner = block.get("content") or ""
            text = inner if isinstance(inner, str) else "\n".join(part.get("text", "") for part in inner)
            messages.append(CtxMessage("tool", text, block["tool_use_id"]))
        elif block["type"] == "tool_use":
            call = ToolCall(block["name"], json.dumps(block["input"]), block["id"])
            messages[-1].tool_calls = [*(messages[-1].tool_calls or ()), call]
        elif block["type"] in ("text", "thinking") and message["role"] == "assistant":
            messages[-1].content += block[block["type"]]
        elif block["type"] == "text":
            messages.append(CtxMessage("user", block["text"]))


def _report_strangers() -> None:
    if not DATA.is_dir():
        print(f"no data at {DATA}: no real results planted")
        return
    pick = random.Random(1)
    runs = list(sessions())
    results = [
        (project, message)
        for project, messages in runs
        for message in messages
        if message.role == "tool" and len(message.content) > 200
    ]
    planted = used = 0
    for project, messages in runs * 6:
        outputs = [at for at, message in enumerate(messages) if message.role == "assistant"]
        foreign = [message for other, message in results if other != project]
        stranger, at = pick.choice(foreign), pick.randint(outputs[0] + 1, outputs[-JUDGED_AFTER])
        data = ContextData("", [*messages[:at], CtxMessage("tool", stranger.content), *messages[at:]])
        planted += 1
        used += at not in unspool_rule(data)
    print(f"{planted} real results planted into sessions of other projects: {used} called used by chance")


def main() -> None:
    runs = [make_run(seed) for seed in range(CONTEXTS)]
    _report("unspool", unspool_rule, runs)
    _report("reference's rule", reference_rule, runs)
    _report_strangers()
    whole = ContextData("You are a careful agent.", [message for data, _ in runs for message in data.messages][:1000])
    took_s = []
    for _ in range(5):
        began = time.perf_counter()
        analyze_context(whole, 1, 1, 0, 0)
        took_s.append(time.perf_counter() - began)
    size = sum(len(message.content) for message in whole.messages)
    print(f"a context of 1,000 messages, {size / 1e6:.1f} MB: {min(took_s):.3f} s (goal 0.5 s)")
