"""Calls through the Anthropic SDK, one of each kind. The user's text begins with the scenario's name."""

import asyncio
import gc
import socket
import sys

from anthropic import Anthropic, AsyncAnthropic
from scenarios import URL, main, scenario

TOOLS = [{"name": "add", "input_schema": {"type": "object", "properties": {}}}]
client = Anthropic(base_url=URL, max_retries=0)
kept = []


def ask(model="echo", text="", **more):
    name = sys._getframe(1).f_code.co_name
    messages = [{"role": "user", "content": name + text}]
    return {"model": model, "max_tokens": 100, "system": "be brief", "messages": messages, **more}


def deltas(stream):
    return "".join(event.delta.text for event in stream if event.type == "content_block_delta")


@scenario
def plain():
    answer = client.messages.create(**ask())
    return [answer.content[0].text, answer.usage.input_tokens, answer.usage.output_tokens]


@scenario
def streamed():
    return deltas(client.messages.create(**ask("echo+chunks9", stream=True)))


@scenario
def streamed_with_helper():
    with client.messages.stream(**ask("echo+chunks9")) as stream:
        return ["".join(stream.text_stream), stream.get_final_message().usage.output_tokens]


@scenario
def tool_calls():
    answer = client.messages.create(**ask("tools", ' {"a": 3}', tools=TOOLS))
    return [[block.name, block.input] for block in answer.content if block.type == "tool_use"]


@scenario
def tool_calls_streamed():
    with client.messages.stream(**ask("tools", ' [{"a": 3}, {"b": 4}]', tools=TOOLS)) as stream:
        message = stream.get_final_message()
    return [[block.name, block.input] for block in message.content if block.type == "tool_use"]


@scenario
def thinking_and_cache():
    answer = client.messages.create(**ask("echo+reasoning+cached"))
    return [answer.content[-1].text, answer.usage.cache_read_input_tokens]


@scenario
def zipped():
    return client.messages.create(**ask("echo+gzip")).content[0].text


@scenario
def zipped_stream():
    return deltas(client.messages.create(**ask("echo+gzip+chunks9", stream=True)))


@scenario
def retried():
    return client.with_options(max_retries=2).messages.create(**ask("echo+529x2")).content[0].text


@scenario
def server_error():
    return client.with_options(max_retries=1).messages.create(**ask("echo+500")).id


@scenario
def bad_request():
    return client.messages.create(**ask("echo+400")).id


@scenario
def timed_out():
    return client.with_options(timeout=0.2).messages.create(**ask("echo+timeout")).id


@scenario
def malformed():
    return client.messages.create(**ask("echo+malformed")).id


@scenario
def refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return Anthropic(base_url=f"http://127.0.0.1:{port}", max_retries=0).messages.create(**ask()).id


@scenario
def cut_stream():
    return deltas(client.messages.create(**ask("echo+cut+chunks9", stream=True)))


@scenario
def error_in_stream():
    return deltas(client.messages.create(**ask("echo+error-in-stream", stream=True)))


@scenario
def half_read():
    with client.messages.stream(**ask("echo+chunks9+slow")) as stream:
        return next(iter(stream)).type


@scenario
def abandoned():
    stream = client.messages.create(**ask("echo+chunks9+slow", stream=True))
    first = next(iter(stream)).type
    del stream
    gc.collect()
    return first


@scenario
async def async_plain():
    async with AsyncAnthropic(base_url=URL, max_retries=0) as other:
        return (await other.messages.create(**ask())).content[0].text


@scenario
async def async_streamed():
    async with AsyncAnthropic(base_url=URL, max_retries=0) as other:
        async with other.messages.stream(**ask("echo+chunks9+gzip")) as stream:
            return "".join([text async for text in stream.text_stream])


@scenario
async def async_cancelled():
    other = AsyncAnthropic(base_url=URL, max_retries=0)
    call = ask("echo+chunks50+slow", stream=True)
    started = asyncio.Event()

    async def read():
        async for _ in await other.messages.create(**call):
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        await other.close()
        return "cancelled"
    return "not cancelled"


@scenario
def open_at_exit():
    stream = client.messages.create(**ask("echo+chunks50+slow", stream=True))
    kept.append(stream)
    return next(iter(stream)).type


main()
