"""The pages of a run: windows of its timeline, the way of an error, contexts of any call, and what is not ready yet."""

from __future__ import annotations

import re
import threading

import pytest
from bench_web import write_run

from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.recorder import Recorder
from unspool.web import contexts
from unspool.web.steps import PAGE as STEPS_PAGE


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A run of 160 calls with compactions, in a store of its own; and the numbers of its calls."""
    from unspool.store import Store

    store = Store(tmp_path_factory.mktemp("long") / "store").ensure()
    return store, *write_run(store, calls=160, events=960)


@pytest.fixture
def visitor(long_run, door):
    """A browser that opened the store of the long run."""
    from starlette.testclient import TestClient

    from unspool.cli.prices import Prices
    from unspool.web.app import create_app

    client = TestClient(create_app(long_run[0], Prices(), door), base_url="http://127.0.0.1:4848")
    assert client.get("/", params={"token": door.token}).status_code == 200
    return client


def text_of(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", page).split())


def test_a_window_of_the_timeline_narrows_the_steps_and_stays_in_the_links(visitor, long_run):
    _, name, _ = long_run
    whole = visitor.get(f"/run/{name}.json").json()
    part = visitor.get(f"/run/{name}.json", params={"from": "100", "to": "110.5"}).json()
    assert 0 < part["steps"]["total"] < whole["steps"]["total"]
    page = visitor.get(f"/run/{name}", params={"from": "100", "to": "110.5", "kinds": "llm"}).text
    links = re.findall(r'href="(/run/[^"]+kinds=tool[^"]*)"', page)
    assert links
    assert all("from=100" in link and "to=110.5" in link for link in links)
    assert "1m 40s" in page


def test_every_move_of_the_timeline_opens(visitor, long_run):
    _, name, _ = long_run
    seen = set()
    waiting = [f"/run/{name}"]
    while waiting and len(seen) < 12:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = visitor.get(address)
        assert answer.status_code == 200
        moves = re.findall(
            r'<a class="button" data-key="[^"]+" title="[^"]+" aria-label="[^"]+" href="([^"]+)"', answer.text
        )
        waiting += [one.replace("&amp;", "&") for one in moves]
    assert len(seen) > 5


def test_a_page_of_steps_beyond_the_last_is_the_last(visitor, long_run):
    _, name, _ = long_run
    steps = visitor.get(f"/run/{name}.json", params={"page": "999"}).json()["steps"]
    assert steps["query"]["page"] == steps["pages"]
    assert steps["rows"]


def test_a_run_that_goes_on_is_shown_at_its_end_and_its_table_waits_for_more(browser, store):
    with Recorder(store.records, store.next_pid(), "goes on") as recorder:
        for number in range(STEPS_PAGE + 20):
            args = {"path": "/dev/tool/search", "input": {"q": f"question {number}"}}
            data = SyscallEventData("ToolCall", args, "found", duration=500)
            recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, number * 1000, recorder.pid, syscall=data))
        page = browser.get(f"/run/{recorder.record_id}").text
        assert f"question {STEPS_PAGE + 19}" in page
        assert "question 0&" not in page
        assert "data-tail" in page
        assert "data-tail" not in browser.get(f"/run/{recorder.record_id}", params={"page": "1"}).text
        assert "data-tail" not in browser.get(f"/run/{recorder.record_id}", params={"kinds": "tool"}).text
    assert "data-tail" not in browser.get(f"/run/{recorder.record_id}").text


def test_the_way_of_an_error_is_on_top_with_links(visitor, long_run):
    _, name, _ = long_run
    page = visitor.get(f"/run/{name}").text
    handled = page.partition('class="handled"')[2].partition("</section>")[0]
    assert "no such file" in handled
    assert "handled by" in handled
    assert re.search(r'href="/run/[^"]+/step/\d+">Open the origin', handled)


def test_the_context_of_any_call_has_its_neighbours_and_evidence_that_can_be_opened(visitor, long_run):
    _, name, calls = long_run
    for place in (0, 40, 155):
        page = visitor.get(f"/run/{name}/step/{calls[place]}/context").text
        links = re.findall(rf'data-href="(/run/{name}/step/{calls[place]}[^"#]*)#(m\d+)"', page)
        assert links
        for address, anchor in (links[0], links[len(links) // 2], links[-1]):
            assert f'id="{anchor}"' in visitor.get(address.replace("&amp;", "&")).text
    middle = visitor.get(f"/run/{name}/step/{calls[40]}/context.json").json()["page"]
    assert (middle["before"], middle["after"]) == (calls[39], calls[41])


def test_an_older_message_is_shown_when_it_is_asked_for(visitor, long_run):
    _, name, calls = long_run
    step = f"/run/{name}/step/{calls[140]}"
    page = visitor.get(step).text
    assert 'id="m3"' not in page
    assert "show up to" in page
    asked = visitor.get(step, params={"message": "3"}).text
    assert 'id="m3"' in asked
    numbers = [int(one) for one in re.findall(r'id="m(\d+)"', asked) if one != "0"]
    assert numbers == sorted(set(numbers))


def test_a_context_is_compared_with_any_other_by_number(visitor, long_run):
    _, name, calls = long_run
    step = f"/run/{name}/step/{calls[100]}/diff"
    usual = visitor.get(f"{step}.json").json()
    assert usual["from_call"] == 100
    assert (usual["near"]["before"], usual["near"]["after"]) == (calls[99], calls[101])
    other = visitor.get(f"{step}.json", params={"call": "7"}).json()
    assert other["from_seq"] == calls[6]
    assert visitor.get(f"{step}.json", params={"call": "x"}).json()["from_call"] == 100
    assert len(usual["near"]["choices"]) < 100
    assert f'value="{calls[0]}"' in visitor.get(step).text


def test_the_forecast_is_a_band_behind_the_last_call_and_the_parts_sum_to_the_whole(visitor, long_run):
    _, name, calls = long_run
    page = visitor.get(f"/run/{name}/context").text
    assert 'polygon class="forecast"' in page
    assert "with 80 % probability" in page
    assert 'class="compaction"' in page
    over_time = visitor.get(f"/run/{name}/context.json").json()["page"]
    last = visitor.get(f"/run/{name}/step/{calls[-1]}/context.json").json()["page"]
    assert [(one[0], one[1]) for one in over_time["now"]] == [(one[0], one[1]) for one in last["categories"]]
    assert sum(one[1] for one in last["categories"]) == last["tokens"]


def test_what_takes_long_says_so_and_comes_by_itself(visitor, long_run, monkeypatch):
    _, name, calls = long_run
    go_on = threading.Event()
    read = contexts.read_run

    def slowly(reader):
        assert go_on.wait(30)
        return read(reader)

    monkeypatch.setattr(contexts, "read_run", slowly)
    monkeypatch.setattr(contexts, "_LARGE", 0)
    for address in (f"/run/{name}/context", f"/run/{name}/step/{calls[3]}/context"):
        page = visitor.get(address)
        assert page.status_code == 200
        assert "Working it out" in page.text
        assert 'http-equiv="refresh"' in page.text
    go_on.set()
    assert visitor.get(f"/run/{name}/context.json").json()["page"]["points"] == 160
    assert "Context over the run" in visitor.get(f"/run/{name}/context").text


def test_one_agent_is_looked_at_alone_and_can_be_left_again(visitor, long_run):
    _, name, _ = long_run
    pid = name.partition("-")[0]
    page = visitor.get(f"/run/{name}", params={"pid": pid}).text
    assert "only repair the nightly build" in text_of(page)


def test_a_tool_leads_to_the_call_that_asked_for_it(visitor, long_run):
    _, name, calls = long_run
    page = visitor.get(f"/run/{name}/step/{calls[20] + 3}").text
    found = re.search(r'asked for by</span> <a href="([^"]+)">call 21</a>', page)
    assert found is not None
    assert "call 21" in text_of(visitor.get(found[1]).text)


def test_a_long_difference_of_two_steps_stays_a_page(visitor, long_run):
    _, name, calls = long_run
    page = visitor.get(f"/run/{name}/step/{calls[155]}/diff", params={"from": str(calls[2])})
    assert page.status_code == 200
    assert len(page.content) < 500_000
