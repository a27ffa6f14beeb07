"""What tokens cost: the form in which prices come into the analyses, which know no price list themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Struct

from unspool.trace.names import (
    CACHE_WRITE,
    CACHED,
    INPUT,
    MODEL,
    ORIGIN,
    OUTPUT,
    PROVIDER,
    REQUEST_MODEL,
    count_of,
    text_of,
)
from unspool.trace.spans import Span

__all__ = ["PriceList", "Rates", "cost_of", "is_sent", "price_spans", "rates_of"]

_NOT_SENT: Final = ("served", "edited")  # answers that came from a recording or from a person, and cost nothing


class Rates(Struct, frozen=True):
    """US dollars for one token of each kind, for one call of one model, and for the call itself (`request`).

    `cached` tokens were read from the provider's prompt cache, `cache_write` tokens written to it.
    """

    input: float
    output: float
    cached: float
    cache_write: float
    request: float = 0.0

    def cost(self, input_tokens: int, output_tokens: int, cached: int = 0, cache_write: int = 0) -> float | None:
        """US dollars for one call; None if the counts contradict each other.

        Args:
            input_tokens: all of them; `cached` and `cache_write` are among them.
        """
        rest = input_tokens - cached - cache_write
        if rest < 0 or min(output_tokens, cached, cache_write) < 0:
            return None
        read = rest * self.input + cached * self.cached + cache_write * self.cache_write
        return read + output_tokens * self.output + self.request


class PriceList(Protocol):
    """Gives the rates of a model."""

    def __call__(self, vendor: str, model: str, at_ns: int, input_tokens: int) -> Rates | None:
        """The rates for a call, None where no price is known.

        Args:
            vendor: as in `/dev/llm/<vendor>/<model>`; "" if unknown.
            at_ns: when the call was made, ns of the Unix epoch, 0 for now: prices change.
            input_tokens: of this call: some models cost more for long prompts.
        """


def is_sent(span: Span) -> bool:
    """Whether a model call was sent to its provider: only then did it use tokens, and did they cost anything."""
    return span.attributes.get(ORIGIN) not in _NOT_SENT


def rates_of(span: Span, prices: PriceList, input_tokens: int) -> Rates | None:
    """The rates of a model call by what its span says; None if the model has no known price.

    The answer names the exact version of the model; a gateway may answer with a name of its own, so what was asked for
    is tried too.
    """
    if not is_sent(span):
        return Rates(0.0, 0.0, 0.0, 0.0)
    vendor = text_of(span, PROVIDER)
    for model in dict.fromkeys((text_of(span, MODEL), text_of(span, REQUEST_MODEL))):
        if model and (rates := prices(vendor, model, span.start_time_ns, input_tokens)) is not None:
            return rates
    return None


def price_spans(spans: Iterable[Span], prices: PriceList) -> None:
    """Give a cost to model calls that came without one, where their counts and the prices are known, in place."""
    for span in spans:
        if span.kind == "llm" and span.cost_usd is None and span.tokens_used:
            span.cost_usd = cost_of(span, prices)


def cost_of(span: Span, prices: PriceList) -> float | None:
    """What a model call cost by the counts among its attributes; None where they, or its price, are not known."""
    read, written = count_of(span, INPUT), count_of(span, OUTPUT)
    rates = rates_of(span, prices, read) if read is not None else None
    if rates is None or read is None or written is None:
        return None
    return rates.cost(read, written, count_of(span, CACHED) or 0, count_of(span, CACHE_WRITE) or 0)
