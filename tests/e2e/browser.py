"""`unspool web` as a process of its own, Debian's Chromium without a screen, and somebody at its keyboard."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unspool.recording.address import newest_first
from unspool.store import Store

UNSPOOL = [sys.executable, "-m", "unspool"]
WAIT_S = 30  # for what must happen; far more than it takes

WIDE, NARROW = 1280, 390  # CSS pixels: a small laptop, a telephone

ENTER, ESCAPE, TAB, SPACE = "\ue007", "\ue00c", "\ue004", " "

# An element that sticks out of the window at either side, where nothing around it scrolls or cuts it off.
_STICKING_OUT = """
const wide = document.documentElement.clientWidth, found = [];
for (const one of document.body.querySelectorAll("*")) {
  if (one.matches(".skip, .hidden, .hidden *") || !one.getClientRects().length) continue;
  const box = one.getBoundingClientRect();
  if (!box.width || (box.left >= -1 && box.right <= wide + 1)) continue;
  let around = one.parentElement;
  while (around !== document.body && getComputedStyle(around).overflowX === "visible") around = around.parentElement;
  if (around !== document.body) continue;
  found.push(one.outerHTML.slice(0, 120) + " " + Math.round(box.left) + " to " + Math.round(box.right));
}
return found;
"""


class Server(NamedTuple):
    """A running `unspool web`: the address it printed, and that address without the token."""

    address: str
    base: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def serving(store: Path, *args: str) -> Iterator[Server]:
    """`unspool web` on a store, on a port of its own; ended with Ctrl-C."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("UNSPOOL")}
    process = subprocess.Popen(
        [*UNSPOOL, "web", "--store", store, "--port", "0", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, process.communicate()[1]
        yield Server(address, re.sub(r"/(\?.*)?$", "", address), process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def record_demo(folder: Path) -> Store:
    """A new store with the demo's run."""
    done = subprocess.run(
        [*UNSPOOL, "demo", "--no-tour", "--store", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Store(folder)


def root_of(store: Store) -> str:
    """The first run of a store."""
    return [one.record_id for one in newest_first(store)][-1]


def write_report(store: Store, target: Path, *args: str) -> str:
    """The report of the store's first run, as a file; returns what the command said."""
    done = subprocess.run(
        [*UNSPOOL, "report", root_of(store), "--store", store.path, "-o", target, *args],
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def open_chromium(folder: Path) -> Any:
    """Chromium without a screen, which keeps every line of its console; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium and chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for one in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--window-size={WIDE},900",
        f"--user-data-dir={folder}",
    ):  # fmt: skip
        options.add_argument(one)
    return webdriver.Chrome(options=options, service=service.Service(driver))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Chromium for all tests of a worker."""
    browser = open_chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the demo's run, for tests that only read."""
    return record_demo(tmp_path_factory.mktemp("web") / "store")


@pytest.fixture(scope="session")
def server(demo: Store) -> Iterator[Server]:
    """`unspool web` on the demo's store."""
    with serving(demo.path) as running:
        yield running


class Person:
    """Somebody at the keyboard, in front of one server or file."""

    def __init__(self, browser: Any, base: str) -> None:
        self.browser, self.base = browser, base
        self.look()
        browser.get_log("browser")  # what others left behind

    def enter(self, server: Server) -> Person:
        """Open the address that `unspool web` printed."""
        self.open(server.address.removeprefix(server.base))
        self.at(r":\d+/$")
        return self

    def open(self, path: str) -> None:
        self.browser.get(self.base + path)

    def look(self, scheme: str = "light", width: int = WIDE) -> None:
        """Prefer light or dark, in a window of this width in CSS pixels."""
        self.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == NARROW}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def type(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def click(self, selector: str) -> None:
        """Click what a person sees at this place, once it is there."""
        self.until(lambda: self.browser.find_elements("css selector", selector))
        self.browser.find_element("css selector", selector).click()

    def click_text(self, text: str, within: str = "main") -> None:
        """Click the first link or button in `within` that says `text`."""
        path = f".//*[self::a or self::button or self::summary][contains(normalize-space(.), {_literal(text)})]"
        self.until(lambda: self.browser.find_elements("css selector", within))
        area = self.browser.find_element("css selector", within)
        self.until(lambda: area.find_elements("xpath", path))
        area.find_element("xpath", path).click()

    def until(self, fits: Callable[[], Any]) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(
            self.browser, WAIT_S, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        waiting.until(lambda _: fits())

    def at(self, pattern: str) -> None:
        """Wait until the page with this address is there, with its keys."""
        self.until(lambda: re.search(pattern, self.browser.current_url))
        self.until(lambda: self.script("return document.readyState") == "complete")

    def script(self, code: str, *args: object) -> Any:
        """Run JavaScript as the browser's tools do: the page's policy does not hold for it, and stays as it is."""
        return self.browser.execute_script(code, *args)

    def text(self, selector: str = "main") -> str:
        return self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def complaints(self, unless: Sequence[str] = ()) -> list[str]:
        """What the console said since it was last asked: faults of scripts, refusals by the policy, failed requests."""
        said = [one["message"] for one in self.browser.get_log("browser") if one["level"] in ("SEVERE", "WARNING")]
        return [one for one in said if not any(known in one for known in unless)]

    def sideways(self) -> list[str]:
        """What makes the page wider than the window; nothing if all is well."""
        wide, window = self.script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        return [*([f"the page is {wide} wide in a window of {window}"] if wide > window else []),
                *self.script(_STICKING_OUT)]  # fmt: skip


def _literal(text: str) -> str:
    assert '"' not in text, "XPath has no escape for quotes"
    return f'"{text}"'


@pytest.fixture
def person(chromium: Any, server: Server) -> Iterator[Person]:
    """Somebody in front of the demo's list of runs; a complaint of the browser fails the test."""
    somebody = Person(chromium, server.base).enter(server)
    yield somebody
    assert somebody.complaints() == []
