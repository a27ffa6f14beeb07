"""Shares and rates with one decimal, rounded the way the wire wants them."""

from __future__ import annotations

import math

__all__ = ["check_counts", "percentage", "ratio", "to_one_decimal"]


def ratio(part: int, whole: int) -> float:
    """`part / whole` with one decimal, halves away from zero; 0 for nothing of nothing.

    In whole numbers: 12.25 is not a float, and what a float rounds to depends on which side of it the float lies.
    """
    if whole <= 0:
        return 0.0
    sign = -1 if part < 0 else 1
    return sign * ((20 * abs(part) + whole) // (2 * whole)) / 10


def percentage(part: int, whole: int) -> float:
    """`part` of `whole` in percent with one decimal, halves away from zero; 0 of nothing."""
    return ratio(100 * part, whole)


def to_one_decimal(value: float) -> float:
    """`value` with one decimal, halves away from zero; what is not finite becomes 0."""
    if not math.isfinite(value):
        return 0.0
    if abs(value) >= 1e15:  # has no decimals to round
        return value
    return math.copysign(math.floor(abs(value) * 10 + 0.5) / 10, value) if value else 0.0


def check_counts(**counts: int) -> None:
    """Refuse counts below zero, by name."""
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} must not be negative, got {count}")
