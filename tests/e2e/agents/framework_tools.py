"""Agents on frameworks, whose tools leave a line in the file TRACE each time they really run."""

import os
import sys
from pathlib import Path

from scenarios import URL, main, scenario

import unspool

TRACE = Path(os.environ.get("TRACE", os.devnull))
MCP_URL = os.environ.get("MCP_URL", "")
SERVER = [str(Path(__file__).with_name("mcp_server.py")), os.fspath(TRACE)]


def leave(line: str) -> None:
    with TRACE.open("a") as file:
        file.write(f"{line}\n")


# --- LangGraph -------------------------------------------------------------------------------------------------------


def _langgraph(tools, model="tools"):
    from langchain_openai import ChatOpenAI
    from langgraph.prebuilt import create_react_agent  # the one that needs nothing but langgraph

    chat = ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key="sk-0")
    return create_react_agent(chat, tools)


def _texts(state):
    return [[type(message).__name__, message.text, getattr(message, "artifact", None)] for message in state["messages"]]


@scenario
def langgraph():
    from langchain_core.tools import tool

    @tool
    def weather(city: str, days: int = 1) -> dict:
        """The weather of a city."""
        leave(f"weather {city}")
        return {"city": city, "days": days, "sky": "clear"}

    agent = _langgraph([weather])
    return _texts(agent.invoke({"messages": [("user", 'langgraph [{"city": "Rome"}, {"city": "Oslo", "days": 2}]')]}))


@scenario
async def langgraph_async():
    from langchain_core.tools import tool

    @tool(response_format="content_and_artifact")
    async def measure(city: str) -> tuple[str, dict]:
        """Measure a city."""
        leave(f"measure {city}")
        return f"{city}: 12 km", {"km": 12}

    agent = _langgraph([measure])
    steps = []
    async for mode, chunk in agent.astream(
        {"messages": [("user", 'langgraph_async {"city": "Rome"}')]}, stream_mode=["updates", "messages"]
    ):
        if mode == "updates":
            steps += [f"{node}: {update['messages'][-1].text}" for node, update in chunk.items()]
            steps += [repr(getattr(update["messages"][-1], "artifact", None)) for update in chunk.values()]
    return steps


@scenario
def langgraph_failing():
    from langchain_core.tools import StructuredTool, ToolException

    def divide(a: int, b: int) -> float:
        """Divide."""
        leave(f"divide {a} {b}")
        if b == 0:
            raise ToolException("b must not be 0")
        return a / b

    handled = StructuredTool.from_function(divide, handle_tool_error=True)
    return _texts(_langgraph([handled]).invoke({"messages": [("user", 'langgraph_failing {"a": 1, "b": 0}')]}))


@scenario
def langgraph_command():
    from typing import Annotated

    from langchain_core.messages import ToolMessage
    from langchain_core.tools import InjectedToolCallId, tool
    from langgraph.types import Command

    @tool
    def note(text: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command:
        """Keep a note."""
        leave(f"note {text}")
        return Command(update={"messages": [ToolMessage(f"noted {text}", tool_call_id=tool_call_id)]})

    return _texts(_langgraph([note]).invoke({"messages": [("user", 'langgraph_command {"text": "milk"}')]}))


# --- OpenAI Agents SDK -----------------------------------------------------------------------------------------------


async def _run_openai_agent(text, **more):
    import agents
    from openai import AsyncOpenAI

    agents.set_tracing_disabled(True)
    async with AsyncOpenAI(base_url=f"{URL}/v1") as client:
        model = agents.OpenAIResponsesModel("tools", client)
        agent = agents.Agent(name="helper", instructions="Help.", model=model, **more)
        return await agents.Runner.run(agent, text)


@scenario
async def openai_agents():
    import agents

    @agents.function_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        leave(f"weather {city}")
        return f"clear in {city}"

    text = 'openai_agents [{"city": "Rome"}, {"city": "Oslo"}]'
    result = await _run_openai_agent(text, tools=[weather])
    return [result.final_output, [type(item).__name__ for item in result.new_items]]


@scenario
async def openai_agents_failing():
    import agents

    @agents.function_tool
    async def weather(city: str) -> str:
        """The weather of a city."""
        leave(f"weather {city}")
        raise LookupError(f"no weather in {city}")

    result = await _run_openai_agent('openai_agents_failing {"city": "Rome"}', tools=[weather])
    return result.final_output


@scenario
async def openai_agents_mcp():
    from agents.mcp import MCPServerStdio

    async with MCPServerStdio({"command": sys.executable, "args": SERVER}) as server:
        result = await _run_openai_agent('openai_agents_mcp {"word": "abc"}', mcp_servers=[server])
    return result.final_output


# --- Pydantic AI -----------------------------------------------------------------------------------------------------


def _pydantic_agent():
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return Agent(OpenAIChatModel("tools", provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="sk-0")))


@scenario
async def pydantic_ai():
    from pydantic import BaseModel

    class Weather(BaseModel):
        city: str
        degrees: float

    agent = _pydantic_agent()

    @agent.tool_plain
    def weather(city: str) -> Weather:
        """The weather of a city."""
        leave(f"weather {city}")
        return Weather(city=city, degrees=21.5)

    result = await agent.run('pydantic_ai [{"city": "Rome"}, {"city": "Oslo"}]')
    return [result.output, [type(message).__name__ for message in result.all_messages()]]


@scenario
async def pydantic_ai_retrying():
    from pydantic_ai import ModelRetry

    agent = _pydantic_agent()
    asked = []

    @agent.tool_plain(retries=2)
    async def guess(number: int) -> str:
        """Guess a number."""
        leave(f"guess {number}")
        asked.append(number)
        raise ModelRetry("too low")

    result = await agent.run('pydantic_ai_retrying {"number": 3}')
    return result.output


# --- MCP -------------------------------------------------------------------------------------------------------------


async def _talk(client):
    async with client:
        tools = await client.list_tools()
        found = [await client.call_tool("look_up", {"word": word}) for word in ("abc", "void")]
        letters = await client.call_tool("count_letters", {"word": "noon"})
        return {
            "server": client.server_info.name,
            "tools": [tool.name for tool in tools.tools],
            "found": [[one.is_error, one.content[0].text] for one in found],
            "letters": letters.structured_content,
        }


@scenario
async def mcp_stdio():
    from mcp import Client, StdioServerParameters

    return await _talk(Client(StdioServerParameters(command=sys.executable, args=SERVER), mode="legacy"))


@scenario
async def mcp_stdio_modern():
    from mcp import Client, StdioServerParameters

    return await _talk(Client(StdioServerParameters(command=sys.executable, args=SERVER)))


@scenario
async def mcp_sampling():
    """The server asks the agent's model; the agent does, inside the call of the tool."""
    import openai
    from mcp import Client, StdioServerParameters
    from mcp.types import CreateMessageResult, TextContent

    models = openai.AsyncOpenAI(base_url=f"{URL}/v1")

    async def sample(context, params):
        messages = [{"role": "user", "content": params.messages[0].content.text}]
        done = await models.chat.completions.create(model="echo", messages=messages)
        text = TextContent(type="text", text=done.choices[0].message.content)
        return CreateMessageResult(role="assistant", content=text, model="echo")

    server = StdioServerParameters(command=sys.executable, args=SERVER)
    async with models, Client(server, mode="legacy", sampling_callback=sample) as client:
        return (await client.call_tool("summarize", {"text": "mcp_sampling"})).content[0].text


@scenario
async def mcp_in_process():
    """A server that is an object of this program."""
    from mcp import Client
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("inner")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add."""
        leave(f"add {a} {b}")
        return a + b

    out = []
    for mode in ("auto", "legacy"):
        async with Client(server, mode=mode) as client:
            out.append((await client.call_tool("add", {"a": 1, "b": 2})).structured_content)
    return out


@scenario
async def mcp_sse():
    from mcp import Client
    from mcp.client.sse import sse_client

    return await _talk(Client(sse_client(f"{MCP_URL}/sse"), mode="legacy"))


@scenario
async def mcp_http():
    from mcp import Client

    return await _talk(Client(f"{MCP_URL}/mcp", mode="legacy"))


@scenario
async def mcp_http_modern():
    from mcp import Client

    return await _talk(Client(f"{MCP_URL}/mcp"))


# --- @unspool.tool ---------------------------------------------------------------------------------------------------


@scenario
def nested():
    """A tool that asks a model and calls another tool, which is called again from outside with equal arguments."""
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1")

    @unspool.tool
    def inner(word: str) -> str:
        leave(f"inner {word}")
        return word.upper()

    @unspool.tool
    def outer(word: str) -> str:
        leave(f"outer {word}")
        answer = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": f"nested {word}"}])
        return f"{inner(word)} {answer.choices[0].message.content}"

    return [outer("a"), inner("a"), inner("b")]


if __name__ == "__main__":
    main()
