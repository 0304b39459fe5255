"""pydantic-ai: structured output natively and by a tool, a stream of text, a tool that is called."""

import asyncio
import json
import sys
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel


class Unit(BaseModel):
    """The unit of a temperature."""

    unit: Literal["celsius", "fahrenheit"]


async def main() -> None:
    api = OpenAIResponsesModel if "responses" in sys.argv else OpenAIChatModel
    model = api("gpt-4o", settings={"temperature": 0, "max_tokens": 300})
    native = await Agent(model, output_type=NativeOutput(Unit)).run("Which unit shall it be?")
    by_tool = await Agent(model, output_type=ToolOutput(Unit)).run("Which unit shall it be?")
    async with Agent(model).run_stream("Tell me a story about a fox.") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
        text = await stream.get_output()

    cities: list[str] = []
    agent = Agent(model)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        cities.append(city)
        return json.dumps({"temperature": 21, "condition": "sunny"})

    await agent.run("What is the weather in Paris?")
    print(
        json.dumps(
            {
                "native": native.output.model_dump(),
                "tool": by_tool.output.model_dump(),
                "pieces": pieces,
                "text": text,
                "input_tokens": native.usage.input_tokens if hasattr(native.usage, "input_tokens") else 0,
                "weather": cities,
            }
        )
    )


asyncio.run(main())
