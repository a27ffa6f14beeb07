"""Forking in the page: `unspool web` as a process, the demo agent, its scripted model; dry run, run, watch, compare."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from unspool.demo import story
from unspool.demo.script import ModelRequest, Reply
from unspool.demo.server import ModelServer
from unspool.demo.tour import FIXED_PROMPT
from unspool.events import RecordEventType
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.store import Store

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")
pytest.importorskip("openai")

UNSPOOL = [sys.executable, "-m", "unspool"]
WAIT_S = 60  # for what must happen; far more than it takes
RIGHT = "ANSWER: refund 355.32 USD"


class Form(HTMLParser):
    """The fields of a page's form as a browser would post them, with its links by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.ids: dict[str, dict[str, str]] = {}
        self._area: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids[given["id"]] = given
            if tag == "a":
                self.links[given["id"]] = given["href"]
        if tag == "textarea":
            self._area = given["name"]
            self.fields[self._area] = ""
        if tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area is not None:
            self.fields[self._area] = self.fields[self._area].removeprefix("\n")  # as HTML says
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self.fields[self._area] += data


class Browser:
    """A browser that opened the address; posts as one does."""

    def __init__(self, address: str) -> None:
        self.base = re.sub(r"/\?.*$", "", address)
        self.client = httpx2.Client(base_url=self.base, timeout=WAIT_S, trust_env=False)
        assert self.client.get(address).status_code == 200

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.client.close()

    def page(self, path: str) -> tuple[str, Form]:
        answer = self.client.get(path, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return answer.text, Form(answer.text)

    def post(self, path: str, fields: dict[str, str]) -> Any:
        # A field's line ends go over the wire as CRLF.
        data = {name: value.replace("\r\n", "\n").replace("\n", "\r\n") for name, value in fields.items()}
        return self.client.post(path, data=data, headers={"origin": self.base}, follow_redirects=False)

    def job(self, path: str) -> dict[str, Any]:
        return self.client.get(f"{path}.json").json()["page"]

    def ended(self, path: str) -> dict[str, Any]:
        """The job once it has ended, as its live stream tells."""
        with self.client.stream("GET", f"{path}/live") as events:
            for line in events.iter_lines():
                if line.startswith("event: grew") and (found := self.job(path))["state"] != "running":
                    return found
        raise AssertionError("the stream ended before the fork did")


@contextlib.contextmanager
def serving(store: Path, *args: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UNSPOOL")}
    process = subprocess.Popen(
        [*UNSPOOL, "web", "--store", store, "--port", "0", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean | env,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, process.communicate()[1]
        yield address, process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer(story.play, pages=story.PAGES) as running:
        yield running


@pytest.fixture(scope="module")
def environment(model: ModelServer) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": f"{model.url}/v1",
        "OPENAI_API_KEY": "sk-of-the-test",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory, environment) -> Store:
    """A store with the demo's run, whose model is still there."""
    folder = tmp_path_factory.mktemp("fork") / "store"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UNSPOOL")}
    agent = [sys.executable, "-m", "unspool.demo.agent"]
    done = subprocess.run(
        [*UNSPOOL, "run", "--quiet", "--name", "demo", "--store", folder, "--", *agent],
        env=clean | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Store(folder)


@pytest.fixture(scope="module")
def browser(store, environment) -> Iterator[Browser]:
    with serving(store.path, **environment) as (address, _), Browser(address) as opened:
        yield opened


def snapshot(store: Store, call: int) -> tuple[str, int]:
    """The recording of the demo, and the event of a call of it."""
    with RecordReader(resolve(store, "last").record_dir) as reader:
        event = next(
            one for one in reader.events() if one.type is RecordEventType.CONTEXT_SNAPSHOT and one.call == call
        )
        return reader.record_id, event.seq_num


def test_the_demo_is_mended_in_the_page(store, browser, model):
    record_id, seq = snapshot(store, 10)
    _, step = browser.page(f"/run/{record_id}/step/{seq}")
    text, form = browser.page(step.links["fork-here"])
    assert "first exchange rate" in form.fields["system"]
    assert len(text) < 100_000  # the payment log of 40 KB is not in it

    asked = len(model.requests)
    fields = {**form.fields, "system": FIXED_PROMPT, "all-tools": "1", "max-calls": "9"}
    dry = browser.post(step.links["fork-here"], {**fields, "do": "dry-run"})
    assert dry.status_code == 200
    assert "Dry run: nothing was sent" in dry.text
    assert "<del>" in dry.text
    assert "at most 9 live model calls" in dry.text
    assert "OPENAI_API_KEY" in dry.text
    assert "exchange_rate" in dry.text
    assert "unspool.demo.agent" in dry.text  # the recorded command
    assert len(model.requests) == asked
    again = Form(dry.text).fields
    assert again["system"].replace("\r\n", "\n") == FIXED_PROMPT  # nothing that was typed is lost
    assert again["all-tools"] == "1"

    started = browser.post(step.links["fork-here"], {**again, "do": "run"})
    assert started.status_code == 303, started.text
    job = started.headers["location"]
    ended = browser.ended(job)
    assert ended["state"] == "done", ended
    assert RIGHT in ended["said"]
    [fork] = ended["forks"]
    assert fork["status"] == "forked"
    made = resolve(store, "last-fork").record_id
    assert fork["record_id"] == made
    page, links = browser.page(job)
    assert 'data-state="done"' in page
    assert links.links["fork-link"] == f"/run/{made}"
    _, refilled = browser.page(links.links["fork-again"])
    assert refilled.fields["system"] == FIXED_PROMPT
    compared, _ = browser.page(links.links["compare-link"])
    assert "the second is a fork of the first" in compared
    assert "355.32" in compared
    with RecordReader(store.records / made) as reader:
        assert reader.metadata.parent == record_id
        assert reader.metadata.forked_at == seq


def test_a_tool_step_leads_to_the_message_with_its_result_which_mends_the_demo_too(store, browser):
    record_id, _ = snapshot(store, 10)
    with RecordReader(store.records / record_id) as reader:
        step = next(
            one for one in reader.events()
            if one.syscall is not None and "exchange_rate" in str(one.syscall.args.get("path")) and not one.syscall.err
        )  # fmt: skip
    _, links = browser.page(f"/run/{record_id}/step/{step.seq_num}")
    moved = browser.client.get(links.links["fork-here"], follow_redirects=False)
    assert moved.status_code == 303
    number = re.fullmatch(r".*#m(\d+)", moved.headers["location"])[1]
    address = moved.headers["location"].partition("?")[0]
    _, form = browser.page(moved.headers["location"])
    assert '"as_of": "2018-02-01"' in form.fields[f"text-{number}"]
    fields = {**form.fields, "all-tools": "1", "do": "run"}
    fields[f"text-{number}"] = '{"base": "EUR", "quote": "USD", "rate": 1.08, "as_of": "2026-03-02"}'
    started = browser.post(address, fields)
    assert started.status_code == 303, started.text
    ended = browser.ended(started.headers["location"])
    assert ended["state"] == "done", ended
    assert RIGHT in ended["said"]


def test_one_call_is_sent_and_its_answer_stands_beside_the_recorded_one(store, browser):
    record_id, seq = snapshot(store, 10)
    address = f"/run/{record_id}/step/{seq}/fork"
    _, form = browser.page(address)
    started = browser.post(address, {**form.fields, "system": FIXED_PROMPT, "samples": "2", "do": "send"})
    assert started.status_code == 303, started.text
    ended = browser.ended(started.headers["location"])
    assert ended["state"] == "done", ended
    assert [one["name"] for one in ended["samples"]] == ["recorded", "answer 1", "answer 2"]
    recorded, first, _ = ended["samples"]
    assert recorded["answer"]["calls"][0]["name"] == "calculate"
    assert first["answer"]["calls"][0]["name"] == "exchange_rate"


def test_tools_that_were_not_allowed_stop_the_fork_and_the_page_says_so(store, browser):
    record_id, seq = snapshot(store, 10)
    address = f"/run/{record_id}/step/{seq}/fork"
    _, form = browser.page(address)
    fields = {**form.fields, "system": FIXED_PROMPT}
    dry = browser.post(address, {**fields, "do": "dry-run"}).text
    assert "would be refused" in dry
    assert "after the model was asked, which is paid for" in dry
    started = browser.post(address, {**fields, "do": "run"})
    ended = browser.ended(started.headers["location"])
    assert ended["state"] == "failed"
    assert "The fork was stopped" in ended["sentence"]
    [fork] = ended["forks"]
    assert fork["status"] == "stopped at a divergence"
    assert "Tick “exchange_rate” or “All tools may run”" in fork["problems"][0]
    page, links = browser.page(started.headers["location"])
    assert "--live-tools" not in page  # the page has boxes, and no options
    assert "terminal" not in page
    _, allowed = browser.page(links.links["fork-allow"])
    assert allowed.fields["live-tool"] == "/dev/tool/exchange_rate"
    assert allowed.fields["system"] == FIXED_PROMPT


@contextlib.contextmanager
def waiting_fork(tmp_path: Path, stubborn: bool = False) -> Iterator[tuple[Browser, str, subprocess.Popen[str]]]:
    """A server with a fork whose model never answers the forked call.

    Args:
        stubborn: the program that is forked does not end when it is asked to.
    """
    import threading

    reached, let_go = threading.Event(), threading.Event()

    def play(request: ModelRequest) -> Reply:
        if "wait" in request.last_user_text:
            reached.set()
            let_go.wait(WAIT_S)
        return Reply(text="hello")

    program = tmp_path / "agent.py"
    program.write_text(
        "import os, openai, signal\n"
        f"if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('token:', os.environ.get('UNSPOOL_WEB_TOKEN'), flush=True)\n"
        "client = openai.OpenAI(max_retries=0)\n"
        "said = client.chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'hi'}])\n"
        "print(said.choices[0].message.content)\n"
    )
    with ModelServer(play) as model:
        env = {
            "OPENAI_BASE_URL": f"{model.url}/v1",
            "OPENAI_API_KEY": "x",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        store = Store(tmp_path / "store")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("UNSPOOL")}
        subprocess.run(
            [*UNSPOOL, "run", "--quiet", "--store", store.path, "--", sys.executable, program],
            env=clean | env,
            check=True,
        )
        record_id, seq = snapshot(store, 1)
        try:
            secret = {"UNSPOOL_WEB_TOKEN": "a-secret-of-the-tests"}
            with serving(store.path, **env, **secret) as (address, process), Browser(address) as browser:
                path = f"/run/{record_id}/step/{seq}/fork"
                _, form = browser.page(f"{path}?open=1")
                started = browser.post(path, {**form.fields, "text-1": "wait for me", "do": "run"})
                assert started.status_code == 303, started.text
                assert reached.wait(WAIT_S)
                yield browser, started.headers["location"], process
        finally:
            let_go.set()


def watched(folder: Path) -> list[int]:
    """File descriptors of the processes of a fork, the command and its program: readable when each has ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"web" not in words and any(word.startswith(bytes(folder)) for word in words):
                found.append(os.pidfd_open(int(process.name)))
    return found


def have_ended(processes: list[int]) -> bool:
    """Whether all of them end; waits for each."""
    ended = [bool(select.select([fd], [], [], WAIT_S)[0]) for fd in processes]
    for fd in processes:
        os.close(fd)
    return all(ended)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_fork_is_stopped_with_its_button(tmp_path):
    with waiting_fork(tmp_path) as (browser, job, _):
        page, form = browser.page(job)
        assert 'data-state="running"' in page
        found = browser.job(job)
        assert found["forks"][0]["record_id"], "the recording is linked while the fork runs"
        assert "token: None" in found["said"]  # no program that is run can talk to the server
        processes = watched(tmp_path)
        assert len(processes) == 2
        assert browser.post(f"{job}/stop", form.fields).status_code == 303
        ended = browser.ended(job)
        assert ended["state"] == "stopped"
        assert have_ended(processes)
        assert 'id="fork-link"' in browser.page(job)[0]  # as far as it got it is there


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_program_that_does_not_end_when_asked_is_made_to(tmp_path):
    with waiting_fork(tmp_path, stubborn=True) as (browser, job, _):
        _, form = browser.page(job)
        processes = watched(tmp_path)
        browser.post(f"{job}/stop", form.fields)
        found = browser.ended(job)
        assert found["state"] == "stopped"
        assert have_ended(processes)
        assert found["forks"][0]["href"]  # as far as it got it is there


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_forks_end_with_the_server(tmp_path, number):
    with waiting_fork(tmp_path) as (_, _, process):
        processes = watched(tmp_path)
        assert len(processes) == 2
        process.send_signal(number)
        process.wait(WAIT_S)
        assert have_ended(processes)


def test_a_server_that_only_shows_starts_nothing(store, environment):
    record_id, seq = snapshot(store, 10)
    with serving(store.path, "--read-only", **environment) as (address, _), Browser(address) as browser:
        assert "fork-here" not in browser.page(f"/run/{record_id}/step/{seq}")[0]
        assert browser.client.get(f"/run/{record_id}/step/{seq}/fork").status_code == 403
        assert browser.post(f"/run/{record_id}/step/{seq}/fork", {"do": "run"}).status_code == 405


def test_the_demo_stays_up_in_the_browser_and_is_mended_there(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UNSPOOL", "OPENAI"))}
    folder = tmp_path / "store"
    command = [*UNSPOOL, "demo", "--web", "--port", "0", "--store", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean)
    assert process.stdout is not None
    try:
        address = next((line.strip() for line in process.stdout if "?token=" in line), "")
        assert address, process.communicate()[1]
        with Browser(address) as browser:
            record_id, seq = snapshot(Store(folder), 10)
            path = f"/run/{record_id}/step/{seq}/fork"
            _, form = browser.page(path)
            prompt = form.fields["system"].replace(
                "take the first exchange rate you get and never ask for a second one", ""
            )
            started = browser.post(path, {**form.fields, "system": prompt, "all-tools": "1", "do": "run"})
            assert started.status_code == 303, started.text
            ended = browser.ended(started.headers["location"])
            assert ended["state"] == "done", ended
            assert RIGHT in ended["said"]
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_S)
    assert "Press f" in said
    assert "Traceback" not in said


# --- in a real browser -----------------------------------------------------------------------------------------------


def test_the_form_is_filled_in_and_posted_with_the_keyboard_alone(person, demo):
    """A browser says by itself where a form comes from, loads texts when they are opened, and keeps to the policy."""
    from selenium.webdriver.common.keys import Keys

    record_id, seq = snapshot(demo, 10)
    person.open(f"/run/{record_id}/step/{seq}")
    person.type("f")
    person.at(r"/fork$")
    number = person.script("return [...document.querySelectorAll('details[data-field]')].at(-1).dataset.field")
    assert person.script("return document.querySelector('#m7 textarea')") is None
    person.type("G", "o")
    person.until(lambda: person.script("return document.getElementById(arguments[0])?.value", f"text-{number}"))
    person.browser.find_element("id", f"text-{number}").send_keys("!", Keys.CONTROL, Keys.ENTER)
    person.until(lambda: "nothing was sent" in person.text("#plan"))
    assert f"message {number} (tool of" in person.text("#plan")
    assert person.script("return document.getElementById(arguments[0]).value", f"text-{number}").endswith("!")
    assert person.complaints() == []
