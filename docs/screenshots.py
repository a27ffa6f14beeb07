"""Take pictures of the web view: records the demo, forks it in the page, and photographs every page.

    python docs/screenshots.py            the pictures of the documentation, into docs/images, with sheets of all pages
                                          in light and dark, 1280 and 390 pixels wide
    python docs/screenshots.py FOLDER     every page in light and dark, 1280 and 390 pixels wide, into FOLDER

Needs Chromium with its driver, and selenium (`pip install -e '.[all,dev]'`).
"""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

IMAGES = Path(__file__).parent / "images"
SCHEMES = ("light", "dark")
WIDTHS = (1280, 390)
TALLEST = 2200  # pixels; what is below is more of the same
WAIT_S = 60

# The pictures of the documentation: page, scheme, width, height.
KEPT = {
    "web-list": ("list before", "light", 1280, 220),
    "web-errors": ("errors", "light", 1280, 640),
    "web-after": ("failed-tool", "light", 1280, 660),
    "web-call": ("call", "light", 1280, 620),
    "web-fork": ("plan", "light", 1280, 446),
    "web-compare": ("compare", "light", 1280, 760),
    "web-run": ("run", "light", 1280, 900),
    "web-run-dark": ("run", "dark", 1280, 900),
    "web-blame-dark": ("blame", "dark", 1280, 900),
    "web-context": ("step-context", "light", 1280, 700),
}


class Camera:
    """A browser that takes pictures."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for one in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"):
            options.add_argument(one)
        self.browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))

    def look(self, scheme: str, width: int) -> None:
        """Prefer light or dark, in a window of this width."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def take(self, target: Path, width: int, height: int | None = None, *, quality: int = 82) -> None:
        """The page from its top as a PNG or WebP file, by the target's name."""
        self.browser.execute_script("scrollTo(0, 0)")
        whole = int(self.browser.execute_script("return document.documentElement.scrollHeight"))
        clip = {"x": 0, "y": 0, "width": width, "height": min(whole, height or TALLEST), "scale": 1}
        wanted: dict[str, Any] = {"format": target.suffix[1:], "captureBeyondViewport": True, "clip": clip}
        if target.suffix == ".webp":
            wanted["quality"] = quality
        taken = self.browser.execute_cdp_cmd("Page.captureScreenshot", wanted)
        target.write_bytes(base64.b64decode(taken["data"]))

    def until(self, script: str) -> None:
        """Wait until a script gives something true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, WAIT_S).until(lambda _: self.browser.execute_script(script))


class Demo(NamedTuple):
    """A running `unspool demo --web`."""

    address: str
    base: str
    store: Path


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    """The demo recorded in `folder`, its page, and the model that forks of it ask."""
    store = folder / "store"
    process = subprocess.Popen(
        [sys.executable, "-m", "unspool", "demo", "--web", "--port", "0", "--store", store],
        stdout=subprocess.PIPE, text=True, cwd=IMAGES.parents[1],
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = next(line.strip() for line in process.stdout if line.startswith("http://"))
        yield Demo(address, re.sub(r"/\?.*$", "", address), store)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)


def pages_of(camera: Camera, found: Demo, folder: Path, first: Path | None) -> dict[str, str]:
    """The address of every page, the demo having been forked in the page as docs/web.md says.

    Args:
        first: where the picture of the list before that goes.
    """
    browser = camera.browser
    browser.get(found.address)
    camera.until("return document.querySelector('table.runs')")
    if first is not None:  # the list with the one run in it
        photograph(camera, "list", f"{found.base}/", first, KEPT["web-list"][1:])
    root, other = sorted(one.name for one in (found.store / "records").iterdir())[:2]
    run, at = f"{found.base}/run/{root}", f"{found.base}/run/{root}/step"
    browser.get(f"{at}/39/fork")
    _mend(camera)
    browser.find_element("id", "all-tools").click()
    browser.find_element("id", "run-fork").click()
    camera.until("return document.getElementById('fork-status')?.dataset.state === 'done'")
    job = browser.current_url
    compare = browser.find_element("id", "compare-link").get_attribute("href")
    report = folder / "report.html"
    subprocess.run(
        [sys.executable, "-m", "unspool", "report", root, "--store", found.store, "-o", report],
        check=True, capture_output=True,
    )  # fmt: skip
    return {
        "list": f"{found.base}/", "run": run, "errors": f"{run}?errors=1", "call": f"{at}/40", "tool": f"{at}/38",
        "failed-tool": f"{at}/34", "failed-call": f"{at}/24", "diff": f"{at}/40/diff",
        "step-context": f"{at}/40/context",
        "context": f"{run}/context", "blame": f"{run}/blame", "blame-tokens": f"{run}/blame?by=tokens",
        "blame-cost": f"{run}/blame?by=cost", "blame-carried": f"{run}/blame?by=carried", "compare": str(compare),
        "compare-apart": f"{found.base}/compare?a={root}&b={other}", "fork": f"{at}/39/fork", "plan": f"{at}/39/fork",
        "job": job, "error": f"{found.base}/run/no-such-run", "report": report.as_uri(),
    }  # fmt: skip


def _mend(camera: Camera) -> None:
    """Take the sentence with the bug out of the system prompt on the fork page, and ask for the dry run."""
    from unspool.demo.agent import SUPPORT_PROMPT

    field = camera.browser.find_element("id", "system")
    field.clear()
    field.send_keys("\n".join(line for line in SUPPORT_PROMPT.splitlines() if "first exchange rate" not in line))
    camera.browser.find_element("id", "dry-run").click()
    camera.until("return document.getElementById('plan')")


def photograph(camera: Camera, name: str, address: str, target: Path, look: tuple[str, int, int | None]) -> None:
    """One page in one look."""
    scheme, width, height = look
    camera.look(scheme, width)
    camera.browser.get(address)
    if name == "plan":
        _mend(camera)
    camera.take(target, width, height)


def photograph_all(camera: Camera, pages: dict[str, str], folder: Path) -> None:
    """Every page in light and dark, wide and narrow."""
    for scheme in SCHEMES:
        for width in WIDTHS:
            for name, address in pages.items():
                photograph(camera, name, address, folder / f"{name}-{scheme}-{width}.png", (scheme, width, None))


def make_sheets(camera: Camera, folder: Path, target: Path) -> None:
    """The pictures of a folder, small, on one sheet for each look."""
    for scheme in SCHEMES:
        for width in WIDTHS:
            shown = 300 if width > 600 else 150
            figures = "".join(
                f"<figure><figcaption>{one.name.removesuffix(f'-{scheme}-{width}.png')}</figcaption>"
                f"<div><img src='{one.as_uri()}'></div></figure>"
                for one in sorted(folder.glob(f"*-{scheme}-{width}.png"))
            )
            sheet = folder / f"sheet-{scheme}-{width}.html"
            sheet.write_text(
                f"<style>body{{margin:8px;display:flex;flex-wrap:wrap;align-content:flex-start;gap:8px;background:#888;"
                f"font:12px sans-serif}}figure{{margin:0;width:{shown}px}}"
                f"div{{height:240px;overflow:hidden}}img{{width:100%}}</style>{figures}",
                encoding="utf-8",
            )
            camera.look("light", 1280)
            camera.browser.get(sheet.as_uri())
            file = target / f"sheet-{scheme}-{width}.webp"
            camera.take(file, 1280, quality=60)
            print(f"{file}: {file.stat().st_size:,} bytes")


def main() -> None:
    everything = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    target = everything or IMAGES
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unspool-") as made:
        camera = Camera(Path(made) / "profile")
        try:
            with demo(Path(made)) as found:
                pages = pages_of(camera, found, Path(made), None if everything else target / "web-list.webp")
                if everything is not None:
                    photograph_all(camera, pages, target)
                else:
                    for file_name, (name, scheme, width, height) in KEPT.items():
                        file = target / f"{file_name}.webp"
                        if name in pages:
                            photograph(camera, name, pages[name], file, (scheme, width, height))
                        print(f"{file}: {file.stat().st_size:,} bytes")
                    small = Path(made) / "pages"
                    small.mkdir()
                    photograph_all(camera, pages, small)
                    make_sheets(camera, small, target)
        finally:
            camera.browser.quit()


if __name__ == "__main__":
    main()
