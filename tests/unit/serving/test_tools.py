"""Recorded tool calls as offers: digests of arguments, the order of candidates, what a served call stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.events import RecordEvent, RecordEventType, SyscallEventData
from unspool.recording.lines import Marked, to_wire
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.serving.plan import Offer
from unspool.serving.tools import (
    Place,
    ToolShelf,
    arguments_digest,
    covered,
    differing_arguments,
    is_allowed_live,
    mcp_key,
    tool_offers,
)


def recorded(tmp_path: Path, *calls: SyscallEventData) -> RecordReader:
    with Recorder(tmp_path, 1, "test") as recorder:
        for call in calls:
            recorder.write_event(
                RecordEvent(type=RecordEventType.SYSCALL, seq_num=0, timestamp=0, pid=1, syscall=call, task="0.1")
            )
        folder = recorder.record_dir
    return RecordReader(folder)


def tool_call(path: str, arguments: dict[str, Any]) -> SyscallEventData:
    return SyscallEventData(syscall="ToolCall", args={"path": path, "input": arguments}, result=1)


def offer(number: int, *, inside: int | None = None, record: str = "a", task: str = "0", sha: str = "s") -> Offer:
    return Offer(number=number, kind="tool", record_id=record, task=task, key="/dev/tool/t", sha256=sha, inside=inside)


class Thing:
    """Its text has an address in it, as that of most objects."""


ARGUMENTS = [
    {},
    {"b": 1, "a": [1, 2.5, None, True, {"x": "y"}]},
    {"bytes": b"\x00\xff", "big": 2**70, "nan": float("nan"), "set": {3, 1, 2}, "tuple": (1, "a")},
    {"text": "ü" * 5000, "nested": [{"$ref": "x"}, {"$bytes": "no"}]},
    {"$float": "nan"},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_digest_is_the_same_before_and_after_recording(arguments: dict[str, Any], tmp_path: Path) -> None:
    """As a call of the rerun asks: each argument copied, marked where JSON does not hold it."""
    asked = {name: Marked(to_wire(value)) for name, value in arguments.items()}
    with recorded(tmp_path, tool_call("/dev/tool/t", asked)) as reader:
        [found] = tool_offers(reader)
    assert found.sha256 == arguments_digest(asked) == arguments_digest(arguments)
    assert (found.key, found.name, found.task, found.syscall, found.number) == (
        "/dev/tool/t", "/dev/tool/t", "0.1", 1, 0,
    )  # fmt: skip


def test_the_address_of_an_object_is_no_difference(tmp_path: Path) -> None:
    first, second = Thing(), Thing()
    assert repr(first) != repr(second)
    with recorded(tmp_path, tool_call("/dev/tool/t", {"it": Marked(to_wire(first))})) as reader:
        [found] = tool_offers(reader)
    assert found.sha256 == arguments_digest({"it": Marked(to_wire(second))})
    assert found.sha256 != arguments_digest({"it": "another"})


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.floats(allow_nan=False), max_size=4)
)
def test_equal_arguments_have_one_digest_whatever_their_order(arguments: dict[str, Any]) -> None:
    assert arguments_digest(dict(reversed(arguments.items()))) == arguments_digest(arguments)
    assert arguments_digest({**arguments, "one more name": 1}) != arguments_digest(arguments)


def test_requests_of_sessions_are_known_by_method_and_address(tmp_path: Path) -> None:
    def request(method: str, params: dict[str, Any]) -> SyscallEventData:
        args = {"path": "/dev/session/s", "method": method, "server": "http://h/mcp", "input": params}
        return SyscallEventData(syscall="MCP", args=args, result={})

    initialize, listing = (
        request("initialize", {"clientInfo": {"version": "1"}}),
        request("tools/list", {"cursor": "c"}),
    )
    with recorded(tmp_path, initialize, listing) as reader:
        first, second = tool_offers(reader)
    # A later version of the client is no other request.
    assert (first.key, first.sha256) == (mcp_key("initialize", "http://h/mcp"), arguments_digest({}))
    assert (second.key, second.sha256) == (mcp_key("tools/list", "http://h/mcp"), arguments_digest({"cursor": "c"}))
    assert first.name == "/dev/session/s"


def test_candidates_of_the_same_place_come_first() -> None:
    shelf = ToolShelf(
        [
            offer(1, record="b"),
            offer(2, task="0.1"),
            offer(3, inside=9, task="0.2"),
            offer(4, task="0.2"),
            offer(5, sha="other"),
            offer(6, task="0.1"),
            Offer(number=7, kind="http", record_id="a", key="/dev/tool/t", sha256="s"),
        ]
    )

    def numbers(place: Place) -> list[int]:
        return [one.number for one in shelf.candidates(place, "/dev/tool/t", "s")]

    assert numbers(Place("a", "0.2")) == [4, 2, 6, 1, 3]
    assert numbers(Place("a", "0.1")) == [2, 6, 4, 1, 3]
    assert numbers(Place("a", "0.2", in_tool=True)) == [3, 4, 2, 6, 1]
    assert numbers(Place(None, "0")) == [1, 2, 4, 6, 3]
    assert numbers(Place("c", "0")) == [1, 2, 4, 6, 3]
    assert shelf.alike(Place("a", "0"), "/dev/tool/t")[0].number == 5
    assert list(shelf.candidates(Place("a", "0"), "/dev/tool/unknown", "s")) == []


def test_a_served_call_stands_for_all_inside_of_it() -> None:
    offers = [offer(1), offer(2, inside=1), offer(3, inside=2), offer(4), offer(5, inside=4), offer(6, inside=7)]
    assert covered(offers, {1}) == {2, 3}
    assert covered(offers, {2}) == {3}
    assert covered(offers, {1, 2}) == {3}
    assert covered(offers, {1, 4}) == {2, 3, 5}
    assert covered(offers, ()) == set()


def test_a_circle_of_damaged_offers_ends() -> None:
    assert covered([offer(1, inside=2), offer(2, inside=1), offer(3)], {3}) == set()


@pytest.mark.parametrize(
    ("path", "names", "allowed"),
    [
        ("/dev/tool/search", ["search"], True),
        ("/dev/tool/search", ["/dev/tool/search"], True),
        ("/dev/tool/search", ["*"], True),
        ("/dev/tool/search", ["/dev/tool/"], True),
        ("/dev/tool/search", ["sea", "tool", "mcp"], False),
        ("/dev/tool/search", [], False),
        ("/dev/mcp/github/create_issue", ["create_issue"], True),
        ("/dev/mcp/github/create_issue", ["/dev/mcp/github/"], True),
        ("/dev/mcp/github/create_issue", ["mcp"], True),
        ("/dev/mcp/github/create_issue", ["github"], False),
        ("/dev/session/github", ["mcp"], True),
        ("/dev/session/github", ["create_issue"], False),
    ],
)
def test_which_tools_may_run(path: str, names: list[str], allowed: bool) -> None:
    assert is_allowed_live(path, names) is allowed


def test_differing_arguments_name_both_sides() -> None:
    assert differing_arguments({"a": 1, "b": [1], "c": 3}, {"a": 1, "b": [2], "d": 4}) == {
        "b": {"recorded": [1], "asked": [2]},
        "c": {"recorded": 3},
        "d": {"asked": 4},
    }
    assert differing_arguments({"a": 1}, {"a": 1.0}) == {"a": {"recorded": 1, "asked": 1.0}}
    assert differing_arguments(None, {"a": 1}) == {"": {"recorded": None}, "a": {"asked": 1}}
