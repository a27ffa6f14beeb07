"""`unspool.on_alert`: once for each level and conversation, and nothing of it reaches the agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from unspool.capture import alerts
from unspool.capture.alerts import ContextAlert, counted, on_alert
from unspool.events import LLMResponseData


@pytest.fixture(autouse=True)
def _nobody_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("UNSPOOL_BUDGET", raising=False)
    yield
    assert alerts._subscriptions == []


def answered(tokens: int | None, lane: int = 1) -> None:
    counted(7, lane, 3, LLMResponseData("m", tokens, 0))


def test_each_level_is_told_once_and_again_after_a_compaction() -> None:
    told: list[ContextAlert] = []
    end = on_alert(told.append, budget=1_000)
    for tokens in (100, 790, 800, 850, 900, 901, 950, 200, 810):
        answered(tokens)
    end()
    answered(999)
    assert [(one.level, one.tokens_used) for one in told] == [("warning", 800), ("critical", 901), ("warning", 810)]
    assert told[0].usage == 0.8


def test_conversations_are_told_apart() -> None:
    told: list[ContextAlert] = []
    end = on_alert(told.append, budget=1_000)
    answered(850, lane=1)
    answered(850, lane=2)
    end()
    assert [one.lane for one in told] == [1, 2]


def test_a_failing_callback_is_reported_once_and_reaches_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_alert: ContextAlert) -> None:
        raise RuntimeError("no pager")

    end = on_alert(fail, budget=1_000)
    for tokens in (850, 10, 850):
        answered(tokens)
    end()
    assert capsys.readouterr().err == "unspool: a callback of on_alert raised RuntimeError: no pager\n"


def test_a_callback_may_end_itself() -> None:
    told: list[ContextAlert] = []

    def once(alert: ContextAlert) -> None:
        told.append(alert)
        end()

    end = on_alert(once, budget=1_000)
    answered(850)
    answered(950)
    assert len(told) == 1
    end()  # again, which does nothing


def test_unknown_counts_are_no_alert() -> None:
    told: list[ContextAlert] = []
    end = on_alert(told.append, budget=1)
    answered(None)
    end()
    assert told == []


def test_the_budget_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPOOL_BUDGET", "1000")
    told: list[ContextAlert] = []
    end = on_alert(told.append)
    answered(850)
    end()
    assert told[0].budget == 1_000


@pytest.mark.parametrize(
    "wrong", [{}, {"budget": 0}, {"budget": -1}, {"budget": 10, "warn": 0}, {"budget": 9, "warn": 2}]
)
def test_values_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="budget"):
        on_alert(print, **wrong)  # type: ignore[arg-type]
