"""What a model call cost: the user's own prices first, then the public lists of genai-prices (offline, no network).

A price file is TOML or JSON: a table for each model, by `vendor/model` or `model`, where `*` stands for anything, with
US dollars for a million tokens.

    ["ollama/*"]
    input = 0
    output = 0

    ["my-own-7b"]
    input = 0.20
    output = 0.80
    cached_input = 0.02     # read from the provider's prompt cache; as input if left out
    cache_write = 0.25      # written to it; as input if left out

Files are looked for in this order, and the first table that fits is taken: `--prices FILE`, `prices.toml` or
`prices.json` in the store's folder, then in `~/.config/unspool` (or `$XDG_CONFIG_HOME/unspool`).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from msgspec import Struct

from unspool.errors import UsageError
from unspool.trace.rates import Rates

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceCalculation

    from unspool.events import LLMResponseData
    from unspool.store import Store

__all__ = ["PUBLIC", "Prices", "call_cost", "context_window", "prices_for", "prices_option"]

F = TypeVar("F", bound=Callable[..., Any])

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
_NAMES: Final = ("prices.toml", "prices.json")
_KEYS: Final = ("input", "output", "cached_input", "cache_write")
_MILLION: Final = 1_000_000


class OwnPrice(Struct, frozen=True):
    """One table of a price file: which models, and their rates."""

    pattern: str
    rates: Rates


class Prices:
    """A price list: the user's tables, then the public ones. Each model is looked up once."""

    def __init__(self, own: Iterable[OwnPrice] = ()) -> None:
        self._own = tuple(own)
        self._known: dict[tuple[str, str], Rates | None] = {}

    def __call__(self, vendor: str, model: str, at_ns: int, input_tokens: int) -> Rates | None:
        """The rates for a call; None if the vendor or the model has no known price. See `PriceList`."""
        return self.own(vendor, model) or public_rates(vendor, model.removeprefix("models/"), at_ns, input_tokens)

    def own(self, vendor: str, model: str) -> Rates | None:
        """What the user's tables say; None if they do not have the model."""
        key = (vendor, model)
        try:
            return self._known[key]
        except KeyError:
            found = self._known[key] = self._own_rates(vendor, model.removeprefix("models/"))
            return found

    @property
    def public_version(self) -> str:
        """Changes when the public prices may have."""
        return _public_version()

    def public_cost(self, vendor: str, model: str, data: LLMResponseData, at: datetime | None) -> float | None:
        """US dollars for an answered call by the public lists alone; None if they, or the answer, do not say.

        Args:
            at: when the call was made; None for now.
        """
        if data.request_tokens is None or data.response_tokens is None:
            return None
        at_ns = 0 if at is None else int(at.timestamp()) * 1_000_000_000
        rates = public_rates(vendor, model.removeprefix("models/"), at_ns, data.request_tokens)
        if rates is None:
            return None
        return rates.cost(
            data.request_tokens, data.response_tokens, data.cached_tokens or 0, data.cache_write_tokens or 0
        )

    def _own_rates(self, vendor: str, model: str) -> Rates | None:
        names = (f"{vendor}/{model}".lower(), model.lower())
        return next(
            (one.rates for one in self._own if any(fnmatchcase(name, one.pattern) for name in names)),
            None,
        )

    def cost(
        self,
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
        at_ns = 0 if at is None else int(at.timestamp()) * 1_000_000_000
        rates = self(vendor, model, at_ns, input_tokens)
        return None if rates is None else rates.cost(input_tokens, output_tokens, cached_tokens, cache_write_tokens)


PUBLIC: Final = Prices()


def call_cost(vendor: str, model: str, **usage: Any) -> float | None:
    """As `Prices.cost`, by the public lists alone."""
    return PUBLIC.cost(vendor, model, **usage)


# --- the user's own prices -------------------------------------------------------------------------------------------


def prices_option(function: F) -> F:
    """`--prices FILE`."""
    return click.option(
        "--prices",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="A file with your own prices (TOML or JSON).  [default: prices.toml in the store or ~/.config/unspool]",
    )(function)


def prices_for(store: Store | None, file: str | os.PathLike[str] | None = None) -> Prices:
    """The prices that hold for a store; what a nearer file says goes before a farther one.

    Raises:
        UsageError: a file cannot be read, or is no price file.
    """
    folders = [] if store is None else [store.path]
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    folders.append(Path(config) / "unspool")
    own: list[OwnPrice] = []
    if file is not None:
        own += read_prices(Path(file))
    for folder in folders:
        path = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
        if path is not None:
            own += read_prices(path)
    return Prices(own) if own else PUBLIC


def read_prices(path: Path) -> list[OwnPrice]:
    """The tables of a price file, in its order.

    Raises:
        UsageError: it cannot be read, or is no price file.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise UsageError(f"cannot read the prices in {path}: {exc.strerror or exc}") from exc
    try:
        if path.suffix.lower() == ".json":
            import msgspec

            document = msgspec.json.decode(data)
        else:
            import tomllib

            document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path} is no {'JSON' if path.suffix.lower() == '.json' else 'TOML'} file: {exc}") from exc
    if not isinstance(document, dict):
        raise UsageError(f'{path} holds no tables: write one for each model, such as ["my-model"] with input = 0.2')
    return [OwnPrice(str(name).lower(), _own_rates(path, str(name), table)) for name, table in document.items()]


def _own_rates(path: Path, name: str, table: Any) -> Rates:
    what = f"{path}: {name!r}"
    if not isinstance(table, dict):
        raise UsageError(f"{what} is no table with input = … and output = … (US dollars a million tokens)")
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise UsageError(f"{what} has {unknown[0]!r}. The keys are: {', '.join(_KEYS)}")
    for key in ("input", "output"):
        if key not in table:
            raise UsageError(f"{what} lacks {key!r}: US dollars a million tokens")
    prices: dict[str, float] = {}
    for key, value in table.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0:
            raise UsageError(f"{what}: {key} is {value!r}, not a number of US dollars")
        prices[key] = value / _MILLION
    return Rates(
        input=prices["input"],
        output=prices["output"],
        cached=prices.get("cached_input", prices["input"]),
        cache_write=prices.get("cache_write", prices["input"]),
    )


# --- public prices ---------------------------------------------------------------------------------------------------


def public_rates(vendor: str, model: str, at_ns: int, input_tokens: int) -> Rates | None:
    """The rates of genai-prices; None if it has no such vendor or model."""
    provider = _PROVIDERS.get(vendor, vendor)
    info = _model(provider, model) if provider is not None else None
    if info is None or provider is None:
        return None
    at = datetime.fromtimestamp(at_ns / 1e9, UTC) if at_ns else None
    # Most models have had one price for all time; those that changed theirs are asked about the instant.
    price = _standing(info) or info.get_prices(at or datetime.now(UTC))
    tier = sum(input_tokens > start for start in _tier_starts(price))
    return _rates(provider, model, price, tier, at)


def context_window(vendor: str, model: str) -> int | None:
    """Tokens that fit into the model's context, by the public lists; None if they do not say."""
    provider = _PROVIDERS.get(vendor, vendor)
    info = _model(provider, model.removeprefix("models/")) if provider is not None else None
    return info.context_window if info is not None else None


@functools.lru_cache(maxsize=512)
def _model(provider: str, model: str) -> ModelInfo | None:
    """A model by name: genai-prices looks through all of them, which is slow for each call again."""
    try:
        return _calculate(provider, model, None, input_tokens=1, output_tokens=1).model
    except (LookupError, ValueError):
        return None


def _standing(info: ModelInfo) -> ModelPrice | None:
    from genai_prices.types import ModelPrice

    return info.prices if isinstance(info.prices, ModelPrice) else None


_known_rates: dict[tuple[int, int], tuple[ModelPrice, Rates | None]] = {}


def _rates(provider: str, model: str, price: ModelPrice, tier: int, at: datetime | None) -> Rates | None:
    # By identity: comparing prices costs more than what is saved. The price is kept, so that its id stays its own.
    known = _known_rates.get((id(price), tier))
    if known is None:
        known = _known_rates[id(price), tier] = price, _probe(provider, model, price, tier, at)
    return known[1]


def _probe(provider: str, model: str, price: ModelPrice, tier: int, at: datetime | None) -> Rates | None:
    """The price of one token of each kind: prices are linear within a tier."""
    count = _tier_starts(price)[tier - 1] + 1 if tier else 1
    try:
        whole = _calculate(provider, model, at, input_tokens=count, output_tokens=count)
        cached = _calculate(provider, model, at, input_tokens=count, output_tokens=0, cache_read_tokens=count)
        written = _calculate(provider, model, at, input_tokens=count, output_tokens=0, cache_write_tokens=count)
    except (LookupError, ValueError):
        return None
    return Rates(
        input=float(whole.input_price / count),
        output=float(whole.output_price / count),
        cached=float(cached.input_price / count),
        cache_write=float(written.input_price / count),
        request=float(whole.total_price - whole.input_price - whole.output_price),
    )


_known_tiers: dict[int, tuple[ModelPrice, list[int]]] = {}


def _tier_starts(price: ModelPrice) -> list[int]:
    """Numbers of input tokens above which a model has another price."""
    known = _known_tiers.get(id(price))  # by identity, as above
    if known is None:
        starts = {tier.start for value in vars(price).values() for tier in getattr(value, "tiers", ())}
        known = _known_tiers[id(price)] = price, sorted(starts)
    return known[1]


@functools.cache
def _public_version() -> str:
    from importlib.metadata import version

    return version("genai-prices")


def _calculate(provider: str, model: str, at: datetime | None, **counts: int) -> PriceCalculation:
    from genai_prices import Usage, calc_price

    return calc_price(Usage(**counts), model, provider_id=provider, genai_request_timestamp=at)
