"""Everything it asks, gets, names and raises is meant to harm whoever looks at its recording.

    python hostile_agent.py URL TEXTS.json WORDS…

TEXTS.json holds `nasty` (a text), `line` (the same on one line), `plain` (without what argv and headers cannot hold),
`huge` (characters of the largest messages) and `pictures` (addresses).
"""

import asyncio
import json
import subprocess
import sys

import urllib3

import unspool

URL, TEXTS = sys.argv[1:3]
with open(TEXTS) as file:
    GIVEN = json.load(file)
NASTY, LINE, PLAIN = GIVEN["nasty"], GIVEN["line"], GIVEN["plain"]
HUGE = LINE + "x" * GIVEN["huge"] + LINE

Harm = type(LINE.replace("\0", ""), (Exception,), {"__module__": "harm<b>\x1b[35;45;7m"})


@unspool.tool(name=LINE.replace("/", "|"))
def look_up(**given):
    if "fail" in given:
        raise Harm(NASTY, {NASTY: NASTY})
    return {NASTY: [NASTY, {"huge": HUGE}], "bytes": NASTY.encode("utf-8", "surrogatepass")}


def ask(client, messages, model=LINE, **more):
    tools = [
        {
            "type": "function",
            "function": {
                "name": LINE,
                "description": NASTY,
                "parameters": {"type": "object", "properties": {NASTY: {"type": NASTY, "enum": [NASTY]}}},
            },
        }
    ]
    body = {"model": model, "messages": messages, "tools": tools, "metadata": {NASTY: NASTY}, "user": NASTY, **more}
    headers = {"content-type": "application/json", "x-nasty": PLAIN.encode().decode("latin-1"), "x-<b>": PLAIN[:40]}
    answer = client.request(
        "POST", f"{URL}/v1/chat/completions?q={LINE}#{LINE}", body=json.dumps(body), headers=headers, retries=False
    )
    return answer.data


async def gathered(client, messages):
    async def one(number):
        return await asyncio.to_thread(ask, client, [*messages, {"role": "user", "content": f"{NASTY} {number}"}])

    await asyncio.gather(*(asyncio.create_task(one(n), name=f"{LINE} {n}") for n in range(2)))


def picture(address):
    return {"type": "image_url", "image_url": {"url": address, "detail": NASTY}}


def main():
    sys.stdout.buffer.write(NASTY.encode("utf-8", "surrogatepass"))
    sys.stdout.flush()
    client = urllib3.PoolManager()
    messages = [
        {"role": "system", "content": NASTY},
        {"role": LINE, "content": NASTY, "name": NASTY},
        {"role": "user", "content": [{"type": "text", "text": NASTY}, *map(picture, GIVEN["pictures"])]},
        {
            "role": "user",
            "content": f"```{LINE}\n{NASTY}\n```\n# {NASTY}\n[a](javascript:alert(1)) ![b](https://x.invalid/y)",
        },
        {"role": "user", "content": HUGE},
    ]
    data = ask(client, messages)
    answer = json.loads(data)["choices"][0]["message"]
    messages.append(answer)
    for call in answer["tool_calls"]:
        result = look_up(**{"query": NASTY, NASTY: NASTY})
        text = json.dumps(result, default=repr)
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    try:
        look_up(fail=NASTY)
    except Harm as exc:
        messages.append({"role": "tool", "tool_call_id": NASTY, "content": str(exc)})
    with unspool.spawn(NASTY), unspool.span(LINE, **{LINE: NASTY, "list": [NASTY, {NASTY: NASTY}]}):
        ask(client, messages, stream=True)
        ask(client, messages, fail=500)
    asyncio.run(gathered(client, messages[:2]))
    subprocess.run([sys.executable, "-c", "pass", PLAIN], check=True)
    client.request("GET", f"{URL}/{PLAIN[:60]}?{PLAIN}", headers={"x-nasty": PLAIN.encode().decode("latin-1")})
    print("the end", flush=True)
    raise Harm(NASTY)


main()
