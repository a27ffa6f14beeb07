"""Model calls from many places at once; every caller checks that the answer is its own."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import anyio
from openai import AsyncOpenAI, OpenAI
from scenarios import URL, main, scenario


def make():
    return OpenAI(base_url=f"{URL}/v1", max_retries=0)


def check(name, answer):
    text = answer.choices[0].message.content
    if not text.startswith(f"echo: {name} ["):
        raise AssertionError(f"{name} got {text}")
    return 1


def ask(client, name, model="echo"):
    messages = [{"role": "user", "content": name}]
    return check(name, client.chat.completions.create(model=model, messages=messages))


async def ask_async(client, name, model="echo"):
    messages = [{"role": "user", "content": name}]
    return check(name, await client.chat.completions.create(model=model, messages=messages))


def in_child(name):
    with make() as client:
        return ask(client, name)


@scenario
async def gather():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0) as client:
        asked = [ask_async(client, f"gather {n}", f"echo+latency{n % 7}") for n in range(200)]
        return sum(await asyncio.gather(*asked))


@scenario
def threads():
    done = []
    with make() as client:
        workers = [
            threading.Thread(target=lambda n=n: done.append(ask(client, f"thread {n}", f"echo+latency{n % 5}")))
            for n in range(64)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return sum(done)


@scenario
def pool():
    with make() as client, ThreadPoolExecutor(8) as executor:
        return sum(executor.map(lambda n: ask(client, f"pool {n}"), range(24)))


@scenario
async def asyncio_threads():
    loop = asyncio.get_running_loop()
    with make() as client:
        jobs = [asyncio.to_thread(ask, client, f"to_thread {n}") for n in range(8)]
        jobs += [loop.run_in_executor(None, ask, client, f"run_in_executor {n}") for n in range(8)]
        return sum(await asyncio.gather(*jobs))


@scenario
async def groups():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask_async(client, f"taskgroup {n}")) for n in range(8)]
        async with anyio.create_task_group() as nursery:
            for n in range(8):
                nursery.start_soon(ask_async, client, f"anyio {n}")
        return sum(task.result() for task in tasks)


def with_pool(method):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as executor:
        return sum(executor.map(in_child, [f"{method}_pool {n}" for n in range(6)]))


def with_process(method):
    context = multiprocessing.get_context(method)
    children = [context.Process(target=in_child, args=(f"{method}_process {n}",)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


@scenario
def fork_pool():
    return with_pool("fork")


@scenario
def spawn_pool():
    return with_pool("spawn")


@scenario
def fork_process():
    return with_process("fork")


@scenario
def spawn_process():
    return with_process("spawn")


@scenario
def forked():
    in_child("before fork")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = in_child("forked") - 1
        finally:
            os._exit(code)
    in_child("beside fork")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@scenario
def nested():
    depth = int(os.environ.get("DEPTH", "0"))
    in_child(f"nested {depth}")
    if depth < 3:
        env = {**os.environ, "DEPTH": str(depth + 1)}
        return subprocess.run([sys.executable, __file__, "nested"], env=env, check=True).returncode
    return 0


if __name__ == "__main__":
    main()
