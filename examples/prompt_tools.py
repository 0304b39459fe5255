"""Tools by the prompt alone, for a model or a server without `tools`.

The system message lists the tools and says how to call one. The program looks for a call in the reply's text, runs the
tool, and sends the result as the next user message. Nothing forces the model to call correctly, so a reply that does
not parse counts as the answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")

SYSTEM = """You can use these tools:
get_weather(city): the weather in a city
To use one, reply with this JSON and nothing else: {"tool": "get_weather", "arguments": {"city": "..."}}"""


def get_weather(city: str) -> str:
    return f"sunny in {city}, 21 degrees"


TOOLS: dict[str, Callable[..., str]] = {"get_weather": get_weather}


def find_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """The call in a reply: a JSON object with a known tool, whatever text surrounds it."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        call = json.loads(text[start : end + 1])
    except ValueError:
        return None
    arguments = call.get("arguments")
    if call.get("tool") not in TOOLS or not isinstance(arguments, dict):
        return None
    return call["tool"], arguments


def main() -> None:
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "What is the weather in Paris?"},
    ]
    with OpenAI(base_url=URL, api_key=KEY) as client:
        for _ in range(5):
            reply = client.chat.completions.create(model="gpt-4o", messages=messages)
            text = reply.choices[0].message.content or ""
            call = find_call(text)
            if call is None:
                print(text)
                return
            name, arguments = call
            try:
                result = TOOLS[name](**arguments)
            except TypeError as error:
                result = f"wrong arguments: {error}"
            messages += [
                {"role": "assistant", "content": text},
                {"role": "user", "content": f"The tool said: {result}. Now answer my question."},
            ]


if __name__ == "__main__":
    main()
