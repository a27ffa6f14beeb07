"""Pages of a run of 50,000 events and 2,000 contexts of 300 messages (goals: 1 s; 200 ms a step; 500 KB; 250 MB).

The run is written by a real recorder and read by a real `unspool web`, asked over one kept connection. Its contexts
grow to 300 messages and are then compacted to 200, again and again. The memory and the live event are those of a real
headless Chromium: the proportional set size (PSS) of all its page processes, and the time from the end of a write until
the step stands in the page. Steps are opened some seconds after their run, as a person does; pages of a server that has
read nothing yet have lines of their own. Timings on a busy machine say little: the CPU time that the server took, for
the page and for what it makes in advance, stands beside them.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from unspool.events import (
    ContextSnapshotData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.recording.recorder import BodyStore, Recorder
from unspool.store import Store

CALLS = 2_000
EVENTS = 50_000
MOST, LEFT = 300, 200  # messages of a context before and after a compaction
MODEL = "gpt-5"
STEP_NS = 2_000_000_000
ROUNDS = 12  # steps asked for, each of another place
LIVE = 10
LOOK_S = 4  # seconds that a person looks at the run before opening a step of it
URL = "https://api.openai.com/v1/chat/completions"
HEADERS = [("content-type", "application/json")]
_WATCH = """
window.seen = {};
new MutationObserver(() => {
  for (const cell of document.querySelectorAll("tr[data-row] td:first-child")) {
    window.seen[cell.textContent.trim()] ??= Date.now();
  }
}).observe(document, {childList: true, subtree: true});
"""  # when the row of each event was first on the page


class Server(NamedTuple):
    """A running `unspool web`."""

    process: subprocess.Popen[str]
    address: str
    port: int


class Asked(NamedTuple):
    """One answer: seconds it took on the wire, seconds of CPU in the server, bytes as sent and as gzip would."""

    wall: float
    cpu: float
    size: int
    packed: int


# --- the run ---------------------------------------------------------------------------------------------------------


class Writer:
    """Writes the calls of an agent that reads files all day."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.calls: list[int] = []  # numbers of the snapshots
        self._rng = random.Random(1)
        self._names = [f"module_{self._rng.getrandbits(24):06x}" for _ in range(400)]
        self._wire: list[dict[str, Any]] = [
            {"role": "system", "content": "You repair builds. " * 40},
            {"role": "user", "content": "Find out why the nightly build fails."},
        ]

    def call(self, others: int) -> None:
        """One call of the model, its two tools, and so many reads of the clock."""
        number, recorder = len(self.calls), self.recorder
        at = number * STEP_NS
        tokens = 40 + sum(len(one["content"]) for one in self._wire) // 4
        snapshot = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, at, recorder.pid, at=f"agent.py:{40 + number % 9}")
        request = HttpRequest(method="POST", url=URL, headers=[*HEADERS, ("authorization", "[REDACTED]")])
        snapshot.context = ContextSnapshotData(provider="openai_chat", model=MODEL, request=request)
        body = json.dumps({"model": MODEL, "messages": self._wire, "temperature": 0}).encode()
        asked, placed = recorder.write_request(snapshot, body, "messages")
        assert placed is not None
        self.calls.append(asked.seq_num)
        path = f"src/{self._rng.choice(self._names)}/part_{number}.py"
        wanted = {
            "role": "assistant",
            "content": f"I look at {self._rng.choice(self._names)} next.",
            "tool_calls": [
                {"id": f"call_{number}", "type": "function",
                 "function": {"name": "read_file", "arguments": json.dumps({"path": path})}}
            ],
        }  # fmt: skip
        self._answer(asked, wanted, tokens)
        placed.conversation.busy = False
        lines = [f"{line}: {self._rng.choice(self._names)} = {self._rng.getrandbits(32):08x}" for line in range(1, 30)]
        text = "\n".join(lines)
        failed = "no such file" if number % 97 == 96 else ""
        for tool, result in (("read_file", text), ("note", "noted")):
            data = SyscallEventData(
                "ToolCall", {"path": f"/dev/tool/{tool}", "input": {"path": path}}, result, duration=STEP_NS // 9,
                err=failed if tool == "read_file" else "",
            )  # fmt: skip
            self._write(asked, RecordEventType.SYSCALL, at + STEP_NS // 2, syscall=data)
        for place in range(others):
            self._write(
                asked, RecordEventType.SYSCALL, at + STEP_NS // 2 + place,
                syscall=SyscallEventData("Clock", {"path": "/dev/clock/time"}, 1.7e9 + place, duration=900),
            )  # fmt: skip
        self._wire += [wanted, {"role": "tool", "tool_call_id": f"call_{number}", "content": failed or text}]
        if len(self._wire) > MOST:
            summary = f"Summary of {len(self._wire) - LEFT} messages: " + " ".join(self._rng.choices(self._names, k=60))
            self._wire = [*self._wire[:2], {"role": "user", "content": summary}, *self._wire[-LEFT:]]

    def _answer(self, asked: RecordEvent, wanted: dict[str, Any], tokens: int) -> None:
        at = asked.timestamp
        call = SyscallEventData("LLMCall", {"path": f"/dev/llm/openai/{MODEL}"}, "ok", duration=STEP_NS // 3)
        self._write(asked, RecordEventType.SYSCALL, at, syscall=call)
        usage = {"prompt_tokens": tokens, "completion_tokens": 40, "total_tokens": tokens + 40}
        choice = {"index": 0, "message": wanted, "finish_reason": "tool_calls"}
        answer = json.dumps({"id": f"c{at}", "model": MODEL, "choices": [choice], "usage": usage}).encode()
        response = HttpResponse(headers=HEADERS)
        data = LLMResponseData(MODEL, tokens, 40, cached_tokens=tokens * 9 // 10, finish_reason="tool_calls")
        data.response = response
        event = RecordEvent(RecordEventType.LLM_RESPONSE, 0, at + STEP_NS // 3, self.recorder.pid, llm=data)
        event.call, event.step, event.lane = asked.call, asked.step, asked.lane

        def prepare(store: BodyStore) -> None:
            response.body = store.put(answer, is_json=True, is_stream=False, encoding=None)
            store.heads.store(response)

        self.recorder.write_with_bodies(event, prepare)

    def _write(self, asked: RecordEvent, kind: RecordEventType, at: int, **fields: Any) -> None:
        event = RecordEvent(kind, 0, at, self.recorder.pid, call=asked.call, step=asked.step, **fields)
        self.recorder.write_event(event)


def write_run(store: Store, calls: int = CALLS, events: int = EVENTS) -> tuple[str, list[int]]:
    """The run: its id, and the numbers of its snapshots."""
    with Recorder(store.records, store.next_pid(), "repair the nightly build") as recorder:
        writer = Writer(recorder)
        for number in range(calls):
            writer.call(round(events * (number + 1) / calls) - recorder.event_count - 5)
        return recorder.record_id, writer.calls


# --- asking ----------------------------------------------------------------------------------------------------------


@contextmanager
def serving(store: Store) -> Iterator[Server]:
    """`unspool web` in a process of its own."""
    command = [sys.executable, "-m", "unspool", "web", "--store", str(store.path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        found = re.search(r":(\d+)/", address)
        assert found is not None, process.communicate()[1]
        yield Server(process, address, int(found[1]))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


class Client:
    """One browser-like connection that is kept open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self._cookie = ""
        answer = self._send(server.address.partition(f":{server.port}")[2])
        self._cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        answer.read()

    def _send(self, path: str) -> http.client.HTTPResponse:
        headers = {"accept-encoding": "gzip"} | ({"cookie": self._cookie} if self._cookie else {})
        self._connection.request("GET", path, headers=headers)
        return self._connection.getresponse()

    def ask(self, path: str) -> Asked:
        """Fetch a page as a browser would.

        Raises:
            RuntimeError: the page is an error.
        """
        cpu, began = _cpu(self._server.process.pid), time.perf_counter()
        answer = self._send(path)
        data = answer.read()
        wall = time.perf_counter() - began
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
        packed = len(data)
        if answer.getheader("content-encoding") == "gzip":
            data = gzip.decompress(data)
        else:
            packed = len(gzip.compress(data, 6))
        return Asked(wall, _cpu(self._server.process.pid) - cpu, len(data), packed)


def _cpu(pid: int) -> float:
    """Seconds of CPU a process has used; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _line(name: str, asked: Sequence[Asked], goal: float) -> None:
    walls = [one.wall * 1000 for one in asked]
    worst = max(walls)
    size = max(one.size for one in asked)
    verdict = "ok" if worst <= goal and size <= 500_000 else "MISSED"
    print(
        f"{name:<28} max {worst:6.0f} ms, median {statistics.median(walls):6.0f} ms (goal {goal:,.0f}), CPU max "
        f"{max(one.cpu for one in asked) * 1000:4.0f} ms; {size / 1000:4.0f} KB (goal 500), gzip "
        f"{max(one.packed for one in asked) / 1000:3.0f} KB  {verdict}"
    )


def measure_pages(store: Store, record_id: str, calls: list[int]) -> None:
    """Every kind of page, the first time and again."""
    rng = random.Random(2)
    run = f"/run/{record_id}"
    with serving(store) as server:
        client = Client(server)
        _line("list, first", [client.ask("/")], 1000)
        _line("run, cold server", [client.ask(run)], 1000)
        _line("run, again", [client.ask(run) for _ in range(5)], 1000)
        _line("run, a page of steps", [client.ask(f"{run}?page={rng.randint(2, 40)}") for _ in range(5)], 1000)
    with serving(store) as server:  # straight to a step, as from a link somebody sent
        client = Client(server)
        _line("step, cold server", [client.ask(f"{run}/step/{calls[-1]}")], 1000)
        _line("its context, cold", [client.ask(f"{run}/step/{calls[-1]}/context")], 1000)
    with serving(store) as server:
        client = Client(server)
        client.ask(run)
        time.sleep(LOOK_S)
        chosen = rng.sample(calls, ROUNDS)
        kinds: dict[str, Callable[[int], str]] = {
            "step": lambda seq: f"{run}/step/{seq}",
            "tool step": lambda seq: f"{run}/step/{seq + 3}",
            "diff": lambda seq: f"{run}/step/{seq}/diff",
            "diff to any step": lambda seq: f"{run}/step/{seq}/diff?from={rng.choice(calls)}",
            "context of a step": lambda seq: f"{run}/step/{seq}/context",
            "context over the run": lambda _: f"{run}/context",
            "blame": lambda _: f"{run}/blame",
            "blame, carried": lambda _: f"{run}/blame?by=carried",
        }
        for name, path in kinds.items():
            _line(name, [client.ask(path(seq)) for seq in chosen], 200)
            _line(f"{name}, again", [client.ask(path(seq)) for seq in chosen], 200)


# --- in a browser ----------------------------------------------------------------------------------------------------


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A headless Chromium; None if there is none here."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        binary = None
    if binary is None or driver is None:
        yield None
        return
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for one in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--window-size=1280,900",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}",
    ):  # fmt: skip
        options.add_argument(one)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def _page_memory(folder: Path) -> float:
    """Megabytes (PSS) of the renderer processes of the Chromium with this profile folder."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if b"--type=renderer" not in command or str(folder).encode() not in _ancestry(entry.name):
                continue
            text = (entry / "smaps_rollup").read_text(encoding="utf-8")
        except OSError:
            continue
        total += sum(int(found) for found in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE))
    return total / 1000


def _ancestry(pid: str) -> bytes:
    """The command lines of a process and of those that started it."""
    found = b""
    while pid not in ("0", "1"):
        try:
            found += Path(f"/proc/{pid}/cmdline").read_bytes()
            pid = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        except OSError:
            break
    return found


def measure_browser(store: Store, record_id: str, calls: list[int], folder: Path) -> None:
    """Memory of the pages, and how long a live event takes to be on one."""
    with chromium(folder) as browser:
        if browser is None:
            print("no chromium, chromedriver or selenium here: browser memory and live events not measured")
            return
        with serving(store) as server:
            browser.get(server.address)
            base = f"http://127.0.0.1:{server.port}/run/{record_id}"
            worst = 0.0
            for view in ("", f"/step/{calls[-1]}", f"/step/{calls[-1]}/diff", f"/step/{calls[-1]}/context",
                         "/context", "/blame"):  # fmt: skip
                browser.get(base + view)
                worst = max(worst, _page_memory(folder))
            verdict = "ok" if worst <= 250 else "MISSED"
            print(f"page processes of Chromium, PSS: at most {worst:.0f} MB (goal 250)  {verdict}")
            for made, events in ((4, 100), (CALLS, EVENTS)):
                _measure_live(store, browser, server, made, events)


def _measure_live(store: Store, browser: Any, server: Server, calls: int, events: int) -> None:
    name = f"a run of {events:,} events"
    with Recorder(store.records, store.next_pid(), "still going") as recorder:
        writer = Writer(recorder)
        for number in range(calls):
            writer.call(round(events * (number + 1) / calls) - recorder.event_count - 5)
        browser.get(f"http://127.0.0.1:{server.port}/run/{recorder.record_id}")
        wait = "return document.querySelector('#livebadge').hidden ? '' : 'on'"
        while not browser.execute_script(wait):
            time.sleep(0.05)
        times = []
        for _ in range(LIVE):
            time.sleep(1.5)  # an agent thinks; the page has settled
            browser.execute_script(_WATCH)
            writer.call(0)
            written = time.time() * 1000
            place = str(recorder.event_count - 1)  # its first tool call
            while not (at := browser.execute_script("return window.seen[arguments[0]] ?? 0", place)):
                if time.time() * 1000 - written > 20_000:
                    print(f"live event, {name}: never came on the page  MISSED")
                    return
                time.sleep(0.02)
            times.append(at - written)
        verdict = "ok" if statistics.median(times) <= 300 else "MISSED"
        print(
            f"live event on the page, {name}: median {statistics.median(times):.0f} ms, max {max(times):.0f} ms "
            f"(goal 300)  {verdict}"
        )


def main() -> None:
    """Print each measurement with its goal."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store").ensure()
        began = time.perf_counter()
        record_id, calls = write_run(store)
        print(f"wrote {EVENTS:,} events, {len(calls):,} contexts in {time.perf_counter() - began:.1f} s")
        measure_pages(store, record_id, calls)
        measure_browser(store, record_id, calls, Path(folder) / "chromium")


if __name__ == "__main__":
    main()
