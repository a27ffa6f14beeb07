"""Agents that send a window over their history: which calls are one conversation, and which messages are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_contexts import Talk

from unspool.context.reading import read_run
from unspool.context.trajectory import trajectory
from unspool.recording.reader import RecordReader


def slid(folder: Path, turns: int, size: int, system: str | None) -> RecordReader:
    talk = Talk(folder)
    talk.system = system
    history = []
    for number in range(turns):
        history.append({"role": "user", "content": f"question {number}: which of the rows is the longest?"})
        talk.messages = history[-size:]
        talk.ask(f"answer {number}: it is the last one")
        history.append(talk.messages[-1])
    return talk.close()


@pytest.mark.parametrize("size", [3, 4, 10, 11])
@pytest.mark.parametrize("system", ["Be brief.", None])
def test_a_window_that_slides_is_one_conversation(tmp_path: Path, size: int, system: str | None) -> None:
    run = read_run(slid(tmp_path, 30, size, system))
    assert run.conversations == [list(range(30))]
    texts = [block.text for block in run.blocks if block.category != "system"]
    assert len(texts) == len(set(texts)) == 59  # the last answer was not sent
    assert run.rewritten == list(range(-(-size // 2), 30))


def test_windows_over_two_histories_are_two_conversations(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    talk.system = "Be brief."
    histories: tuple[list[dict[str, str]], ...] = ([], [])
    for number in range(12):
        for name, history in zip("ab", histories, strict=True):
            history.append({"role": "user", "content": f"{name}: question {number}"})
            talk.messages = history[-6:]
            talk.ask(f"{name}: answer {number}")
            history.append(talk.messages[-1])
    run = read_run(talk.close())
    assert run.conversations == [list(range(0, 24, 2)), list(range(1, 24, 2))]


def test_another_task_that_begins_alike_is_another_conversation(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    talk.system = None
    for task in ("the trains", "the planes"):
        talk.messages = []
        for number in range(5):
            talk.user("Go on." if number else f"Look at {task}.").ask(f"{number} of {task}")
    talk.messages = []
    talk.user("Go on.").ask("With what?")
    run = read_run(talk.close())
    assert run.conversations == [list(range(5)), list(range(5, 10)), [10]]


def test_a_window_that_is_full_is_never_fuller(tmp_path: Path) -> None:
    run = read_run(slid(tmp_path, 40, 10, None))
    found = trajectory(run, run.calls[-1], 1, 128_000)
    assert len(found.turns) == 40
    assert (found.prediction.note, found.prediction.est_high) == ("the context is not growing", 0)
    assert sum(found.per_step.values()) < 1
