"""A search finds what reading every recording would find, and nothing else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from catalog_recordings import having, model_call, tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unspool.catalog import database, words
from unspool.catalog.catalog import Catalog
from unspool.catalog.indexer import Indexer
from unspool.catalog.texts import fold
from unspool.catalog.words import Words
from unspool.cli.prices import Prices
from unspool.events import CtxMessage
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.store import Store

# Letters that fold into other ones or into two, that JSON escapes, that SQLite ends a text at, that no UTF-8 has.
LETTERS = "aAbBſßẞSsİıIiΣσςǅΩé€😀\0\"'\\\n\t *%_^-()\udc80\ufffd\uffff"
pieces = st.text(st.sampled_from(LETTERS), max_size=12)


@pytest.fixture(params=["index", "no index"])
def with_and_without_index(request, monkeypatch):
    if request.param == "no index":
        monkeypatch.setattr(database, "_has_trigrams", lambda: False)
    return request.param == "index"


def indexed(store):
    catalog = Catalog(store, Prices())
    found = Words(catalog)
    found.index(found.missing(catalog.entries()))
    return catalog, found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(pieces, pieces), min_size=1, max_size=4), data=st.data())
def test_it_finds_what_reading_would(with_and_without_index, texts, data):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store").ensure()
        for said, result in texts:
            with Recorder(store.records, store.next_pid(), "") as recorder:
                for event in (*model_call(1, said), tool(result)):
                    recorder.write_event(event)
        whole = data.draw(st.sampled_from([text for pair in texts for text in pair]))
        first = data.draw(st.integers(0, len(whole)))
        part = whole[first : data.draw(st.integers(first, len(whole)))]
        catalog, found = indexed(store)
        assert catalog.database.has_index == with_and_without_index
        for wanted in (part, part.swapcase(), data.draw(pieces)):
            hits = found.search(wanted)
            assert set(hits.texts) == (having(store, wanted) if wanted else set())
            for name in hits.texts:
                seq_num, around = found.place(hits, name, 5)
                assert seq_num > 0
                assert around
        catalog.close()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a rare Ptarmigan", "ptarMIGAN"), ('say "hi"', 'SAY "HI"'), ("Die Straße", "STRASSE"), ("100%", "0%"),
        ("snow \u2603 man", "\u2603"), ("back\\slash", "k\\s"), ("line\nbreak", "E\nB"), ("x" * 5000 + "end", "xend"),
        ("a NEAR b OR c*", "near b or c*"), ("end\0after", "after"), ("€uro", "€u"),
        ("one two three four", "two three"),
    ],
)  # fmt: skip
def test_it_finds_words_in_any_case(store, record, with_and_without_index, text, wanted):
    name = record(*model_call(1, text))
    record(*model_call(1, "nothing of it"))
    catalog, found = indexed(store)
    hits = found.search(wanted)
    assert set(hits.texts) == {name}
    seq_num, around = found.place(hits, name, 10)
    assert seq_num == 1
    assert fold(wanted) in fold(around)
    assert len(around) <= len(wanted) + 21
    catalog.close()


def test_what_can_be_found(store, record):
    name = record(
        *model_call(1, "message"),
        tool("result-text", err="it broke"),
        *model_call(2, messages=[CtxMessage("user", "again"), CtxMessage("tool", "from a tool")]),
    )
    catalog, found = indexed(store)
    for wanted in (
        *("message asked 1", "message answered 1", "be brief", "result-text", "it broke", "from a tool"),
        *("/dev/tool/search", '{"q": "2"}'),
    ):
        assert set(found.search(wanted).texts) == {name}, wanted
    # Not what JSON is made of, nor ids and hashes: they would be found in every recording.
    for wanted in ("seq_num", "context_snapshot", '"type"', "sha256"):
        assert found.search(wanted).texts == {}, wanted
    catalog.close()


def test_a_text_that_many_have_is_kept_once(store, record):
    for _ in range(5):
        record(*model_call(1, "the very same"))
    catalog, found = indexed(store)
    with catalog.database.reading() as connection:
        (count,) = connection.execute("SELECT count(*) FROM texts WHERE body = 'the very same asked 1'").fetchone()
    assert count == 1
    assert len(found.search("the very same").texts) == 5
    catalog.close()


def test_of_a_recording_that_goes_on_only_new_events_are_read(store, start, monkeypatch):
    recorder = start(*model_call(1, "first"))
    catalog, found = indexed(store)
    assert found.missing(catalog.entries()) == []
    positions = []
    bare_events = RecordReader.bare_events
    monkeypatch.setattr(
        RecordReader, "bare_events", lambda self, at=0: (positions.append(at), bare_events(self, at))[1]
    )
    for event in model_call(2, "second"):
        recorder.write_event(event)
    entries = list(catalog.entries())
    del positions[:]
    assert found.index(found.missing(entries)) == {recorder.record_id}
    assert positions == [3]
    assert set(found.search("first").texts) == set(found.search("second").texts) == {recorder.record_id}
    catalog.close()


def test_the_end_of_a_recording_is_no_reason_to_read_it_again(start, catalog, monkeypatch):
    recorder = start(*model_call(1, "first"))
    one = catalog()
    found = Words(one)
    found.index(one.entries())
    recorder.close()
    entries = list(one.entries())
    positions = []
    bare_events = RecordReader.bare_events
    monkeypatch.setattr(
        RecordReader, "bare_events", lambda self, at=0: (positions.append(at), bare_events(self, at))[1]
    )
    assert found.index(found.missing(entries)) == {recorder.record_id}
    assert positions == [3]


def test_a_large_recording_is_written_in_parts_and_gone_on_with(store, record, monkeypatch):
    name = record(*(event for call in range(1, 30) for event in model_call(call, f"text number {call} of many")))
    monkeypatch.setattr(words, "_CHUNK", 200)
    catalog = Catalog(store, Prices())
    found = Words(catalog)
    reading = found._read(next(catalog.entries()))
    found._write([next(reading), next(reading)])
    reading.close()  # the process ends here
    assert [entry.name for entry in found.missing(catalog.entries())] == [name]
    catalog.close()
    starts = []
    monkeypatch.setattr(words, "can_go_on", lambda reader, events, last: starts.append(events) or True)
    catalog, found = indexed(store)
    assert starts
    assert starts[0] > 0
    for call in range(1, 30):
        assert set(found.search(f"number {call} of").texts) == {name}
    catalog.close()


def test_a_changed_recording_loses_its_old_texts(store, record):
    name = record(*model_call(1, "ptarmigan"))
    catalog, found = indexed(store)
    path = store.records / name / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"ptarmigan", b"woodpecker"))
    pool = store.records / name / "messages.jsonl"
    pool.write_bytes(b"")
    found.index(found.missing(catalog.entries()))
    assert found.search("ptarmigan").texts == {}
    assert set(found.search("woodpecker").texts) == {name}
    catalog.close()


def test_what_a_recording_said_before_it_changed_is_not_found(store, record):
    name = record(*model_call(1, "ptarmigan"))
    catalog, found = indexed(store)
    path = store.records / name / "messages.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    assert [entry.name for entry in found.missing(catalog.entries())] == [name]
    assert found.search("ptarmigan").texts == {}
    found.index(catalog.entries())
    assert set(found.search("ptarmigan").texts) == {name}
    catalog.close()


def test_a_search_for_nothing_finds_nothing(store, record):
    record(*model_call(1))
    catalog, found = indexed(store)
    assert found.search("").texts == {}
    catalog.close()


@pytest.mark.parametrize("field", ["timestamp", "duration"])
def test_a_number_no_database_holds_spoils_nobodys_search(record, store, field):
    good, odd = record(*model_call(1, "capercaillie")), record(*model_call(1, "ptarmigan"), tool("grouse"))
    events = store.records / odd / "events.jsonl"
    lines = events.read_bytes().splitlines()
    last = json.loads(lines[-1])
    (last if field == "timestamp" else last["syscall"])[field] = 2**63 + 5
    events.write_bytes(b"\n".join([*lines[:-1], json.dumps(last).encode()]) + b"\n")
    catalog = Catalog(store, Prices())
    with catalog:
        found = Indexer(catalog)
        state = found.state(texts=True, patience_s=60)
        assert (state.unread, state.unsearched) == (0, 0)
        for text, name in (("capercaillie", good), ("ptarmigan", odd), ("grouse", odd)):
            assert set(found.words.search(text).texts) == {name}
