"""Calls through the OpenAI SDK, one of each kind. The user's text is the scenario's name."""

import asyncio
import gc
import os
import socket
import sys

from openai import AsyncOpenAI, OpenAI
from scenarios import URL, main, scenario

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
RESPONSE_TOOLS = [
    {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": None}
]
client = OpenAI(base_url=f"{URL}/v1", max_retries=0)
kept = []


def me() -> str:
    return sys._getframe(2).f_code.co_name


def ask(model="echo", text="", **more):
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": me() + text}]
    return {"model": model, "messages": messages, **more}


def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def create(*args, **kwargs):
    return client.chat.completions.create(*args, **kwargs)


@scenario
def plain():
    answer = create(**ask())
    return [answer.choices[0].message.content, answer.usage.total_tokens]


@scenario
def raw_response():
    answer = client.chat.completions.with_raw_response.create(**ask())
    return answer.http_response.read().decode()


@scenario
def raw_stream():
    with client.chat.completions.with_streaming_response.create(**ask("echo+chunks5", stream=True)) as answer:
        return [line for line in answer.iter_lines() if line]


@scenario
def streamed():
    return text_of(create(**ask("echo+chunks9", stream=True, stream_options={"include_usage": True})))


@scenario
def streamed_without_usage():
    return text_of(create(**ask(stream=True)))


@scenario
def streamed_with_helper():
    with client.chat.completions.stream(**ask()) as events:
        return events.get_final_completion().choices[0].message.content


@scenario
def tool_calls():
    message = create(**ask("tools", ' {"a": 3}', tools=TOOLS)).choices[0].message
    return [[call.function.name, call.function.arguments] for call in message.tool_calls]


@scenario
def tool_calls_streamed():
    with client.chat.completions.stream(**ask("tools", ' [{"a": 3}, {"b": 4}]', tools=TOOLS)) as events:
        message = events.get_final_completion().choices[0].message
    return [[call.function.name, call.function.arguments] for call in message.tool_calls]


@scenario
def zipped():
    return create(**ask("echo+gzip")).choices[0].message.content


@scenario
def deflated_stream():
    return text_of(create(**ask("echo+deflate", stream=True)))


@scenario
def zipped_stream():
    return text_of(create(**ask("echo+gzip+chunks9", stream=True)))


@scenario
def cached_and_reasoning():
    answer = create(**ask("echo+cached+reasoning"))
    return answer.usage.prompt_tokens_details.cached_tokens


@scenario
def no_usage():
    return create(**ask("echo+nousage")).usage is None


@scenario
def retried():
    return client.with_options(max_retries=2).chat.completions.create(**ask("echo+429x2")).choices[0].message.content


@scenario
def server_error():
    return client.with_options(max_retries=1).chat.completions.create(**ask("echo+500")).id


@scenario
def bad_request():
    return create(**ask("echo+400")).id


@scenario
def html_page():
    return create(**ask("echo+html")).id


@scenario
def timed_out():
    return client.with_options(timeout=0.2).chat.completions.create(**ask("echo+timeout")).id


@scenario
def malformed():
    return create(**ask("echo+malformed")).id


@scenario
def malformed_stream():
    return text_of(create(**ask("echo+malformed", stream=True)))


@scenario
def cut_body():
    return create(**ask("echo+cut")).id


@scenario
def cut_stream():
    return text_of(create(**ask("echo+cut+chunks9", stream=True)))


@scenario
def error_in_stream():
    return text_of(create(**ask("echo+error-in-stream", stream=True)))


@scenario
def refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return OpenAI(base_url=f"http://127.0.0.1:{port}/v1", max_retries=0).chat.completions.create(**ask()).id


@scenario
def half_read():
    stream = create(**ask("echo+chunks9+slow", stream=True))
    first = next(iter(stream))
    stream.close()
    return first.choices[0].delta.role


@scenario
def abandoned():
    stream = create(**ask("echo+chunks9+slow", stream=True))
    first = next(iter(stream))
    del stream
    gc.collect()
    return first.choices[0].delta.role


@scenario
def never_read():
    stream = create(**ask("echo+chunks9", stream=True))
    del stream
    gc.collect()
    return "ok"


@scenario
def client_closed():
    other = OpenAI(base_url=f"{URL}/v1", max_retries=0)
    stream = other.chat.completions.create(**ask("echo+chunks9+slow", stream=True))
    next(iter(stream))
    other.close()
    return text_of(stream) and "read on"


@scenario
def responses():
    answer = client.responses.create(model="echo", instructions="be brief", input="responses")
    return [answer.output_text, answer.usage.total_tokens]


@scenario
def responses_chained():
    first = client.responses.create(model="echo", input="responses_chained")
    second = client.responses.create(model="echo", input="responses_chained on", previous_response_id=first.id)
    return second.output_text


@scenario
def responses_streamed():
    stream = client.responses.create(model="echo+chunks9", input="responses_streamed", stream=True)
    return "".join(event.delta for event in stream if event.type == "response.output_text.delta")


@scenario
def responses_tools():
    answer = client.responses.create(model="tools", input='responses_tools {"a": 3}', tools=RESPONSE_TOOLS)
    return [[item.name, item.arguments] for item in answer.output if item.type == "function_call"]


@scenario
def responses_error():
    return client.responses.create(model="echo+400", input="responses_error").id


@scenario
async def async_plain():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0) as other:
        return (await other.chat.completions.create(**ask())).choices[0].message.content


@scenario
async def async_streamed():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0) as other:
        stream = await other.chat.completions.create(**ask("echo+chunks9", stream=True))
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


@scenario
async def async_retried():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=2) as other:
        return (await other.chat.completions.create(**ask("echo+500x2+gzip"))).choices[0].message.content


@scenario
async def async_timed_out():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0, timeout=0.2) as other:
        return (await other.chat.completions.create(**ask("echo+timeout"))).id


@scenario
async def async_cut_stream():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0) as other:
        stream = await other.chat.completions.create(**ask("echo+cut+chunks9", stream=True))
        return [chunk.id async for chunk in stream]


@scenario
async def async_cancelled():
    other = AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0)
    call = ask("echo+chunks50+slow", stream=True)
    started = asyncio.Event()

    async def read():
        async for _ in await other.chat.completions.create(**call):
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
async def async_cancelled_waiting():
    other = AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0)
    task = asyncio.create_task(other.chat.completions.create(**ask("echo+timeout")))
    await asyncio.sleep(0.2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        await other.close()
        return "cancelled"
    return "not cancelled"


@scenario
async def async_half_read():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0) as other:
        stream = await other.chat.completions.create(**ask("echo+chunks9+slow", stream=True))
        async for chunk in stream:
            await stream.close()
            return chunk.choices[0].delta.role
    return None


@scenario
async def async_abandoned():
    async with AsyncOpenAI(base_url=f"{URL}/v1", max_retries=0) as other:
        stream = await other.chat.completions.create(**ask("echo+chunks9+slow", stream=True))
        iterator = stream.__aiter__()
        chunk = await iterator.__anext__()
        del stream, iterator
        gc.collect()
        await asyncio.sleep(0)
        return chunk.choices[0].delta.role


@scenario
def open_at_exit():
    """Read in part and never closed: the program ends with it."""
    stream = create(**ask("echo+chunks50+slow", stream=True))
    kept.append(stream)
    return next(iter(stream)).choices[0].delta.role


main()
sys.stdout.flush()
assert os.environ["OPENAI_API_KEY"]
