"""Scenarios of `@unspool.tool`: each tool leaves a line in the file TRACE when it really runs."""

import asyncio
import dataclasses
import datetime
import enum
import os
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

import msgspec
from scenarios import URL, main, scenario

import unspool

TRACE = os.environ.get("TRACE", os.devnull)
# What only the second run sees: a tool that were run again would give something else.
TWIST = os.environ.get("TWIST", "")


def leave(line: str) -> None:
    with open(TRACE, "a") as file:
        file.write(f"{line}\n")


def show(value) -> str:
    return f"{type(value).__name__} {value!r}"


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date
    tags: tuple[str, ...] = ()


class Row(msgspec.Struct):
    name: str
    points: list[Point] = []


class Pair(NamedTuple):
    left: int
    right: str


class Profile(TypedDict):
    name: str
    born: datetime.date


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


class Refused(Exception):
    """An error of the agent's own."""


class Odd(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


DAY = datetime.date(2026, 1, 2)


def tool_giving(value, hint):
    def give() -> None:
        leave(f"give {value!r}")
        return value

    give.__annotations__["return"] = hint
    return unspool.tool(give)


VALUES = [
    ({"a": [1, 2.5, None, True]}, Any),
    (float("inf"), float),
    (2**70, int),
    (b"\x00\xff", bytes),
    ((1, "a"), tuple[int, str]),
    ((1, 2), Any),
    ({3, 1}, set[int]),
    ({1: "a"}, dict[int, str]),
    (Colour.RED, Colour),
    (DAY, datetime.date),
    (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), datetime.datetime),
    (uuid.UUID(int=7), uuid.UUID),
    (Decimal("1.50"), Decimal),
    (Point(1, DAY, ("a",)), Point),
    (Point(2, DAY), Any),
    ([Point(3, DAY)], list[Point]),
    ({"p": Point(4, DAY)}, dict[str, Point | None]),
    (Row("r", [Point(5, DAY)]), Row),
    (Pair(1, "b"), Pair),
    ({"name": "n", "born": DAY}, Profile),
    ("x" * 5000, str),
    (None, None),
]
UNREBUILDABLE = [(Opaque(), Any), ([Point(6, DAY)], Any), ({2: "a"}, Any), ([(1, 2)], list)]


@scenario
def values():
    return [show(tool_giving(value, hint)()) for value, hint in VALUES]


@scenario
def unrebuildable():
    return [show(tool_giving(value, hint)()) for value, hint in UNREBUILDABLE]


@scenario
def errors():
    out = []
    for error in (ValueError("no", 2), KeyError("k"), Refused("because"), OSError(2, "gone"), Odd(4, why="odd")):

        @unspool.tool(name=type(error).__name__)
        def fail(error=error) -> None:
            leave(f"fail {error!r}")
            raise error

        try:
            fail()
        except Exception as caught:
            out.append([show(caught), repr(caught.args)])
    return out


@scenario
def generators():
    @unspool.tool
    def count(limit: int):
        for number in range(limit):
            leave(f"count {number}")
            yield number

    @unspool.tool
    def points(limit: int) -> Iterator[Point]:
        for number in range(limit):
            leave(f"point {number}")
            yield Point(number, DAY)
        raise ValueError("out of points")

    @unspool.tool
    async def letters(word: str):
        for letter in word:
            leave(f"letter {letter}")
            yield letter

    async def spell():
        return [letter async for letter in letters("abc")]

    got = []
    try:
        got.extend(map(show, points(2)))
    except ValueError as error:
        got.append(show(error))
    early = []
    for number in count(5):
        early.append(number)
        if number == 1:
            break
    return [list(count(3)), early, got, asyncio.run(spell())]


@scenario
async def concurrent():
    class Kit:
        @unspool.tool
        async def ask(self, number: int) -> str:
            leave(f"ask {number}")
            await asyncio.sleep(0)
            return f"{number}{TWIST}"

    kit = Kit()
    # Equal calls from several tasks, each with an answer of its own place.
    return await asyncio.gather(*(kit.ask(number % 2) for number in range(6)))


@scenario
async def cancelled():
    @unspool.tool
    async def slow() -> str:
        leave("slow")
        await asyncio.sleep(60)
        return "never"

    try:
        await asyncio.wait_for(slow(), 0.05)
    except TimeoutError:
        return "timed out"


@scenario
def other_arguments():
    @unspool.tool
    def search(query: str, limit: int = 3) -> list[str]:
        leave(f"search {query}")
        return [query] * limit

    return search("cats" + TWIST, limit=1)


@scenario
def once_more():
    @unspool.tool
    def ping() -> str:
        leave("ping")
        return "pong"

    return [ping() for _ in range(2 if TWIST else 1)]


@scenario
def forked():
    """Two model calls with a tool before, between and after."""
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1", max_retries=0)

    @unspool.tool
    def act(step: str) -> str:
        leave(f"act {step}")
        return f"{step} done"

    def ask(text: str) -> str:
        done = client.chat.completions.create(model="count", messages=[{"role": "user", "content": text}])
        return done.choices[0].message.content

    return [act("first"), ask("one"), act("second"), ask("two"), act("third")]


if __name__ == "__main__":
    main()
