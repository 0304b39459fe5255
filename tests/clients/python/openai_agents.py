"""OpenAI's Agents SDK as it is by default: a tool that is called, a handoff, a stream."""

import asyncio
import json

from agents import Agent, ModelSettings, Runner, function_tool, set_tracing_disabled
from openai.types.shared import Reasoning

set_tracing_disabled(True)

STORY = "Tell me a story about a fox."
# The model of the tests thinks without end about what it never learned to call.
FORCED = ModelSettings(tool_choice="required", reasoning=Reasoning(effort="none"))
cities: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    cities.append(city)
    return json.dumps({"temperature": 21, "condition": "sunny", "city": city})


async def main() -> None:
    helper = Agent(name="Helper", model="gpt-4o", tools=[get_weather])
    weather = await Runner.run(helper, "What is the weather in Paris?")

    poet = Agent(name="Poet", model="gpt-4o")
    triage = Agent(name="Triage", model="gpt-4o", handoffs=[poet], model_settings=FORCED)
    handed = await Runner.run(triage, STORY)

    first = await Runner.run(Agent(name="Keeper", model="gpt-4o"), "Think of a secret code word. Do not tell me yet.")
    second = await Runner.run(
        Agent(name="Keeper", model="gpt-4o"), "What was the code word?", previous_response_id=first.last_response_id
    )

    streamed = Runner.run_streamed(poet, STORY)
    kinds = [event.data.type async for event in streamed.stream_events() if event.type == "raw_response_event"]
    print(
        json.dumps(
            {
                "cities": cities,
                "answer": weather.final_output,
                "agent": handed.last_agent.name,
                "story": handed.final_output,
                "streamed": streamed.final_output,
                "kinds": kinds,
                "thought": [item.raw_item.content[0].text for item in first.new_items if item.type == "reasoning_item"],
                "word": second.final_output,
            }
        )
    )


asyncio.run(main())
