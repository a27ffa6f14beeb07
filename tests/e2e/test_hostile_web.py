"""A hostile recording in the web view and in a report: every page shows it as text, and nothing of it runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from capture_browser import NARROW, WIDE, Person, Server, serving, write_report
from capture_hostile import ACTING, HUGE, OWNED, record_hostile

from unspool.store import Store

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("starlette")
pytest.importorskip("urllib3")

_PIXELS = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]*")
_ELEMENTS_OF_OTHERS = {"iframe", "object", "embed", "base", "foreignobject", "animate", "set", "audio", "video", "math"}
_ADDRESSES = {"href", "src", "action", "formaction", "srcset", "xlink:href", "data", "poster", "background"}
_WEIGHT = 2_000_000  # bytes of a page that shows messages of 5 MB; the rest of them is behind a link


class Reader(HTMLParser):
    """Reads a page as a browser does and keeps what may not be in it, its links, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.links: set[str] = set()
        self.scripts = 0  # that are none of our files
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.scripts += tag == "script" and not re.fullmatch(r"/static/[a-z]+\.js", given.get("src", ""))
        if tag in _ELEMENTS_OF_OTHERS or (tag == "meta" and given.get("http-equiv", "").lower() == "refresh"):
            self.faults.append(f"<{tag}> {given}"[:200])
        for name, value in given.items():
            if name.startswith("on") or name in ("style", "srcdoc"):
                self.faults.append(f"<{tag} {name}={value[:100]!r}>")
            if name in _ADDRESSES and tag != "script":
                if value.startswith("/") and not value.startswith("//"):
                    self.links.add(value)
                elif not (value.startswith("#") or value == "" or (tag == "img" and _PIXELS.fullmatch(value))):
                    self.faults.append(f"<{tag} {name}={value[:100]!r}>")


def shape_of(address: str) -> str:
    """What kind of page an address is of: without the run and without numbers."""
    return re.sub(r"\d+", "N", re.sub(r"/run/[^/?]+", "/run/R", address))


def faults_of(page: str, scripts: int) -> list[str]:
    """What is wrong with a page as text."""
    read = Reader(page)
    found = read.faults + ([] if read.scripts == scripts else [f"{read.scripts} scripts instead of {scripts}"])
    if acts := ACTING.search(page):
        found.append(f"a control character: {page[max(0, acts.start() - 60) : acts.end()]!r}")
    if re.search(r"(?<![\d.,])49(?=(\{% raw|\$\{|#\{|<%|&lt;%|\$49))", page):
        found.append("a template was worked out")
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return record_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def bad_server(hostile: Store) -> Iterator[Server]:
    with serving(hostile.path) as running:
        yield running


@pytest.fixture(scope="module")
def pages(bad_server: Server) -> dict[str, str]:
    """Every page of the web view that links lead to, by its address."""
    found: dict[str, str] = {}
    seen: Counter[str] = Counter()
    waiting = ["/", "/compare?a=1&b=2", "/?q=onmouseover", "/?q=%1b%5b2J<script>"]
    with httpx2.Client(base_url=bad_server.base, timeout=60, follow_redirects=True, trust_env=False) as client:
        client.get(bad_server.address.removeprefix(bad_server.base))
        while waiting:
            address = waiting.pop(0).partition("#")[0]
            kind = shape_of(address)
            seen[kind] += 1
            if address in found or address == "/compare" or seen[kind] > (2 if "?" in kind else 40):
                continue
            answer = client.get(address)
            assert answer.status_code == 200, f"{address}: {answer.status_code} {answer.text[:300]}"
            if "html" not in answer.headers["content-type"]:
                assert answer.headers["content-type"].startswith(("application/octet-stream", "text/", "image/"))
                found[address] = ""
                continue
            found[address] = answer.text
            waiting += sorted(Reader(answer.text).links)
    return {address: page for address, page in found.items() if page}


def test_every_page_shows_it_as_text(pages: dict[str, str]) -> None:
    wrong = {address: found for address, page in pages.items() if (found := faults_of(page, 0))}
    assert wrong == {}
    for part in ("/step/", "/diff", "/context", "/blame", "/run/", "?errors"):
        assert any(part in address for address in pages), part
    shown = "".join(pages.values())
    assert "{{7*7}}" in shown
    assert "&lt;script&gt;document.title=" in shown
    assert "\\x1b[35;45;7m" in shown


def test_no_page_carries_the_whole_of_the_huge_messages(pages: dict[str, str]) -> None:
    heavy = {address: len(page.encode()) for address, page in pages.items() if len(page.encode()) > _WEIGHT}
    assert heavy == {}
    assert HUGE > 2 * _WEIGHT


def test_nothing_of_it_runs_in_a_browser(chromium: Any, bad_server: Server, pages: dict[str, str]) -> None:
    person = Person(chromium, bad_server.base).enter(bad_server)
    kinds: dict[str, str] = {}  # one page of each kind, two of the steps
    for address in pages:
        kinds.setdefault(shape_of(address), address)
    kinds |= {f"step {n}": one for n, one in enumerate([one for one in pages if re.search(r"/step/\d+$", one)][:8])}
    for address in kinds.values():
        person.open(address)
        person.type("a")  # everything unfolded
        assert person.browser.title != OWNED, address
        assert person.text().strip(), address
        assert person.script("return document.querySelectorAll('main script, iframe, object, base').length") == 0
        for width in (WIDE, NARROW):
            person.look("light", width)
            assert person.sideways() == [], f"{address} at {width}"
        person.look()
        assert person.complaints() == [], address


@pytest.mark.parametrize("full", [False, True])
def test_a_report_shows_it_as_text(full: bool, hostile: Store, chromium: Any, tmp_path: Path) -> None:
    target = tmp_path / "run.html"
    write_report(hostile, target, *(["--full"] if full else []))
    page = target.read_text("utf-8")
    assert faults_of(page, 1) == []
    person = Person(chromium, target.as_uri())
    person.open("")
    person.type("a")
    assert person.browser.title != OWNED
    assert person.script("return performance.getEntriesByType('resource').length") == 0
    person.look("light", NARROW)
    assert person.sideways() == []
    assert person.complaints() == []
