"""An agent that looks three things up and adds them, on any of the SDKs: python lookups.py SDK [--stream].

Its model is `add_up` of tests/e2e/test_fork.py, which computes each answer from the request alone.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from unspool import tool

SYSTEM = "You add prices. Round nothing."
TASK = "Add the prices of apple, pear and plum."
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
PRICES = {"apple": "3", "pear": "4", "plum": "5", "fig": "40"}
URL = os.environ["TEST_URL"]


@tool
def price(name: str) -> str:
    """The price of a fruit."""
    print(f"price of {name}")
    return PRICES[name]


def openai_chat(stream: bool) -> str:
    from openai import OpenAI

    client = OpenAI(base_url=f"{URL}/v1", max_retries=0)
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
    tools: Any = [{"type": "function", "function": {"name": "price", "description": "A price", "parameters": SCHEMA}}]
    while True:
        if stream:
            with client.chat.completions.stream(model="m", messages=messages, tools=tools) as events:
                for _ in events:
                    pass
                said = events.get_final_completion().choices[0].message
        else:
            said = client.chat.completions.create(model="m", messages=messages, tools=tools).choices[0].message
        messages.append(said.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
        if not said.tool_calls:
            return said.content or ""
        for call in said.tool_calls:
            result = price(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def _responses(stream: bool, *, leans: bool) -> str:
    from openai import OpenAI

    client = OpenAI(base_url=f"{URL}/v1", max_retries=0)
    tools: Any = [{"type": "function", "name": "price", "parameters": SCHEMA, "strict": False}]
    items: list[Any] = [{"role": "user", "content": TASK}]
    previous: str | None = None
    while True:
        more: dict[str, Any] = {"previous_response_id": previous} if previous else {}
        asked: dict[str, Any] = {"model": "m", "instructions": SYSTEM, "input": items, "tools": tools, **more}
        if stream:
            with client.responses.stream(**asked) as events:
                for _ in events:
                    pass
                answer = events.get_final_response()
        else:
            answer = client.responses.create(**asked)
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            return answer.output_text
        if leans:
            items, previous = [], answer.id
        else:
            items = items + [item.model_dump(exclude_none=True) for item in answer.output]
        for call in calls:
            result = price(**json.loads(call.arguments))
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


def openai_responses(stream: bool) -> str:
    return _responses(stream, leans=False)


def openai_stateful(stream: bool) -> str:
    return _responses(stream, leans=True)


def anthropic(stream: bool) -> str:
    from anthropic import Anthropic

    client = Anthropic(base_url=URL, max_retries=0)
    messages: list[Any] = [{"role": "user", "content": TASK}]
    tools: Any = [{"name": "price", "input_schema": SCHEMA}]
    while True:
        asked: dict[str, Any] = {
            "model": "m",
            "max_tokens": 100,
            "system": SYSTEM,
            "messages": messages,
            "tools": tools,
        }
        if stream:
            with client.messages.stream(**asked) as events:
                said = events.get_final_message()
        else:
            said = client.messages.create(**asked)
        messages.append(
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in said.content]}
        )
        calls = [block for block in said.content if block.type == "tool_use"]
        if not calls:
            return "".join(block.text for block in said.content if block.type == "text")
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": price(**call.input)} for call in calls]
        messages.append({"role": "user", "content": results})


def gemini(stream: bool) -> str:
    from google import genai
    from google.genai import types

    client = genai.Client(api_key="x" * 12, http_options=types.HttpOptions(base_url=URL))
    declared = types.FunctionDeclaration(name="price", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(
        system_instruction=SYSTEM,
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=TASK)])]
    while True:
        if stream:
            parts: list[Any] = []
            for chunk in client.models.generate_content_stream(model="m", contents=contents, config=config):
                parts += chunk.candidates[0].content.parts or []
        else:
            answer = client.models.generate_content(model="m", contents=contents, config=config)
            parts = answer.candidates[0].content.parts
        contents.append(types.Content(role="model", parts=parts))
        calls = [part.function_call for part in parts if part.function_call]
        if not calls:
            return "".join(part.text or "" for part in parts)
        results = [types.Part.from_function_response(name=c.name, response={"result": price(**c.args)}) for c in calls]
        contents.append(types.Content(role="user", parts=results))


if __name__ == "__main__":
    print("ANSWER:", globals()[sys.argv[1]]("--stream" in sys.argv))
