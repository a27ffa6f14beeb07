"""Shared by the tests of one room: making events, and reading files as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording import Recorder


@pytest.fixture
def syscall() -> Callable[..., RecordEvent]:
    """Makes a syscall event; `args` and `result` are what the test is about."""

    def make(args: dict[str, Any] | None = None, result: Any = None, **fields: Any) -> RecordEvent:
        data = SyscallEventData(syscall="Open", args={"path": "/dev/tool/x"} if args is None else args, result=result)
        return RecordEvent(type=RecordEventType.SYSCALL, seq_num=0, timestamp=1, pid=1, syscall=data, **fields)

    return make


@pytest.fixture
def lines() -> Callable[[Path], list[dict[str, Any]]]:
    """The JSON lines of a file."""
    return lambda path: [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def recorder(tmp_path: Path):
    """A recorder that is closed afterwards."""
    made = Recorder(tmp_path / "records", 1, "test")
    yield made
    made.close()
