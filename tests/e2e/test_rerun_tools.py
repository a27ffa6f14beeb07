"""`@unspool.tool` in a rerun: what is served, what runs for real and why, and what is a divergence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from capture_harness import AGENTS, Recording, Result, recordings, run_agent
from capture_reruns import Rerun, rerun, root_of

from unspool.demo.server import ModelServer


class Recorded(NamedTuple):
    store: Path
    trace: Path
    env: dict[str, str]
    scenario: str
    result: Result
    root: Recording

    def ran(self) -> list[str]:
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def again(self, env: dict[str, str] | None = None, **rules: object) -> Rerun:
        """Run it again, its trace emptied."""
        self.trace.unlink(missing_ok=True)
        argv: list[str | Path] = [sys.executable, AGENTS / "decorated_tools.py", self.scenario]
        return rerun(self.store, argv, self.root, env=self.env | (env or {}), **rules)


def record(scenario: str, tmp_path: Path, **env: str) -> Recorded:
    store, trace = tmp_path / "store", tmp_path / "trace"
    env = {"TRACE": str(trace), **env}
    result = run_agent("decorated_tools", scenario, store=store, **env)
    assert (result.code, result.stderr) == (0, b"")
    assert "error" not in str(result.facts()[scenario])[:20]
    recorded = Recorded(store, trace, env, scenario, result, root_of(recordings(store)))
    assert recorded.ran()
    return recorded


def matches(second: Rerun) -> list[str | None]:
    return [entry.match for entry in second.of_kind("tool")]


@pytest.mark.parametrize("scenario", ["values", "generators", "concurrent"])
def test_results_are_given_back_as_they_were(scenario: str, tmp_path: Path) -> None:
    recorded = record(scenario, tmp_path)
    second = recorded.again({"TWIST": "!"})
    assert second.result.stdout == recorded.result.stdout, second.result.stderr.decode()
    assert second.of_kind("divergence") == []
    assert set(matches(second)) == {"served"}
    assert len(second.of_kind("tool")) == len(second.offers)
    assert recorded.ran() == []
    [made] = second.recordings
    assert {event.origin for event in made.syscalls("ToolCall")} == {"served"}

    def told(recording: Recording) -> list[str]:
        calls = [event.syscall for event in recording.syscalls("ToolCall")]
        return sorted(repr((one.args, one.result, one.err, one.result_type, one.error)) for one in calls if one)

    assert told(made) == told(recorded.root)


def test_an_ordinary_run_says_nothing_of_origins(tmp_path: Path) -> None:
    recorded = record("once_more", tmp_path)
    assert [event.origin for event in recorded.root.events if event.syscall is not None] == [None]


def test_what_cannot_be_rebuilt_runs_and_is_reported(tmp_path: Path) -> None:
    recorded = record("unrebuildable", tmp_path)
    second = recorded.again()
    assert second.result.stdout == recorded.result.stdout
    entries = second.of_kind("tool")
    assert [entry.match for entry in entries] == ["live"] * 4
    assert len(recorded.ran()) == 4
    reasons = [entry.reason or "" for entry in entries]
    assert reasons[0].startswith("its result was a __main__.Opaque, which the recorded JSON does not give back")
    assert "list does not say what in it was __main__.Point, builtins.tuple, datetime.date" in reasons[1]
    assert "key of builtins.int" in reasons[2]
    assert "builtins.tuple" in reasons[3]
    assert {entry.path for entry in entries} == {"/dev/tool/give"}
    assert {event.origin for event in second.recordings[0].syscalls("ToolCall")} == {"live"}


def test_errors_are_raised_anew(tmp_path: Path) -> None:
    recorded = record("errors", tmp_path)
    second = recorded.again()
    assert second.result.stdout == recorded.result.stdout
    by_path = {entry.path: entry for entry in second.of_kind("tool")}
    assert {path for path, entry in by_path.items() if entry.match == "served"} == {
        "/dev/tool/ValueError", "/dev/tool/KeyError", "/dev/tool/Refused", "/dev/tool/FileNotFoundError",
    }  # fmt: skip
    odd = by_path["/dev/tool/Odd"]
    assert odd.match == "live"
    assert "it raised __main__.Odd, which cannot be made from its arguments" in (odd.reason or "")
    assert len(recorded.ran()) == 1


def test_a_cancelled_call_is_cancelled_again(tmp_path: Path) -> None:
    recorded = record("cancelled", tmp_path)
    second = recorded.again()
    assert second.result.stdout == recorded.result.stdout
    assert matches(second) == ["served"]
    assert recorded.ran() == []


# --- what the recording does not hold --------------------------------------------------------------------------------


def test_other_arguments_are_a_divergence(tmp_path: Path) -> None:
    recorded = record("other_arguments", tmp_path)
    second = recorded.again({"TWIST": " and dogs"})
    assert (second.result.code, second.result.stdout) == (3, b"")
    assert recorded.ran() == []
    [entry] = second.of_kind("divergence")
    assert (entry.path, entry.offer, entry.reason) == ("/dev/tool/search", 1, "called with other arguments")
    assert entry.detail["differs"] == {"query": {"recorded": "cats", "asked": "cats and dogs"}}
    assert entry.at is not None
    assert "other_arguments" in entry.at
    assert second.of_kind("tool") == []


def test_one_call_more_is_a_divergence(tmp_path: Path) -> None:
    recorded = record("once_more", tmp_path)
    second = recorded.again({"TWIST": "!"})
    assert second.result.code == 3
    [entry] = second.of_kind("divergence")
    assert entry.reason == "called more often than in the recording"
    assert (matches(second), recorded.ran()) == (["served"], [])


def test_a_divergence_may_run_live(tmp_path: Path) -> None:
    recorded = record("other_arguments", tmp_path)
    second = recorded.again({"TWIST": " and dogs"}, on_divergence="live")
    assert (second.result.code, second.result.facts()) == (0, {"other_arguments": ["cats and dogs"]})
    assert recorded.ran() == ["search cats and dogs"]
    assert len(second.of_kind("divergence")) == 1
    assert matches(second) == ["live"]


@pytest.mark.parametrize("name", ["search", "/dev/tool/search", "/dev/tool/", "*"])
def test_a_tool_may_be_allowed_to_run(name: str, tmp_path: Path) -> None:
    recorded = record("other_arguments", tmp_path)
    second = recorded.again({"TWIST": " and dogs"}, live_tools=[name])
    assert second.result.facts() == {"other_arguments": ["cats and dogs"]}
    assert second.of_kind("divergence") == []
    [entry] = second.of_kind("tool")
    assert (entry.match, entry.reason) == ("live", "it may run for real (--live-tools)")


# --- tools in a fork -------------------------------------------------------------------------------------------------


@pytest.fixture
def forked(tmp_path: Path) -> Recorded:
    with ModelServer() as server:
        return record("forked", tmp_path, MODEL_URL=server.url)


def fork(forked: Recorded, **rules: object) -> Rerun:
    """Leave it at its second model call; the model is there again."""
    port = int(forked.env["MODEL_URL"].rpartition(":")[2])
    target = (forked.root.metadata.record_id, forked.root.snapshots()[1].seq_num)
    with ModelServer(port=port):
        return forked.again(target=target, **rules)


def test_behind_the_fork_a_tool_is_refused(forked: Recorded) -> None:
    second = fork(forked)
    assert (second.result.code, forked.ran()) == (3, [])
    [entry] = second.of_kind("divergence")
    assert entry.reason == "tool act would run for real after the fork; allow it with --live-tools act"
    assert (matches(second), entry.detail) == (["served", "served"], {"refused": True, "asked": {"step": "third"}})


def test_behind_the_fork_a_tool_runs_where_that_is_wanted(forked: Recorded) -> None:
    second = fork(forked, after_fork="run")
    assert (second.result.code, second.result.stdout) == (0, forked.result.stdout), second.result.stderr.decode()
    assert forked.ran() == ["act third"]
    assert matches(second) == ["served", "served", "live"]
    assert second.of_kind("tool")[-1].reason == "it comes after the fork"


def test_a_tool_that_is_named_runs_behind_the_fork_and_not_before(forked: Recorded) -> None:
    second = fork(forked, live_tools=["act"])
    assert second.result.stdout == forked.result.stdout
    assert forked.ran() == ["act third"]
