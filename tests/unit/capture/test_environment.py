"""Which commands are recorded, and what they are told."""

from __future__ import annotations

import os

import pytest

from unspool.capture.environment import (
    BOOT_DIR,
    RUN_VARIABLE,
    for_child,
    lineage_from,
    variables,
    will_be_captured,
)
from unspool.capture.flow import Flow
from unspool.capture.process import AgentProcess, Lineage


@pytest.mark.parametrize(
    ("words", "captured"),
    [
        ("python x.py", True), ("/usr/bin/python3.12 x.py", True), ("python3 -u -m mod -I", True),
        ("python -mImod", True),
        ("python -c I", True), ("python -I x.py", False), ("python -uE x.py", False), ("python -S", False),
        ("python -W ignore -I x.py", False), ("python -Wignore x.py", True), ("python -X importtime x.py", True),
        ("python --version", True), ("python - -I", True), ("python", True), ("bash x.sh", None), ("pythonista", None),
        ("python3.13t x.py", True), ("pypy3 x.py", True),
    ],
)  # fmt: skip
def test_which_commands_are_recorded(words: str, captured: bool | None) -> None:
    assert will_be_captured(words.split()) is captured


def test_no_command_at_all() -> None:
    assert will_be_captured([]) is None


@pytest.fixture
def flow() -> Flow:
    return Flow(AgentProcess(Lineage(store="/s", trace_id="0" * 32), intent="i", role="agent"))


def test_lineage_survives_the_environment() -> None:
    lineage = Lineage(
        store="/söre", trace_id="1" * 32, intent="ärgs", parent="p", parent_pid=3, root="r", audit=["file"]
    )
    assert lineage_from(variables(lineage, None)) == lineage
    assert lineage_from({}) is None
    assert lineage_from({RUN_VARIABLE: "{broken"}) is None


def test_the_boot_folder_comes_first_and_once() -> None:
    lineage = Lineage(store="/s", trace_id="1" * 32)
    once = variables(lineage, f"/a{os.pathsep}/b")["PYTHONPATH"]
    assert once == os.pathsep.join([BOOT_DIR, "/a", "/b"])
    assert variables(lineage, once)["PYTHONPATH"] == once


def test_environments_of_children(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"A": "1"}
    told = for_child(given, flow)
    assert given == {"A": "1"}
    assert told["A"] == "1"
    assert lineage_from(told) == flow.process.lineage
    as_bytes = for_child({b"A": b"1", b"PYTHONPATH": b"/x"}, flow)
    assert as_bytes[b"PYTHONPATH"] == os.fsencode(os.pathsep.join([BOOT_DIR, "/x"]))
    assert for_child("not a mapping", flow) == "not a mapping"
    monkeypatch.setenv(RUN_VARIABLE, variables(flow.process.lineage, None)[RUN_VARIABLE])
    assert for_child(None, flow) is None
