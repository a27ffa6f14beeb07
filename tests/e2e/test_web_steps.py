"""Steps with long texts in a real browser: read to their end, found where they stand, laid out within their column."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from browser import NARROW, WIDE, Person, Server, root_of, serving

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

SECOND = 1_000_000_000
PADDING = "".join(
    f"[CI/test-{number}] docker exec cmd=[/opt/acttoolcache/node] workdir=/var/run\n" for number in range(400)
)
RESULT = PADDING + "here sits a ptarmigan <b>in the snow</b>\nthe last line"
COMMAND = "act --container-architecture linux/amd64 -j test " * 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run of which only messages are known, as of an imported one: a tool fails, is tried again, and goes well."""
    store = Store(tmp_path_factory.mktemp("steps") / "store").ensure()
    with Recorder(store.records, store.next_pid(), "Add a workflow that runs the tests") as recorder:
        messages: list[CtxMessage | str] = [CtxMessage("user", "Add a workflow that runs the tests, please. " * 20)]
        before: int | None = None
        for number, (result, err) in enumerate([("", f"Job failed\n{PADDING}"), (RESULT, ""), ("ok", "")], start=1):
            at = number * 10 * SECOND
            asked = ToolCall("Bash", f'{{"command": "{COMMAND}"}}', f"c{number}")
            before = _call(recorder, at, number, list(messages), before, asked)
            data = SyscallEventData(
                "ToolCall", {"path": "/dev/tool/Bash", "input": {"command": COMMAND}}, result or None, err, SECOND
            )
            recorder.write_event(
                RecordEvent(RecordEventType.SYSCALL, 0, at + 5 * SECOND, 1, syscall=data, call=number, step=number)
            )
            said = CtxMessage("tool", err or result, tool_call_id=asked.id)
            messages += [CtxMessage("assistant", "I try it. ", tool_calls=[asked]), said]
        _call(recorder, 40 * SECOND, 4, messages, before, None)
    return store


def _call(
    recorder: Recorder, at: int, number: int, messages: list[Any], before: int | None, asked: ToolCall | None
) -> int:
    context = ContextSnapshotData(
        messages=messages, provider="anthropic", model="claude-sonnet-4-20250514", prev=before
    )
    call = SyscallEventData("LLMCall", {"path": "/dev/llm/anthropic/claude-sonnet-4-20250514"}, None, "", 3 * SECOND)
    said = LLMResponseData(
        "claude-sonnet-4-20250514", 16_000 * number, 380, text="I look at what went wrong, and try again. " * 9,
        tool_calls=[asked] if asked is not None else [], cached_tokens=15_000,
    )  # fmt: skip
    seq = recorder.write_event(
        RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, at, 1, context=context, call=number, step=number)
    )
    recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, at, 1, syscall=call, call=number, step=number))
    answer = RecordEvent(RecordEventType.LLM_RESPONSE, 0, at + 3 * SECOND, 1, llm=said, call=number, step=number)
    recorder.write_event(answer)
    return seq


@pytest.fixture(scope="module")
def long_server(store: Store) -> Iterator[Server]:
    with serving(store.path) as running:
        yield running


@pytest.fixture
def run(store: Store) -> str:
    """The address of the run."""
    return f"/run/{root_of(store)}"


@pytest.fixture
def reader(chromium: Any, long_server: Server) -> Iterator[Person]:
    somebody = Person(chromium, long_server.base).enter(long_server)
    yield somebody
    somebody.look()
    assert somebody.complaints() == []


def test_what_is_searched_for_is_on_the_page_and_its_text_is_read_to_the_end(reader):
    reader.open("/?q=PTARMIGAN")
    reader.until(lambda: "ptarmigan" in reader.text(".found"))
    reader.click(".found a")
    reader.at(r"/step/\d+\?find=PTARMIGAN#found$")
    reader.until(lambda: reader.text("#found mark") == "ptarmigan")
    assert "here sits a ptarmigan <b>in the snow</b>" in reader.text("#found")
    visible = "const box = document.querySelector('#found mark').getBoundingClientRect(); return box.top > 0"
    assert reader.script(visible + " && box.bottom < innerHeight")
    reader.click("#found .found-place a")
    reader.at(r"/step/\d+/text/")
    assert reader.script("return document.contentType") == "text/plain"
    assert "the last line" in reader.script("return document.body.innerText")
    assert reader.script("return document.querySelectorAll('b').length") == 0
    assert reader.complaints(unless=["/favicon.ico"]) == []  # a text has no icon


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_what_came_of_a_step_stays_in_its_column_and_can_be_read(reader, run, width):
    reader.look(width=width)
    reader.open(run)
    assert reader.sideways() == []
    for failed in (True, False):
        reader.open(run)
        wanted = "tr.failed" if failed else "tr:not(.failed)"
        reader.script(
            f"document.querySelector('table.steps {wanted} .kind.tool').closest('tr').querySelector('a').click()"
        )
        reader.at(r"/step/\d+$")
        reader.until(lambda: reader.text("#after"))
        assert reader.sideways() == []
        over, room = reader.script(
            "const table = document.querySelector('#after table'), box = table.getBoundingClientRect();"
            "const around = table.parentElement.getBoundingClientRect();"
            "return [box.right - around.right, table.querySelector('td.wide').getBoundingClientRect().width]"
        )
        assert over <= 1
        assert room >= (300 if width == WIDE else 140)


def test_no_fork_is_offered_by_mouse_or_key(reader, run):
    reader.open(run)
    assert "No fork can be made here" in reader.text()
    assert "Fork from here" not in reader.text()
    reader.click("table.steps a")
    reader.at(r"/step/\d+$")
    here = reader.browser.current_url
    assert reader.text().count("No fork can be made here") == 1
    reader.type("f")
    reader.type("u")  # if f had led anywhere, it would not be the run that u leads to
    reader.at(r"/run/[^/]+$")
    reader.open(here.removeprefix(reader.base) + "/fork")
    reader.until(lambda: reader.text("h1") == "No fork can be made here")
    reader.click_text("Back to the step")
    reader.at(r"/step/\d+$")
    # The browser says of the page that was refused that it was.
    assert reader.complaints(unless=["400 (Bad Request)"]) == []
