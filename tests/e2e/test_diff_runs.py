"""`unspool diff` and `unspool log` on runs of real agents."""

from __future__ import annotations

import json
import sys

from capture_harness import environment, run

from unspool.demo.server import ModelServer

AGENT = """
import asyncio, os, sys
import openai
import unspool

@unspool.tool
def search(query):
    return f"{os.environ['FOUND']} for {query}"

async def research(client, topic):
    messages = [{"role": "system", "content": os.environ["SYSTEM"]}, {"role": "user", "content": f"say {topic} a"}]
    for turn in "bcd":
        answer = await client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        messages.append({"role": "user", "content": f"say {search(topic) if turn == 'c' else topic} {turn}"})

async def main():
    async with openai.AsyncOpenAI(base_url=os.environ["MODEL_URL"] + "/v1", max_retries=0) as client:
        await asyncio.gather(*(research(client, topic) for topic in sys.argv[1:]))

asyncio.run(main())
"""


def record(folder, store, url: str, *topics: str, system: str = "be brief", found: str = "nothing") -> None:
    script = folder / "agent.py"
    script.write_text(AGENT)
    env = environment(None, MODEL_URL=url, SYSTEM=system, FOUND=found)
    done = run(
        [*(sys.executable, "-m", "unspool", "run", "--quiet", "--store", store), "--", sys.executable, script, *topics],
        env,
    )
    assert done.code == 0, done.stderr.decode()


def unspool(store, *args: str) -> str:
    done = run([sys.executable, "-m", "unspool", *args, "--store", store], environment(None))
    assert done.code == 0, done.stderr.decode()
    return done.stdout.decode()


def test_two_runs_of_an_agent_with_concurrent_conversations(tmp_path):
    store = tmp_path / "store"
    with ModelServer() as server:
        record(tmp_path, store, server.url, "red", "green", "blue")
        record(tmp_path, store, server.url, "blue", "green", "red")
        record(tmp_path, store, server.url, "red", "green", "blue", found="much")
        record(tmp_path, store, server.url, "red", "green", "blue", system="be long")
    same = json.loads(unspool(store, "diff", "1", "2", "--json"))
    assert same["same"], same["parting"]
    assert len(same["pairs"]) == 12
    other = json.loads(unspool(store, "diff", "1", "3", "--json"))
    assert not other["same"]
    parting = other["parting"]
    assert parting["differs"] == ["response"]
    assert other["first"]["steps"][parting["first"]]["name"] == "/dev/tool/search"
    text = unspool(store, "diff", "1", "3")
    assert "the result differs" in text
    assert "+ → much for" in text
    settings = unspool(store, "diff", "1", "4")
    assert "the settings and the answer differ" in settings
    assert "[-brief-]{+long+}" in settings


def test_a_fork_of_a_run(tmp_path):
    store = tmp_path / "store"
    with ModelServer() as server:
        record(tmp_path, store, server.url, "red")
        env = environment(None, MODEL_URL=server.url, SYSTEM="be brief", FOUND="nothing")
        command = [sys.executable, "-m", "unspool", "fork", "1@call:2", "--set-system", "be long", "--run", "--yes"]
        done = run([*command, "--store", store], env)
        assert done.code == 0, done.stderr.decode()
    text = unspool(store, "diff", "1", "2")
    assert "the second is a fork of the first at event" in text
    assert "Call 1 the same (1 model call)" in text
    assert "They part at call 2 (openai/gpt-4.1-mini): the settings and the answer differ" in text
    assert "be [-brief-]{+long+}" in text
    lines = unspool(store, "log").splitlines()
    assert lines[0].startswith("* 2-")
    assert "3 calls (1 served)" in lines[0]
    assert "at call 2 (event" in lines[1]
    assert "|   system prompt: be long" in lines
    assert lines[-1].startswith("* 1-")


def test_the_log_of_real_runs(tmp_path):
    store = tmp_path / "store"
    with ModelServer() as server:
        record(tmp_path, store, server.url, "red")
        record(tmp_path, store, server.url, "blue")
    lines = unspool(store, "log").splitlines()
    assert [line.split()[:2][1].partition("-")[0] for line in lines] == ["2", "1"]
    assert all("gpt-4.1-mini, 3 calls" in line for line in lines)
