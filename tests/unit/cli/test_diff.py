"""`unspool diff`: two points, in one recording or in two."""

from __future__ import annotations

import json

from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType


def context(*texts: str, system: str = "be brief") -> RecordEvent:
    messages = [CtxMessage("user", text) for text in texts]
    data = ContextSnapshotData(messages=messages, system_prompt=system)
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 0, 1, context=data)


def test_two_points_of_one_recording(invoke, make):
    make(context("one"), context("one", "two"))
    result = invoke("diff", "last@1", "last@2")
    assert result.exit_code == 0
    assert "Messages: 1 → 2 (+1)\n  + [user] two\n" in result.stdout


def test_points_of_two_recordings(invoke, make):
    make(context("one"))
    make(context("one", system="be thorough"))
    result = invoke("diff", "1@call:1", "2@call:1", "--json")
    found = json.loads(result.stdout)
    assert found["system_prompt"]["changed"] is True
    assert found["messages"]["added"] == []


def test_a_recording_without_a_point_is_wrong_usage(invoke, make):
    make(context("one"))
    result = invoke("diff", "last", "last@1")
    assert result.exit_code == 2
    assert "last@call:N" in result.stderr


def test_a_point_that_does_not_exist_says_what_does(invoke, make):
    make(context("one"))
    result = invoke("diff", "last@1", "last@9")
    assert result.exit_code == 1
    assert "its events are 1 to 1" in result.stderr
