"""`unspool ctx` on the demo shows its planted leak and proves it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_harness import Result, environment, run

from unspool.demo import story
from unspool.demo.server import ModelServer
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.manager import RecordManager
from unspool.recording.reader import RecordReader


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A store with the demo's recording, and the URL of its model."""
    store = tmp_path_factory.mktemp("demo") / "store"
    with ModelServer(story.play, pages=story.PAGES) as server:
        done = run(
            [sys.executable, "-m", "unspool", "demo", "--no-tour", "--store", str(store)],
            environment(None),
            timeout=120,
        )
        assert done.code == 0, done.stderr.decode()
        yield store, server.url


def ctx(demo: tuple[Path, str], *options: str) -> Result:
    command = [sys.executable, "-m", "unspool", "ctx", "1", "--store", str(demo[0]), *options]
    return run(command, environment(None, COLUMNS="80"), timeout=90)


def test_the_planted_leak_is_shown(demo: tuple[Path, str]) -> None:
    done = ctx(demo)
    assert done.code == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert re.search(r"#7 result of payment_log, .* tokens: mostly unused", text)
    assert "of 520 lines only line 352 is referred to, by `ch_9Qx4`" in text
    assert "truncate #7, the result of payment_log: 1 of its 520 lines was used" in text
    assert max(map(len, text.splitlines())) <= 80


def forks_of(demo: tuple[Path, str]) -> dict[str, RecordMetadata]:
    found = RecordManager(demo[0] / "records").list_records()
    return {one.record_id: one for one in found if one.forked_at is not None}


def test_the_planted_leak_is_proven_by_a_fork(demo: tuple[Path, str]) -> None:
    done = ctx(demo, "--without", "payment_log", "--verify", "--base-url", f"{demo[1]}/v1", "--samples", "2", "--json")
    assert done.code == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["saved_tokens"] > 0.6 * found["input_tokens"]
    [check] = found["checks"]
    assert check["proven"] is True
    assert check["outcomes"] == ["same", "same"]
    assert check["blocks"] == ["#7"]
    forks = forks_of(demo)
    assert len(set(check["forks"])) == 2
    for name in check["forks"]:
        assert forks[name].parent == found["record_id"]
        assert forks[name].status is RecordStatus.STOPPED


def test_the_fork_holds_what_came_before_and_the_one_answer(demo: tuple[Path, str]) -> None:
    done = ctx(demo, "--without", "payment_log", "--verify", "--base-url", f"{demo[1]}/v1", "--json")
    found = json.loads(done.stdout)
    [name] = found["checks"][0]["forks"]
    with (
        RecordReader(demo[0] / "records" / name) as fork,
        RecordReader(demo[0] / "records" / found["record_id"]) as recorded,
    ):
        assert fork.damage == []
        at = fork.metadata.forked_at
        assert at is not None
        for before in recorded.events_in_range(1, at - 1):
            after = fork.event(before.seq_num)
            assert (after.type, after.timestamp, after.call) == (before.type, before.timestamp, before.call)
            assert (after.syscall, after.state) == (before.syscall, before.state)
            assert after.origin == ("served" if before.state is None else None)
            if before.context is not None:
                assert fork.context_at(before.seq_num) == recorded.context_at(before.seq_num)
            if before.llm is not None:
                assert fork.response_of(fork.event(before.seq_num)) == recorded.response_of(before)
        [old] = [one for one in recorded.context_at(at).messages if one.tool_name == "payment_log"]
        [new] = [one for one in fork.context_at(at).messages if one.tool_name == "payment_log"]
        assert len(old.content) > 30_000
        assert new.content.count("\n") == 2
        assert [event.type.value for event in fork.events()[at - 1 :]] == [
            "context_snapshot", "syscall", "llm_response", "state_change",
        ]  # fmt: skip
        assert fork.event(at + 2).origin == "live"
        assert b"unspool-demo-key" not in b"".join(one.read_bytes() for one in fork.record_dir.iterdir())
    log = run([sys.executable, "-m", "unspool", "log", "--store", str(demo[0])], environment(None), timeout=60)
    assert name in log.stdout.decode()
    for words in (["diff", found["record_id"], name], ["show", f"{name}@{at}"], ["ctx", name]):
        shown = run([sys.executable, "-m", "unspool", *words, "--store", str(demo[0])], environment(None), timeout=60)
        assert shown.code == 0, shown.stderr.decode()
    diff = run(
        [sys.executable, "-m", "unspool", "diff", found["record_id"], name, "--store", str(demo[0]), "--json"],
        environment(None),
        timeout=60,
    )
    assert json.loads(diff.stdout)["relation"] == "fork"


def test_the_program_can_be_run_again_up_to_the_end_of_such_a_fork(demo: tuple[Path, str]) -> None:
    done = ctx(demo, "--without", "payment_log", "--verify", "--base-url", f"{demo[1]}/v1", "--json")
    [name] = json.loads(done.stdout)["checks"][0]["forks"]
    again = run([sys.executable, "-m", "unspool", "rerun", name, "--store", str(demo[0])], environment(None))
    assert again.code == 3  # it goes on, and the fork ends there
    assert "7 of 7 byte-identical" in (again.stdout + again.stderr).decode()


def test_a_block_that_is_needed_is_told_from_those_that_are_not(demo: tuple[Path, str]) -> None:
    """What the investigator found looks unused, as the model repeats none of its words before it computes."""
    done = ctx(demo, "--leaked", "--verify", "--base-url", f"{demo[1]}/v1", "--max-cost", "1", "--json")
    assert done.code == 0, done.stderr.decode()
    together, *alone = json.loads(done.stdout)["checks"]
    assert set(together["blocks"]) == {"#7", "#8", "#10", "#12", "#14"}
    assert together["proven"] is False
    assert {check["blocks"][0]: check["proven"] for check in alone} == {
        "#7": True, "#8": True, "#12": True, "#10": False, "#14": True,
    }  # fmt: skip


def test_the_difference_is_shown(demo: tuple[Path, str]) -> None:
    done = ctx(demo, "--without", "ask_investigator", "--verify", "--base-url", f"{demo[1]}/v1")
    assert done.code == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert "NOT proven" in text
    assert "recorded: " in text
    assert "(249.00 + 8" in text  # the model is sampled: where the two part differs


def test_limits_of_verify_are_kept_and_said(demo: tuple[Path, str]) -> None:
    before = len(forks_of(demo))
    for limit in (("--max-calls", "1"), ("--max-cost", "0.000001")):
        done = ctx(demo, "--leaked", "--verify", "--base-url", f"{demo[1]}/v1", *limit)
        assert done.code == 0
        assert f"not all is checked: {limit[0]}" in done.stderr.decode()
    assert len(forks_of(demo)) == before + 2


@pytest.fixture
def fresh_model() -> Iterator[str]:
    """The demo's model, asked for the first time: what it is asked again it may answer otherwise."""
    with ModelServer(story.play, pages=story.PAGES) as server:
        yield server.url


def test_the_program_is_run_to_its_end_without_the_blocks(fresh_model: str, tmp_path: Path) -> None:
    env = environment(None, OPENAI_BASE_URL=f"{fresh_model}/v1", COLUMNS="80")
    store = ("--store", str(tmp_path / "store"))
    unspool = [sys.executable, "-m", "unspool"]
    made = run([*unspool, "run", *store, "--", sys.executable, "-m", "unspool.demo.agent"], env, timeout=120)
    assert made.code == 0, made.stderr.decode()
    words = [*unspool, "ctx", "1", *store, "--leaked", "--verify", "--run", "--live-tools", "*", "--json"]
    done = run(words, env, timeout=120)
    assert done.code == 0, done.stderr.decode()
    rerun = json.loads(done.stdout)["rerun"]
    assert [(one["block"], one["call"]) for one in rerun["blocks"]] == [
        ("#7", "call 7"), ("#8", "call 9"), ("#10", "call 10"), ("#14", "call 10"), ("#12", "call 11"),
    ]  # fmt: skip
    [ran] = rerun["runs"]
    assert ran["exit_code"] == 0
    assert ran["same_answer"] is False  # without what the investigator found the refund is another one
    saved = ran["recorded_input_tokens"] - ran["input_tokens"]
    assert saved == pytest.approx(rerun["estimated_saved_tokens"], rel=0.1)
    with RecordReader(tmp_path / "store" / "records" / ran["fork"]) as fork:
        sent = {
            event.call: {message.tool_name: message.content for message in fork.context_of(event.context).messages}
            for event in fork.bare_events()
            if event.context is not None
        }
    assert len(sent[7]["payment_log"]) < 300
    assert not sent[8]["customer_profile"].startswith("[left out")  # it goes when it had gone cold, not before
    assert sent[9]["customer_profile"].startswith("[left out")
    text = run(words[:-1], env, timeout=120).stdout.decode()
    assert "Run again without them" in text
    assert "were estimated" in text


def test_a_server_that_is_gone_is_said_for_each_block(demo: tuple[Path, str]) -> None:
    words = ("--verify", "--each", "--base-url", "http://127.0.0.1:9/v1", "--max-calls", "3")
    done = ctx(demo, "--leaked", *words)
    assert done.code == 0
    assert done.stdout.decode().count("not checked: cannot reach") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--verify",), "add --leaked or --without"),
        (("--leaked", "--run"), "--run goes with --verify"),
        (("--leaked", "--verify", "--run", "--each"), "leave --base-url"),
        (("--leaked", "--verify", "--yes"), "--verify --run"),
    ],
)
def test_options_that_do_not_go_together(demo: tuple[Path, str], words: tuple[str, ...], said: str) -> None:
    done = ctx(demo, *words)
    assert done.code == 2
    assert said in " ".join(done.stderr.decode().split())


def test_verify_without_a_key_says_which(demo: tuple[Path, str]) -> None:
    env = environment(None)
    del env["OPENAI_API_KEY"]
    command = [sys.executable, "-m", "unspool", "ctx", "1", "--store", str(demo[0]), "--leaked", "--verify"]
    done = run([*command, "--base-url", f"{demo[1]}/v1"], env, timeout=90)
    assert done.code == 2
    assert b"OPENAI_API_KEY" in done.stderr
    assert b"Traceback" not in done.stderr
