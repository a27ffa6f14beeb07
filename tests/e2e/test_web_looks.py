"""What every page must be for anyone: reachable, readable and inside the window, in light and dark, wide and narrow."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from capture_browser import NARROW, WIDE, Person, Server, root_of, serving, write_report

from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType
from unspool.recording.address import newest_first
from unspool.recording.recorder import Recorder
from unspool.store import Store

pytest.importorskip("starlette")
pytest.importorskip("openai")

_RUN_AXE = """
const [rules, done] = arguments;
axe.run(document, {resultTypes: ["violations"], ...(rules.length ? {runOnly: rules} : {})}).then(
  (found) => done(found.violations.map((one) => [one.impact, one.id, one.nodes.map((node) => node.target.join(" ") +
    ": " + [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; "))])),
  (error) => done([["critical", "axe itself", [String(error)]]]));
"""

PAGES: dict[str, Callable[[str, str], str]] = {
    "the list of runs": lambda run, other: "/",
    "a search": lambda run, other: "/?q=refund&errors=1",
    "a search that finds nothing": lambda run, other: "/?q=xylophone",
    "a run": lambda run, other: f"/run/{run}",
    "the errors of a run": lambda run, other: f"/run/{run}?errors=1",
    "a model call": lambda run, other: f"/run/{run}/step/40",
    "a model call that failed": lambda run, other: f"/run/{run}/step/24",
    "a tool call": lambda run, other: f"/run/{run}/step/38",
    "a tool call that failed": lambda run, other: f"/run/{run}/step/34",
    "the difference of two calls": lambda run, other: f"/run/{run}/step/40/diff",
    "the blocks of a context": lambda run, other: f"/run/{run}/step/40/context",
    "the contexts of a run": lambda run, other: f"/run/{run}/context",
    "blame by time": lambda run, other: f"/run/{run}/blame?by=time",
    "blame by tokens": lambda run, other: f"/run/{run}/blame?by=tokens",
    "blame by cost": lambda run, other: f"/run/{run}/blame?by=cost",
    "blame by carried": lambda run, other: f"/run/{run}/blame?by=carried",
    "blame by tool": lambda run, other: f"/run/{run}/blame?group=tool",
    "the fork of a call": lambda run, other: f"/run/{run}/step/39/fork",
    "the forks of this server": lambda run, other: "/fork",
    "two runs": lambda run, other: f"/compare?a={run}&b={other}",
    "an address that is not there": lambda run, other: "/run/no-such-run",
}
# A page that answers with an error says so on the console, too; that is all it may say.
_ANSWERS = {"an address that is not there": ["the server responded with a status of 404"]}


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core as its Python package brings it; only the file is used, so neither it nor Playwright is imported."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("no axe-core on this machine: pip install axe-playwright-python")
    return Path(found.origin).with_name("axe.min.js").read_text()


def faults(person: Person, axe: str, *rules: str) -> list[str]:
    """What axe-core calls serious or critical on this page, by these rules or all of its own."""
    if not person.script("return 'axe' in window"):
        person.script(axe)
    found: list[Any] = person.browser.execute_async_script(_RUN_AXE, list(rules))
    return [
        f"{rule}: {place}" for impact, rule, places in found if impact in ("serious", "critical") for place in places
    ]


def check(person: Person, axe: str) -> None:
    """The page as it is now, in every look; all faults are in one message."""
    wrong = {}
    for width in (WIDE, NARROW):
        person.look("light", width)
        if found := person.sideways() + faults(person, axe):
            wrong[f"light, {width} wide"] = found
    person.look("dark", WIDE)  # nothing but colours changes
    if found := faults(person, axe, "color-contrast"):
        wrong["dark"] = found
    assert wrong == {}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_used_by_anyone(name: str, person: Person, demo: Store, axe: str) -> None:
    ids = sorted(one.record_id for one in newest_first(demo))
    person.open(PAGES[name](root_of(demo), ids[-1]))
    check(person, axe)
    assert person.complaints(unless=_ANSWERS.get(name, ())) == []


def test_a_fork_can_be_tried_and_watched_by_anyone(person: Person, demo: Store, axe: str, tmp_path: Path) -> None:
    copied = Store(shutil.copytree(demo.path, tmp_path / "store"))  # the fork goes into it
    with serving(copied.path) as server:
        person = Person(person.browser, server.base).enter(server)
        person.open(f"/run/{root_of(copied)}/step/39/fork")
        person.script("for (const one of document.querySelectorAll('details')) one.open = true")
        person.browser.find_element("id", "system").send_keys(" Be kind.")
        person.click("#dry-run")
        person.until(lambda: person.text("#plan"))
        check(person, axe)
        person.look()
        person.click("#run-fork")  # its model is gone, so this fails, and the page says so
        person.at(r"/fork/[^/]+$")
        person.until(lambda: person.script("return document.getElementById('fork-status')?.dataset.state") != "running")
        check(person, axe)
        assert person.complaints() == []


def test_the_keys_can_be_read_by_anyone(person: Person, axe: str) -> None:
    person.type("?")
    person.until(lambda: person.script("return document.getElementById('help').open"))
    check(person, axe)


def test_a_report_can_be_used_by_anyone(chromium: Any, demo: Store, axe: str, tmp_path: Path) -> None:
    target = tmp_path / "run.html"
    write_report(demo, target)
    person = Person(chromium, target.as_uri())
    person.open("")
    person.type("a")  # everything unfolded
    check(person, axe)
    assert person.complaints() == []


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server on a run that is going on, and has one very long word, and an intent that is one too."""
    store = Store(tmp_path / "store").ensure()
    word = "antidisestablishmentarianism" * 40
    with Recorder(store.records, store.next_pid(), word) as recorder:
        context = ContextSnapshotData(messages=[CtxMessage("user", word)], provider="openai_chat", model=word)
        recorder.write_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 1, recorder.pid, context=context, call=1))
        with serving(store.path) as server:
            yield server, recorder.record_id


@pytest.mark.parametrize("view", ["", "/step/1", "/step/1/context", "/step/1/diff", "/context", "/blame", None])
def test_a_live_run_and_very_long_words_stay_inside_the_window(
    view: str | None, odd: tuple[Server, str], chromium: Any, axe: str
) -> None:
    server, record_id = odd
    person = Person(chromium, server.base).enter(server)
    if view is not None:
        person.open(f"/run/{record_id}{view}")
    check(person, axe)
    assert person.complaints() == []


# --- that these tests see what they are there to see -----------------------------------------------------------------


def test_a_breach_of_the_policy_is_a_complaint(person: Person) -> None:
    for code in (
        "const one = document.createElement('script'); one.textContent = '1'; document.body.append(one);",
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">');",
        "const one = new Image(); one.src = 'https://example.com/x.png'; document.body.append(one);",
        "fetch('https://example.com/').catch(() => 0);",
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"1\">');",
    ):
        person.script(code)
        said: list[str] = []
        person.until(lambda said=said: said.extend(person.complaints()) or said)
        assert any("Content Security Policy" in one for one in said), code
        person.open("/")
        person.complaints()


def test_a_fault_of_a_script_is_a_complaint(person: Person) -> None:
    person.script("setTimeout(() => { throw new Error('planted'); }, 0);")
    said: list[str] = []
    person.until(lambda: said.extend(person.complaints()) or said)
    assert any("planted" in one for one in said)


def test_faults_of_access_and_of_width_are_found(person: Person, axe: str) -> None:
    assert faults(person, axe) == []
    assert person.sideways() == []
    person.script(
        "const main = document.querySelector('main');"
        "main.insertAdjacentHTML('beforeend', '<img src=\"/static/icon.svg\" id=\"planted\">');"
        "const text = document.createElement('p'); text.textContent = 'pale'; text.style.color = '#dddddd';"
        "text.style.background = '#ffffff'; main.append(text);"
        "document.getElementById('planted').style.width = '3000px';"
    )
    found = faults(person, axe)
    assert any(one.startswith("image-alt:") for one in found)
    assert any(one.startswith("color-contrast:") for one in found)
    assert len(person.sideways()) >= 2
