"""How a known total is divided among estimates."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["apportion"]


def apportion(weights: Sequence[int], total: int) -> list[int]:
    """Divide `total` in proportion to `weights` into whole numbers that sum to it exactly.

    By largest remainder (Hamilton's method); equal remainders go to the earlier one. All weights 0: equal shares.
    No weights: no shares.
    """
    if not weights:
        return []
    weight_sum = sum(weights)
    if weight_sum == 0:
        return apportion([1] * len(weights), total)
    # Integers throughout: a share of a count beyond 2**53 must not lose its last digits.
    shares = [weight * total // weight_sum for weight in weights]
    missing = total - sum(shares)
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(weights[i] * total % weight_sum), i))
    for index in by_remainder[:missing]:
        shares[index] += 1
    return shares
