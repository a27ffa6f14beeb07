"""What a model call cost, by the public price lists that genai-prices keeps (offline data, no network)."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Final

__all__ = ["call_cost"]

# Our names of vendors where genai-prices has another; the rest are the same. None: prices there are not public, or
# the model runs on the user's own machine.
_PROVIDERS: Final[dict[str, str | None]] = {
    "bedrock": "aws",
    "github": None,
    "huggingface": None,
    "lmstudio": None,
    "moonshot": "moonshotai",
    "ollama": None,
    "xai": "x-ai",
}


def call_cost(
    vendor: str,
    model: str,
    *,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
    cache_write_tokens: int = 0,
    at: datetime | None = None,
) -> float | None:
    """US dollars for one call; None if the vendor or the model has no known price.

    Args:
        vendor: as in `/dev/llm/<vendor>/<model>`.
        input_tokens: all of them; `cached_tokens` and `cache_write_tokens` are among them and priced as such.
        output_tokens: all of them, reasoning included.
        at: when the call was made: prices change.
    """
    provider = _PROVIDERS.get(vendor, vendor)
    if provider is None or _is_unknown(provider, model):
        return None
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cached_tokens or None,
        cache_write_tokens=cache_write_tokens or None,
    )
    try:
        return float(calc_price(usage, model, provider_id=provider, genai_request_timestamp=at).total_price)
    except (LookupError, ValueError):  # no such model; counts that contradict each other
        return None


@functools.lru_cache(maxsize=512)
def _is_unknown(provider: str, model: str) -> bool:
    """Whether genai-prices has no such model: it looks through all of them, which is slow for each call again."""
    from genai_prices import Usage, calc_price

    try:
        calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_id=provider)
    except (LookupError, ValueError):
        return True
    return False
