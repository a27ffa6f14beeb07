"""How often the step that people blame is among the first suspects: the Who&When logs, from structure alone.

Failed runs of multi-agent systems, in which people marked the agent and the step that decided the failure (Zhang et
al., "Which Agent Causes Task Failures and When?", ICML 2025). The folder of logs is `$WHO_AND_WHEN`, by default
`../shared/data/who_and_when` beside the repository. Nothing is fitted to the marks: the weights of
`unspool.trace.suspects` were set before any figure was known, but after a look at where in the runs the marked steps
lie (early, mostly), so these are not figures of a blind test. The best that the authors report for models that read
the whole log is 14.2 % of the steps and 53.5 % of the agents, over 184 runs of which these are a part.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unspool.trace.suspects import Turn, suspects

FOLDER = Path(os.environ.get("WHO_AND_WHEN", Path(__file__).parents[2] / "shared" / "data" / "who_and_when"))
KINDS = ("Algorithm-Generated", "Hand-Crafted")
GIVEN = ("Computer_terminal", "human", "user")
TOP = (1, 3, 5)


@dataclass
class Log:
    """One failed run and what people marked."""

    kind: str
    turns: list[Turn]
    step: int
    agent: str


def logs() -> list[Log]:
    found = []
    for kind in KINDS:
        for path in sorted((FOLDER / kind).glob("*.json.gz")):
            data = json.loads(gzip.decompress(path.read_bytes()))
            turns = []
            for item in data["history"]:
                speaker = item.get("name") or item["role"]
                turns.append(Turn(speaker, item["content"], given=speaker in GIVEN))
            found.append(Log(kind, turns, int(data["mistake_step"]), data["mistake_agent"]))
    return found


def agent_of(speaker: str) -> str:
    """`Orchestrator (-> WebSurfer)` is the Orchestrator speaking."""
    return speaker.partition(" (")[0]


def by_structure(log: Log) -> list[int]:
    return [one.step for one in suspects(log.turns)]


def first_to_last(log: Log) -> list[int]:
    return list(range(len(log.turns)))


def last_to_first(log: Log) -> list[int]:
    return list(reversed(range(len(log.turns))))


def hits(ranking: Sequence[int], log: Log, top: int) -> tuple[bool, bool]:
    """Whether the marked step, and the marked agent, are among the first of a ranking."""
    agents = list(dict.fromkeys(agent_of(log.turns[step].speaker) for step in ranking))
    return log.step in ranking[:top], agent_of(log.agent) in agents[:top]


def chance(log: Log, top: int) -> tuple[float, float]:
    """What a random order hits on average: exactly for steps, by 200 draws for agents."""
    rng = random.Random(len(log.turns))
    steps = list(range(len(log.turns)))
    agents = 0
    for _ in range(200):
        rng.shuffle(steps)
        agents += hits(steps, log, top)[1]
    return min(top / len(steps), 1.0), agents / 200


def report(name: str, chosen: list[Log]) -> None:
    print(
        f"{name}: {len(chosen)} runs, {sum(len(log.turns) for log in chosen) / len(chosen):.0f} steps each on average"
    )
    print(f"    {'':<18}" + "".join(f"  top-{top} step  agent" for top in TOP))
    rankings: dict[str, Callable[[Log], list[int]]] = {
        "by structure": by_structure,
        "always first": first_to_last,
        "always last": last_to_first,
    }
    for label, rank in rankings.items():
        ranked = [(rank(log), log) for log in chosen]
        cells = []
        for top in TOP:
            found = [hits(order, log, top) for order, log in ranked]
            cells.append((sum(step for step, _ in found) / len(found), sum(agent for _, agent in found) / len(found)))
        _line(label, cells)
    by_chance = [[chance(log, top) for log in chosen] for top in TOP]
    _line("random", [tuple(sum(column) / len(chosen) for column in zip(*one, strict=True)) for one in by_chance])


def _line(label: str, cells: Sequence[tuple[float, ...]]) -> None:
    print(f"    {label:<18}" + "".join(f"  {step:>9.1%}  {agent:>5.0%}" for step, agent in cells))


def main() -> None:
    if not FOLDER.is_dir():
        print(f"skipped: no logs in {FOLDER} (set WHO_AND_WHEN)")
        return
    found = logs()
    for kind in KINDS:
        report(kind, [log for log in found if log.kind == kind])
    report("All", found)


if __name__ == "__main__":
    main()
