"""`unspool web` as a process of its own, asked over a real socket and by a real browser; `unspool report` as a file."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_browser import UNSPOOL, WAIT_S, Person, root_of, serving, write_report

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
)
from unspool.recording.recorder import Recorder
from unspool.store import Store

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")
pytest.importorskip("openai")


@pytest.fixture
def client(server):
    with httpx2.Client(base_url=server.base, timeout=WAIT_S, follow_redirects=True, trust_env=False) as opened:
        assert opened.get(server.address.removeprefix(server.base)).status_code == 200
        yield opened


def events_of(call: int, pid: int, text: str) -> Iterator[RecordEvent]:
    at = call * 1_000_000
    context = ContextSnapshotData(messages=[CtxMessage("user", text)], provider="openai_chat", model="gpt-4.1-mini")
    asked = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/gpt-4.1-mini"}, None, "", 500_000)
    answer = LLMResponseData("gpt-4.1-mini", 100, 10, text=f"answer {text}", tool_calls=[ToolCall("search", "{}", "c")])
    yield RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, at, pid, context=context, call=call, step=call)
    yield RecordEvent(RecordEventType.SYSCALL, 0, at, pid, syscall=asked, call=call, step=call)
    yield RecordEvent(RecordEventType.LLM_RESPONSE, 0, at + 500_000, pid, llm=answer, call=call, step=call)


# --- over a socket ---------------------------------------------------------------------------------------------------


def test_it_listens_on_loopback_and_only_its_address_opens_it(server):
    assert server.base.startswith("http://127.0.0.1:")
    token = server.address.partition("token=")[2]
    assert len(token) >= 16
    assert httpx2.get(server.base + "/", trust_env=False).status_code == 401
    assert httpx2.get(server.base + "/", headers={"host": "evil.example"}, trust_env=False).status_code == 421


def test_what_was_sent_comes_back_byte_for_byte_and_as_curl(client, demo):
    root = root_of(demo)
    body = client.get(f"/run/{root}/step/6/request.raw")
    shown = subprocess.run(
        [*UNSPOOL, "show", f"{root}@6", "--raw", "request", "--store", demo.path], capture_output=True, check=True
    )
    assert body.content == shown.stdout
    assert body.headers["content-disposition"].startswith("attachment")
    curl = client.get(f"/run/{root}/step/6/curl.raw").text
    assert curl.startswith("curl ")
    assert "$OPENAI_API_KEY" in curl or "$API_KEY" in curl


def test_every_link_leads_somewhere(client):
    seen: set[str] = set()
    waiting = ["/"]
    while waiting and len(seen) < 150:
        address = waiting.pop(0)
        if address in seen:
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        if "html" in answer.headers["content-type"]:
            found = re.findall(r'(?:href|action)="(/[^"#]*)', answer.text)
            waiting += [one.replace("&amp;", "&") for one in found if not one.startswith("/compare")]
    assert len(seen) > 50


def test_a_live_run_is_told_of_as_it_grows(tmp_path):
    store = Store(tmp_path / "store").ensure()
    with Recorder(store.records, store.next_pid(), "still going") as recorder, serving(store.path) as server:
        for event in events_of(1, 1, "first"):
            recorder.write_event(event)
        with httpx2.Client(base_url=server.base, timeout=WAIT_S, trust_env=False) as client:
            client.get(server.address)
            run = f"/run/{recorder.record_id}"
            page = client.get(run)
            assert f'data-live="{run}/live"' in page.text
            assert "second" not in page.text
            with client.stream("GET", f"{run}/live") as stream:
                lines = stream.iter_lines()
                assert any(line == "event: ready" for line in lines)
                for event in events_of(2, 1, "second"):
                    recorder.write_event(event)
                assert any(line == "event: grew" for line in lines)
            assert "answer second" in _until(lambda: client.get(run).text, lambda text: "answer second" in text)


def _until(ask, fits):
    """Ask until the answer fits: what is worked out for a run that goes on may be a second old."""
    ended = threading.Event()
    for _ in range(WAIT_S * 10):
        found = ask()
        if fits(found):
            return found
        ended.wait(0.1)
    raise AssertionError(f"it never came: {found[-400:]}")


def test_a_port_that_is_taken_is_said_in_a_sentence(server, demo):
    port = server.base.rpartition(":")[2]
    done = subprocess.run(
        [*UNSPOOL, "web", "--store", demo.path, "--port", port],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["jinja2", "starlette", "uvicorn"])
@pytest.mark.parametrize("command", [["web"], ["report", "last"]])
def test_without_the_extra_it_says_what_to_install(missing, command, demo, tmp_path):
    code = (
        "import sys, importlib.util as util\n"
        f"find = util.find_spec\nutil.find_spec = lambda name, *a: None if name == {missing!r} else find(name, *a)\n"
        "from unspool.cli.main import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--store", demo.path],
        capture_output=True, text=True, cwd=tmp_path, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"needs {missing}" in done.stderr or f"need {missing}" in done.stderr
    assert "pip install 'unspool[web]'" in done.stderr


# --- the report ------------------------------------------------------------------------------------------------------


def report(demo: Store, folder: Path, *args: str) -> tuple[Path, str]:
    target = folder / "run.html"
    return target, write_report(demo, target, *args)


def test_a_report_is_redacted_unless_everything_is_asked_for(demo, tmp_path):
    target, said = report(demo, tmp_path)
    short = target.read_text()
    assert re.search(r"[\d.]+ KB, 26 steps, redacted: writing ", said)
    assert "more characters are not shown" in short
    full = report(demo, tmp_path, "--full", "--force")[0].read_text()
    assert len(full) > len(short)
    assert "psp.heartbeat" in full
    assert full.count("psp.heartbeat") > 10 * short.count("psp.heartbeat")


def test_a_report_asks_for_nothing_from_anywhere(demo, tmp_path):
    text = re.sub(r"<script>.*?</script>", "", report(demo, tmp_path)[0].read_text(), flags=re.DOTALL)
    assert not re.findall(r'(?:src|href|action|data-live)="(?!#|data:|")[^"]+"', text)
    assert "url(" not in text
    assert "@import" not in text


def test_a_report_is_never_overwritten_unasked(demo, tmp_path):
    target, _ = report(demo, tmp_path)
    done = subprocess.run(
        [*UNSPOOL, "report", root_of(demo), "--store", demo.path, "-o", target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--force" in done.stderr


# --- in a browser ----------------------------------------------------------------------------------------------------


def test_from_the_list_to_the_failed_step_with_the_keyboard_alone(person, demo):
    root = root_of(demo)
    person.type("j", "\ue007")
    person.at(rf"/run/{root}$")
    person.type("e", "e", "e")
    assert "429" in person.text(".selected") or "TimeoutError" in person.text(".selected")
    person.type("o")
    person.at(r"/step/\d+$")
    assert person.text(".error.big")
    person.type("u")
    person.at(rf"/run/{root}$")
    person.type("g", "b")
    person.at(r"/blame$")
    assert "Where the" in person.text()
    person.type("g", "c")
    person.at(r"/context$")
    person.type("u")
    person.at(r":\d+/$")


def test_through_a_step_its_difference_and_its_context_with_the_keyboard_alone(person, demo):
    root = root_of(demo)
    person.open(f"/run/{root}/step/44")
    assert "411.25" in person.text()
    person.type("g", "d")
    person.at(r"/diff$")
    assert "calculate" in person.text(".diff")
    person.type("g", "t")
    person.at(r"/step/\d+/context$")
    assert "payment_log" in person.text()
    person.type("g", "m")
    person.at(r"/step/44$")
    person.type("p")
    person.at(r"/step/43$")
    person.type("n")
    person.at(r"/step/45$")  # the answer of the call that step 44 begins
    person.type("?")
    person.until(lambda: person.browser.execute_script("return document.getElementById('help').open"))
    person.type("\ue00c")
    person.until(lambda: not person.browser.execute_script("return document.getElementById('help').open"))


def test_two_runs_are_chosen_and_compared_with_the_keyboard_alone(chromium, tmp_path):
    store = Store(tmp_path / "store").ensure()
    for text in ("one", "other"):
        with Recorder(store.records, store.next_pid(), text) as recorder:
            for call in (1, 2):
                for event in events_of(call, recorder.metadata.pid, "same" if call == 1 else text):
                    recorder.write_event(event)
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.type("j", "x", "j", "x", "c")
        person.at(r"/compare\?")
        assert "First difference: call 2 (step 2 of 2)" in person.text(".parting")
        assert "other" in person.text(".parting")
        assert person.complaints() == []


def test_a_run_that_is_chosen_stays_chosen_when_another_comes_in_above_it(chromium, tmp_path):
    store = Store(tmp_path / "store").ensure()

    def record(intent):
        with Recorder(store.records, store.next_pid(), intent) as recorder:
            for event in events_of(1, recorder.pid, intent):
                recorder.write_event(event)

    record("the older")
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        person.until(lambda: "the older" in person.text("table.runs"))
        person.type("j")
        record("the newer")
        person.until(lambda: "the newer" in person.text("table.runs"))
        assert "the older" in person.text("table.runs .selected")
        assert person.complaints() == []


def test_a_live_run_grows_on_the_page_by_itself(chromium, tmp_path):
    store = Store(tmp_path / "store").ensure()
    with Recorder(store.records, store.next_pid(), "still going") as recorder, serving(store.path) as server:
        for event in events_of(1, 1, "first"):
            recorder.write_event(event)
        person = Person(chromium, server.base).enter(server)
        person.open(f"/run/{recorder.record_id}")
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
        assert "answer second" not in person.text()
        for event in events_of(2, 1, "second"):
            recorder.write_event(event)
        person.until(lambda: "answer second" in person.text())
        recorder.close()
        person.until(lambda: not person.browser.find_element("id", "livebadge").is_displayed())
        person.until(lambda: "completed" in person.text())
        assert person.complaints() == []


def test_a_hostile_recording_does_nothing_in_a_browser(chromium, tmp_path):
    store = Store(tmp_path / "store").ensure()
    text = (
        "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \u202e\x1b[31m"
    )
    with Recorder(store.records, store.next_pid(), text) as recorder:
        for event in events_of(1, 1, text):
            recorder.write_event(event)
    target = tmp_path / "hostile.html"
    subprocess.run(
        [*UNSPOOL, "report", "1", "--full", "--store", store.path, "-o", target], check=True, capture_output=True
    )
    with serving(store.path) as server:
        person = Person(chromium, server.base).enter(server)
        run = f"{server.base}/run/{recorder.record_id}"
        for address in (f"{server.base}/", run, f"{run}/step/1", f"{run}/context", f"{run}/blame", target.as_uri()):
            person.browser.get(address)
            person.until(person.text)
            assert person.browser.title != "owned"
            assert person.browser.execute_script("return document.querySelectorAll('main img').length") == 0
        assert person.complaints() == []


def test_a_report_opens_from_a_file_and_its_steps_unfold(chromium, demo, tmp_path):
    target, _ = report(demo, tmp_path)
    person = Person(chromium, target.as_uri())
    person.open("")
    person.type("e", "e", "e", "\ue007")
    person.until(lambda: "#step-" in person.browser.current_url)
    person.until(lambda: person.script("return document.getElementById(location.hash.slice(1)).open"))
    assert person.browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert person.complaints() == []
