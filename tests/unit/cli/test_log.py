"""`unspool log`: the tree of runs, forks and kept reruns."""

from __future__ import annotations

import re
import shutil

import pytest
from cli_events import model_call, state


@pytest.fixture
def drawn(invoke):
    """The graph with ids as PIDs and without what depends on the clock."""

    def draw(*args: str) -> list[str]:
        result = invoke("log", *args)
        assert result.exit_code == 0, result.output
        lines = re.sub(r"(\d+)-\d{8}T\d{6}-\w+", r"R\1", result.stdout).splitlines()
        return [re.sub(r"\d+[smh] ago, took [^,]+, ", "", line).rstrip() for line in lines]

    return draw


def fork_of(origin, make, *events, at=2, **fields):
    return make(*(events or (state(),)), parent=origin.record_id, parent_pid=origin.pid, forked_at=at, **fields)


def test_an_empty_store_has_no_lines(invoke, store):
    result = invoke("log")
    assert (result.exit_code, result.stdout) == (0, "")


def test_runs_that_nothing_came_from_are_a_list(drawn, make):
    make(*model_call(1), intent="one")
    make(intent="two")
    assert drawn() == [
        "* R2  0 calls, $0, completed  two",
        "* R1  gpt-4.1-mini, 1 call, $0.0006, completed  one",
    ]


def test_a_fork_stands_above_its_origin_with_the_call_it_left_at_and_what_was_changed(drawn, make):
    origin = make(state(), *model_call(1), *model_call(2), intent="origin")
    fork_of(origin, make, *model_call(1), at=5, intent="fork", extra={"edits": ["system prompt: be careful"]})
    assert drawn() == [
        "* R2  gpt-4.1-mini, 1 call, $0.0006, completed  fork",
        "|   forked from R1 at call 2 (event 5)",
        "|   system prompt: be careful",
        "* R1  gpt-4.1-mini, 2 calls, $0.0011, completed  origin",
    ]


def test_several_forks_and_a_fork_of_a_fork_are_drawn_as_branches(drawn, make):
    origin = make(*model_call(1), intent="origin")
    first = fork_of(origin, make, *model_call(1), at=1, intent="first")
    fork_of(origin, make, at=1, intent="second")
    fork_of(first, make, at=1, intent="of the first")
    fork_of(first, make, at=1, intent="of the first too")
    make(intent="other")
    assert [line.partition("  ")[0] + "  " + line.rpartition("  ")[2] for line in drawn()] == [
        "* R6  other",
        "  ",
        "* R5  of the first too",
        "|  forked from R2 at call 1 (event 1)",
        "| * R4  of the first",
        "| |  forked from R2 at call 1 (event 1)",
        "|/  |/",
        "* R2  first",
        "|  forked from R1 at call 1 (event 1)",
        "| * R3  second",
        "| |  forked from R1 at call 1 (event 1)",
        "|/  |/",
        "* R1  origin",
    ]


def test_a_kept_rerun_is_in_the_tree_too(drawn, make):
    origin = make(*model_call(1))
    make(rerun_of=origin.record_id)
    assert drawn()[1] == "|   rerun of R1"


def test_a_fork_whose_origin_is_gone_says_so(drawn, make):
    origin = make(state(), *model_call(1))
    fork_of(origin, make)
    shutil.rmtree(origin.record_dir)
    assert drawn()[1] == "    forked from R1 (that recording is gone) at event 2"


def test_processes_of_a_run_are_one_entry_and_a_fork_of_a_child_hangs_on_its_run(drawn, make):
    root = make(*model_call(1), intent="root")
    worker = make(*model_call(1), *model_call(2), role="worker", parent=root.record_id, parent_pid=root.pid)
    fork_of(worker, make, at=4)
    assert drawn() == [
        "* R3  0 calls, $0, completed  test",
        "|   forked from R2 at call 2 (event 4)",
        "* R1  gpt-4.1-mini, 3 calls, $0.0017, completed  root",
    ]


def test_the_edits_of_a_plan_in_words(as_json, drawn, make):
    edits = {
        "provider": "openai_chat",
        "set_system": "be careful",
        "model": "gpt-5",
        "params": {"temperature": 0},
        "changes": [
            {"kind": "replace", "digest": "a", "occurrence": 0, "position": 1, "label": "message 2", "text": "better"},
            {"kind": "remove", "digest": "a", "occurrence": 0, "position": 1, "label": "message 3"},
            {"kind": "insert", "digest": None, "occurrence": 0, "position": 0, "label": "the beginning",
             "said": [{"role": "user", "text": "hurry"}]},
        ],
        "response": {"status": 200},
    }  # fmt: skip
    origin = make(*model_call(1))
    fork_of(origin, make, at=1, extra={"edits": edits})
    assert [line.strip("| ") for line in drawn()[2:-1]] == [
        "system prompt: be careful", "model: gpt-5", "temperature = 0", "message 2: better", "without message 3",
        "after the beginning: [user] hurry", "another answer",
    ]  # fmt: skip
    assert [one["edits"] for one in as_json("log")] == [None, edits]


@pytest.mark.parametrize("edits", [17, {"changes": 4}, {"changes": [None, {}]}, [None], {"params": []}, ""])
def test_edits_of_any_form_are_no_error(drawn, make, edits):
    origin = make(*model_call(1))
    fork_of(origin, make, at=1, extra={"edits": edits})
    assert drawn()[-1].startswith("* R1")


def test_served_calls_are_counted_apart(drawn, make):
    origin = make(*model_call(1))
    served = [*model_call(1)]
    served[2].origin = "served"
    fork_of(origin, make, *served, *model_call(2), at=1)
    assert drawn()[0] == "* R2  gpt-4.1-mini, 2 calls (1 served), $0.0006, completed  test"


def test_a_recording_shows_the_tree_it_is_in_and_the_limit_counts_originals(drawn, invoke, make):
    one = make(*model_call(1), intent="one")
    fork = fork_of(one, make, at=1)
    make(intent="two")
    assert drawn("-n", "1") == ["* R3  0 calls, $0, completed  two"]
    for address in (one.record_id, fork.record_id):
        assert [line[:4] for line in drawn(address) if line.startswith("*")] == ["* R2", "* R1"]
    assert invoke("log", "99").exit_code == 1


def test_as_json_the_tree_can_be_built_again(as_json, make):
    origin = make(state(), *model_call(1), intent="origin")
    fork = fork_of(origin, make, at=2)
    rerun = make(rerun_of=origin.record_id)
    found = {one["record_id"]: one for one in as_json("log")}
    assert found[fork.record_id]["origin"] == found[rerun.record_id]["origin"] == origin.record_id
    assert [found[one.record_id]["kind"] for one in (origin, fork, rerun)] == ["original", "fork", "rerun"]
    assert (found[fork.record_id]["forked_at"], found[fork.record_id]["forked_at_call"]) == (2, 1)
    assert found[origin.record_id]["models"] == ["gpt-4.1-mini"]


def test_long_chains_of_forks_and_damaged_parents_end(drawn, make, store):
    last = make(*model_call(1))
    for _ in range(60):
        last = fork_of(last, make, at=1)
    lines = drawn()
    assert sum(line.startswith("* R") for line in lines) == 61
    fork_of(last, make, at=99_999)  # an event that is not there
    # Its own parent: a circle that only a damaged file can have.
    metadata = last.record_dir / "metadata.json"
    metadata.write_text(re.sub(r'"parent": "[^"]+"', f'"parent": "{last.record_id}"', metadata.read_text()))
    assert any("at event 99999" in line for line in drawn())


def test_what_a_fork_says_cannot_act_on_the_terminal(invoke, make):
    origin = make(*model_call(1), intent="\x1b]0;t\x07")
    fork_of(origin, make, at=1, extra={"edits": ["\x1b[2J gone\nnew line"]})
    out = invoke("log").stdout
    assert "\x1b" not in out
    assert "\\x1b[2J gone\\nnew line" in out
