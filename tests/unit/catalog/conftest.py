"""Stores with recordings made by hand, and their catalogs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from unspool.catalog.catalog import Catalog
from unspool.cli.prices import Prices
from unspool.recording.recorder import Recorder
from unspool.store import Store

# Makes `made_recordings` importable under pytest's importlib mode.
if "catalog_recordings" not in sys.modules:
    spec = importlib.util.spec_from_file_location("catalog_recordings", Path(__file__).with_name("made_recordings.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["catalog_recordings"] = module
    spec.loader.exec_module(module)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store").ensure()


@pytest.fixture
def start(store):
    """Starts a recording with these events; gives its recorder."""
    recorders = []

    def make(*events, intent="a run", **fields) -> Recorder:
        recorder = Recorder(store.records, store.next_pid(), intent, fields=fields)
        recorders.append(recorder)
        for event in events:
            recorder.write_event(event)
        return recorder

    yield make
    for recorder in recorders:
        recorder.close()


@pytest.fixture
def record(start):
    """Makes a recording that has ended; gives its id."""

    def make(*events, **fields) -> str:
        recorder = start(*events, **fields)
        recorder.close()
        return recorder.record_id

    return make


@pytest.fixture
def catalog(store):
    """A catalog of the store; the next is that of another process, which knows what was written and nothing else."""
    opened = []

    def make(book=None) -> Catalog:
        found = Catalog(store, book or Prices())
        opened.append(found)
        return found

    yield make
    for one in opened:
        one.close()
