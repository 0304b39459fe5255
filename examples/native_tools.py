"""A loop with tools, with OpenAI's client: the model calls a tool, the program runs it, the model answers.

With ``tool_choice="auto"`` the model decides whether to call. The tool that it calls always exists, and the arguments
always parse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")


def get_weather(city: str) -> dict[str, Any]:
    return {"temperature": 21, "condition": "sunny"}


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {"get_weather": get_weather}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 40}},
                "required": ["city"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]


def run(client: OpenAI, question: str, first_choice: Any = "auto") -> str:
    """The model's answer, after at most five rounds of calls."""
    messages: list[Any] = [{"role": "user", "content": question}]
    choice = first_choice
    for _ in range(5):
        reply = client.chat.completions.create(
            model="gpt-4o", messages=messages, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False
        )
        message = reply.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message)
        for call in message.tool_calls:
            if call.type == "function":
                arguments = json.loads(call.function.arguments)
                result = FUNCTIONS[call.function.name](**arguments)
                print(f"{call.function.name}({arguments}) -> {result}")
                messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})
        choice = "auto"
    return "The model is still calling tools after five rounds."


def main() -> None:
    with OpenAI(base_url=URL, api_key=KEY) as client:
        print(run(client, "What is the weather in Paris?"))
        # "required" forces the first reply to be a call.
        print(run(client, "What is the weather in Oslo?", "required"))


if __name__ == "__main__":
    main()
