"""`unspool flame`."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from cli_events import state, tool


def text_of(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("by", ["time", "tokens", "cost", "carried"])
def test_folded_stacks(invoke, as_json, agent_run, by):
    lines = text_of(invoke("flame", "1", "--by", by)).splitlines()
    assert all(line.startswith("demo") and int(line.rpartition(" ")[2]) > 0 for line in lines)
    found = as_json("flame", "1", "--by", by)
    assert sum(one["value"] for one in found) == sum(int(line.rpartition(" ")[2]) for line in lines)


def test_carried_and_own_cost_are_the_same_money(as_json, agent_run):
    own = sum(one["value"] for one in as_json("flame", "1", "--by", "cost"))
    carried = sum(one["value"] for one in as_json("flame", "1", "--by", "carried"))
    assert carried == pytest.approx(own, abs=12)  # each stack is rounded to a millionth of a dollar


def test_a_picture_is_never_overwritten_by_accident(invoke, agent_run, tmp_path):
    path = tmp_path / "flame.svg"
    assert text_of(invoke("flame", "1", "--svg", str(path))) == ""
    assert ET.parse(path).getroot().tag.endswith("svg")
    result = invoke("flame", "1", "--svg", str(path))
    assert result.exit_code == 2
    assert "--force" in result.stderr
    text_of(invoke("flame", "1", "--svg", str(path), "--force"))


def test_nothing_to_show(invoke, make):
    make(state(), tool())
    result = invoke("flame", "last", "--by", "cost")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "Nothing to show" in result.stderr
