"""What a page does while the store changes, the server goes or somebody types: a real browser, real processes."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from capture_browser import ESCAPE, TAB, WAIT_S, Person, Server, open_chromium, serving

from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.recorder import Recorder
from unspool.store import Store

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")

SEATS = 4  # of the six connections a browser opens to one server

_GONE = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE",
         "401 (Unauthorized)")  # fmt: skip


def record(store: Store, intent: str) -> str:
    with Recorder(store.records, store.next_pid(), intent) as recorder:
        recorder.write_event(called(recorder.pid, intent))
        return recorder.record_id


def called(pid: int, text: str) -> RecordEvent:
    data = SyscallEventData("ToolCall", {"path": "/dev/tool/search", "input": {"q": text}}, f"found {text}", "", 1_000)
    return RecordEvent(RecordEventType.SYSCALL, 0, 1_000_000, pid, syscall=data)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store").ensure()


@pytest.fixture
def own_chromium(tmp_path: Path) -> Iterator[Any]:
    """A Chromium of its own, for tests that open many tabs."""
    browser = open_chromium(tmp_path / "chromium")
    browser.set_page_load_timeout(WAIT_S)
    yield browser
    browser.quit()


@contextlib.contextmanager
def going_on(store: Store, intent: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that records, and writes the call of a tool for each name it is sent; `beta` fails."""
    code = """
import sys
from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.recorder import Recorder
from unspool.store import Store
store = Store(sys.argv[1])
with Recorder(store.records, store.next_pid(), sys.argv[2]) as recorder:
    print(recorder.record_id, flush=True)
    for line in sys.stdin:
        err = "it failed" if line.strip() == "beta" else ""
        data = SyscallEventData("ToolCall", {"path": "/dev/tool/" + line.strip(), "input": {}}, None, err, 1_000)
        recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 1_000_000, recorder.pid, syscall=data))
        print("written", flush=True)
"""
    command = [sys.executable, "-c", code, store.path, intent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[bytes], line: str) -> None:
    """Have a line written as an event, and wait until it is."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line.encode() + b"\n")
    assert process.stdout.readline() == b"written\n"


def named(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


# --- typing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["min_cost", "max_cost", "since", "until", "q"])
def test_a_field_of_the_list_takes_every_character(person: Person, name: str) -> None:
    look = "const look = getComputedStyle(document.querySelector(arguments[0])); return [look.font, look.borderRadius]"
    assert person.script(look, f"[name={name}]") == person.script(look, "#search")
    person.click(f"[name={name}]")
    person.type("0", ".", "0", "5", "g", "r", "?", "j", "o", "x", "/")
    assert person.script("return document.activeElement.name") == name
    assert person.script("return document.activeElement.value") == "0.05gr?jox/"
    assert not person.script("return document.getElementById('help').open")
    person.type(ESCAPE, "?")
    person.until(lambda: person.script("return document.getElementById('help').open"))
    person.type(ESCAPE)


@pytest.mark.parametrize("kind", ["", "email", "url", "tel", "number", "password", "date", "a-kind-to-come"])
def test_a_field_of_any_kind_is_typed_into_and_a_box_to_tick_is_not(person: Person, kind: str) -> None:
    person.script(
        "const one = document.createElement('input'); one.id = 'mine'; if (arguments[0]) one.type = arguments[0];"
        "document.getElementById('main').append(one); one.focus()",
        kind,
    )
    person.type("?")
    assert not person.script("return document.getElementById('help').open")
    person.script("const one = document.getElementById('mine'); one.type = 'checkbox'; one.focus()")
    person.type("?")
    person.until(lambda: person.script("return document.getElementById('help').open"))
    person.type(ESCAPE)


def test_the_end_of_a_run_comes_when_the_field_is_left_and_what_was_typed_stays(chromium: Any, store: Store) -> None:
    with going_on(store, "still going") as process, serving(store.path) as server:
        name = named(process)
        told(process, "alpha")
        person = Person(chromium, server.base).enter(server)
        person.open(f"/run/{name}")
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
        person.until(lambda: "alpha" in person.text("table.steps"))
        person.type("/", "a", "l")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_S) == 0
        with person_asks(person) as asked:
            person.until(lambda: asked() > 0)
        assert person.script("return document.activeElement.value") == "al"
        person.type(TAB)
        person.until(lambda: "completed" in person.text(".facts"))
        assert person.script("return document.getElementById('search').value") == "al"
        person.until(lambda: not person.browser.find_element("id", "livebadge").is_displayed())
        assert person.complaints() == []


@contextlib.contextmanager
def person_asks(person: Person) -> Iterator[Any]:
    """How often the page has been fetched again by its script since."""
    count = "return performance.getEntriesByType('resource').filter((one) => one.initiatorType === 'fetch').length"
    before = person.script(count)
    yield lambda: person.script(count) - before


def test_the_list_goes_on_while_somebody_types_above_it(chromium: Any, store: Store) -> None:
    record(store, "the older")
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.until(lambda: "the older" in person.text("table.runs"))
        person.type("/", "t", "h")
        record(store, "the newer")
        person.until(lambda: "the newer" in person.text("table.runs"))
        assert person.script("return [document.activeElement.id, document.activeElement.value]") == ["search", "th"]
        assert person.complaints() == []


def test_what_has_the_focus_keeps_it_when_the_list_grows(chromium: Any, store: Store) -> None:
    record(store, "the older")
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.script("document.querySelector('table.runs a').focus()")
        record(store, "the newer")
        person.until(lambda: "the newer" in person.text("table.runs"))
        assert person.script("return document.activeElement.innerText") == "the older"
        assert person.complaints() == []


def test_the_compare_button_says_what_it_does_once_two_are_chosen(chromium: Any, store: Store) -> None:
    record(store, "one")
    record(store, "other")
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.type("j", "x", "c")
        person.until(lambda: "Choose two" in person.text("#compare"))
        person.type("j", "x")
        assert person.text("#compare") == "Compare the two chosen"
        assert person.complaints() == []


# --- a writer that is killed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["list", "run"])
def test_a_page_that_is_watched_says_that_the_writer_was_killed(chromium: Any, store: Store, page: str) -> None:
    with going_on(store, "still going") as process, serving(store.path) as server:
        name = named(process)
        told(process, "alpha")
        person = Person(chromium, server.base).enter(server)
        if page == "run":
            person.open(f"/run/{name}")
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
        person.until(lambda: "running" in person.text("main"))
        told(process, "beta")  # so that the page is fetched again, and what is kept of the run is young
        if page == "run":
            person.until(lambda: "beta" in person.text("table.steps"))
        else:
            person.until(lambda: person.text("table.runs td a.badge.bad") == "1")
        process.kill()
        process.wait(WAIT_S)
        person.until(lambda: "interrupted" in person.text(".badge.bad"))
        assert "running" not in person.text(".badge.live")
        assert person.complaints() == []


def test_a_new_run_in_a_store_of_many_comes_by_itself(chromium: Any, store: Store) -> None:
    for number in range(101, 360):  # names that come behind the newest one's in the alphabet
        with Recorder(store.records, number, f"run {number}"):
            pass
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.until(lambda: "259 runs" in person.text("h1"))
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
        with Recorder(store.records, 1000, "the newest of all"):
            pass
        person.until(lambda: "the newest of all" in person.text("table.runs"))
        assert person.complaints() == []


# --- many tabs -------------------------------------------------------------------------------------------------------


def test_nine_windows_side_by_side_open_and_follow(own_chromium: Any, store: Store) -> None:
    record(store, "the first")
    with serving(store.path) as server:
        person = Person(own_chromium, server.base).enter(server)
        for _ in range(8):
            own_chromium.switch_to.new_window("tab")
            person.open("/")
            assert person.script("return document.visibilityState") == "visible"
            person.until(lambda: "the first" in person.text("table.runs"))
        record(store, "the second")
        for window in own_chromium.window_handles:
            own_chromium.switch_to.window(window)
            person.until(lambda: "the second" in person.text("table.runs"))
            assert person.complaints() == []


def test_a_window_that_is_hidden_follows_nothing_and_is_up_to_date_when_it_is_shown(
    own_chromium: Any, store: Store
) -> None:
    record(store, "the first")
    with serving(store.path) as server:
        person = Person(own_chromium, server.base).enter(server)
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
        person.until(lambda: _free(server, person) == SEATS - 1)
        _show(own_chromium, "minimized")
        person.until(lambda: person.script("return document.visibilityState") == "hidden")
        person.until(lambda: _free(server, person) == SEATS)
        record(store, "the second")
        _show(own_chromium, "normal")
        person.until(lambda: "the second" in person.text("table.runs"))
        person.until(lambda: _free(server, person) == SEATS - 1)
        assert person.complaints() == []


def _show(browser: Any, state: str) -> None:
    window = browser.execute_cdp_cmd("Browser.getWindowForTarget", {})["windowId"]
    browser.execute_cdp_cmd("Browser.setWindowBounds", {"windowId": window, "bounds": {"windowState": state}})


def _free(server: Server, person: Person) -> int:
    """How many pages more of this browser may follow the server at once."""
    agent = person.script("return navigator.userAgent")
    with contextlib.ExitStack() as stack:
        client = httpx2.Client(base_url=server.base, timeout=WAIT_S, trust_env=False, headers={"user-agent": agent})
        stack.enter_context(client)
        assert client.get(server.address).status_code == 200
        streams = []  # one that nobody holds is closed
        for number in range(SEATS + 1):
            streams.append(stack.enter_context(client.stream("GET", "/live")).iter_lines())
            if next(line for line in streams[-1] if line.startswith("event: ")) == "event: full":
                return number
    raise AssertionError(f"more than {SEATS} pages follow at once")


# --- a server that goes ----------------------------------------------------------------------------------------------


def test_a_server_that_is_gone_is_said_and_taken_back_when_it_is_there_again(chromium: Any, store: Store) -> None:
    record(store, "the first")
    token = "a-token-of-the-tests"
    with serving(store.path, "--token", token) as server:
        person = Person(chromium, server.base).enter(server)
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
        assert not person.browser.find_element("id", "unreached").is_displayed()
    person.until(lambda: "not reachable" in person.text("#unreached"))
    assert not person.browser.find_element("id", "livebadge").is_displayed()
    record(store, "the second")
    with serving(store.path, "--token", token, "--port", server.base.rpartition(":")[2]):
        person.until(lambda: "the second" in person.text("table.runs"))
        person.until(lambda: not person.browser.find_element("id", "unreached").is_displayed())
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
    assert person.complaints(_GONE) == []


def test_a_server_that_was_started_anew_with_another_token_is_said(chromium: Any, store: Store) -> None:
    record(store, "the first")
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
    with serving(store.path, "--port", server.base.rpartition(":")[2]):
        person.until(lambda: "started anew" in person.text("#unreached"))
    assert person.complaints(_GONE) == []


# --- the way in ------------------------------------------------------------------------------------------------------


def test_a_link_into_a_run_leads_there_through_the_token(own_chromium: Any, store: Store) -> None:
    name = record(store, "the goal")
    with serving(store.path) as server:
        person = Person(own_chromium, server.base)
        person.open(f"/run/{name}?errors=1")
        assert "unspool web" in person.text()
        assert "the goal" not in person.text("body")
        token = server.address.partition("token=")[2]
        person.open(f"/run/{name}?errors=1&token={token}")
        person.at(rf"/run/{re.escape(name)}\?errors=1$")
        person.until(lambda: "the goal" in person.text("h1"))
        assert person.script("return document.referrer") == ""
        entries = own_chromium.execute_cdp_cmd("Page.getNavigationHistory", {})["entries"]
        assert not [one["url"] for one in entries if "token" in one["url"]]
        assert person.complaints(["401 (Unauthorized)"]) == []


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/%5C%5Cevil.example", "/%2F%2Fevil.example",
                                  "/%09/evil.example", "/..//evil.example"])  # fmt: skip
def test_the_way_in_leads_to_no_other_server(own_chromium: Any, store: Store, path: str) -> None:
    with serving(store.path) as server:
        person = Person(own_chromium, server.base)
        person.open(f"{path}?token={server.address.partition('token=')[2]}")
        person.until(lambda: "token" not in person.browser.current_url)
        person.until(lambda: person.text("h1"))
        assert person.browser.current_url.startswith(server.base + "/")
