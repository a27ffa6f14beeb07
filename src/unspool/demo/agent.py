"""A support agent that settles a refund ticket: a plain program on the OpenAI SDK, as anyone would write it.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=x python -m unspool.demo.agent [--check]

It triages the ticket, lets the model investigate with tools, hands the delivery question to a second agent, and writes
to the customer. The last line is `ANSWER: …`. It comes out wrong: finding out why is what the demo is for. `--check`
makes the exit code say so.

unspool is optional here. With it, tools are recorded by name and the second agent gets a PID of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import OpenAI

    from unspool import spawn, tool
else:
    try:
        from unspool import spawn, tool
    except ImportError:

        def tool(function):
            return function

        @contextlib.contextmanager
        def spawn(intent):
            yield


RIGHT_ANSWER = "refund 355.32 USD"

TRIAGE_PROMPT = "Sort the ticket into one of: refund, delivery, question. Answer with the one word."

SUPPORT_PROMPT = """\
You are the support desk of an office shop. Settle the ticket: find out what was paid, what is owed back, and why.
Read the refund policy before you decide. Prices are in EUR; refunds go out in the currency the customer paid with.
Be quick: take the first exchange rate you get and never ask for a second one.
Close with one line "ANSWER: refund <amount> <currency>"."""

INVESTIGATOR_PROMPT = """\
You are a delivery investigator. Say for each item whether it arrived whole, and quote the carrier."""

LETTER_PROMPT = "Write a friendly letter of three sentences to the customer with the outcome below."

TICKET = {
    "id": "T-881",
    "customer": "C-77",
    "order": "A-1042",
    "text": "My card was charged twice for order A-1042, and the desk lamp came in pieces. Please help. Ada L.",
}
ORDER = {
    "id": "A-1042",
    "customer": "C-77",
    "purchased": "2026-03-14",
    "tracking": "PK-5530-9",
    "total_eur": "249.00",
    "paid_in": "USD",
    "items": [
        {"name": "laptop stand", "eur": "49.00"},
        {"name": "desk lamp", "eur": "80.00"},
        {"name": "keyboard", "eur": "120.00"},
    ],
}


@tool
def get_ticket(ticket_id: str) -> str:
    """Read a support ticket."""
    if ticket_id != TICKET["id"]:
        raise KeyError(f"no ticket {ticket_id}")
    return json.dumps(TICKET)


@tool
def lookup_order(order_id: str) -> str:
    """Look up an order: items, prices, payment currency, tracking number."""
    if order_id != ORDER["id"]:
        raise KeyError(f"no order {order_id}")
    return json.dumps(ORDER)


@tool
def payment_log(customer: str) -> str:
    """Everything the payment provider logged for a customer."""
    # About 40 KB, of which one line matters, and all of it stays in the context to the end.
    lines = [
        f"2026-03-{1 + n % 28:02} {n % 24:02}:{n * 7 % 60:02}:{n * 13 % 60:02} INFO  psp.heartbeat node=eu-{n % 5} "
        f"queue={n * 31 % 97:02} latency_ms={20 + n * 17 % 80} ok"
        for n in range(520)
    ]
    lines[77] = f"2026-03-14 10:02:11 INFO  psp.charge id=ch_7Yt2 customer={customer} order=A-1042 eur=249.00 captured"
    lines[351] = (
        f"2026-03-14 10:02:12 WARN  psp.charge id=ch_9Qx4 customer={customer} order=A-1042 eur=249.00 captured "
        "duplicate_of=ch_7Yt2"
    )
    return "\n".join(lines)


@tool
def customer_profile(customer: str) -> str:
    """Who the customer is: since when, preferences, notes."""
    return json.dumps({"id": customer, "name": "Ada Lindqvist", "since": "2019", "newsletter": True, "tier": "silver"})


@tool
def read_page(name: str) -> str:
    """Read a page of the company's handbook."""
    with urllib.request.urlopen(f"{_site()}/page/{name}", timeout=10) as response:
        text: str = response.read().decode()
    return text


_rate_requests = 0


@tool
def exchange_rate(base: str, quote: str, date: str = "") -> str:
    """The exchange rate of a pair, today's or that of a date (YYYY-MM-DD)."""
    global _rate_requests
    if date:
        return json.dumps({"pair": f"{base}/{quote}", "rate": 1.08, "as_of": date, "source": "archive"})
    _rate_requests += 1
    if _rate_requests == 1:
        raise TimeoutError("rates.example: no answer within 2 s")
    # The service is still down, so its cache answers, with a rate from years ago.
    return json.dumps({"pair": f"{base}/{quote}", "rate": 1.25, "as_of": "2018-02-01", "source": "cache"})


@tool
def calculate(expression: str) -> str:
    """Evaluate an arithmetic expression, to two decimals."""
    if not re.fullmatch(r"[0-9.+*/() -]+", expression):
        raise ValueError(f"not arithmetic: {expression}")
    program = f"print(format({expression}, '.2f'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@tool
def track_parcel(tracking: str) -> str:
    """Ask the carrier where a parcel is. Slow."""
    time.sleep(0.8)
    return json.dumps({"tracking": tracking, "status": "delivered", "report": "carrier-report", "pieces": 3})


def describe(function: Callable[..., str], **parameters: str) -> dict[str, Any]:
    """A tool definition for the API, made from a function and a line about each parameter."""
    properties = {name: {"type": "string", "description": text} for name, text in parameters.items()}
    required = [name for name, text in parameters.items() if not text.startswith("optional")]
    schema = {"type": "object", "properties": properties, "required": required}
    description = (function.__doc__ or "").strip()
    return {
        "type": "function",
        "function": {"name": function.__name__, "description": description, "parameters": schema},
    }


class Agent:
    """A model, a system prompt and tools, run until the model stops asking for tools."""

    def __init__(self, client: OpenAI, model: str, prompt: str, tools: dict[str, Any], stream: bool) -> None:
        self.client, self.model, self.stream = client, model, stream
        self.functions = {definition["function"]["name"]: function for function, definition in tools.values()}
        self.definitions = [definition for _, definition in tools.values()]
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": prompt}]

    def run(self, task: str) -> str:
        self.messages.append({"role": "user", "content": task})
        for _ in range(20):
            message = self.ask_streaming() if self.stream else self.ask()
            self.messages.append(message)
            if not message.get("tool_calls"):
                return str(message["content"])
            for call in message["tool_calls"]:
                result = self.call_tool(call["function"]["name"], call["function"]["arguments"])
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        raise RuntimeError("no answer after 20 turns")

    def ask(self) -> dict[str, Any]:
        request: Any = {"model": self.model, "messages": self.messages, "tools": self.definitions}
        message = self.client.chat.completions.create(**request).choices[0].message
        said: dict[str, Any] = message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
        return said

    def ask_streaming(self) -> dict[str, Any]:
        text = ""
        calls: dict[int, dict[str, Any]] = {}
        request: Any = {"model": self.model, "messages": self.messages, "tools": self.definitions}
        chunks = self.client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
        for chunk in chunks:
            if not chunk.choices:
                continue
            delta = chunk.choices[0].delta
            if delta.content:
                text += delta.content
                print(delta.content, end="", flush=True)
            for part in delta.tool_calls or ():
                call = calls.setdefault(
                    part.index, {"id": part.id, "type": "function", "function": {"name": "", "arguments": ""}}
                )
                call["function"]["name"] += part.function.name or ""
                call["function"]["arguments"] += part.function.arguments or ""
        if text:
            print()
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        return message | ({"tool_calls": list(calls.values())} if calls else {})

    def call_tool(self, name: str, arguments: str) -> str:
        try:
            result = self.functions[name](**json.loads(arguments))
        except Exception as exc:  # noqa: BLE001 - the model is told what went wrong and decides what to do
            print(f"  {name} {arguments} failed: {exc}")
            return f"error: {type(exc).__name__}: {exc}"
        print(f"  {name} {arguments} -> {len(result)} characters")
        return str(result)


def settle(client: OpenAI, ticket_id: str, model: str, prompt: str) -> str:
    """Work on one ticket; the last line of the support desk's conclusion is the answer."""
    small = f"{model}-mini"

    def complete(system: str, text: str) -> str:
        messages: Any = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        answer = client.chat.completions.create(model=small, messages=messages)
        return answer.choices[0].message.content or ""

    @tool
    def ask_investigator(question: str) -> str:
        """Hand a question about a delivery to the delivery investigator."""
        tools = {
            "track": (track_parcel, describe(track_parcel, tracking="tracking number")),
            "page": (read_page, describe(read_page, name="name of the page")),
        }
        with spawn("delivery investigator"):
            return Agent(client, small, INVESTIGATOR_PROMPT, tools, stream=False).run(question)

    print(f"ticket {ticket_id}: {complete(TRIAGE_PROMPT, TICKET['text'])}")
    tools = {
        "ticket": (get_ticket, describe(get_ticket, ticket_id="id of the ticket")),
        "order": (lookup_order, describe(lookup_order, order_id="id of the order")),
        "log": (payment_log, describe(payment_log, customer="id of the customer")),
        "profile": (customer_profile, describe(customer_profile, customer="id of the customer")),
        "ask": (ask_investigator, describe(ask_investigator, question="the question, with the tracking number")),
        "page": (read_page, describe(read_page, name="name of the page, e.g. refund-policy")),
        "rate": (
            exchange_rate,
            describe(exchange_rate, base="e.g. EUR", quote="e.g. USD", date="optional: YYYY-MM-DD, default today"),
        ),
        "calculate": (calculate, describe(calculate, expression="e.g. (1.50 + 2) * 3")),
    }
    conclusion = Agent(client, model, prompt, tools, stream=True).run(f"Settle ticket {ticket_id}.")
    print(complete(LETTER_PROMPT, conclusion))
    found = re.search(r"^ANSWER: (.+)$", conclusion, re.MULTILINE)
    return found[1] if found else "none"


def _site() -> str:
    """The handbook is on the same server as the model."""
    base = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    return base.removesuffix("/").removesuffix("/v1")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="agent.py", description="Settle a support ticket.")
    parser.add_argument("--ticket", default=TICKET["id"], help="id of the ticket (default: %(default)s)")
    parser.add_argument(
        "--model", default="gpt-5", help="the model; NAME-mini does the small jobs (default: %(default)s)"
    )
    parser.add_argument("--system-file", type=Path, help="read the support desk's system prompt from this file")
    parser.add_argument("--check", action="store_true", help="exit with code 1 when the answer is wrong")
    options = parser.parse_args(arguments)
    try:
        from openai import OpenAI
    except ImportError:
        print("the demo agent needs the OpenAI SDK: pip install 'unspool[demo]'", file=sys.stderr)
        return 1
    prompt = options.system_file.read_text() if options.system_file else SUPPORT_PROMPT
    with OpenAI() as client:
        answer = settle(client, options.ticket, options.model, prompt)
    print(f"ANSWER: {answer}")
    if options.check and answer != RIGHT_ANSWER:
        print(f"check: wrong, the right answer is {RIGHT_ANSWER!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
