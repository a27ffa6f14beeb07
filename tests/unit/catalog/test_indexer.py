"""What is not read yet is counted, and read."""

from __future__ import annotations

import threading

from catalog_recordings import model_call

from unspool.catalog.indexer import Indexer


def test_everything_is_there_if_somebody_waits(store, record, catalog):
    names = [record(*model_call(1, f"word{number}")) for number in range(70)]
    indexer = Indexer(catalog())
    state = indexer.state(texts=True, patience_s=60)
    assert [entry.name for entry in state.entries] == names[::-1]
    assert (state.recordings, state.unread, state.unsearched) == (70, 0, 0)
    assert set(indexer.words.search("word7").texts) == {names[7]}


def test_what_was_not_read_in_time_is_counted(record, catalog, monkeypatch):
    names = [record(*model_call(1)) for _ in range(5)]
    one = catalog()
    indexer = Indexer(one)
    go_on, read = threading.Event(), one.entry

    def entry(name):
        assert name in names
        if name != names[-1]:
            assert go_on.wait(60)
        return read(name)

    monkeypatch.setattr(one, "entry", entry)
    waiting = threading.Condition()
    with waiting:
        waiting.wait_for(lambda: indexer.state(texts=False, patience_s=0.01).unread == 4, 60)
    state = indexer.state(texts=True, patience_s=0)
    assert (state.recordings, state.unread, state.unsearched) == (5, 4, 5)
    assert [entry.name for entry in state.entries] == [names[-1]]  # the newest comes first
    before = indexer.progress()
    go_on.set()
    state = indexer.state(texts=True, patience_s=60)
    assert (state.recordings, state.unread, state.unsearched, len(state.entries)) == (5, 0, 0, 5)
    assert indexer.progress() >= before


def test_one_that_cannot_be_read_is_counted_and_keeps_no_other_out(record, catalog, monkeypatch):
    names = [record(*model_call(1, f"word{number}")) for number in range(3)]
    one = catalog()
    read = one.entry

    def entry(name):
        if name == names[1]:
            raise RuntimeError("a defect")
        return read(name)

    monkeypatch.setattr(one, "entry", entry)
    state = Indexer(one).state(texts=True, patience_s=60)
    assert (state.unread, state.unsearched) == (1, 1)
    assert {entry.name for entry in state.entries} == {names[0], names[2]}


def test_texts_are_read_ahead_of_the_first_search(record, catalog):
    record(*model_call(1, "ptarmigan"))
    one = catalog()
    indexer = Indexer(one)
    indexer.state(texts=False, patience_s=60)
    while (thread := indexer._thread) is not None:
        thread.join(60)
    assert len(indexer.words.search("ptarmigan").texts) == 1
    state = indexer.state(texts=True, patience_s=0)
    assert (state.unread, state.unsearched) == (0, 0)
    assert indexer._thread is None  # there was nothing left to start it for


def test_a_recording_that_grows_all_the_time_is_shown_as_it_was_when_read(start, catalog):
    recorder = start(*model_call(1, "first"))
    indexer = Indexer(catalog())
    for number in range(2, 6):
        for event in model_call(number, f"word{number}"):
            recorder.write_event(event)
        state = indexer.state(texts=True, patience_s=60)
        assert (state.unread, state.unsearched) == (0, 0)
        assert state.entries[0].sums.calls == number
        assert len(indexer.words.search(f"word{number} asked").texts) == 1


def test_while_a_page_is_made_nothing_is_read_that_nobody_waits_for(record, catalog, monkeypatch):
    monkeypatch.setattr("unspool.catalog.indexer._ASIDE_S", 3600)
    indexer = Indexer(catalog())
    with indexer.aside():
        reading = threading.Thread(target=indexer._pause)  # as after each event that is read
        reading.start()
        reading.join(0.2)
        assert reading.is_alive()
    reading.join(60)
    assert not reading.is_alive()


def test_while_a_page_is_made_what_somebody_waits_for_is_read(record, catalog, monkeypatch):
    monkeypatch.setattr("unspool.catalog.indexer._ASIDE_S", 3600)
    record(*model_call(1, "ptarmigan"))
    indexer = Indexer(catalog())
    with indexer.aside():
        assert indexer.state(texts=True, patience_s=60).unsearched == 0
    assert len(indexer.words.search("ptarmigan").texts) == 1
