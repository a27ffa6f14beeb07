"""The list of runs: what narrows and orders it, and what it says of what it does not know yet."""

from __future__ import annotations

import re
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from unspool.catalog.catalog import Catalog
from unspool.catalog.database import NAME
from unspool.cli.prices import prices_for
from unspool.recording.metadata import read_metadata, write_metadata
from unspool.web import runlist
from unspool.web import shelf as shelf_module
from unspool.web.runlist import Query, list_runs
from unspool.web.shelf import Shelf


@pytest.fixture
def ask(browser):
    """The list as data."""

    def get(**query):
        answer = browser.get("/runs.json", params=query)
        assert answer.status_code == 200
        return answer.json()["page"]

    return get


@pytest.fixture
def ids(ask):
    """The ids in the list, in its order."""
    return lambda **query: [row["record_id"] for row in ask(**query)["rows"]]


@pytest.fixture
def aged(store, record):
    """Makes a run that began some time ago."""

    def make(days, **more) -> str:
        name = record(**more)
        folder = store.records / name
        metadata = read_metadata(folder)
        start = datetime.now(UTC) - timedelta(days=days)
        write_metadata(
            folder, structs.replace(metadata, start_time=start, end_time=start + timedelta(seconds=30 - days))
        )
        return name

    return make


def test_runs_are_found_by_when_they_began(ids, aged):
    new, week, month = aged(0), aged(6), aged(25)
    assert ids(sort="age") == [new, week, month]
    assert ids(since="today") == ids(since="24h") == [new]
    assert ids(since="7d") == [new, week]
    assert ids(until="2d") == [week, month]
    assert ids(since="10d", until="2d") == [week]
    day = (datetime.now().astimezone() - timedelta(days=6)).date().isoformat()
    assert ids(since=day, until=day) == [week]
    assert ids(until=(datetime.now().astimezone() - timedelta(days=30)).date().isoformat()) == []


def test_runs_are_found_by_what_they_cost(ids, record):
    small, large, unknown = record(calls=1), record(calls=5), record(calls=5, model="my-own-7b")
    # gpt-4.1-mini: $0.40 a million in, $1.60 out; call N reads 100 N tokens and writes 10.
    assert ids(sort="cost") == [large, small, unknown]
    assert ids(min_cost="0.0005") == [large]
    assert ids(max_cost="$0.0005") == [small]
    assert ids(min_cost="0") == [large, small]
    assert ids(min_cost="0.0001", max_cost="0.0005", model="gpt-4.1-mini") == []


def test_own_prices_hold_for_what_was_counted_before(store, record, ids):
    name = record(calls=1, model="my-own-7b")
    assert ids(min_cost="0.00001") == []
    (store.path / "prices.toml").write_text('["my-own-7b"]\ninput = 1\noutput = 10\n')
    later = Shelf(store, prices_for(store))
    rows = list_runs(later, Query.of({"min_cost": "0.00001"})).rows
    assert [(row.record_id, row.cost) for row in rows] == [(name, "$0.0002")]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "7x"}, "“7x” is no time"),
        ({"until": "2026-13-01"}, "“2026-13-01” is no time"),
        ({"min_cost": "a lot"}, "“a lot” is no amount"),
        ({"max_cost": "nan"}, "“nan” is no amount"),
        ({"since": "9" * 400 + "d"}, "is no time"),
    ],
)
def test_what_cannot_be_understood_is_said_and_narrows_nothing(browser, ids, record, query, said):
    name = record()
    assert ids(**query) == [name]
    assert said in browser.get("/", params=query).text


def test_the_longest_come_first(ids, aged):
    short, long = aged(9), aged(1)
    assert ids(sort="duration") == [long, short]


def test_everything_asked_for_is_in_the_form_and_in_the_addresses_of_pages(browser, record, monkeypatch):
    monkeypatch.setattr(runlist, "PAGE", 1)
    for _ in range(2):
        record()
    query = {"q": "hello", "state": "completed", "model": "gpt-4.1-mini", "tool": "search", "since": "7d",
             "min_cost": "0.00001", "max_cost": "9", "sort": "cost"}  # fmt: skip
    text = browser.get("/", params=query).text
    following = re.search(r'href="/\?([^"]*)"[^>]*>next', text)[1]
    for name, value in query.items():
        assert f"{name}={value}" in following
    for name in ("q", "since", "min_cost", "max_cost"):
        assert f'name="{name}" value="{query[name]}"' in text
    assert 'name="until"' in text


def test_all_models_and_tools_can_be_chosen_whatever_is_shown(ask, record):
    record(model="gpt-5")
    record(model="gpt-4.1-mini")
    page = ask(model="gpt-5")
    assert page["models"] == ["gpt-4.1-mini", "gpt-5"]
    assert page["tools"] == ["search"]


def test_what_was_found_leads_to_its_event(browser, ask, record):
    name = record(text="a rare <b>Ptarmigan</b>")
    (row,) = ask(q="PTARmigan")["rows"]
    assert "a rare <b>Ptarmigan</b>" in row["found"]
    assert row["found_in"] == name
    text = browser.get("/", params={"q": "ptarmigan"}).text
    assert f'href="/run/{name}/step/{row["found_at"]}?find=ptarmigan#found"' in text
    assert "&lt;b&gt;Ptarmigan" in text
    assert browser.get(f"/run/{name}/step/{row['found_at']}").status_code == 200


def test_an_intent_is_found_too(ask, record):
    name = record("settle the Ticket")
    (row,) = ask(q="settle the ticket")["rows"]
    assert (row["record_id"], row["found"], row["found_at"]) == (name, "settle the Ticket", 0)


def test_a_run_that_was_removed_is_gone(store, ids, record):
    kept, gone = record(text="ptarmigan"), record(text="ptarmigan")
    assert set(ids(q="ptarmigan")) == {kept, gone}
    shutil.rmtree(store.records / gone)
    assert ids(q="ptarmigan") == ids() == [kept]


def test_the_list_is_the_same_without_the_catalog(store, ask, ids, record):
    record("one", err="no index")
    record("two", text="ptarmigan", calls=4)
    assert ask()["uncached"] == ""
    queries = ({}, {"q": "ptarmigan"}, {"errors": "1"}, {"sort": "cost"}, {"min_cost": "0.0001"})
    before = [ids(**query) for query in queries]
    (store.path / NAME).unlink()
    (store.path / NAME).mkdir()
    assert [ids(**query) for query in queries] == before
    assert ask()["uncached"]


def test_what_is_not_read_yet_is_said_and_comes_by_itself(browser, ask, record, monkeypatch):
    names = [record(text="ptarmigan") for _ in range(4)]
    go_on, read = threading.Event(), Catalog.entry

    def entry(self, name):
        assert name == names[-1] or go_on.wait(60)
        return read(self, name)

    monkeypatch.setattr(Catalog, "entry", entry)
    monkeypatch.setattr(shelf_module, "LIST_PATIENCE_S", 0.05)
    monkeypatch.setattr(shelf_module, "SEARCH_PATIENCE_S", 0.05)
    page = ask(q="ptarmigan")
    assert (page["recordings"], page["unsearched"]) == (4, 4)
    page = ask(state="completed")
    assert (page["recordings"], page["unread"], page["total"]) == (4, 3, 1)
    text = browser.get("/").text
    assert "Read 1 of 4 recordings" in text
    assert 'data-live="/live"' in text
    assert "Searched 0 of 4 recordings" in browser.get("/", params={"q": "ptarmigan"}).text
    go_on.set()
    monkeypatch.setattr(shelf_module, "SEARCH_PATIENCE_S", 60)
    page = ask(q="ptarmigan")
    assert (page["total"], page["unread"], page["unsearched"]) == (4, 0, 0)
    assert "recordings; the rest" not in browser.get("/").text
