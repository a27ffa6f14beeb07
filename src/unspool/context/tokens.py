"""Token estimates, under the name they have in this room; `unspool.tokens` makes them."""

from __future__ import annotations

from unspool.tokens import apportion, estimate_message, estimate_tokens

__all__ = ["apportion", "estimate_message", "estimate_tokens"]
