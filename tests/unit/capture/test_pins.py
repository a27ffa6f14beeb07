"""Recorded values are given to the place and task that read them, in order, and to no other."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.capture.pins import NoValueError, Pins, Reading, read_lines
from unspool.capture.sourcelines import where_now

FILE = "/program/agent.py"


def marks(source: list[str]) -> list[int]:
    return [zlib.crc32(line.strip().encode()) for line in source]


def recorded(reads: list[tuple[str, str, int, object]], source: list[str], file: str = FILE) -> list[Reading]:
    """Readings of `(kind, task, line, value)`, each place's first one with its mark, as capture writes them."""
    known, readings = marks(source), []
    seen: set[int] = set()
    for kind, task, line, value in reads:
        mark = known[line - 1] if line not in seen else None
        seen.add(line)
        readings.append(Reading(k=kind, t=task, v=value, at=f"{file}:{line}", s=mark))
    return readings


def of(source: list[str] | None, file: str = FILE) -> Callable[[str], list[int] | None]:
    return lambda filename: marks(source) if filename == file and source is not None else None


SOURCE = [f"line {number} of the program" for number in range(1, 9)]
READS = st.lists(
    st.tuples(
        st.sampled_from(["time", "uuid4", "datetime.now"]),
        st.sampled_from(["0", "0.1", "0.2", "0.1.1"]),
        st.integers(1, len(SOURCE)),
        st.integers(),
    ),
    max_size=60,
)


@given(READS, st.randoms(use_true_random=False))
def test_any_interleaving_of_tasks_gives_each_its_own(reads: list[tuple[str, str, int, int]], random: object) -> None:
    pins = Pins(recorded(reads, SOURCE), of(SOURCE))
    by_task: dict[str, list[tuple[str, str, int, int]]] = defaultdict(list)
    for one in reads:
        by_task[one[1]].append(one)
    while by_task:
        task = random.choice(sorted(by_task))  # type: ignore[attr-defined]
        kind, _, line, value = by_task[task].pop(0)
        if not by_task[task]:
            del by_task[task]
        assert pins.take(kind, task, FILE, line) == value
    for kind, task, line, _ in reads:
        with pytest.raises(NoValueError):
            pins.take(kind, task, FILE, line)


@given(READS, st.lists(st.integers(0, len(SOURCE)), max_size=6))
def test_lines_that_moved_keep_their_values(reads: list[tuple[str, str, int, int]], inserted: list[int]) -> None:
    edited = list(SOURCE)
    for number, position in enumerate(sorted(inserted, reverse=True)):
        edited.insert(position, f"# new line {number}")
    pins = Pins(recorded(reads, SOURCE), of(edited))
    for kind, task, line, value in reads:
        present = edited.index(SOURCE[line - 1]) + 1
        assert pins.take(kind, task, FILE, present) == value


@given(READS, st.sets(st.integers(1, len(SOURCE))))
def test_a_new_line_never_takes_what_belongs_to_another(
    reads: list[tuple[str, str, int, int]], rewritten: set[int]
) -> None:
    """A line that is not in the recording gets values of lines that are no more, or none; the others lose nothing."""
    edited = [f"rewritten {n}" if n in rewritten else text for n, text in enumerate(SOURCE, 1)]
    edited.insert(0, "a new line")
    pins = Pins(recorded(reads, SOURCE), of(edited))
    for kind, task in {(kind, task) for kind, task, _, _ in reads}:
        gone = [value for k, t, line, value in reads if (k, t) == (kind, task) and line in rewritten]
        taken = []
        while True:
            try:
                taken.append(pins.take(kind, task, FILE, 1))
            except NoValueError:
                break
        assert taken == gone
    for kind, task, line, value in reads:
        if line not in rewritten:
            assert pins.take(kind, task, FILE, line + 1) == value


def test_sizes_are_kinds_of_their_own() -> None:
    source = ["draw(n)"]
    reads = [("urandom", "0", 1, "00ff"), ("urandom", "0", 1, "aa"), ("random.bits", "0", 1, [8, "ff"])]
    pins = Pins(recorded(reads, source), of(source))
    with pytest.raises(NoValueError):
        pins.take("urandom", "0", FILE, 1, 3)
    assert pins.take("urandom", "0", FILE, 1, 1) == "aa"
    assert pins.take("urandom", "0", FILE, 1, 2) == "00ff"
    with pytest.raises(NoValueError):
        pins.take("random.bits", "0", FILE, 1, 9)
    assert pins.take("random.bits", "0", FILE, 1, 8) == [8, "ff"]


def test_reasons_say_what_is_missing() -> None:
    pins = Pins(recorded([("time", "0", 1, 5.0)], ["a", "b"]), of(["a", "b"]))
    for args, why in [
        (("time", "0", "/other.py", 1), "no read in this file"),
        (("time", "0", FILE, 2), "new, or was rewritten"),
        (("time", "0.1", FILE, 1), "no read of task 0.1"),
        (("uuid4", "0", FILE, 1), "no such value at this line"),
    ]:
        with pytest.raises(NoValueError, match=why):
            pins.take(*args)
    assert pins.take("time", "0", FILE, 1) == 5.0
    with pytest.raises(NoValueError, match="more often"):
        pins.take("time", "0", FILE, 1)


def test_a_library_is_known_wherever_it_is_installed() -> None:
    source = ["created = time()"]
    old, new = "/a/lib/python3.11/site-packages/lib/x.py", "/b/lib/python3.13/site-packages/lib/x.py"
    pins = Pins(recorded([("time", "0", 1, 1.5)], source, old), of(source, new))
    assert pins.take("time", "0", new, 1) == 1.5


def test_a_program_that_was_moved_is_known_by_its_name() -> None:
    source = ["now = time()"]
    pins = Pins(recorded([("time", "0", 1, 1.5)], source), of(source, "/elsewhere/agent.py"))
    assert pins.take("time", "0", "/elsewhere/agent.py", 1) == 1.5


def test_a_second_program_of_the_same_name_takes_nothing() -> None:
    source = ["now = time()"]
    pins = Pins(recorded([("time", "0", 1, 1.5)], source), lambda filename: marks(source))
    with pytest.raises(NoValueError):
        pins.take("time", "0", "/elsewhere/agent.py", 1)
    assert pins.take("time", "0", FILE, 1) == 1.5


def test_code_without_a_file_is_known_by_its_line() -> None:
    reading = Reading(k="time", t="0", v=2.5, at="<string>:3")
    assert Pins([reading], of(None)).take("time", "0", "<string>", 3) == 2.5


def test_states_stay() -> None:
    pins = Pins([Reading(k="random.start", t="0.1", v={"a": 1}), Reading(k="random.switch", t="0", v=3)])
    assert pins.state("random.start") == pins.state("random.start") == ("0.1", {"a": 1})
    assert pins.state("numpy.start") is None
    assert pins.holds("numpy.start", "random.switch")
    assert not pins.holds("time")


def test_damaged_lines_are_counted_and_a_torn_last_one_is_not() -> None:
    lines = [msgspec.json.encode(Reading(k="time", t="0", v=number, at=f"{FILE}:1")) for number in range(3)]
    readings, damaged = read_lines(b"\n".join([lines[0], b"{not json", b'{"k": 7, "t": "0"}', lines[1], lines[2][:-4]]))
    assert [reading.v for reading in readings] == [0, 1]
    assert damaged == 2


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.lists(st.sampled_from("abcdef"), max_size=12))
def test_lines_keep_their_text_and_their_order_where_it_is_not_the_only_one(
    before: list[str], after: list[str]
) -> None:
    known = dict(enumerate(marks(before), 1))
    now = where_now(known, marks(after))
    assert all(before[old - 1] == after[new - 1] for new, old in now.items())
    assert len(set(now.values())) == len(now)
    unique = {text for text in before if before.count(text) == after.count(text) == 1}
    assert unique <= {after[new - 1] for new in now}
    olds = [now[new] for new in sorted(now) if after[new - 1] not in unique]
    assert olds == sorted(olds)
    if before == after[: len(before)]:
        assert now == {line: line for line in known}
