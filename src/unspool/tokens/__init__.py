"""How many tokens things have, estimated, and how a known total is divided among them.

The estimate is for shares: where the provider's own count is known the parts are scaled to it (`apportion`), and only
the proportions of the estimate remain. `calibrate` fits it to the counts of a run.
"""

from __future__ import annotations

from unspool.tokens.prompts import (
    MESSAGE_TOKENS,
    Family,
    PartKind,
    estimate_message,
    estimate_parts,
    estimate_tool,
    family_of,
    own_tokens,
)
from unspool.tokens.shares import apportion
from unspool.tokens.text import Count, estimate_tokens

__all__ = [
    "MESSAGE_TOKENS",
    "Count",
    "Family",
    "PartKind",
    "apportion",
    "estimate_message",
    "estimate_parts",
    "estimate_tokens",
    "estimate_tool",
    "family_of",
    "own_tokens",
]
