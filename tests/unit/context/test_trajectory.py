"""How contexts grew: the provider's counts, by category, with compactions and the turn under way."""

from __future__ import annotations

from pathlib import Path

from made_contexts import Talk

from unspool.context.reading import read_run
from unspool.context.trajectory import Trajectory, prediction_at, trajectory

LONG = " ".join(f"word{number}" for number in range(200))


def grown(talk: Talk, steps: int) -> Talk:
    talk.user("Find the bug.")
    for number in range(steps):
        talk.use("search", f"{LONG} {number}", say=f"Looking at {number}", given={"of": str(number)})
    return talk


def of(talk: Talk, budget: int = 100_000, *, is_running: bool = False) -> Trajectory:
    run = read_run(talk.read())
    return trajectory(run, run.calls[-1], 1, budget, is_running=is_running)


def test_turns_are_the_providers_counts_and_growth_sums_to_their_differences(tmp_path: Path) -> None:
    talk = grown(Talk(tmp_path), 6)
    found = of(talk)
    assert [turn.step for turn in found.turns] == [1, 2, 3, 4, 5, 6]
    for before, after in zip(found.turns, found.turns[1:], strict=False):
        assert abs(sum(after.growth.values()) - (after.tokens - before.tokens)) <= 5
        assert after.growth["tool results"] > after.growth.get("assistant", 0)
    assert next(iter(found.per_step)) == "tool results"
    talk.close()


def test_a_compaction_is_seen_and_growth_is_counted_since(tmp_path: Path) -> None:
    talk = grown(Talk(tmp_path), 6)
    talk.messages = [talk.messages[0], {"role": "user", "content": "Summary: nothing."}, *talk.messages[-2:]]
    for number in range(3):
        talk.use("search", f"{LONG} again {number}", say="more", given={"of": f"x{number}"})
    found = of(talk)
    assert [turn.step for turn in found.compactions] == [7]
    assert found.turns[6].is_rewritten
    assert found.dropped == found.turns[5].tokens - found.turns[6].tokens
    assert found.per_step["tool results"] > 0
    talk.close()


def test_the_turn_under_way_is_counted(tmp_path: Path) -> None:
    talk = grown(Talk(tmp_path), 6)
    ended, running = of(talk), of(talk, is_running=True)
    assert running.pending
    assert running.prediction.est_remaining == ended.prediction.est_remaining - 1
    talk.send()  # now its context is known
    sent = of(talk, is_running=True)
    assert len(sent.turns) == 7
    assert not sent.turns[-1].is_counted
    assert sent.turns[-1].tokens > sent.turns[-2].tokens
    talk.close()


def test_an_unknown_window_gives_no_forecast(tmp_path: Path) -> None:
    talk = grown(Talk(tmp_path), 4)
    assert of(talk, budget=0).prediction.note == "no budget is set"
    talk.close()


def test_a_single_step(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Hi.").ask("Hello.")
    found = of(talk)
    assert len(found.turns) == 1
    assert found.compactions == []
    talk.close()


def test_refused_calls_are_no_steps(tmp_path: Path) -> None:
    talk = grown(Talk(tmp_path), 2)
    talk.send().answer("", error="overloaded")
    talk.ask()
    assert [turn.call.call for turn in of(talk).turns] == [1, 2, 4]
    talk.close()


def test_an_earlier_forecast_knows_only_what_was_known(tmp_path: Path) -> None:
    talk = grown(Talk(tmp_path), 8)
    found = of(talk)
    early = prediction_at(found, found.turns[3])
    assert early.tokens_used == found.turns[3].tokens
    assert len(early.history) == 4
    talk.close()
