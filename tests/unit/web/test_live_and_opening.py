"""What lists and pages know of recordings that go on or were damaged, and how somebody gets in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from unspool.catalog.catalog import Catalog
from unspool.cli.prices import Prices
from unspool.recording.manager import RecordManager
from unspool.web import live
from unspool.web.doorstep import goal
from unspool.web.readers import ReaderPool
from unspool.web.render import short
from unspool.web.runlist import list_runs
from unspool.web.runquery import Query
from unspool.web.shelf import Shelf

TOKEN = "a-token-of-the-tests"
PERSON = {"accept": "text/html,application/xhtml+xml"}

_WRITER = """
import sys
from unspool.recording.recorder import Recorder
from unspool.store import Store
store = Store(sys.argv[1])
with Recorder(store.records, store.next_pid(), "goes on") as recorder:
    print(recorder.record_id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(store):
    """A process that records, and the id of its recording."""
    command = [sys.executable, "-c", _WRITER, store.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


# --- a writer that is killed -----------------------------------------------------------------------------------------


def test_a_reader_that_was_kept_notices_that_the_writer_was_killed(store, writer):
    process, name = writer
    pool = ReaderPool(store)
    with pool.lend(name) as reader:
        assert str(reader.metadata.status) == "recording"
    process.kill()
    process.wait()
    with pool.lend(name) as again:
        assert again is reader
        assert str(again.metadata.status) == "interrupted"


def test_a_page_of_a_run_says_at_once_that_its_writer_was_killed(browser, writer):
    process, name = writer
    assert "running</span>" in browser.get(f"/run/{name}").text
    process.kill()
    process.wait()
    text = browser.get(f"/run/{name}").text
    assert "interrupted</span>" in text
    assert 'data-live=""' in text


def test_who_has_ended_is_asked_again_only_when_its_files_change(store, record, writer, monkeypatch):
    process, going_on = writer
    ended = [record(f"run {number}") for number in range(5)]
    shelf = Shelf(store, Prices())
    asked = []
    real = live.writer_is_alive
    monkeypatch.setattr(live, "writer_is_alive", lambda folder: asked.append(folder.name) or real(folder))
    writers = live._Writers(store.records)
    names = [going_on, *ended]
    first = writers.look(shelf.signature(names))
    assert sorted(asked) == sorted(names)
    asked.clear()
    assert writers.look(shelf.signature(names)) == first
    assert asked == [going_on]
    os.utime(store.records / ended[0] / "metadata.json")
    asked.clear()
    writers.look(shelf.signature(names))
    assert sorted(asked) == sorted([going_on, ended[0]])
    process.kill()
    process.wait()
    assert len(writers.look(shelf.signature(names))) == len(first) - 1


def test_a_list_follows_what_goes_on_however_old_it_is(store, record, writer):
    _, going_on = writer
    shelf = Shelf(store, Prices())
    names = live._Names(shelf)
    newer = [record(f"run {number}", calls=0) for number in range(live._NEWEST)]
    shelf.listing()  # from here on the catalog knows what goes on
    followed = names.look()
    assert set(newer) <= set(followed)
    assert going_on in followed
    assert names.count == live._NEWEST + 1


# --- events that are lost --------------------------------------------------------------------------------------------


def _cut(store, name, keep):
    path = store.records / name / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:keep]))
    return len(lines)


@pytest.mark.parametrize("keep", [0, 1, 5])
def test_the_list_counts_events_that_are_not_there_any_more(store, record, browser, keep):
    name = record("the damaged one", calls=4)
    count = _cut(store, name, keep)
    assert count > 6
    [row] = list_runs(Shelf(store, Prices()), Query()).rows
    assert row.lost == count - keep
    assert row.state == ("completed" if keep else "interrupted")
    text = browser.get("/").text
    assert f">{count - keep} lost</span>" in text
    assert "damaged or gone" in text


def test_what_was_never_written_counts_besides_what_is_gone(store, record):
    name = record(calls=4)
    path = store.records / name / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lost_events": 3}))
    count = _cut(store, name, 5)
    with Catalog(store, Prices()) as catalog:
        assert catalog.entry(name).sums.lost == count - 5 + 3
    _cut(store, name, 0)
    described = RecordManager(store.records).describe(store.records / name)
    assert (described.lost_events, described.event_count) == (count + 3, 0)
    (store.records / name / "events.jsonl").unlink()
    assert RecordManager(store.records).describe(store.records / name) == described


def test_a_recording_that_is_whole_or_had_nothing_to_say_has_lost_nothing(store, record):
    shelf = Shelf(store, Prices())
    whole, empty = record("whole"), record("empty", calls=0)
    assert (store.records / empty / "events.jsonl").stat().st_size == 0
    rows = {row.record_id: row for row in list_runs(shelf, Query()).rows}
    assert {(rows[name].state, rows[name].lost) for name in (whole, empty)} == {("completed", 0)}


# --- the list --------------------------------------------------------------------------------------------------------


def test_a_page_behind_the_last_is_the_last(browser, record):
    record("the only one")
    answer = browser.get("/?page=99")
    assert "the only one" in answer.text
    assert "No recordings here yet" not in answer.text
    assert browser.get("/runs.json?page=99").json()["page"]["query"]["page"] == 1


def test_one_run_fits_and_two_fit(browser, record):
    record("alpha one")
    record("alpha two")
    assert "1 run that fits" in browser.get("/?q=alpha+one").text
    assert "2 runs that fit" in browser.get("/?q=alpha").text
    assert "that fits" not in browser.get("/?q=alpha").text


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("short", 10, "short"),
        ("exactly ten", 11, "exactly ten"),
        ("two words and more", 12, "two words…"),
        ("two words and more", 10, "two words…"),
        ("oneverylongword", 8, "onevery…"),
        ("a verylongwordbehind", 10, "a verylon…"),
        ("", 5, ""),
    ],
)
def test_texts_are_cut_between_words(text, limit, shown):
    assert short(text, limit) == shown
    assert len(shown) <= limit


def test_a_long_intent_is_cut_between_words_in_the_crumbs(browser, record):
    name = record("reconcile the payments of the second quarter with the invoices of the customers")
    text = browser.get(f"/run/{name}").text
    assert ">reconcile the payments of the second quarter with the…</a>" in text


# --- the way in ------------------------------------------------------------------------------------------------------


def test_who_has_no_token_is_told_how_to_get_in(stranger, record):
    name = record("secret plan")
    answer = stranger.get(f"/run/{name}?errors=1", headers=PERSON)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert "<code>unspool web</code>" in answer.text
    assert f'href="/run/{name}?errors=1"' in answer.text
    assert "secret plan" not in answer.text
    assert TOKEN not in answer.text
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert stranger.get(f"/run/{name}").headers["content-type"].startswith("text/plain")  # for programs


def test_a_wrong_token_is_said_and_is_not_in_the_page(stranger):
    answer = stranger.get("/run/1?token=wr0ng-wr0ng", headers=PERSON)
    assert answer.status_code == 401
    assert "That is not the token of this server" in answer.text
    assert "wr0ng" not in answer.text


def test_the_page_that_asks_for_the_token_holds_nothing_that_acts(stranger):
    answer = stranger.get('/run/"><script>x</script>?a="><b>', headers=PERSON)
    assert answer.status_code == 401
    assert "<script" not in answer.text
    assert "<b>" not in answer.text


def test_a_right_token_leads_on_to_what_was_asked_for(stranger):
    answer = stranger.get("/run/7-x/step/3?message=2&token=" + TOKEN)
    assert answer.status_code == 200
    assert 'content="0;url=/run/7-x/step/3?message=2"' in answer.text
    assert TOKEN not in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "query", "there"),
    [
        ("/", b"token=x", "/"),
        ("/run/1", b"token=x", "/run/1"),
        ("/run/1", b"a=1&token=x&b=%26&token=y", "/run/1?a=1&b=%26"),
        ("//evil.example", b"token=x", "/evil.example"),
        ("///evil.example", b"", "/evil.example"),
        ("/\\evil.example", b"", "/evil.example"),
        ("\\\\evil.example", b"", "/evil.example"),
        ("/\t/evil.example", b"", "/%09/evil.example"),
        ("http://evil.example/", b"", "/http%3A//evil.example/"),
        ("javascript:alert(1)", b"", "/javascript%3Aalert%281%29"),
        ("/run/\u202e\udc80'\"<>;", b"", "/run/%E2%80%AE%3F%27%22%3C%3E%3B"),
        ("", b"", "/"),
    ],
)
def test_where_it_goes_on_is_on_this_server(path, query, there):
    assert goal(path, query) == there


def test_every_field_of_the_list_has_a_kind(browser, record):
    record()
    for tag in re.findall(r"<input[^>]*>", browser.get("/").text):
        assert " type=" in tag, tag
