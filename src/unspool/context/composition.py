"""How the tokens of one call divide among what its prompt holds, to the last token."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from unspool.context.calls import CATEGORIES, Block, Call, Category
from unspool.tokens import apportion

__all__ = ["Composition", "Share", "compose"]

_UNITS = 1_000  # to a token of weight: the parts are divided by whole numbers


class Share(Struct, frozen=True):
    """Tokens of one part of a block."""

    block: Block
    category: Category
    tokens: int


class Composition(Struct):
    """The parts of a prompt, in its order. `unseen` are tokens of the provider's count that no part explains.

    All of them together are exactly `total`.
    """

    total: int
    shares: list[Share]
    unseen: int = 0

    def by_category(self) -> dict[Category, int]:
        """Tokens by category, in the order of `CATEGORIES`, those without any left out."""
        sums = dict.fromkeys(CATEGORIES, 0)
        for share in self.shares:
            sums[share.category] += share.tokens
        return {category: tokens for category, tokens in sums.items() if tokens}

    def by_tool(self) -> dict[str, tuple[int, int]]:
        """Tokens and number of results by tool, the largest first."""
        sums: dict[str, tuple[int, int]] = {}
        counted: set[int] = set()
        for share in self.shares:
            if share.block.is_tool_result:
                tokens, results = sums.get(share.block.name, (0, 0))
                is_new = id(share.block) not in counted
                counted.add(id(share.block))
                sums[share.block.name] = tokens + share.tokens, results + is_new
        return dict(sorted(sums.items(), key=lambda item: -item[1][0]))

    def by_block(self) -> list[tuple[Block, int]]:
        """Tokens of each block, in order."""
        sums: dict[int, tuple[Block, int]] = {}
        for share in self.shares:
            sums[id(share.block)] = share.block, sums.get(id(share.block), (share.block, 0))[1] + share.tokens
        return list(sums.values())


def compose(call: Call) -> Composition:
    """Divide the count of a call (its own estimate where the provider gave none)."""
    parts = list(_parts(call.blocks))
    if not parts:
        return Composition(call.tokens, [], call.tokens)
    seen = call.tokens - call.unseen
    tokens = apportion([round(weight * _UNITS) for _, _, weight in parts], seen)
    shares = [Share(block, category, count) for (block, category, _), count in zip(parts, tokens, strict=True)]
    return Composition(call.tokens, shares, call.unseen)


def _parts(blocks: Iterable[Block]) -> Iterable[tuple[Block, Category, float]]:
    for block in blocks:
        estimate = sum(tokens for _, tokens in block.shares)
        for category, tokens in block.shares:
            yield block, category, block.weight * tokens / estimate if estimate else 0.0
