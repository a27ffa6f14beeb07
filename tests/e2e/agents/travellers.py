"""An agent that looks up three prices and adds them, on one SDK or framework: python travellers.py KIND.

Its model is `Model` of tests/e2e/test_time_travel.py, which computes each answer from the request alone. Its tool
leaves a line in the file TRACE each time it really runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import unspool

if "SOCKETS" in os.environ:
    # Every look at the network of this process leaves a line, whoever takes it.
    sockets = os.open(os.environ["SOCKETS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    LOOKS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname")
    sys.addaudithook(lambda event, args: event in LOOKS and os.write(sockets, f"{event} {args[1:]}\n".encode()))

SYSTEM = "You add prices. Round nothing."
TASK = "Add the prices of apple, pear and plum."
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "price", "description": "A price", "parameters": SCHEMA}}]
PRICES = {"apple": "3", "pear": "4", "plum": "5", "fig": "40"}
URL = os.environ["TEST_URL"]
OPENAI = {"base_url": f"{URL}/v1", "max_retries": 0}


def look_up(name: str) -> str:
    """The price of a fruit."""
    with Path(os.environ["TRACE"]).open("a") as file:
        file.write(f"{name}\n")
    return PRICES[name]


price = unspool.tool(look_up, name="price")


@unspool.tool(name="price")
async def async_price(name: str) -> str:
    await asyncio.sleep(0)
    return look_up(name)


# --- the OpenAI SDK --------------------------------------------------------------------------------------------------


def openai_sync() -> str:
    from openai import OpenAI

    client = OpenAI(**OPENAI)
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
    while True:
        said = client.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS).choices[0].message
        messages.append(said.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
        if not said.tool_calls:
            return said.content or ""
        for call in said.tool_calls:
            result = price(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def openai_stream() -> str:
    """The chunks put together by hand, as older programs do."""
    from openai import OpenAI

    client = OpenAI(**OPENAI)
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
    while True:
        text, calls = "", {}
        for chunk in client.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS, stream=True):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for part in choice.delta.tool_calls or ():
                    call = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
                    call["id"] += part.id or ""
                    call["name"] += part.function.name or ""
                    call["arguments"] += part.function.arguments or ""
        if not calls:
            return text
        asked = [
            {"id": one["id"], "type": "function", "function": {"name": one["name"], "arguments": one["arguments"]}}
            for one in calls.values()
        ]
        messages.append({"role": "assistant", "content": text, "tool_calls": asked})
        for one in calls.values():
            result = price(**json.loads(one["arguments"]))
            messages.append({"role": "tool", "tool_call_id": one["id"], "content": result})


async def openai_async() -> str:
    from openai import AsyncOpenAI

    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
    async with AsyncOpenAI(**OPENAI) as client:
        while True:
            answer = await client.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS)
            said = answer.choices[0].message
            messages.append(said.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
            if not said.tool_calls:
                return said.content or ""
            for call in said.tool_calls:
                result = await async_price(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


async def openai_async_stream() -> str:
    """The Responses API, streamed."""
    from openai import AsyncOpenAI

    tools: Any = [{"type": "function", "name": "price", "parameters": SCHEMA, "strict": False}]
    items: list[Any] = [{"role": "user", "content": TASK}]
    async with AsyncOpenAI(**OPENAI) as client:
        while True:
            async with client.responses.stream(model="m", instructions=SYSTEM, input=items, tools=tools) as events:
                answer = await events.get_final_response()
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                return answer.output_text
            items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
            for call in calls:
                result = await async_price(**json.loads(call.arguments))
                items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


# --- the Anthropic SDK -----------------------------------------------------------------------------------------------


def _anthropic_turn(messages: list[Any], said: Any) -> list[Any]:
    messages.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in said.content]})
    return [block for block in said.content if block.type == "tool_use"]


def _anthropic_text(said: Any) -> str:
    return "".join(block.text for block in said.content if block.type == "text")


def _anthropic_request(messages: list[Any]) -> dict[str, Any]:
    tools = [{"name": "price", "input_schema": SCHEMA}]
    return {"model": "m", "max_tokens": 100, "system": SYSTEM, "messages": messages, "tools": tools}


def anthropic_sync() -> str:
    from anthropic import Anthropic

    client = Anthropic(base_url=URL, max_retries=0)
    messages: list[Any] = [{"role": "user", "content": TASK}]
    while True:
        said = client.messages.create(**_anthropic_request(messages))
        calls = _anthropic_turn(messages, said)
        if not calls:
            return _anthropic_text(said)
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": price(**call.input)} for call in calls]
        messages.append({"role": "user", "content": results})


async def anthropic_async_stream() -> str:
    from anthropic import AsyncAnthropic

    messages: list[Any] = [{"role": "user", "content": TASK}]
    async with AsyncAnthropic(base_url=URL, max_retries=0) as client:
        while True:
            async with client.messages.stream(**_anthropic_request(messages)) as events:
                said = await events.get_final_message()
            calls = _anthropic_turn(messages, said)
            if not calls:
                return _anthropic_text(said)
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": await async_price(**call.input)}
                for call in calls
            ]
            messages.append({"role": "user", "content": results})


# --- frameworks, with their own tools --------------------------------------------------------------------------------


def _langgraph() -> Any:
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from langgraph.prebuilt import create_react_agent

    chat = ChatOpenAI(model="m", base_url=f"{URL}/v1", max_retries=0)
    return create_react_agent(chat, [tool("price")(look_up)], prompt=SYSTEM)


def langgraph() -> str:
    return str(_langgraph().invoke({"messages": [("user", TASK)]})["messages"][-1].content)


async def langgraph_async_stream() -> str:
    last = ""
    async for update in _langgraph().astream({"messages": [("user", TASK)]}, stream_mode="updates"):
        for state in update.values():
            last = str(state["messages"][-1].content)
    return last


async def pydantic_ai() -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="sk-0"))
    agent = Agent(model, system_prompt=SYSTEM)
    agent.tool_plain(name="price")(look_up)
    return (await agent.run(TASK)).output


async def pydantic_ai_stream() -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="sk-0"))
    agent = Agent(model, instructions=SYSTEM)

    @agent.tool_plain(name="price")
    async def anon(name: str) -> str:
        """The price of a fruit."""
        return look_up(name)

    output = ""
    async with agent.iter(TASK) as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as events:
                    async for _ in events:
                        pass
    if run.result is not None:
        output = run.result.output
    return output


def _openai_agent(model: Any) -> Any:
    import agents

    agents.set_tracing_disabled(True)
    return agents.Agent(
        name="adder",
        instructions=SYSTEM,
        model=model,
        tools=[agents.function_tool(look_up, name_override="price")],
    )


async def openai_agents() -> str:
    import agents
    from openai import AsyncOpenAI

    async with AsyncOpenAI(**OPENAI) as client:
        agent = _openai_agent(agents.OpenAIResponsesModel("m", client))
        return str((await agents.Runner.run(agent, TASK)).final_output)


async def openai_agents_stream() -> str:
    import agents
    from openai import AsyncOpenAI

    async with AsyncOpenAI(**OPENAI) as client:
        agent = _openai_agent(agents.OpenAIChatCompletionsModel("m", client))
        run = agents.Runner.run_streamed(agent, TASK)
        async for _ in run.stream_events():
            pass
        return str(run.final_output)


if __name__ == "__main__":
    found = globals()[sys.argv[1]]
    print("ANSWER:", asyncio.run(found()) if asyncio.iscoroutinefunction(found) else found())
