"""In a rerun clock and chance give what they gave: requests are the same, byte for byte, with the server stopped."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from capture_harness import AGENTS, Recording, Result, environment, recordings, run, run_agent, run_code
from capture_reruns import Rerun, rerun, root_of

from unspool.demo.server import ModelServer


def bodies(found: list[Recording]) -> Counter[bytes | None]:
    return Counter(call.request_body for one in found for call in one.calls)


class Recorded(NamedTuple):
    store: Path
    url: str
    result: Result
    recordings: list[Recording]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The noisy agent, recorded; its server is stopped."""
    store = tmp_path_factory.mktemp("noisy") / "store"
    with ModelServer() as server:
        result = run_agent("noisy", "forwards", store=store, MODEL_URL=server.url)
        url = server.url
    assert (result.code, result.stderr) == (0, b"")
    return Recorded(store, url, result, recordings(store))


def again(noisy: Recorded, order: str, root: Recording | None = None, **rules: object) -> Rerun:
    argv: list[str | Path] = [sys.executable, AGENTS / "noisy.py", order]
    return rerun(noisy.store, argv, root or root_of(noisy.recordings), env={"MODEL_URL": noisy.url}, **rules)


def assert_same(noisy: Recorded, second: Rerun) -> None:
    assert (second.result.stderr, second.result.code) == (b"", 0)
    assert second.of_kind("pin") == []
    assert second.of_kind("divergence") == []
    assert {entry.match for entry in second.of_kind("served")} == {"bytes"}
    assert len(second.of_kind("served")) == len(second.offers) == 28
    assert second.result.stdout == noisy.result.stdout
    assert bodies(second.recordings) == bodies(noisy.recordings)


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_requests_are_the_same_bytes_whatever_the_order(noisy: Recorded, order: str) -> None:
    """Tasks and threads that take turns in another order, and child processes, each get their own values."""
    assert_same(noisy, again(noisy, order))


def test_a_rerun_of_a_rerun(noisy: Recorded) -> None:
    """A rerun notes what it was given, so its recording serves as well as the first one."""
    second = again(noisy, "backwards")
    assert_same(noisy, again(noisy, "forwards", root_of(second.recordings)))


def test_without_pins_it_diverges(noisy: Recorded) -> None:
    second = again(noisy, "forwards", pin=False)
    assert second.result.code == 3
    [divergence] = second.of_kind("divergence")
    assert divergence.at is not None
    assert "noisy.py" in divergence.at


def test_the_command_line_serves_it(noisy: Recorded) -> None:
    root = root_of(noisy.recordings).metadata.record_id
    env = environment(None, MODEL_URL=noisy.url)
    command: list[str | Path] = [sys.executable, "-m", "unspool", "rerun", "--store", noisy.store, root]
    done = run(command, env)
    assert done.code == 0, done
    assert run([*command, "--no-pin"], env).code == 3


ASK = """
import json, os, random, sys, time, uuid
import httpx
def ask(*facts):
    text = " ".join(str(fact) for fact in facts)
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    with httpx.Client() as client:
        return client.post(os.environ["MODEL_URL"] + "/v1/chat/completions", json=body).json()
"""


def record_code(code: str, folder: Path) -> Recorded:
    """Record `agent.py` with this code; the server is stopped afterwards."""
    with ModelServer() as server:
        result = run_code(ASK + code, folder / "store", folder, MODEL_URL=server.url)
        url = server.url
    assert (result.code, result.stderr) == (0, b"")
    return Recorded(folder / "store", url, result, recordings(folder / "store"))


def rerun_code(first: Recorded, code: str, url: str | None = None, **rules: object) -> Rerun:
    folder = first.store.parent
    (folder / "agent.py").write_text(ASK + code)
    argv: list[str | Path] = [sys.executable, folder / "agent.py"]
    return rerun(first.store, argv, root_of(first.recordings), cwd=folder, env={"MODEL_URL": url or first.url}, **rules)


def test_an_edited_program_keeps_the_values_of_the_lines_that_stayed(tmp_path: Path) -> None:
    first = record_code(
        """
def one():
    return time.time()
def two():
    return uuid.uuid4()
ask(one(), two()); ask(one(), two())
""",
        tmp_path,
    )
    second = rerun_code(
        first,
        """
# a comment more
started = time.time()
def two():
    return uuid.uuid4()
def one():
    logged = uuid.uuid4()

    return time.time()
ask(one(), two()); ask(one(), two())
""",
    )
    assert (second.result.stderr, second.result.code) == (b"", 0)
    assert bodies(second.recordings) == bodies(first.recordings)
    pins = {(entry.path, entry.at): entry for entry in second.of_kind("pin")}
    assert sorted(pins, key=str) == [("time", "agent.py:11 <module>"), ("uuid4", "agent.py:15 one")]
    for entry in pins.values():
        assert entry.reason == "the recording holds no read at this line: it is new, or was rewritten"
        assert entry.record_id == first.recordings[0].metadata.record_id
        assert entry.task == "0"


def test_reads_beyond_the_recording_are_real_and_reported_once_a_place(tmp_path: Path) -> None:
    code = "for n in range(ROUNDS):\n    print(time.time())\nask('done')\n"
    first = record_code("ROUNDS = 2\n" + code, tmp_path)
    second = rerun_code(first, "ROUNDS = 5\n" + code)
    assert second.result.code == 0
    was, now = first.result.lines, second.result.lines
    assert now[:2] == was
    assert float(now[2]) > float(was[1])
    [entry] = second.of_kind("pin")
    assert (entry.path, entry.at) == ("time", "agent.py:11 <module>")
    assert entry.reason == "this line reads more often than it did in the recording"


def test_after_the_target_of_a_fork_the_clock_is_real(tmp_path: Path) -> None:
    code = "for n in range(4): ask(n, time.time(), uuid.uuid4(), random.random())\nprint(time.time())\n"
    first = record_code(code, tmp_path)
    [recording] = first.recordings
    target = recording.calls[1].snapshot.seq_num
    with ModelServer() as server:
        forked = rerun_code(first, code, server.url, target=(recording.metadata.record_id, target))
    assert forked.result.code == 0
    [fork] = forked.recordings
    before = [call.request_body for call in recording.calls]
    after = [call.request_body for call in fork.calls]
    assert after[:2] == before[:2]
    assert float(forked.result.lines[0]) > float(first.result.lines[0])
    for was, now in zip(before[2:], after[2:], strict=True):
        assert was is not None
        assert now is not None
        assert was.split()[2:] != now.split()[2:]
    assert forked.of_kind("pin") == []


TOOLS = """
import threading
import unspool
def fresh():
    return f"{uuid.uuid4()} {time.time()} {random.random()} {random.gauss(0, 1)}"
def in_a_thread(function):
    said = []
    worker = threading.Thread(target=lambda: said.append(function()))
    worker.start()
    worker.join()
    return said[0]
@unspool.tool
def look(number):
    print("looked", number)
    return in_a_thread(fresh) + fresh()
ask(fresh(), look(1), fresh())
in_a_thread(lambda: ask(look(2), fresh()))
ask(look(3), fresh())
"""


@pytest.mark.parametrize("live_tools", [[], ["look"]])
def test_what_a_served_tool_would_have_read_is_given_to_nobody(tmp_path: Path, live_tools: list[str]) -> None:
    """Tools share helpers, threads and the generator with the rest of the program, and run in a rerun or do not."""
    first = record_code(TOOLS, tmp_path)
    second = rerun_code(first, TOOLS, live_tools=live_tools)
    assert (second.result.stderr, second.result.code) == (b"", 0)
    assert bodies(second.recordings) == bodies(first.recordings)
    assert {entry.match for entry in second.of_kind("tool")} == {"live" if live_tools else "served"}
    assert second.of_kind("pin") == []


POOL = """
import subprocess
if sys.argv[1:]:
    random.random()
    if sys.argv[1] == "asks":
        print(ask(time.time(), random.random(), uuid.uuid4())["choices"][0]["message"]["content"], flush=True)
else:
    for what in ("idles", "asks", "idles", "asks"):
        subprocess.run([sys.executable, __file__, what], check=True)
"""


def test_children_that_did_nothing_worth_a_recording(tmp_path: Path) -> None:
    """They take nobody's values, and what they draw is real."""
    first = record_code(POOL, tmp_path)
    assert len(first.recordings) == 3
    second = rerun_code(first, POOL)
    assert (second.result.stderr, second.result.code) == (b"", 0)
    assert second.result.stdout == first.result.stdout
    assert bodies(second.recordings) == bodies(first.recordings)
    assert {entry.path for entry in second.of_kind("pin")} == {"process"}
    assert len(second.of_kind("pin")) == 2


SUBAGENTS = """
import threading
import unspool
turn, condition = [0], threading.Condition()
def work(number):
    with unspool.spawn(f"helper {number}"):
        for round_number in range(3):
            with condition:
                condition.wait_for(lambda: ORDER[turn[0]] == number)
                ask(number, random.random(), random.getrandbits(99), random.gauss(0, 1), time.time(), uuid.uuid4())
                turn[0] += 1
                condition.notify_all()
def main():
    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
"""


def test_agents_inside_one_process_share_the_generator(tmp_path: Path) -> None:
    first = record_code(SUBAGENTS + "ORDER = [0, 1, 0, 1, 0, 1, None]\nmain()\n", tmp_path)
    assert len(first.recordings) == 3
    second = rerun_code(first, SUBAGENTS + "ORDER = [1, 1, 0, 0, 0, 1, None]\nmain()\n")
    assert (second.result.stderr, second.result.code) == (b"", 0)
    assert second.of_kind("pin") == []
    assert bodies(second.recordings) == bodies(first.recordings)
