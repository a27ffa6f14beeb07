"""Prices: the public ones exactly, the user's own before them, unknown is never 0."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from unspool.cli.prices import Prices, call_cost, prices_for, read_prices
from unspool.errors import UsageError
from unspool.store import Store

OWN = """
["my-own-7b"]
input = 0.20
output = 0.80
cached_input = 0.02

["ollama/*"]
input = 0
output = 0
cache_write = 1
"""


def expected(vendor: str, model: str, **usage) -> float:
    """What genai-prices itself says."""
    from genai_prices import Usage, calc_price

    at = usage.pop("at", None)
    return float(calc_price(Usage(**usage), model, provider_id=vendor, genai_request_timestamp=at).total_price)


@pytest.mark.parametrize("tokens", [10, 150_000, 250_000, 1_000_000])
@pytest.mark.parametrize(
    ("vendor", "model"),
    [
        ("openai", "gpt-5"),
        ("anthropic", "claude-sonnet-4-5"),  # dearer above 200,000 tokens
        ("google", "gemini-2.5-pro"),
        ("deepseek", "deepseek-chat"),  # its price changed
        ("perplexity", "sonar-pro"),  # a fee for each request
    ],
)
def test_public_prices_are_those_of_the_list(vendor, model, tokens):
    cached, written = tokens // 3, tokens // 5
    for at in (datetime(2024, 6, 1, tzinfo=UTC), datetime(2026, 6, 1, 17, tzinfo=UTC)):
        read = {"input_tokens": tokens, "output_tokens": 700, "at": at}
        wanted = expected(vendor, model, cache_read_tokens=cached, cache_write_tokens=written, **read)
        found = call_cost(vendor, model, cached_tokens=cached, cache_write_tokens=written, **read)
        assert found == pytest.approx(wanted, rel=1e-9)


def test_own_prices_come_first(tmp_path, monkeypatch):
    store = Store(tmp_path / "store").ensure()
    home = tmp_path / "config" / "unspool"
    home.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (home / "prices.toml").write_text(OWN)
    prices = prices_for(store)
    cost = prices.cost("any", "My-Own-7B", input_tokens=1_000_000, output_tokens=100_000, cached_tokens=500_000)
    assert cost == pytest.approx(0.5 * 0.20 + 0.5 * 0.02 + 0.1 * 0.80)
    assert prices.cost("ollama", "llama3", input_tokens=5, output_tokens=5) == 0
    assert prices.cost("any", "other", input_tokens=5, output_tokens=5) is None
    assert prices.cost("openai", "gpt-5", input_tokens=5, output_tokens=5) == pytest.approx(5 * 11.25e-6)
    # What the store says goes before what the user's folder says, and a file that is named before both.
    (store.path / "prices.json").write_text('{"my-own-7b": {"input": 1, "output": 1}}')
    assert prices_for(store).cost("any", "my-own-7b", input_tokens=1_000_000, output_tokens=0) == 1
    named = tmp_path / "named.json"
    named.write_text('{"acme/my-own*": {"input": 2, "output": 1}}')
    both = prices_for(store, named)
    assert both.cost("acme", "my-own-7b", input_tokens=1_000_000, output_tokens=0) == 2
    assert both.cost("any", "my-own-7b", input_tokens=1_000_000, output_tokens=0) == 1


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("p.toml", "[broken", "TOML"),
        ("p.json", "{", "JSON"),
        ("p.json", "[]", "holds no tables"),
        ("p.json", '{"m": 3}', "no table"),
        ("p.json", '{"m": {"input": 1}}', "lacks 'output'"),
        ("p.json", '{"m": {"input": 1, "output": "x"}}', "not a number"),
        ("p.json", '{"m": {"input": 1, "output": true}}', "not a number"),
        ("p.json", '{"m": {"input": -1, "output": 1}}', "not a number"),
        ("p.json", '{"m": {"input": 1, "output": 1, "outptu": 1}}', "The keys are"),
    ],
)
def test_a_file_that_is_no_price_file_says_why(tmp_path, name, text, reason):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=reason) as caught:
        read_prices(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        prices_for(None, tmp_path / "none.toml")


def test_ls_and_blame_know_the_own_prices(store, make, as_json):
    from cli_events import model_call

    make(*model_call(1, vendor="acme", model="my-own-7b"))
    assert as_json("ls")[0]["cost_usd"] is None
    assert as_json("blame", "last")["summary"]["total_cost_usd"] is None
    (store.path / "prices.toml").write_text(OWN)
    wanted = pytest.approx(1000 * 0.20e-6 + 100 * 0.80e-6)
    assert as_json("ls")[0]["cost_usd"] == wanted
    assert as_json("blame", "last")["summary"]["total_cost_usd"] == wanted
    assert as_json("show", "last")["totals"]["cost_usd"] == wanted


def test_a_price_list_without_own_prices_is_the_public_one():
    assert Prices().cost("nobody", "gpt-5", input_tokens=1, output_tokens=1) is None
