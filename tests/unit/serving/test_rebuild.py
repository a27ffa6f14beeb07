"""Recorded results as the values they were, or a reason why not."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.events import ErrorData
from unspool.recording.lines import error_data, is_plain, revive, to_wire
from unspool.serving.rebuild import CannotRebuild, class_named, parts_of, rebuild_error, rebuild_value, return_hint


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Node:
    name: str
    children: list[Node] = dataclasses.field(default_factory=list)
    seen: set[int] = dataclasses.field(default_factory=set)
    kind: Literal["leaf", "tree"] = "leaf"
    size: int = dataclasses.field(init=False, default=7)


class Row(msgspec.Struct, rename="camel"):
    row_id: int
    made_at: datetime.datetime | None = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    city_name: str = pydantic.Field(alias="cityName")
    nodes: list[Node] = []
    extra: dict[str, Any] = {}


class Pair(NamedTuple):
    left: Level
    right: tuple[int, ...]


class Profile(TypedDict):
    day: datetime.date


UserId = NewType("UserId", int)
DAY = datetime.date(2026, 1, 2)

VALUES: list[tuple[Any, Any]] = [
    (Node("a", [Node("b", seen={2, 1})], kind="tree"), Node),
    (Node("a"), Any),
    ({"n": [Node("a")]}, dict[str, list[Node]]),
    (Row(1, datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)), Row),
    (Row(1), Any),
    (Model(cityName="Rome", nodes=[Node("x")], extra={"a": [1]}), Model),
    (Model(cityName="Oslo"), "unresolvable"),
    (Pair(Level.LOW, (1, 2)), Pair),
    ({"day": DAY}, Profile),
    ([DAY, None], list[datetime.date | None]),
    (["2026-01-02", DAY], list[Any]),
    (frozenset({1}), frozenset[int]),
    ([(1, 2), (1, 2)], list[tuple[int, int]]),
    ((), tuple[()]),
    ((1, (2, 3)), tuple[int, tuple[int, ...]]),
    ({1: Level.LOW}, Annotated[dict[int, Level], "note"]),
    (bytearray(b"\xff"), bytearray),
    (float("-inf"), float),
    (UserId(2**80), UserId),
]


def as_recorded(value: Any) -> tuple[Any, str | None, list[str]]:
    """What a reader gives of a result, and what stands beside it."""
    kind = type(value)
    named = None if is_plain(value) else f"{kind.__module__}.{kind.__qualname__}"
    return revive(to_wire(value), lambda _: None), named, parts_of(value)


@pytest.mark.parametrize(("value", "hint"), VALUES, ids=lambda one: str(one)[:30])
def test_a_value_comes_back_equal_and_of_its_type(value: Any, hint: Any, request: pytest.FixtureRequest) -> None:
    recorded, named, parts = as_recorded(value)
    if value == ["2026-01-02", DAY]:
        # Nothing says which of the two texts was a date.
        with pytest.raises(CannotRebuild, match=r"does not say what in it was datetime\.date"):
            rebuild_value(recorded, named, hint, parts)
        return
    built = rebuild_value(recorded, named, hint, parts)
    assert built == value
    assert type(built) is type(value)
    assert parts_of(built) == parts


def test_plain_json_needs_no_hint() -> None:
    assert rebuild_value({"a": [1, None]}, None, Node) == {"a": [1, None]}


@pytest.mark.parametrize(
    ("value", "hint", "reason"),
    [
        ([Node("a")], list, "list does not say what in it was"),
        ({1: "a"}, dict, "key of builtins.int"),
        ((1, 2), list[int], "list.* makes a builtins.list of it"),
        (Node("a"), Row, "Row refuses it"),
        (object(), Any, "builtins.object"),
        (((1, 2), [3]), Any, "tuple does not say what in it was builtins.tuple ×2"),
        ({1, 2}, int, "a int is wanted, a list was recorded"),
    ],
)
def test_what_is_not_certain_is_not_given_back(value: Any, hint: Any, reason: str) -> None:
    recorded, named, parts = as_recorded(value)
    if hint is not Any and isinstance(value, tuple | set | Node):
        named = f"gone.{named}"  # its class is not there any more: only the annotation is left
    with pytest.raises(CannotRebuild) as caught:
        rebuild_value(recorded, named, hint, parts)
    assert str(caught.value).startswith(f"its result was a {named}, which the recorded JSON does not give back")
    assert __import__("re").search(reason, str(caught.value))


def test_a_changed_class_is_noticed() -> None:
    """A field that the class has gained would be in the JSON now."""
    recorded, named, parts = as_recorded(Node("a"))
    del recorded["kind"]
    with pytest.raises(CannotRebuild, match="would not be recorded as the same JSON again"):
        rebuild_value(recorded, named, Node, parts)


@given(st.recursive(st.integers() | st.text() | st.none(), lambda inner: st.lists(inner) | st.tuples(inner, inner)))
def test_a_rebuilt_value_is_the_value_or_none_is_given(value: Any) -> None:
    recorded, named, parts = as_recorded(value)
    try:
        built = rebuild_value(recorded, named, Any, parts)
    except CannotRebuild:
        return
    # A tuple within another or in a list cannot be told from a list: then nothing is given.
    assert built == value
    assert type(built) is type(value)


class Own(Exception):
    """An error of the agent's."""


class Fancy(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(code, why)


@pytest.mark.parametrize("error", [ValueError("a", 1), KeyError("k"), Own("x"), FileNotFoundError(2, "gone"), Own()])
def test_errors_are_made_of_their_arguments(error: BaseException) -> None:
    made = rebuild_error(error_data(error))
    assert (type(made), made.args, str(made)) == (type(error), error.args, str(error))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (ErrorData("no.such.Error", "x", ["x"]), "a class that is not loaded"),
        (ErrorData("builtins.int", "1", [1]), "a class that is not loaded"),
        (error_data(Fancy(1, why="w")), "cannot be made from its arguments: TypeError"),
        (ErrorData("builtins.ValueError", "REDACTED", ["a key"]), "not made from its arguments alone"),
    ],
)
def test_other_errors_are_not_made_up(data: ErrorData, reason: str) -> None:
    with pytest.raises(CannotRebuild, match=reason):
        rebuild_error(data)


def test_only_loaded_classes_are_found() -> None:
    assert class_named("datetime.date") is datetime.date
    assert class_named("tabnanny.NannyNag") is None
    assert class_named("datetime.UTC") is None
    assert class_named("nonsense") is None


def test_hints_that_cannot_be_resolved_say_nothing() -> None:
    def function() -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821

    assert return_hint(function) is Any
    assert return_hint(len) is Any
    assert return_hint(None) is Any
