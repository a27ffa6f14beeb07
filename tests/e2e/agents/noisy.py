"""Puts what it reads from the clock and from random sources into its prompts, from many places at once.

`forwards` or `backwards` is the order in which concurrent tasks and threads take turns.
"""

import asyncio
import datetime
import json
import multiprocessing
import os
import random
import secrets
import subprocess
import sys
import threading
import time
import uuid
from uuid import uuid4

import httpx
import numpy

URL = os.environ["MODEL_URL"] + "/v1/chat/completions"
ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
WORKERS, ROUNDS = 4, 3


class Moment(datetime.datetime):
    """A subclass of the program's own."""


def facts() -> list[object]:
    seen: list[object] = [time.time(), time.time_ns(), time.strftime("%H:%M:%S"), time.ctime(), *time.localtime()]
    seen += [datetime.datetime.now(), datetime.datetime.now(ZONE), datetime.date.today(), datetime.datetime.today()]
    moment = Moment.now(tz=datetime.UTC)
    seen += [moment.isoformat(), type(moment).__name__, moment.utcoffset()]
    seen += [uuid.uuid4(), uuid4(), uuid.uuid1(), secrets.token_hex(4), secrets.randbelow(10**6), os.urandom(3).hex()]
    seen += [random.random(), random.choice(range(10**9)), random.gauss(0, 1), random.sample(range(99), 3)]
    seen += [random.Random().random(), random.SystemRandom().random(), random.randbytes(3).hex()]
    seen += [numpy.random.default_rng().random(), numpy.random.RandomState().random_sample()]
    return seen


def request(name: str) -> dict[str, object]:
    text = f"{name}: " + " ".join(str(fact) for fact in facts())
    return {"model": "echo", "messages": [{"role": "user", "content": text}]}


def ask(name: str) -> str:
    with httpx.Client() as client:
        return client.post(URL, json=request(name)).json()["choices"][0]["message"]["content"]


async def ask_async(client: httpx.AsyncClient, name: str) -> str:
    answer = await client.post(URL, json=request(name))
    return answer.json()["choices"][0]["message"]["content"]


class Turns:
    """Says when it is whose turn: each worker once a round, in the given order."""

    def __init__(self, order: list[int]) -> None:
        self.plan = order * ROUNDS

    def is_of(self, number: int) -> bool:
        return self.plan[0] == number

    def done(self) -> None:
        self.plan.pop(0)


async def tasks(turns: Turns) -> list[str]:
    """Concurrent tasks, which draw and ask in the order of their turns."""
    condition = asyncio.Condition()
    async with httpx.AsyncClient() as client:

        async def work(number: int) -> str:
            said = []
            for round_number in range(ROUNDS):
                async with condition:
                    await condition.wait_for(lambda: turns.is_of(number))
                    said.append(await ask_async(client, f"task {number}.{round_number}"))
                    turns.done()
                    condition.notify_all()
            return "\n".join(said)

        return await asyncio.gather(*(work(number) for number in range(WORKERS)))


def threads(turns: Turns) -> list[str]:
    condition, said = threading.Condition(), {}

    def work(number: int) -> None:
        for round_number in range(ROUNDS):
            with condition:
                condition.wait_for(lambda: turns.is_of(number))
                said[number, round_number] = ask(f"thread {number}.{round_number}")
                turns.done()
                condition.notify_all()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [said[key] for key in sorted(said)]


def child(name: str) -> None:
    print(json.dumps(ask(name)), flush=True)


def main() -> None:
    order = list(range(WORKERS))
    if sys.argv[1] == "child":
        child("child")
        return
    if sys.argv[1] == "backwards":
        order.reverse()
    said = [ask("before"), f"{numpy.random.random()}"]
    said += asyncio.run(tasks(Turns(order)))
    said += threads(Turns(order))
    said.append(ask("after"))
    print(json.dumps(said), flush=True)
    subprocess.run([sys.executable, __file__, "child"], check=True)
    forked = multiprocessing.get_context("fork").Process(target=child, args=("forked",))
    forked.start()
    forked.join()


if __name__ == "__main__":
    main()
