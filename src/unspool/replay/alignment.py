"""Two lists of messages side by side: what stayed, was added, removed, edited, moved."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from unspool.replay.messages import SeenMessage
from unspool.replay.sequence import common_subsequence
from unspool.replay.words import WordChange, compared_chars, diff_words, shared_part, similarity, words_of

__all__ = ["EditedMessage", "MessagesDiff", "MovedMessage", "ScriptStep", "align_messages"]

# Strictly more than half of the words in common: "step 1" and "step 2" are two messages, "step 1 done" and "step 2
# done" are one that was edited.
_SIMILAR = 0.5
# Between two kept messages every pair is compared up to this many pairs, or if one side has no more messages than
# that; in longer stretches only pairs near the diagonals. Bounds the work for 2,000 messages that all changed.
# A long text that shares this much at start and end with one on a diagonal is taken without comparing words. In short
# texts the one character that differs may be all that they say.
_NEARLY_EQUAL = 0.8
_LONG = 200
_GLANCE = 40
_MAX_PAIRS = 256
_FEW = 8
_REACH = 1
# Characters of changed text compared word by word in one diff, some 10 ms of work; in messages beyond that only what
# both ends share is told from what changed.
_WORD_BUDGET = 50_000


_FIELDS = ("content", "tool_calls", "tool_call_id", "parts")

ScriptOp: TypeAlias = Literal["keep", "add", "remove", "edit", "move_out", "move_in"]


class EditedMessage(Struct, frozen=True):
    """A message whose text changed, in its place. Indexes count from 0 in the two snapshots' lists.

    `fields` names what differs (`content tool_calls tool_call_id parts`); `words` says how `before` became `after`.
    """

    from_index: int
    to_index: int
    role: str
    before: str
    after: str
    fields: list[str]
    words: list[WordChange]


class MovedMessage(Struct, frozen=True):
    """A message that is the same in both lists, but not in the same order with the others."""

    from_index: int
    to_index: int
    text: str


class MessagesDiff(Struct, frozen=True):
    """What happened to the messages; an edited or moved one is in neither `added` nor `removed`.

    `added` and `removed` hold whole texts, `[role] content`, in order. The counts are the lengths of the two lists as
    the snapshots have them, with system messages, which are compared as system prompt and are in no list here.
    """

    added: list[str] = []
    removed: list[str] = []
    edited: list[EditedMessage] = []
    moved: list[MovedMessage] = []
    from_count: int = 0
    to_count: int = 0


class ScriptStep(Struct, frozen=True):
    """A step of the script that makes the second list out of the first, in the order in which both are read.

    `keep` stands for `count` messages from `from_index` and `to_index` on. A moved message has two steps, `move_out` at
    its old place and `move_in` at the new one, each with both indexes. `from_index` is None for `add`, `to_index` for
    `remove`.
    """

    op: ScriptOp
    from_index: int | None
    to_index: int | None
    count: int = 1


def align_messages(
    before: Sequence[SeenMessage], after: Sequence[SeenMessage], from_count: int, to_count: int
) -> tuple[MessagesDiff, list[ScriptStep]]:
    """The changes between two conversations, and the same as one script.

    As many messages as possible are kept in order (a longest common subsequence). What is left and equal was moved;
    what is left between the same kept messages, of the same role and with similar text, was edited.

    Args:
        from_count: the length of the first snapshot's list, for the result.
        to_count: that of the second.
    """
    kept = common_subsequence([message.key for message in before], [message.key for message in after])
    moved = _moves(before, after, kept)
    edited = _edits(before, after, kept, moved)
    steps = _script(before, after, kept, moved, edited)
    diff = MessagesDiff(
        added=[after[step.to].text for step in steps if step.op == "add"],
        removed=[before[step.at].text for step in steps if step.op == "remove"],
        edited=_edited_messages(before, after, edited),
        moved=[MovedMessage(before[i].index, after[j].index, after[j].text) for i, j in sorted(moved.items())],
        from_count=from_count,
        to_count=to_count,
    )
    return diff, _placed(steps, before, after)


_Pairs = list[tuple[int, int]]


class _Step(NamedTuple):
    """A step with positions in the two conversations; -1 where it has none."""

    op: ScriptOp
    at: int
    to: int


def _moves(before: Sequence[SeenMessage], after: Sequence[SeenMessage], kept: _Pairs) -> dict[int, int]:
    """Messages that are equal but not kept: from the first place to the second, in the order of each side."""
    stayed, found = {i for i, _ in kept}, {j for _, j in kept}
    places: defaultdict[Hashable, deque[int]] = defaultdict(deque)
    for i, message in enumerate(before):
        if i not in stayed:
            places[message.key].append(i)
    return {
        places[message.key].popleft(): j
        for j, message in enumerate(after)
        if j not in found and places.get(message.key)
    }


def _edits(before: Sequence[SeenMessage], after: Sequence[SeenMessage], kept: _Pairs, moved: dict[int, int]) -> _Pairs:
    """Pairs that became one another, in order; they cross neither each other nor what was kept."""
    arrived = set(moved.values())
    words: dict[str, frozenset[str]] = {}
    edited: _Pairs = []
    i = j = 0
    for at, to in [*kept, (len(before), len(after))]:
        gone = [index for index in range(i, at) if index not in moved]
        come = [index for index in range(j, to) if index not in arrived]
        edited += _pairs_between(before, after, gone, come, words)
        i, j = at + 1, to + 1
    return edited


def _pairs_between(
    before: Sequence[SeenMessage],
    after: Sequence[SeenMessage],
    gone: list[int],
    come: list[int],
    words: dict[str, frozenset[str]],
) -> _Pairs:
    sure = [
        (-score, 0, row, column)
        for row, column in _diagonals(len(gone), len(come), 0)
        if (score := _nearly_equal(before[gone[row]], after[come[column]])) >= _NEARLY_EQUAL
    ]
    pairs: _Pairs = []
    i = j = 0
    for at, to in [*_best(sorted(sure)), (len(gone), len(come))]:
        scored = [
            (-score, abs(row - column), i + row, j + column)
            for row, column in _candidates(at - i, to - j)
            if (score := _likeness(before[gone[i + row]], after[come[j + column]], words)) > _SIMILAR
        ]
        pairs += [(gone[row], come[column]) for row, column in _best(sorted(scored))]
        if at < len(gone):
            pairs.append((gone[at], come[to]))
        i, j = at + 1, to + 1
    return pairs


def _candidates(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    if rows * columns <= _MAX_PAIRS or min(rows, columns) <= _FEW:
        return ((row, column) for row in range(rows) for column in range(columns))
    return _diagonals(rows, columns, _REACH)


def _diagonals(rows: int, columns: int, reach: int) -> Iterator[tuple[int, int]]:
    """The places near the diagonals from the first pair and from the last one."""
    for row in range(rows):
        near = {place + step for place in (row, row + columns - rows) for step in range(-reach, reach + 1)}
        yield from ((row, column) for column in near if 0 <= column < columns)


def _nearly_equal(first: SeenMessage, second: SeenMessage) -> float:
    if first.message.role != second.message.role or min(len(first.text), len(second.text)) < _LONG:
        return 0.0
    if first.text[:_GLANCE] != second.text[:_GLANCE] and first.text[-_GLANCE:] != second.text[-_GLANCE:]:
        return 0.0  # so much of a long text cannot be shared without one of these
    return shared_part(first.text, second.text)


def _likeness(first: SeenMessage, second: SeenMessage, words: dict[str, frozenset[str]]) -> float:
    one, other = first.message, second.message
    if one.role != other.role:
        return 0.0
    if one.tool_call_id and one.tool_call_id == other.tool_call_id:
        return 1.0  # two results of one call, however they differ
    for message in (first, second):
        if message.text not in words:
            # Without the label, which would make all short messages of a role alike.
            words[message.text] = words_of(message.text.removeprefix(f"[{message.message.role}]"))
    return similarity(words[first.text], words[second.text])


def _best(scored: list[tuple[float, int, int, int]]) -> _Pairs:
    """The best pair, then the best of those that do not cross it, and so on."""
    taken: _Pairs = []
    for _, _, i, j in scored:
        place = bisect(taken, (i, j))
        after_left = place == 0 or (taken[place - 1][0] < i and taken[place - 1][1] < j)
        before_right = place == len(taken) or (i < taken[place][0] and j < taken[place][1])
        if after_left and before_right:
            taken.insert(place, (i, j))
    return taken


def _script(
    before: Sequence[SeenMessage],
    after: Sequence[SeenMessage],
    kept: _Pairs,
    moved: dict[int, int],
    edited: _Pairs,
) -> list[_Step]:
    origins = {j: i for i, j in moved.items()}
    changed = set(edited)
    steps: list[_Step] = []
    i = j = 0
    for at, to in [*sorted([*kept, *edited]), (len(before), len(after))]:
        steps += [
            _Step("move_out", index, moved[index]) if index in moved else _Step("remove", index, -1)
            for index in range(i, at)
        ]
        steps += [
            _Step("move_in", origins[index], index) if index in origins else _Step("add", -1, index)
            for index in range(j, to)
        ]
        if at < len(before):
            steps.append(_Step("edit" if (at, to) in changed else "keep", at, to))
        i, j = at + 1, to + 1
    return steps


def _placed(steps: list[_Step], before: Sequence[SeenMessage], after: Sequence[SeenMessage]) -> list[ScriptStep]:
    """The script with the positions the snapshots have; kept messages that follow each other are one step."""
    script: list[ScriptStep] = []
    for step in steps:
        from_index = before[step.at].index if step.at >= 0 else None
        to_index = after[step.to].index if step.to >= 0 else None
        last = script[-1] if script else None
        if last is not None and step.op == "keep" == last.op:
            assert last.from_index is not None
            assert last.to_index is not None
            if (last.from_index + last.count, last.to_index + last.count) == (from_index, to_index):
                script[-1] = ScriptStep("keep", last.from_index, last.to_index, last.count + 1)
                continue
        script.append(ScriptStep(step.op, from_index, to_index))
    return script


def _edited_messages(before: Sequence[SeenMessage], after: Sequence[SeenMessage], pairs: _Pairs) -> list[EditedMessage]:
    edited: list[EditedMessage] = []
    budget = _WORD_BUDGET
    for i, j in pairs:
        one, other = before[i].message, after[j].message
        words = diff_words(before[i].text, after[j].text, max_chars=budget)
        budget -= min(compared_chars(words), budget)
        edited.append(
            EditedMessage(
                from_index=before[i].index,
                to_index=after[j].index,
                role=other.role,
                before=before[i].text,
                after=after[j].text,
                fields=[name for name in _FIELDS if (getattr(one, name) or None) != (getattr(other, name) or None)],
                words=words,
            )
        )
    return edited
