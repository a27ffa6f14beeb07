"""The model of the demo agent, played: it reacts to what it is sent.

Every answer is computed from the request, as a model would: amounts from the order and the payment log, the rate
from what the tool said, the way of working from the system prompt. So a changed prompt or tool result changes the end.

The bug that is planted: the support desk's prompt forbids to ask for a second exchange rate, the rate service fails
once and then answers from a cache of 2018, and the refund comes out as 411.25 USD instead of 355.32. Either repair is
enough: take the sentence about the first rate out of the prompt, or put a recent rate into the tool result.

One answer is sampled, as models are at a temperature above 0: asked once more for what it makes of the old rate, the
model may see how old it is, prompt or no prompt. That is what `unspool bisect` finds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from unspool.demo.script import ModelRequest, Refusal, Reply, ToolCall, ToolResult

__all__ = ["PAGES", "play"]

PAGES: Mapping[str, str] = {
    "refund-policy": (
        "Refund policy. 1. A charge that was made twice is paid back in full. 2. An item that arrived broken is paid "
        "back at its price. 3. Refunds go out in the currency of the payment, at the rate of the day of purchase.\n"
    ),
    "carrier-report": (
        "Report on PK-5530-9. Piece 1, laptop stand: whole. Piece 2, desk lamp: damaged in transit, glass broken. "
        "Piece 3, keyboard: whole.\n"
    ),
}

_STALE_AFTER_DAYS = 30


def play(request: ModelRequest) -> Reply:
    """The answer of whichever model of the demo is asked; told apart by the tools it is offered."""
    offered = {tool.name for tool in request.tools}
    if "lookup_order" in offered:
        return _support_desk(request)
    if "track_parcel" in offered:
        return _investigator(request)
    if "ANSWER:" in request.last_user_text:
        return _letter(request)
    return Reply(text="refund" if re.search(r"charged|refund|money", request.last_user_text) else "question")


def _support_desk(request: ModelRequest) -> Reply:
    """The next step that the results so far leave open."""
    seen = _results_by_tool(request)
    for is_open, step in _STEPS:
        if is_open not in seen:
            reply = step(request, seen)
            break
    else:
        reply = _rate_and_conclusion(request, seen)
    if "ask_investigator" in seen and "read_page" not in seen and request.retry == 0:
        # One rate limit on the way, told by the SDK's own counter: a count kept here would differ from run to run.
        return replace(reply, fault=Refusal(429, retry_after_ms=40))
    return reply


_Seen = Mapping[str, list[tuple[ToolCall, ToolResult]]]


def _read_ticket(request: ModelRequest, seen: _Seen) -> Reply:
    return _call("I start with the ticket.", "get_ticket", ticket_id=_word(r"T-\d+", request.last_user_text, "T-881"))


def _look_up_order(request: ModelRequest, seen: _Seen) -> Reply:
    ticket = _text(seen, "get_ticket")
    return _call("Now the order it is about.", "lookup_order", order_id=_word(r"A-\d+", ticket, "unknown"))


def _read_payments(request: ModelRequest, seen: _Seen) -> Reply:
    customer = _word(r"C-\d+", _text(seen, "lookup_order") + _text(seen, "get_ticket"), "unknown")
    return Reply(
        text="The customer speaks of two charges, so I need the payments.",
        tool_calls=(
            ToolCall("payment_log", {"customer": customer}),
            ToolCall("customer_profile", {"customer": customer}),
        ),
    )


def _ask_investigator(request: ModelRequest, seen: _Seen) -> Reply:
    tracking = _word(r"PK-[\d-]+", _text(seen, "lookup_order"), "unknown")
    charge = _duplicate(seen)
    found = f"{charge[0]} is a duplicate. " if charge else "There is no duplicate charge. "
    question = f"Which items of parcel {tracking} arrived broken?"
    return _call(found + "The delivery is for the investigator.", "ask_investigator", question=question)


def _read_policy(request: ModelRequest, seen: _Seen) -> Reply:
    return _call("What does the policy say?", "read_page", name="refund-policy")


_STEPS: tuple[tuple[str, Callable[[ModelRequest, _Seen], Reply]], ...] = (
    ("get_ticket", _read_ticket),
    ("lookup_order", _look_up_order),
    ("payment_log", _read_payments),
    ("ask_investigator", _ask_investigator),
    ("read_page", _read_policy),
)
"""What is done first, in this order, each until its tool has answered."""


def _rate_and_conclusion(request: ModelRequest, seen: _Seen) -> Reply:
    order = _text(seen, "lookup_order")
    currency = _word(r'(?<="paid_in": ")[A-Z]{3}', order, "EUR")
    amounts = _amounts_owed(seen)
    if not amounts:
        return Reply(text=f"Neither a duplicate charge nor broken items.\nANSWER: refund 0.00 {currency}")
    if "calculate" in seen:
        return _conclusion(seen, amounts, currency)
    rate = "1"
    if currency != "EUR":
        tries = seen.get("exchange_rate", [])
        answered = [result for _, result in tries if _rate_in(result.text)]
        if not answered:
            if len(tries) >= 3:
                return Reply(text="The exchange rate is not to be had today.\nANSWER: none")
            said = "The rate service did not answer; once more." if tries else "The refund is due in USD."
            return _call(said.replace("USD", currency), "exchange_rate", base="EUR", quote=currency)
        purchased = _word(r'(?<="purchased": ")[\d-]+', order, "")
        latest = answered[-1].text
        cares = not _must_take_first(request.system) or request.sample % 5 in (1, 2, 4)
        if _is_stale(latest, purchased) and cares and len(answered) < 2:
            said = f"That rate is of {_as_of(latest)}, the purchase of {purchased}; I ask for the rate of that day."
            return _call(said, "exchange_rate", base="EUR", quote=currency, date=purchased)
        rate = _rate_in(latest)
    expression = f"({' + '.join(amount for _, amount in amounts)}) * {rate}"
    return _call("That is all I need.", "calculate", expression=expression)


def _conclusion(seen: _Seen, amounts: list[tuple[str, str]], currency: str) -> Reply:
    total = _word(r"^-?\d+\.\d\d$", _text(seen, "calculate"), "")
    if not total:
        return Reply(text="I could not compute the amount.\nANSWER: none")
    reasons = "; ".join(f"{reason}: {amount} EUR" for reason, amount in amounts)
    return Reply(text=f"Owed to the customer: {reasons}.\nANSWER: refund {total} {currency}", chunks=12)


def _investigator(request: ModelRequest) -> Reply:
    seen = _results_by_tool(request)
    if "track_parcel" not in seen:
        return _call("", "track_parcel", tracking=_word(r"PK-[\d-]+", request.last_user_text, "unknown"))
    if "read_page" not in seen:
        page = _word(r'(?<="report": ")[\w-]+', _text(seen, "track_parcel"), "carrier-report")
        return _call("", "read_page", name=page)
    report = _text(seen, "read_page")
    broken = re.findall(r"Piece \d+, ([\w ]+): damaged", report)
    if not broken:
        return Reply(text="All items arrived whole, says the carrier.")
    return Reply(text=f"Broken: {', '.join(broken)}. The carrier says “damaged in transit”.")


def _letter(request: ModelRequest) -> Reply:
    amount = _word(r"(?<=ANSWER: refund )\S+ \S+", request.last_user_text, "what is owed")
    return Reply(text=f"Dear customer, you were right. We send you {amount} back. We are sorry for the trouble.")


def _amounts_owed(seen: _Seen) -> list[tuple[str, str]]:
    """Reason and EUR amount of each part of the refund."""
    owed = []
    charge = _duplicate(seen)
    if charge:
        owed.append((f"charge {charge[0]} was a duplicate", charge[1]))
    broken = _word(r"(?<=Broken: )[^.]+", _text(seen, "ask_investigator"), "")
    items = _items(_text(seen, "lookup_order"))
    owed += [(f"the {item['name']} arrived broken", str(item["eur"])) for item in items if item["name"] in broken]
    return owed


def _items(order: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(order)["items"]
    except (ValueError, KeyError, TypeError):
        return []
    return [item for item in found if isinstance(item, dict) and {"name", "eur"} <= item.keys()]


def _duplicate(seen: _Seen) -> tuple[str, str] | None:
    """Id and EUR amount of the charge that the log calls a duplicate."""
    for line in _text(seen, "payment_log").splitlines():
        found = re.search(r"id=(\w+) .*eur=([\d.]+) .*duplicate_of=", line)
        if found:
            return found[1], found[2]
    return None


def _must_take_first(system: str) -> bool:
    """Whether the prompt still forbids a second look at the exchange rate, and says nothing about old ones."""
    forbids = re.search(r"\bfirst (exchange )?rate\b|never ask for a second", system, re.IGNORECASE)
    cares = re.search(r"\bstale\b|outdated|older than|too old|as_of|day of (the )?purchase", system, re.IGNORECASE)
    return bool(forbids) and not cares


def _is_stale(rate: str, purchased: str) -> bool:
    try:
        age = abs(date.fromisoformat(purchased) - date.fromisoformat(_as_of(rate)))
    except ValueError:
        return False  # a rate that does not say of when it is, is taken
    return age.days > _STALE_AFTER_DAYS


def _as_of(rate: str) -> str:
    return _word(r'(?<="as_of": ")[\d-]+', rate, "")


def _rate_in(result: str) -> str:
    return _word(r'(?<="rate": )"?\d+(\.\d+)?', result, "").lstrip('"')


def _results_by_tool(request: ModelRequest) -> _Seen:
    seen: dict[str, list[tuple[ToolCall, ToolResult]]] = {}
    for call, result in request.results:
        seen.setdefault(call.name, []).append((call, result))
    return seen


def _text(seen: _Seen, name: str) -> str:
    """The latest result of a tool; empty when there is none."""
    return seen[name][-1][1].text if name in seen else ""


def _word(pattern: str, text: str, default: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[0] if found else default


def _call(said: str, name: str, /, **arguments: str) -> Reply:
    return Reply(text=said, tool_calls=(ToolCall(name, arguments),))
