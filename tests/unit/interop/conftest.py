"""A store to import into, and the runs of other tools to import."""

from __future__ import annotations

from pathlib import Path

import pytest

from unspool.recording.reader import RecordReader
from unspool.store import Store

DATA = Path(__file__).resolve().parents[2] / "data" / "imports"


@pytest.fixture
def data() -> Path:
    """The folder of runs in other tools' formats."""
    return DATA


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store").ensure()


@pytest.fixture
def read(store: Store):
    """Opens a recording of the store; all are closed afterwards."""
    opened: list[RecordReader] = []

    def open_one(record_id: str) -> RecordReader:
        opened.append(RecordReader(store.records / record_id, strict=True))
        return opened[-1]

    yield open_one
    for reader in opened:
        reader.close()
