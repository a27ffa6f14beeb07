"""The longest common subsequence of two sequences, exactly and in bounded time whatever they hold."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

__all__ = ["common_subsequence", "shared_ends", "shared_prefix", "shared_suffix"]

# Bits kept at once to find the way back: 2**28 is 32 MiB, 16,000 items against 16,000. Beyond that the work is halved.
_MAX_BITS = 1 << 28
_FIRST_LOOK = 32  # characters


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The positions, in both sequences, of the items of a longest common subsequence, in rising order.

    Bit-parallel dynamic programming (Allison & Dix 1986, in the form of Hyyrö, "Bit-parallel LCS-length computation
    revisited", 2004): one row is one big integer, so n against m items cost n*m/64 machine operations always, where the
    O(ND) of Myers 1986 needs n*m steps of Python when little is equal. What both ends share and items that occur on
    one side only are taken away first; neither changes the length of the result.
    """
    start, end = shared_ends(first, second)
    pairs = [(index, index) for index in range(start)]
    mine, theirs = set(first[start : len(first) - end]), set(second[start : len(second) - end])
    left = [index for index in range(start, len(first) - end) if first[index] in theirs]
    right = [index for index in range(start, len(second) - end) if second[index] in mine]
    middle = _divide([first[index] for index in left], [second[index] for index in right])
    pairs += [(left[i], right[j]) for i, j in middle]
    pairs += [(len(first) - back, len(second) - back) for back in range(end, 0, -1)]
    return pairs


def shared_ends(first: Sequence[Hashable], second: Sequence[Hashable]) -> tuple[int, int]:
    """How many items the two have in common at the start, and then at the end; they never overlap."""
    shorter = min(len(first), len(second))
    start = 0
    while start < shorter and first[start] == second[start]:
        start += 1
    end = 0
    while end < shorter - start and first[-1 - end] == second[-1 - end]:
        end += 1
    return start, end


def shared_prefix(first: str, second: str) -> int:
    """How many characters the two texts have in common at the start."""
    shorter = min(len(first), len(second))
    low, high = 0, _FIRST_LOOK
    # Comparing slices runs in C; a loop over the characters of two long tool results does not. Most texts differ soon.
    while high < shorter and first[low:high] == second[low:high]:
        low, high = high, 2 * high
    high = min(high, shorter)
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def shared_suffix(first: str, second: str) -> int:
    """How many characters the two texts have in common at the end."""
    shorter = min(len(first), len(second))
    look = _FIRST_LOOK
    while look < shorter and first[-look:] == second[-look:]:
        look *= 2
    look = min(look, shorter)
    return shared_prefix(first[len(first) - look :][::-1], second[len(second) - look :][::-1])


def _divide(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[tuple[int, int]]:
    """As `_match`, cut in two where the memory would be too much (Hirschberg 1975)."""
    if len(first) * len(second) <= max(_MAX_BITS, len(first)):
        return _match(first, second)
    cut = len(second) // 2
    before = _lengths(first, second[:cut])
    after = _lengths(first[::-1], second[cut:][::-1])
    split = max(range(len(first) + 1), key=lambda index: before[index] + after[len(first) - index])
    head = _divide(first[:split], second[:cut])
    tail = _divide(first[split:], second[cut:])
    return head + [(i + split, j + cut) for i, j in tail]


def _match(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[tuple[int, int]]:
    rows = _rows(first, second)
    pairs: list[tuple[int, int]] = []
    i, j = len(first), len(second)
    # A zero bit i-1 in row j says that item i adds to what is common with the first j items. If the row above says so
    # too, item j is not needed for it; otherwise the two items are the pair.
    while i and j:
        if rows[j - 1] >> (i - 1) & 1:
            i -= 1
        elif j > 1 and not rows[j - 2] >> (i - 1) & 1:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    pairs.reverse()
    return pairs


def _lengths(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[int]:
    """For each beginning of `first`, the length of what it has in common with all of `second`."""
    last = _rows(first, second, keep_all=False)[-1]
    lengths = [0]
    for bit in reversed(f"{last:0{len(first)}b}"):
        lengths.append(lengths[-1] + (bit == "0"))
    return lengths


def _rows(first: Sequence[Hashable], second: Sequence[Hashable], *, keep_all: bool = True) -> list[int]:
    places: dict[Hashable, int] = {}
    for index, item in enumerate(first):
        places[item] = places.get(item, 0) | 1 << index
    row = full = (1 << len(first)) - 1
    rows: list[int] = []
    for item in second:
        here = row & places.get(item, 0)
        row = (row + here | row - here) & full
        if keep_all:
            rows.append(row)
    return rows if keep_all else [row]
