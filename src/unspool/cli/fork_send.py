"""`unspool fork --send`: one recorded request, changed, sent for real."""

from __future__ import annotations

import os

from msgspec import Struct

from unspool.cli.prices import Prices
from unspool.cli.terminal import note
from unspool.errors import UsageError
from unspool.events import LLMResponse
from unspool.providers import PROVIDERS, vendor
from unspool.replay.fork_format import Sample
from unspool.replay.forkplan import ForkPlan
from unspool.replay.livecall import live_request, send, with_credentials

__all__ = ["Sending", "send_samples"]


class Sending(Struct):
    """How to send.

    Attributes:
        prices: what the calls cost.
        samples: how many times.
        base_url: another server; None is the recorded one.
        key_env: the variable with the key; None is the provider's.
        timeout_s: of each call.
        max_calls, max_cost: limits of all together; None is none.
    """

    prices: Prices
    samples: int = 1
    base_url: str | None = None
    key_env: str | None = None
    timeout_s: float = 600.0
    max_calls: int | None = None
    max_cost: float | None = None


def send_samples(plan: ForkPlan, how: Sending) -> list[Sample]:
    """Send the request of a plan, with the credentials of the environment; what came back.

    Raises:
        UsageError: there is no key, or nothing to send.
        SendFailed: nothing, or not all, came back.
    """
    if plan.edits.response is not None:
        raise UsageError("the answer is given, so there is nothing to send. Run the program with it instead (--run)")
    request = with_credentials(
        live_request(plan, how.base_url), os.environ, key_env=how.key_env, is_chosen=how.base_url is not None
    )
    if request.dropped:
        note(f"unspool: headers that are not recorded, and not sent: {', '.join(request.dropped)}")
    samples: list[Sample] = []
    for number in range(how.samples):
        reason = _spent(samples, how)
        if reason is not None:
            note(f"unspool: stopped after {number} of {how.samples}: {reason}")
            break
        answer = send(request, timeout_s=how.timeout_s)
        samples.append(Sample(answer, _cost(how.prices, plan, answer.response)))
    return samples


def _spent(samples: list[Sample], how: Sending) -> str | None:
    """Why no more may be sent; None if more may."""
    if how.max_calls is not None and len(samples) >= how.max_calls:
        return f"--max-calls {how.max_calls}"
    if how.max_cost is None:
        return None
    if any(sample.cost is None for sample in samples):
        return "the price of the model is not known, so --max-cost cannot be kept"
    total = sum(sample.cost or 0 for sample in samples)
    return f"--max-cost {how.max_cost:g} is spent" if total >= how.max_cost else None


def _cost(prices: Prices, plan: ForkPlan, answer: LLMResponse) -> float | None:
    usage = answer.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    # The answer names the exact version; a gateway may answer with a name of its own.
    for model in dict.fromkeys((answer.model, plan.context.model)):
        if model:
            cost = prices.cost(
                vendor(PROVIDERS[plan.point.provider], plan.url),
                model,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens or 0,
                cache_write_tokens=usage.cache_write_tokens or 0,
            )
            if cost is not None:
                return cost
    return None
