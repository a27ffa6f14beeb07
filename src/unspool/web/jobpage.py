"""A fork that was started, as a page shows it: how it stands, what it said, what came of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from unspool.cli import amounts
from unspool.durations import format_duration
from unspool.events import LLMResponse
from unspool.store import Store
from unspool.text import cut
from unspool.web.forkjobs import Job, Jobs
from unspool.web.forkpage import answer_view
from unspool.web.inspector import Answer
from unspool.web.links import Links

__all__ = ["Ended", "JobPage", "JobRow", "Sampled", "job_page", "jobs_page"]

_SAID: Final = 20_000  # characters of what it wrote on the page
_LISTED: Final = 50
_DIVERGED: Final = 3  # the exit code of a divergence
_TOOLS: Final = ("/dev/tool/", "/dev/mcp/")
_OURS: Final = "unspool: "  # what the command's own lines begin with


@dataclass
class Ended:
    """What came of one fork: `href` of its recording, `compare` with its parent, and what happened in words.

    `refused` are the paths of tools that it was stopped at, as they might not run.
    """

    record_id: str
    href: str
    compare: str
    status: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass
class Sampled:
    """One answer of a call that was sent; `name` is `recorded` for the first."""

    name: str
    facts: list[str]
    answer: Answer | None


@dataclass
class JobPage:
    """A job. `sentence` says how it stands, `problem` what the command said when it could do nothing.

    `refused` names tools that it was stopped at, and `allow_href` is the form with them ticked.
    """

    name: str
    mode: str
    state: str
    sentence: str
    problem: str
    record_id: str
    seq_num: int
    parent_href: str
    form_href: str
    said: str
    is_cut: bool
    forks: list[Ended]
    samples: list[Sampled]
    stopped_early: str
    refused: list[str]
    allow_href: str


@dataclass
class JobRow:
    """A job in the list."""

    href: str
    mode: str
    state: str
    point: str


_SENTENCES: Final = {
    ("run", "running"): "The program is running: served from the recording up to the point, live from there on.",
    ("run", "done"): "The program ran to its end.",
    ("run", "failed"): "The fork failed.",
    ("run", "stopped"): "The fork was stopped.",
    ("send", "running"): "The call is being sent.",
    ("send", "done"): "The call was answered.",
    ("send", "failed"): "The call failed.",
    ("send", "stopped"): "Sending was stopped.",
}
_ADVICE: Final = (
    (re.compile(r": there is no terminal to ask at\. Allow them with --live-tools NAME.*"), ": they are not ticked"),
    (re.compile(r"; allow it with --live-tools .*"), ": it is not ticked in the form"),
)
_STATUSES: Final = {
    "forked": "forked",
    "diverged": "stopped at a divergence",
    "failed": "could not be served",
}


def jobs_page(jobs: Jobs) -> list[JobRow]:
    """All jobs, the latest first."""
    return [
        JobRow(f"/fork/{job.name}", job.order.mode, job.state, f"{job.order.record_id}@{job.order.seq_num}")
        for job in jobs.all()
    ]


def job_page(job: Job, links: Links, store: Store) -> JobPage:
    """How a job stands now."""
    state = job.state  # before what it left: that is complete if this says that it has ended
    order = job.order
    result = job.result() or {}
    said = job.said
    forks = _forks(job, result, links, store) if order.mode == "run" else []
    refused = list(dict.fromkeys(path for one in forks for path in one.refused))
    form_href = f"{links.fork(order.record_id, order.seq_num)}?again={job.name}"
    return JobPage(
        name=job.name,
        mode=order.mode,
        state=state,
        sentence=_sentence(job, state, forks),
        problem=_problem(said) if state == "failed" and not result else "",
        record_id=order.record_id,
        seq_num=order.seq_num,
        parent_href=links.step(order.record_id, order.seq_num),
        form_href=form_href,
        said=_in_words_of_the_form(said[-_SAID:].lstrip("\n")),
        is_cut=job.is_cut or len(said) > _SAID,
        forks=forks,
        samples=_samples(result) if order.mode == "send" else [],
        stopped_early=str(result.get("stopped") or ""),
        refused=[_tool_name(path) for path in refused],
        allow_href=f"{form_href}&{urlencode({'allow': refused}, doseq=True)}" if refused else "",
    )


def _sentence(job: Job, state: str, forks: Sequence[Ended]) -> str:
    if state == "failed" and job.code == _DIVERGED:
        return "The fork was stopped: the program asked for something that may not be done, or is not recorded."
    if state == "failed" and forks and all(one.status == _STATUSES["forked"] for one in forks):
        return "The program ran on from there, and failed."  # its exit code is its own: it stands in the list of runs
    if state == "stopped":  # the list of runs has it by its exit code
        return f"{_SENTENCES[job.order.mode, state]} Its exit code is {_exit_code(job.code)}."
    return _SENTENCES[job.order.mode, state] + (f" Exit code {job.code}." if state == "failed" else "")


def _exit_code(code: int | None) -> int:
    """As a shell has it: 128 and the number of the signal that ended it."""
    return code if code is not None and code >= 0 else 128 - (code or 0)


def _in_words_of_the_form(said: str) -> str:
    """What the command wrote, without its advice on options: in the page a box of the form is what allows a tool."""
    for advice, words in _ADVICE:
        said = advice.sub(words, said)
    return said


def _tool_name(path: str) -> str:
    return path.rpartition("/")[2]


def _problem(said: str) -> str:
    """The command's own last words; what its program wrote stands before them."""
    _, mark, words = f"\n{said}".rpartition(f"\n{_OURS}")
    return cut(words.strip(), 2_000) if mark else ""


def _forks(job: Job, result: dict[str, Any], links: Links, store: Store) -> list[Ended]:
    told = [one for one in result.get("forks", ()) if isinstance(one, dict)]
    if not told:
        told = [{"record_id": name} for name in job.records()]
    found: list[Ended] = []
    for one in told[:_LISTED]:
        name = one.get("record_id")
        is_there = isinstance(name, str) and (store.records / name).is_dir()
        query = urlencode({"a": job.order.root, "b": name})
        found.append(
            Ended(
                record_id=name if isinstance(name, str) else "",
                href=links.run(str(name)) if is_there else "",
                compare=f"/compare?{query}" if is_there else "",
                status=_STATUSES.get(str(one.get("status") or ""), str(one.get("status") or "")),
                facts=_facts(one) if "status" in one else [],
                problems=_problems(one),
                refused=[str(report["what"]) for report in _refusals(one)],
            )
        )
    return found


def _facts(fork: dict[str, Any]) -> list[str]:
    facts = [f"{amounts.counted(fork.get('served') or 0, 'exchange')} served"]
    if fork.get("tools_served"):
        facts.append(f"{amounts.counted(fork['tools_served'], 'tool call')} served")
    facts.append(amounts.counted(fork.get("live") or 0, "live call"))
    if fork.get("live"):
        facts.append(f"{fork.get('input_tokens') or 0:,} → {fork.get('output_tokens') or 0:,} tokens")
        cost = fork.get("cost_usd")
        facts.append("cost unknown" if cost is None else amounts.cost(cost))
    if fork.get("program_exit"):
        facts.append(f"the program ended with code {fork['program_exit']}")
    return facts


def _refusals(fork: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls that a fork was stopped at as they might not run."""
    reports = [one for one in fork.get("divergences") or () if isinstance(one, dict)]
    details = [(one, one.get("detail")) for one in reports if str(one.get("what")).startswith(_TOOLS)]
    return [one for one, detail in details if isinstance(detail, dict) and detail.get("refused")]


def _problems(fork: dict[str, Any]) -> list[str]:
    refused = _refusals(fork)
    found: list[str] = []
    for one in refused:
        at = f" (at {one['at']})" if one.get("at") else ""
        name = cut(_tool_name(str(one["what"])), 200)
        found.append(
            f"The tool {name} was called behind the point with arguments that the recording does not hold, and was not "
            f"ticked, so it did not run and the fork stopped{at}. Tick “{name}” or “All tools may run” in the form."
        )
    for one in fork.get("divergences") or ():
        if isinstance(one, dict) and one not in refused:
            at = f" (at {one['at']})" if one.get("at") else ""
            found.append(cut(f"{one.get('reason') or one.get('what') or 'a divergence'}{at}", 2_000))
    found += [cut(str(text), 2_000) for text in dict.fromkeys(map(str, fork.get("notes") or ()))]
    return found


def _samples(result: dict[str, Any]) -> list[Sampled]:
    if "samples" not in result:
        return []
    found = [Sampled("recorded", [], _answer(result.get("recorded")))]
    for number, one in enumerate(result["samples"][:_LISTED], start=1):
        cost = one.get("cost_usd")
        facts = [f"HTTP {one['status']}"] if one.get("status", 200) >= 400 else []
        facts += [format_duration(one.get("duration") or 0), "cost unknown" if cost is None else amounts.cost(cost)]
        name = "answer" if len(result["samples"]) == 1 else f"answer {number}"
        found.append(Sampled(name, facts, _answer(one.get("answer"))))
    return found


def _answer(value: Any) -> Answer | None:
    with contextlib.suppress(msgspec.ValidationError):  # a server that answers with something else entirely
        return answer_view(msgspec.convert(value, LLMResponse)) if value is not None else None
    return None
