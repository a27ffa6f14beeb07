"""From the list of runs to a mended fork: by the clicks that docs/web.md describes, and with the keyboard alone."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from capture_browser import ENTER, SPACE, TAB, UNSPOOL, WAIT_S, Person, Server, root_of, serving, write_report

from unspool.demo.agent import SUPPORT_PROMPT
from unspool.demo.script import ModelRequest, Reply
from unspool.demo.server import ModelServer
from unspool.store import Store

pytest.importorskip("starlette")
pytest.importorskip("openai")

BUG = "take the first exchange rate you get and never ask for a second one"
MENDED = "\n".join(line for line in SUPPORT_PROMPT.splitlines() if BUG not in line)
GUIDE = Path(__file__).parents[2] / "docs" / "web.md"


@contextlib.contextmanager
def demo_on_the_web(folder: Path) -> Iterator[Server]:
    """`unspool demo --web`: the demo recorded, its page, and its scripted model still there to fork with."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("UNSPOOL")}
    process = subprocess.Popen(
        [*UNSPOOL, "demo", "--web", "--port", "0", "--store", folder / "store"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = next((one.strip() for one in process.stdout if one.startswith("http://")), "")
        assert address, process.communicate()[1]
        yield Server(address, re.sub(r"/(\?.*)?$", "", address), process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)


def test_the_path_of_the_guide_leads_from_the_red_badge_to_a_mended_fork(chromium: Any, tmp_path: Path) -> None:
    """Every quoted word of docs/web.md that is clicked or seen here is in that page, and the other way round."""
    guide = " ".join(GUIDE.read_text().split())
    with demo_on_the_web(tmp_path) as server:
        person = Person(chromium, server.base).enter(server)

        # 1. The red badge.
        assert person.text("td .badge.bad") == "2"
        person.click("td a.badge.bad")
        person.at(r"/run/[^/]+\?errors=1$")

        # 2. The tool that failed.
        assert "TimeoutError" in person.text("table.steps")
        person.click_text("exchange_rate", "table.steps")
        person.at(r"/step/34$")

        # 3. What came of it: the second attempt gave a rate of 2018, and call 10 took it.
        for shown in ("What came of it", "2018-02-01", "That is all I need", "(249.00 + 80.00) * 1.25"):
            assert shown in person.text("#after"), shown
            assert shown in guide, shown
        person.click("#after tr:last-child a")
        person.at(r"/step/40$")

        # 4. Why it took it.
        assert BUG in person.text("#m0")
        assert BUG in guide
        person.click_text("Fork here")
        person.at(r"/step/\d+/fork$")

        # 5. Another system prompt.
        field = person.browser.find_element("id", "system")
        assert BUG in field.get_attribute("value")
        field.clear()
        field.send_keys(MENDED)
        person.click("#dry-run")
        person.until(lambda: person.text("#plan"))
        assert BUG in person.text("#plan del, #plan .diff")
        assert person.browser.find_element("id", "system").get_attribute("value").strip() == MENDED.strip()
        for word in ("Fork here", "Dry run", "All tools may run", "Run the program from here", "Compare with"):
            assert word in guide, word
        person.click("#all-tools")
        person.click("#run-fork")

        # 6. Run, watched, compared.
        person.at(r"/fork/[^/]+$")
        person.until(lambda: _state(person) == "done")
        assert "355.32" in person.text("#fork-output")
        person.click("#compare-link")
        person.at(r"/compare\?")
        assert "355.32" in person.text()
        assert "411.25" in person.text()
        assert "First difference" in person.text(".parting")
        assert person.complaints() == []


def test_the_pictures_of_the_guide_are_there_and_small() -> None:
    pictures = [GUIDE.parent / name for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", GUIDE.read_text())]
    assert len(pictures) > 6
    assert {one.name: one.stat().st_size for one in pictures if one.stat().st_size > 120_000} == {}
    assert sum(one.stat().st_size for one in pictures) < 1_500_000


def _state(person: Person) -> str:
    return person.script("return document.getElementById('fork-status')?.dataset.state ?? ''")


def _tab_to(person: Person, name: str, limit: int = 60) -> None:
    """Press Tab until the element with this id has the focus."""
    for _ in range(limit):
        if person.script("return document.activeElement?.id") == name:
            return
        person.type(TAB)
    raise AssertionError(f"{limit} times Tab do not lead to #{name}")


def test_the_same_with_the_keyboard_alone(chromium: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    with demo_on_the_web(tmp_path) as server:
        person = Person(chromium, server.base).enter(server)
        person.type("j", ENTER)  # list → run
        person.at(r"/run/[^/]+$")
        person.until(lambda: person.text("table.steps"))
        while "TimeoutError" not in person.text("table.steps .selected"):
            person.type("e")
        person.type("o")  # → step
        person.at(r"/step/34$")
        person.type("G", "o")  # the last row: what came of it
        person.at(r"/step/40$")
        person.type("g", "d")  # → difference
        person.at(r"/diff$")
        assert "2018-02-01" in person.text(".diff")
        person.type("f")  # → fork
        person.at(r"/step/\d+/fork$")
        _tab_to(person, "system")
        ActionChains(chromium).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
        ActionChains(chromium).send_keys(MENDED).perform()
        _tab_to(person, "all-tools", 200)
        person.type(SPACE)
        person.type("\ue00c")  # Escape leaves the field
        for name in ("dry-run", "run-fork"):
            chromium.execute_script("document.activeElement?.blur(); scrollTo(0, 0); getSelection().removeAllRanges()")
            _tab_to(person, name)
            person.type(ENTER)
            if name == "dry-run":
                person.until(lambda: person.text("#plan"))
        person.at(r"/fork/[^/]+$")
        person.until(lambda: _state(person) == "done")
        _tab_to(person, "compare-link")
        person.type(ENTER)  # → compare
        person.at(r"/compare\?")
        assert "355.32" in person.text()
        assert person.complaints() == []


_AGENT = """
from openai import OpenAI
client, messages = OpenAI(), [{"role": "system", "content": "be brief"}]
for text in ("begin", "go on", "finish"):
    messages.append({"role": "user", "content": text})
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages).choices[0].message.content
    messages.append({"role": "assistant", "content": answer})
"""


class Gated:
    """A model that answers nobody's `go on` and `finish` before it may."""

    def __init__(self) -> None:
        self.may = {"go on": threading.Event(), "finish": threading.Event()}

    def __call__(self, request: ModelRequest) -> Reply:
        gate = self.may.get(request.last_user_text)
        assert gate is None or gate.wait(WAIT_S)
        return Reply(text=f"answer to {request.last_user_text}")


def _start(folder: Path, model: ModelServer, name: str) -> subprocess.Popen[bytes]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("UNSPOOL")}
    return subprocess.Popen(
        [*UNSPOOL, "run", "--store", folder / "store", "--name", name, "--", sys.executable, "-c", _AGENT],
        env=env | {"OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_API_KEY": "sk-0"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_live_run_is_walked_through_with_the_keyboard_while_it_grows(chromium: Any, tmp_path: Path) -> None:
    gates = Gated()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [gate.set() for gate in gates.may.values()])
        with ModelServer(lambda request: Reply(text="the old answer")) as model:
            assert _start(tmp_path, model, "it has ended").wait(WAIT_S) == 0
        model = stack.enter_context(ModelServer(gates))
        running = _start(tmp_path, model, "still going")
        stack.callback(lambda: running.wait(WAIT_S))
        stack.callback(lambda: [gate.set() for gate in gates.may.values()])
        server = stack.enter_context(serving(tmp_path / "store"))
        person = Person(chromium, server.base).enter(server)
        person.until(lambda: "1 live" in person.text())
        person.type("j", ENTER)
        person.at(r"/run/[^/]+$")
        person.until(lambda: person.browser.find_element("id", "livebadge").is_displayed())
        person.until(lambda: "answer to begin" in person.text("table.steps"))
        gates.may["go on"].set()
        person.until(lambda: "answer to go on" in person.text("table.steps"))  # it came by itself
        for key in itertools.cycle("jjjjjjkkkkkk"):  # rows may still come in, above the selected one too
            if "answer to go on" in person.text("table.steps .selected"):
                break
            person.type(key)
        person.type("o")
        person.at(r"/step/\d+$")
        assert "answer to go on" in person.text(".answer")
        person.type("g", "d")
        person.at(r"/diff$")
        assert "go on" in person.text(".diff")
        person.type("f")
        person.at(r"/step/\d+/fork$")
        assert person.browser.find_element("id", "system").get_attribute("value").strip() == "be brief"
        person.type("g", "r")
        person.at(r":\d+/$")
        person.type("j", "x", "j", "x", "c")
        person.at(r"/compare\?")
        assert "answer to go on" in person.text()
        assert "the old answer" in person.text()
        person.type("g", "r")
        person.at(r":\d+/$")
        gates.may["finish"].set()
        person.until(lambda: " live" not in person.text("h1"))  # it has ended, and the list says so
        assert running.wait(WAIT_S) == 0
        assert person.complaints() == []


def test_a_report_is_walked_through_with_the_keyboard_and_offers_no_fork(
    chromium: Any, demo: Store, tmp_path: Path
) -> None:
    target = tmp_path / "run.html"
    write_report(demo, target, "--full")
    person = Person(chromium, target.as_uri())
    person.open("")
    while "TimeoutError" not in person.text(".selected"):
        person.type("e")
    person.type("o")  # list of steps → step
    person.at(r"#step-.*-34$")
    person.until(lambda: person.script("return document.getElementById(location.hash.slice(1)).open"))
    person.type("g", "c")
    person.at("#context$")
    person.type("g", "b")
    person.at("#blame$")
    person.type("g", "s", "?")
    person.until(lambda: person.script("return document.getElementById('help').open"))
    person.type("\ue00c", "a")
    assert BUG in person.text()  # the system prompt is in it
    assert person.script("return document.querySelectorAll('form:not([method=dialog]), #fork-here').length") == 0
    person.type("f", "c")  # nothing to fork or compare with here
    assert person.browser.current_url.startswith(target.as_uri())
    assert root_of(demo) in person.text()
    assert person.complaints() == []
