"""The catalog says what the recordings say, whatever happens to it or to them."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import msgspec
import pytest
from catalog_recordings import having, model_call, texts_of, tool

from unspool.catalog import catalog as catalog_module
from unspool.catalog import database
from unspool.catalog.catalog import Catalog
from unspool.catalog.database import NAME
from unspool.catalog.entries import read_entry
from unspool.catalog.words import Words
from unspool.cli.prices import Prices
from unspool.errors import StoreError
from unspool.events import RecordStatus
from unspool.recording.reader import RecordReader
from unspool.store import Store


def facts(entry):
    """All that an entry says of a recording."""
    return msgspec.to_builtins((entry.metadata, entry.sums)), entry.ended, entry.readable


def said(catalog):
    return [facts(entry) for entry in catalog.entries()]


def as_read(store):
    """What the recordings say when nothing is known of them."""
    empty = Store(store.path.parent / "elsewhere")
    shutil.copytree(store.records, empty.records, dirs_exist_ok=True)
    return [facts(entry) for entry in Catalog(empty, Prices()).entries()]


@pytest.fixture
def no_reading(monkeypatch):
    """From here on no recording may be read for its entry."""

    def forbid():
        def refuse(folder, *_args):
            raise AssertionError(f"{folder} was read")

        monkeypatch.setattr(catalog_module, "read_entry", refuse)

    return forbid


def test_it_says_what_the_recordings_say(store, record, catalog):
    record(*model_call(1), tool(), intent="one")
    record(*model_call(1, model="my-own"), tool(err="no"), intent="two", command=["python", "x.py"], exit_code=3)
    assert [entry.metadata.intent for entry in catalog().entries()] == ["two", "one"]
    assert said(catalog()) == as_read(store)


def test_what_has_not_changed_is_not_read_again(record, catalog, no_reading):
    for number in range(3):
        record(*model_call(number + 1))
    first = catalog()
    before = said(first)
    first.close()
    no_reading()
    again = catalog()
    assert [facts(one) for one in again.look().entries] == before
    assert said(catalog()) == before  # asked for one by one
    assert not again.look().unread


def test_a_recording_that_was_changed_is_read_again(store, record, catalog):
    name = record(*model_call(1), *model_call(2))
    with catalog() as one:
        assert next(one.entries()).sums.calls == 2
    path = store.records / name / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    other = catalog()
    assert other.look().unread == [name]
    assert next(other.entries()).sums.calls == 1


def test_of_a_recording_that_goes_on_only_the_new_events_are_read(store, start, catalog, monkeypatch):
    recorder = start(*model_call(1))
    one = catalog()
    assert next(one.entries()).sums.calls == 1
    positions = []
    bare_events = RecordReader.bare_events
    monkeypatch.setattr(
        RecordReader, "bare_events", lambda self, at=0: (positions.append(at), bare_events(self, at))[1]
    )
    for event in model_call(2):
        recorder.write_event(event)
    entry = next(one.entries())
    assert (entry.sums.calls, entry.metadata.status, entry.ended) == (2, RecordStatus.RECORDING, False)
    assert positions == [3]
    recorder.close()
    entry = next(one.entries())
    assert (entry.sums.calls, entry.metadata.status, entry.ended) == (2, RecordStatus.COMPLETED, True)
    assert positions == [3, 6]
    assert said(one) == as_read(store)


def test_another_file_under_the_same_name_is_read_from_its_beginning(store, record, catalog):
    name = record(*model_call(1))
    one = catalog()
    list(one.entries())
    path = store.records / name / "events.jsonl"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(b'"request_tokens":1000', b'"request_tokens":7000') + data[:0])
    assert next(one.entries()).sums.input == 7000


def test_a_writer_that_was_killed_leaves_an_interrupted_recording(store, catalog):
    script = (
        "import os, sys; from unspool.recording.recorder import Recorder;"
        "r = Recorder(sys.argv[1], 1, 'killed'); print('on', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(store.records)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"on\n"
        one = catalog()
        assert next(one.entries()).metadata.status is RecordStatus.RECORDING
        assert len(one.look().entries) == 1
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert one.look().unread  # the files are as they were, and nobody holds them
        assert next(one.entries()).metadata.status is RecordStatus.INTERRUPTED
        assert one.look().entries[0].ended


def test_recordings_that_are_gone_go_with_what_they_said(store, record, catalog):
    kept, gone = record(*model_call(1, "shared ptarmigan")), record(*model_call(1, "shared capercaillie"))
    one = catalog()
    Words(one).index(one.entries())
    shutil.rmtree(store.records / gone)
    assert [entry.name for entry in one.look().entries] == [kept]
    other = catalog()
    assert [entry.name for entry in other.entries()] == [kept]
    assert Words(other).search("capercaillie").texts == {}
    assert set(Words(other).search("ptarmigan").texts) == {kept}
    one.close()
    other.close()
    assert b"capercaillie" not in (store.path / NAME).read_bytes()


def test_the_file_may_be_removed_at_any_time(store, record, catalog):
    names = {record(*model_call(1)) for _ in range(3)}
    one = catalog()
    Words(one).index(one.entries())
    before = said(one)
    (store.path / NAME).unlink()
    assert said(one) == before
    assert {entry.name for entry in Words(one).missing(one.look().entries)} == names
    words = Words(one)
    words.index(one.entries())
    assert set(words.search("asked").texts) == names
    one.close()
    assert (store.path / NAME).exists()


def garbage(path):
    path.write_bytes(b"no database at all" * 1000)


def torn(path):
    data = bytearray(path.read_bytes())
    data[100 : len(data)] = os.urandom(len(data) - 100)
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def other_version(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()


def other_tables(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON uses BEGIN DELETE FROM recordings; END")
    connection.close()


def no_index(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE uses")
    connection.close()


def wrong_rows(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE recordings SET sums = 'no sums', metadata = x'00ff'")
    connection.close()


@pytest.mark.parametrize("harm", [garbage, torn, empty, other_version, other_tables, no_index, wrong_rows])
def test_a_damaged_file_is_made_anew(store, record, catalog, harm):
    for number in range(3):
        record(*model_call(number + 1, f"word{number}"), intent=f"number {number}")
    one = catalog()
    Words(one).index(one.entries())
    before = said(one)
    one.close()
    harm(store.path / NAME)
    other = catalog()
    assert said(other) == before
    words = Words(other)
    words.index(words.missing(other.entries()))
    assert set(words.search("WORD1").texts) == having(store, "WORD1")
    other.close()
    third = catalog()
    assert said(third) == before
    assert not third.database.why_private


def test_damage_while_it_is_open_is_not_seen_by_anybody(store, record, catalog):
    name = record(*model_call(1, "ptarmigan"))
    one = catalog()
    words = Words(one)
    words.index(one.entries())
    with one.database.writing() as connection:
        connection.execute("DROP TABLE uses")
    assert words.search("ptarmigan").texts == {}  # it is found out, and the texts are missing
    assert [entry.name for entry in words.missing(one.look().entries)] == [name]
    words.index(one.entries())
    assert set(words.search("ptarmigan").texts) == {name}
    assert not one.database.why_private


def a_folder(path):
    path.mkdir()


def a_link(path):
    path.symlink_to(path.parent / "elsewhere.txt")


@pytest.mark.parametrize("harm", [a_folder, a_link])
def test_without_a_file_everything_is_the_same(store, record, catalog, harm):
    names = {record(*model_call(1, "ptarmigan")) for _ in range(2)}
    harm(store.path / NAME)
    one = catalog()
    assert {entry.name for entry in one.entries()} == names
    words = Words(one)
    words.index(words.missing(one.look().entries))
    assert set(words.search("Ptarmigan").texts) == names
    assert one.database.why_private
    assert not (store.path / "elsewhere.txt").exists()


def test_a_file_that_cannot_be_written_is_still_read(store, record, catalog, monkeypatch, no_reading):
    name = record(*model_call(1, "ptarmigan"))
    one = catalog()
    Words(one).index(one.entries())
    one.close()
    before = (store.path / NAME).read_bytes()

    def refuse(self, path):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(database.Database, "_open_or_make", refuse)
    no_reading()
    other = catalog()
    words = Words(other)
    assert [entry.name for entry in other.look().entries] == [name]
    assert words.missing(other.look().entries) == []
    assert set(words.search("ptarmigan").texts) == {name}
    assert other.database.why_private == "Read-only file system"
    other.close()
    assert (store.path / NAME).read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_cannot_be_written(store, record, catalog):
    name = record(*model_call(1, "ptarmigan"))
    store.path.chmod(0o500)
    try:
        one = catalog()
        words = Words(one)
        words.index(one.entries())
        assert set(words.search("ptarmigan").texts) == {name}
        assert one.database.why_private
    finally:
        store.path.chmod(0o700)


def test_a_full_disk_is_no_reason_to_fail(store, record, catalog, monkeypatch):
    long = " ".join(map(str, range(10_000)))
    names = {record(*model_call(1, f"ptarmigan {number} {long}")) for number in range(3)}
    one = catalog()
    with one.database.writing() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")  # as if there was no room for one more
    words = Words(one)
    one.look()
    words.index(one.entries())
    words.index(words.missing(one.look().entries))
    assert set(words.search("ptarmigan").texts) == names
    assert "full" in one.database.why_private


def test_a_store_that_does_not_exist_is_not_made(tmp_path):
    with Catalog(Store(tmp_path / "none"), Prices()) as one:
        assert one.look().entries == []
        assert list(one.entries()) == []
        assert Words(one).search("x").texts == {}
    assert not (tmp_path / "none").exists()


def test_a_store_that_comes_later_gets_its_file(tmp_path, record, store):
    name = record(*model_call(1))
    later = Store(tmp_path / "later")
    with Catalog(later, Prices()) as one:
        assert one.look().entries == []
        Words(one).search("x")
        shutil.copytree(store.path, later.path)
        assert [entry.name for entry in one.entries()] == [name]
    assert (later.path / NAME).exists()


def test_a_store_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "records").write_text("no folder")
    with pytest.raises(StoreError, match="cannot list"):
        Catalog(Store(tmp_path), Prices()).look()


def test_what_is_no_recording_is_left_out(store, record, catalog):
    name = record()
    (store.records / "99-notes").mkdir()
    (store.records / "readme.txt").write_text("hello")
    one = catalog()
    assert [entry.name for entry in one.entries()] == [name]
    assert not one.look().unread  # what they are is known now
    (store.records / "99-notes" / "events.jsonl").write_text("")
    assert one.look().unread == ["99-notes"]


def test_other_public_prices_are_asked_again(store, record, catalog):
    class Newer(Prices):
        public_version = "of tomorrow"

        def public_cost(self, *_args):
            return 12.5

    record(*model_call(1))
    with catalog() as one:
        list(one.entries())
    other = catalog(Newer())
    (entry,) = other.entries()
    assert entry.sums.groups[0].usd == 12.5
    assert entry.sums.calls == 1


def test_a_damaged_recording_is_listed_and_not_read_again(store, record, catalog, no_reading):
    name = record(*model_call(1))
    (store.records / name / "events.jsonl").unlink()
    with catalog() as one:
        (entry,) = one.entries()
        assert (entry.readable, entry.sums.events) == (False, 0)
    no_reading()
    assert [entry.name for entry in catalog().entries()] == [name]


def test_a_damaged_line_that_came_later_does_not_move_what_was_counted(store, start, catalog):
    recorder = start(*model_call(1))
    one = catalog()
    list(one.entries())
    with open(recorder.record_dir / "events.jsonl", "ab") as file:
        file.write(b"garbage\n")
    for event in model_call(2):
        recorder.write_event(event)
    recorder.close()
    assert said(one) == as_read(store)
    with open(recorder.record_dir / "events.jsonl", "ab") as file:
        file.write(b"more garbage\n")
    assert said(one) == as_read(store)


@pytest.mark.parametrize("command", [["python", "half \udc80"], ["python", "\0"]])
def test_what_sqlite_cannot_keep_is_read_each_time(store, record, catalog, command):
    name = record(*model_call(1, "ptarmigan"), command=command)
    for _ in range(2):
        with catalog() as one:
            assert [entry.name for entry in one.entries()] == [name]
            words = Words(one)
            words.index(words.missing(one.entries()))
            assert set(words.search("ptarmigan").texts) == {name}


def test_a_copy_of_a_store_does_not_trust_the_file_it_came_with(store, record, catalog, tmp_path):
    record(*model_call(1))
    with catalog() as one:
        list(one.entries())
    with sqlite3.connect(store.path / NAME) as connection:
        connection.execute("UPDATE recordings SET ended = 1")
    connection.close()
    shutil.copytree(store.path, tmp_path / "copy", copy_function=shutil.copy2)
    with Catalog(Store(tmp_path / "copy"), Prices()) as copied:
        assert len(copied.look().unread) == 1


def test_only_the_owner_can_read_the_file(store, record, catalog):
    record()
    with catalog() as one:
        list(one.entries())
    assert (store.path / NAME).stat().st_mode & 0o777 == 0o600
    assert (store.path / ".gitignore").read_text() == "*\n"


INDEX = """
import sys
from unspool.catalog.catalog import Catalog
from unspool.catalog.indexer import Indexer
from unspool.cli.prices import Prices
from unspool.store import Store
with Catalog(Store(sys.argv[1]), Prices()) as catalog:
    state = Indexer(catalog).state(texts=True, patience_s=60)
    assert not state.unread and not state.unsearched
    print(len(state.entries), len(Indexer(catalog).words.search("word1 ").texts), catalog.database.why_private)
"""


def test_processes_that_read_at_the_same_time_do_not_disturb_each_other(store, record):
    for number in range(40):
        record(*model_call(1, f"word{number % 3} shared"), tool(f"result {number}"))
    command = [sys.executable, "-c", INDEX, str(store.path)]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [child.communicate(timeout=60)[0].split() for child in several] == [["40", "13"]] * 4
    with sqlite3.connect(store.path / NAME) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM recordings").fetchone() == (40,)
        connection.execute("INSERT INTO words(words) VALUES ('integrity-check')")
    connection.close()


def test_an_entry_read_twice_is_equal(store, record):
    name = record(*model_call(1), tool())
    first, second = (read_entry(store.records / name, Prices()) for _ in range(2))
    assert facts(first) == facts(second)
    assert texts_of(store, name)
