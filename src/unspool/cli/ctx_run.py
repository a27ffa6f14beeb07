"""`unspool ctx --verify --run`: the whole run again without the blocks, and what came of it beside the recorded one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from unspool.cli import amounts
from unspool.cli.ctx_edits import answered_from, plan_from
from unspool.cli.ctx_verify_text import wrapped
from unspool.cli.fork_run import Forks, Running, run_forks
from unspool.cli.listing import answer_cost
from unspool.errors import UsageError
from unspool.recording.reader import RecordReader
from unspool.recording.tree import descendants
from unspool.replay.outputs import OutputComparison, compare_outputs
from unspool.replay.pairs import StepPair
from unspool.replay.runs import RunsDiff, WholeRun, diff_runs
from unspool.store import Store
from unspool.text import show_text

if TYPE_CHECKING:
    from unspool.cli.ctx_whatif import Without

__all__ = ["Rerun", "rerun_json", "rerun_lines", "run_without_them"]


class Rerun(Struct):
    """Runs to the end without some blocks.

    Attributes:
        diffs: of each fork that recorded something: the recorded run, and the fork.
        outputs: what both wrote to standard output, likewise.
        blocks: that were left out, and the names of the calls they are gone from.
    """

    forks: Forks
    diffs: list[RunsDiff]
    outputs: list[OutputComparison]
    blocks: list[tuple[str, str]]


def run_without_them(store: Store, reader: RecordReader, found: Without, how: Running, *, aside: bool) -> Rerun:
    """Run the program again, served up to the first call that a block is gone from, and without the blocks from there.

    Each block goes after as many outputs had read it as in the recorded run.

    Args:
        aside: what the program writes goes to standard error.

    Raises:
        UsageError: no answered call is left without a block, or the program cannot be run.
    """
    places = [
        (one, call)
        for one in found.dropped
        if (call := answered_from(found.view.run, found.view.call, one)) is not None
    ]
    if not places:
        raise UsageError("--verify --run: no call was answered after the blocks went cold, so there is nothing to run")
    places.sort(key=lambda place: place[1].position)
    plan = plan_from(reader, places)
    forks = run_forks(store, reader.record_id, plan, how, aside=aside)
    price = partial(answer_cost, how.prices)
    root = reader.metadata.root or reader.record_id
    diffs = [
        diff_runs(_folders(store, root), _folders(store, fork.outcome.rerun), price=price)
        for fork in forks.done
        if fork.outcome.rerun is not None
    ]
    outputs = [_outputs(store, diff) for diff in diffs]
    return Rerun(forks, diffs, outputs, [(one.life.block.key, call.name) for one, call in places])


def _folders(store: Store, record_id: str) -> list[Path]:
    started = sorted(descendants(store, record_id), key=lambda one: one.pid)
    return [store.records / record_id, *(store.records / one.record_id for one in started)]


def _outputs(store: Store, diff: RunsDiff) -> OutputComparison:
    first, second = diff.first.steps, diff.second.steps
    served = {
        span
        for pair in diff.pairs
        if pair.first is not None
        and pair.second is not None
        and second[pair.second].origin == "served"
        and (span := first[pair.first].span_id) is not None
    }
    return compare_outputs(
        [store.records / diff.first.record_id], [store.records / diff.second.record_id], frozenset(served)
    )


# --- what came of it -------------------------------------------------------------------------------------------------


def rerun_lines(done: Rerun, estimated: int, width: int | None) -> list[str]:
    """For people.

    Args:
        estimated: tokens that the blocks were said to cost.
    """
    names = ", ".join(f"{show_text(block)} from {call} on" for block, call in done.blocks)
    lines = wrapped(f"  without {names}", width)
    for diff, output in zip(done.diffs, done.outputs, strict=True):
        lines += wrapped(f"  fork {_pid(diff.second)}: {_ended(diff.second)}", width)
        lines += _outcome(diff, output, width)
        lines += _amounts(diff.first, diff.second, estimated)
    if len(done.diffs) == 1 and done.diffs[0].first.last_answer != done.diffs[0].second.last_answer:
        lines += wrapped("  One run tells chance from need badly: --samples 5 runs it five times", width)
    elif len(done.diffs) > 1:
        same = sum(diff.first.last_answer == diff.second.last_answer for diff in done.diffs)
        lines.append(f"  the same final answer in {same} of {len(done.diffs)} runs")
    return lines


def _pid(run: WholeRun) -> str:
    return run.record_id.partition("-")[0]


def _ended(run: WholeRun) -> str:
    if run.exit_code is None:
        return f"{run.status}"
    if run.exit_code == 0:
        return "ended as it should"
    return f"ended with code {run.exit_code}" + (f" after {show_text(run.last_error, 200)}" if run.last_error else "")


def _outcome(diff: RunsDiff, output: OutputComparison, width: int | None) -> list[str]:
    before, after = diff.first, diff.second
    lines = []
    if before.last_answer == after.last_answer:
        lines.append("    final answer  the same")
    else:
        lines.append("    final answer  ANOTHER ONE")
        lines += wrapped(f"      recorded: {show_text(before.last_answer or 'none', 200)}", width)
        lines += wrapped(f"      now:      {show_text(after.last_answer or 'none', 200)}", width)
    tools = amounts.counted(output.by_tools, "line")
    served = f", but for {tools} of tools that were served" if output.by_tools else ""
    lines.append(f"    stdout        {_STDOUT[output.verdict]}{served}")
    ours, theirs = _tool_calls(diff)
    different = _tools_differ(diff)
    if different:
        lines.append(f"    tool calls    {different} DIFFER; there were {len(ours)}, now {len(theirs)}")
    else:
        lines.append(f"    tool calls    the same {len(ours)}" if ours else "    tool calls    none, as before")
    return lines


_STDOUT: Final = {
    "identical": "identical",
    "beginning": "only its beginning",
    "different": "DIFFERS",
    "unknown": "not known",
}


def _tools_differ(diff: RunsDiff) -> int:
    """How many tool calls one run has and the other has not, or with another input."""
    first, second = diff.first.steps, diff.second.steps

    def is_tool(pair: StepPair) -> bool:
        step = first[pair.first] if pair.first is not None else second[pair.second or 0]
        return step.kind == "tool"

    return sum(
        is_tool(pair) and (pair.first is None or pair.second is None or "request" in pair.differs)
        for pair in diff.pairs
        if not pair.covered
    )


def _tool_calls(diff: RunsDiff) -> tuple[list[str], list[str]]:
    """Device paths of the tool calls of both runs, without what was done inside of tools that were served."""
    pairs = [pair for pair in diff.pairs if not pair.covered]
    before = sorted(pair.first for pair in pairs if pair.first is not None)
    after = sorted(pair.second for pair in pairs if pair.second is not None)
    steps = [diff.first.steps[index] for index in before], [diff.second.steps[index] for index in after]
    first, second = ([step.name for step in side if step.kind == "tool"] for side in steps)
    return first, second


def _amounts(before: WholeRun, after: WholeRun, estimated: int) -> list[str]:
    lines = []
    old, new = before.totals.input_tokens, after.totals.input_tokens
    if old is not None and new is not None:
        lines.append(f"    input tokens  {old:,} → {new:,}: {old - new:,} less, {estimated:,} were estimated")
    if before.totals.cost_usd is not None and after.totals.cost_usd is not None:
        lines.append(
            f"    cost          {amounts.cost(before.totals.cost_usd)} → {amounts.cost(after.totals.cost_usd)}, "
            f"{amounts.cost(after.totals.sent_usd)} of it sent now"
        )
    return lines


def rerun_json(done: Rerun, estimated: int) -> dict[str, Any]:
    """For programs."""
    return {
        "blocks": [{"block": block, "call": call} for block, call in done.blocks],
        "estimated_saved_tokens": estimated,
        "runs": [_run_json(*pair) for pair in zip(done.diffs, done.outputs, strict=True)],
        **done.forks.document(),
    }


def _run_json(diff: RunsDiff, output: OutputComparison) -> dict[str, Any]:
    before, after = diff.first, diff.second
    return {
        "fork": after.record_id,
        "exit_code": after.exit_code,
        "same_answer": before.last_answer == after.last_answer,
        "stdout": output.verdict,
        "different_tool_calls": _tools_differ(diff),
        "recorded_answer": before.last_answer,
        "answer": after.last_answer,
        "tool_calls": _tool_calls(diff)[1],
        "recorded_tool_calls": _tool_calls(diff)[0],
        "recorded_input_tokens": before.totals.input_tokens,
        "input_tokens": after.totals.input_tokens,
        "recorded_cost_usd": before.totals.cost_usd,
        "cost_usd": after.totals.cost_usd,
        "sent_usd": after.totals.sent_usd,
    }
