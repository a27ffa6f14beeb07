"""Values in events: what JSON holds goes as it is, everything else is marked and comes back."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import threading
import uuid

import msgspec
import pytest

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    Part,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
    ToolDef,
)
from unspool.recording import values
from unspool.recording.lines import (
    Marked,
    decode_event,
    decode_message,
    encode_event,
    encode_message,
    error_data,
    is_plain,
    revive,
    to_wire,
)


def round_trip(value):
    event = RecordEvent(
        RecordEventType.SYSCALL, 1, 1, 1, syscall=SyscallEventData(syscall="X", args={"v": value}, result=value)
    )
    line = encode_event(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    data = decode_event(line[:-1]).syscall
    args, result = (revive(part, lambda key: None) for part in (data.args, data.result))
    assert set(args) == {"v"}
    assert type(args["v"]) is type(result)
    return result


class Color(enum.Enum):
    RED = "red"


class Words(str):
    def __str__(self):
        return "something else"


class Count(int):
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


class Pair(msgspec.Struct):
    a: int
    b: bytes = b""


@pytest.mark.parametrize(
    "value",
    [
        "text", "", "\x00\x7f\u2028\U0001f600", 0, -1, 2**63 - 1, -(2**63), 1.5, -0.0, 5e-324, 1e308, True, None,
        [], {}, [[]], {"": {}}, {"a": [1, {"b": None}]}, {"seq_num": 5, "type": "x"},
    ],
)  # fmt: skip
def test_what_json_holds_comes_back_equal_and_is_plain(value):
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)
    assert math.copysign(1, back) == math.copysign(1, value) if isinstance(value, float) else True
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    [
        float("inf"), float("-inf"), b"", b"\x00\xff", 2**63, -(2**63) - 1, 2**64, 10**700, -(10**5000),
        "\ud800", "a\udfffb", ["\ud800"], {"\ud800": 1}, {"x": b"\x80", "y": "\udc80"},
        {"$float": "nan"}, {"$bytes": "AA=="}, {"$repr": "x"}, {"$ref": "0" * 32}, {"$dict": {}}, {"$int": "0x1"},
        {"$dict": {"$dict": {"$float": "inf"}}}, [{"$ref": [1]}], {"$float": float("inf")},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_json_does_not_hold_comes_back_equal(value):
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


def test_nan_comes_back_as_nan():
    assert math.isnan(round_trip(float("nan")))
    assert math.isnan(round_trip({"deep": [float("nan")]})["deep"][0])


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ((1, (2,)), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("a"), ["a"]),
        (bytearray(b"x"), b"x"),
        (memoryview(b"xyz")[::2], b"xz"),
        (Words("plain"), "plain"),
        (Count(7), 7),
        (Color.RED, "red"),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        ({1: "a", "1": "b"}, {"1": "a", "1 (str)": "b"}),
        (Point(1, b"\xff"), {"x": 1, "y": b"\xff"}),
        (Pair(1, b"\xff"), {"a": 1, "b": b"\xff"}),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (decimal.Decimal("1.10"), "1.10"),
    ],
)
def test_other_values_get_the_form_documented(value, form):
    assert round_trip(value) == form
    assert not is_plain(value)


def test_model_like_objects_give_their_fields():
    class Model:
        def model_dump(self):
            return {"a": b"1"}

    assert round_trip(Model()) == {"a": b"1"}


class Angry:
    def __repr__(self):
        raise RuntimeError("no")

    def __getattr__(self, name):
        raise RuntimeError("no")


class Liar:
    """Answers to every name, as mocks do."""

    def __getattr__(self, name):
        return Liar()

    def __call__(self, *args):
        return Liar()

    def __repr__(self):
        return "liar"


@dataclasses.dataclass
class Broken:
    x: int

    def __getattribute__(self, name):
        if name == "x":
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    "value",
    [Angry(), Liar(), Broken(1), object(), threading.Lock(), pathlib.Path("/x"), int, len],
    ids=lambda value: type(value).__name__,
)
def test_objects_become_their_repr_whatever_they_do(value):
    back = round_trip(value)
    assert set(back) == {"$repr"}
    assert isinstance(back["$repr"], str)


def test_an_object_whose_repr_is_endless_is_cut():
    class Long:
        def __repr__(self):
            return "x" * 10_000_000

    assert len(round_trip(Long())["$repr"]) == 10_001


def test_cycles_are_cut_where_they_close():
    ring = {"name": "ring", "parts": []}
    ring["parts"].append({"whole": ring})
    back = round_trip(ring)
    assert back["name"] == "ring"
    assert set(back["parts"][0]["whole"]) == {"$repr"}


def test_a_graph_with_many_paths_does_not_hang(monkeypatch):
    monkeypatch.setattr(values, "MAX_VALUES", 10_000)
    shared = [1]
    for _ in range(100):
        shared = [shared, shared]
    assert not is_plain(shared)
    encoded = encode_event(
        RecordEvent(RecordEventType.SYSCALL, 1, 1, 1, syscall=SyscallEventData(syscall="X", result=shared))
    )
    assert len(encoded) < 10_000_000


def test_deep_nesting_is_cut_and_never_raises():
    for depth in (150, 250, 5000, 100_000):
        deep = []
        for _ in range(depth):
            deep = [deep]
        back = round_trip(deep)
        for _ in range(100):
            (back,) = back


def test_a_stack_that_is_almost_used_up_does_not_raise():
    def dig(levels):
        return dig(levels - 1) if levels else round_trip([[[b"x"]]])

    import sys

    for spare in (60, 90, 150):
        frames = sys.getrecursionlimit() - spare - len_of_stack()
        try:
            dig(frames)
        except RecursionError:
            assert spare < 100  # the test's own frames did not fit


def len_of_stack() -> int:
    import sys

    depth, frame = 0, sys._getframe()
    while frame:
        depth, frame = depth + 1, frame.f_back
    return depth


def test_a_dict_that_changes_meanwhile_does_not_raise():
    """Another thread may own the arguments."""

    class Shifty(dict):
        def values(self):
            raise RuntimeError("dictionary changed size during iteration")

    assert isinstance(round_trip(Shifty(a=1)), dict)


@pytest.mark.parametrize("args", [b"x", [1], "x", 5])
def test_args_that_are_no_dict_make_no_event(args):
    event = RecordEvent(RecordEventType.SYSCALL, 1, 1, 1, syscall=SyscallEventData(syscall="X", args=args))
    with pytest.raises(TypeError):
        encode_event(event)


def test_no_args_are_empty_args():
    event = RecordEvent(RecordEventType.SYSCALL, 1, 1, 1, syscall=SyscallEventData(syscall="X", args=None))
    assert decode_event(encode_event(event)).syscall.args == {}


def test_what_is_marked_already_is_not_marked_again():
    assert to_wire({"v": Marked({"$bytes": "eA=="})}) == {"v": {"$bytes": "eA=="}}
    assert round_trip(Marked(to_wire({"$float": float("nan")})))["$float"] != 0
    assert not is_plain(Marked(1))


def test_long_strings_go_to_the_pool_and_short_ones_stay():
    put = {}
    long, short = "x" * 1025, "y" * 1024
    value = to_wire({"a": long, "b": short, "c": [long]}, lambda text: put.setdefault(text, "k"))
    assert value == {"a": {"$ref": "k"}, "b": short, "c": [{"$ref": "k"}]}
    assert revive(value, lambda key: long) == {"a": long, "b": short, "c": [long]}
    assert revive(value, lambda key: None)["a"] == {"$ref": "k"}, "what is missing stays marked"


@pytest.mark.parametrize("mark", [{"$float": "x"}, {"$int": "zz"}, {"$bytes": "é"}, {"$bytes": 3}, {"$dict": 3}])
def test_marks_that_make_no_sense_are_left_alone(mark):
    assert revive(mark, lambda key: None) == mark


def test_snapshots_mark_odd_values_in_params_and_schemas():
    context = ContextSnapshotData(
        params={"t": float("nan"), "b": b"x"}, tools=[ToolDef("f", schema={"max": float("inf")})]
    )
    line = encode_event(RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 1, 1, 1, context=context))
    back = decode_event(line).context
    assert back.params == {"t": {"$float": "nan"}, "b": {"$bytes": "eA=="}}
    assert back.tools[0].schema == {"max": {"$float": "inf"}}


def test_defaults_are_left_out_on_the_slow_path_too():
    event = RecordEvent(RecordEventType.SYSCALL, 1, 1, 1, syscall=SyscallEventData(syscall="X", result=b"x", err=""))
    wire = json.loads(encode_event(event))
    assert list(wire) == ["type", "seq_num", "timestamp", "pid", "syscall"]
    assert wire["syscall"] == {"syscall": "X", "result": {"$bytes": "eA=="}, "duration": 0}


@pytest.mark.parametrize(
    "message",
    [
        CtxMessage("user", "hi"),
        CtxMessage("tool", "out", tool_call_id="c1", tool_name="search"),
        CtxMessage("assistant", "", tool_calls=[ToolCall("f", '{"a":1}', "c1"), ToolCall("g")]),
        CtxMessage("user", "", parts=[Part("image", data={"url": "x"}), Part("reasoning", text="hm")]),
        CtxMessage("user", "", parts=[Part("file", data={"raw": b"\xff", "n": float("inf"), "$dict": 1})]),
        CtxMessage("us\ud800er", "lone \udfff", tool_calls=[]),
        "[user] hi",
        "[user] lone \ud800",
        "",
    ],
    ids=range(9),
)
def test_messages_come_back_with_all_their_fields(message):
    assert decode_message(encode_message(message)) == message


def test_error_data_of_any_exception():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    assert error_data(ValueError("x", b"y")).args == ["x", {"$bytes": "eQ=="}]
    assert error_data(ValueError("x")).type == "builtins.ValueError"
    assert error_data(Odd(object())).message == "<Odd>"


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{}", b"[]", b"null", b"x", b"\xff", b'{"type":"syscall"}', b"[" * 100_000,
        b'{"type":"odd","seq_num":1,"timestamp":1,"pid":1}', b'{"type":"syscall","seq_num":"1","timestamp":1,"pid":1}',
    ],
)  # fmt: skip
def test_what_is_no_event_is_value_error(line):
    with pytest.raises(ValueError, match=r".*"):
        decode_event(line)


def test_a_line_in_another_key_order_with_unknown_keys_is_an_event():
    event = decode_event(b'{"new":{"x":1},"pid":1,"timestamp":5,"seq_num":3,"type":"state_change"}')
    assert (event.seq_num, event.timestamp) == (3, 5)
