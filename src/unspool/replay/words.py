"""What changed inside a text, word by word."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from unspool.replay.sequence import common_subsequence, shared_ends, shared_prefix, shared_suffix

__all__ = ["WordChange", "compared_chars", "diff_words", "shared_part", "similarity", "words_of"]

# Chinese, Japanese, Korean and Thai are written without spaces; there each character is a word.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
# A word takes the space before it along, so that an inserted word is one piece and the end of a text needs no space.
_TOKEN = re.compile(rf"\s?(?:[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s])|\s+")
_PUNCTUATION = str.maketrans(dict.fromkeys("!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~", " "))

# Beyond this many comparisons lines are compared instead of words, so that no text costs more than a few milliseconds.
_MAX_COMPARISONS = 4_000_000
# Two long texts are found similar by their ends; looking at megabytes of a tool result would cost more than it tells.
_SAMPLE_CHARS = 200
# A piece of base64 is one word of megabytes: looking for its beginning stops here.
_MAX_WORD = 100


class WordChange(Struct, frozen=True):
    """A piece of two texts: in both, only in the first (`removed`), or only in the second (`added`)."""

    op: Literal["equal", "removed", "added"]
    text: str


def diff_words(before: str, after: str, *, max_chars: int | None = None) -> list[WordChange]:
    """The pieces that make up both texts, in order.

    The `equal` and `removed` pieces together are `before`, the `equal` and `added` ones `after`. Where the texts are
    very long and differ much, whole lines are compared, then the whole.

    Args:
        max_chars: if there is more text than this between what both ends share, it is not compared but replaced.
    """
    start, end = _shared_text(before, after)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    fine = max_chars is None or len(old) + len(new) <= max_chars
    inner = _changes(old, new) if fine else [("", old, new)]
    changes = _merged([(before[:start], "", ""), *inner, (before[len(before) - end :], "", "")])
    pieces: list[WordChange] = []
    for equal, removed, added in changes:
        if equal:
            pieces.append(WordChange("equal", equal))
        if removed:
            pieces.append(WordChange("removed", removed))
        if added:
            pieces.append(WordChange("added", added))
    return pieces


def words_of(text: str) -> frozenset[str]:
    """The different words of a text, for `similarity`; of a long one those at its beginning and its end."""
    if len(text) > 2 * _SAMPLE_CHARS:
        text = f"{text[:_SAMPLE_CHARS]} {text[-_SAMPLE_CHARS:]}"
    # Splitting is several times faster than the pattern, and a diff may look at thousands of texts.
    return frozenset(text.translate(_PUNCTUATION).split() if text.isascii() else _WORD.findall(text))


def shared_part(first: str, second: str) -> float:
    """How much of the longer text the two have in common at start and end, 0 to 1; 0 if both are empty."""
    longer = max(len(first), len(second))
    start = shared_prefix(first, second)
    end = shared_suffix(first[start:], second[start:])
    return (start + end) / longer if longer else 0.0


def compared_chars(words: list[WordChange]) -> int:
    """About how many characters `diff_words` compared word by word: all between what both ends share."""
    ends = {0, len(words) - 1}
    return sum(len(word.text) for number, word in enumerate(words) if word.op != "equal" or number not in ends)


def similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """How much two sets of words have in common, 0 to 1 (Dice's coefficient); 0 if there are no words."""
    total = len(first) + len(second)
    return 2 * len(first & second) / total if total else 0.0


# What is equal, then what was removed and what was added in its place.
_Change = tuple[str, str, str]


def _changes(before: str, after: str) -> list[_Change]:
    if not before or not after:
        return [("", before, after)]
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    if _comparisons(old, new) > _MAX_COMPARISONS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
        if _comparisons(old, new) > _MAX_COMPARISONS:
            return [("", before, after)]
    changes: list[_Change] = []
    i = j = 0
    for at, to in [*common_subsequence(old, new), (len(old), len(new))]:
        if i < at or j < to:
            changes.append(("", "".join(old[i:at]), "".join(new[j:to])))
        if at < len(old):
            changes.append((old[at], "", ""))
        i, j = at + 1, to + 1
    return changes


def _comparisons(old: list[str], new: list[str]) -> int:
    shared = sum(shared_ends(old, new))
    return (len(old) - shared) * (len(new) - shared)


def _merged(changes: list[_Change]) -> list[_Change]:
    """Equal pieces that touch are one; an equal piece without a word between two changes is part of the change.

    Otherwise the spaces of two unrelated sentences count as what they have in common.
    """
    merged: list[_Change] = []
    equal = removed = added = ""
    for kept, gone, come in changes:
        if not (gone or come):
            if not (removed or added):
                equal += kept
                continue
            merged.append((equal, removed, added))
            equal, removed, added = kept, "", ""
        elif equal and merged and not _WORD.search(equal) and not (removed or added):
            before, old, new = merged.pop()
            equal, removed, added = before, old + equal + gone, new + equal + come
        else:
            removed, added = removed + gone, added + come
    merged.append((equal, removed, added))
    return [_without_shared_space(change) for change in merged]


def _without_shared_space(change: _Change) -> _Change:
    """The space that both words took along belongs to what is equal."""
    equal, removed, added = change
    if removed and added and removed[0] == added[0] and removed[0].isspace():
        return equal + removed[0], removed[1:], added[1:]
    return change


def _shared_text(before: str, after: str) -> tuple[int, int]:
    """Characters in common at the start and then at the end, cut back so that no word is cut in two."""
    start = _to_word_edge(before, after, shared_prefix(before, after))
    old, new = before[start:], after[start:]
    end = shared_suffix(old, new)
    # One word more than they share, so that the edge of the word can be seen; backwards, as it is the end.
    reach = end + _MAX_WORD
    return start, _to_word_edge(old[-reach:][::-1], new[-reach:][::-1], end)


def _to_word_edge(first: str, second: str, length: int) -> int:
    if not any(_is_word(text[length : length + 1]) for text in (first, second)):
        return length
    edge = length
    while edge and length - edge < _MAX_WORD and _is_word(first[edge - 1]):
        edge -= 1
    return edge


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"
