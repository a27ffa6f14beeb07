"""Calls through google-genai, one of each kind. The user's text begins with the scenario's name."""

import sys

from google import genai
from google.genai import types
from scenarios import URL, main, scenario

TOOLS = [types.Tool(function_declarations=[types.FunctionDeclaration(name="add")])]
OPTIONS = types.HttpOptions(base_url=URL)
client = genai.Client(api_key="key-0", http_options=OPTIONS)


def ask(model="echo", text="", **config):
    name = sys._getframe(1).f_code.co_name
    settings = types.GenerateContentConfig(system_instruction="be brief", **config)
    return {"model": model, "contents": name + text, "config": settings}


@scenario
def plain():
    answer = client.models.generate_content(**ask())
    return [answer.text, answer.usage_metadata.total_token_count]


@scenario
def streamed():
    return "".join(chunk.text or "" for chunk in client.models.generate_content_stream(**ask("echo+chunks9")))


@scenario
def zipped_stream():
    return "".join(chunk.text or "" for chunk in client.models.generate_content_stream(**ask("echo+chunks9+gzip")))


@scenario
def tool_calls():
    answer = client.models.generate_content(
        **ask(
            "tools",
            ' {"a": 3}',
            tools=TOOLS,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
    )
    return [[call.name, call.args] for call in answer.function_calls]


@scenario
def server_error():
    return client.models.generate_content(**ask("echo+500")).text


@scenario
def bad_request():
    return client.models.generate_content(**ask("echo+400")).text


@scenario
def malformed():
    return client.models.generate_content(**ask("echo+malformed")).text


@scenario
def half_read():
    for chunk in client.models.generate_content_stream(**ask("echo+chunks9+slow")):
        return chunk.text is not None
    return None


@scenario
async def async_plain():
    answer = await genai.Client(api_key="key-0", http_options=OPTIONS).aio.models.generate_content(**ask())
    return answer.text


@scenario
async def async_streamed():
    other = genai.Client(api_key="key-0", http_options=OPTIONS)
    stream = await other.aio.models.generate_content_stream(**ask("echo+chunks9"))
    return "".join([chunk.text or "" async for chunk in stream])


main()
