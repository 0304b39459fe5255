"""langchain-openai: chat, a stream, a tool's whole loop, structured output."""

import json
import sys
from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Unit(BaseModel):
    """The unit of a temperature."""

    unit: Literal["celsius", "fahrenheit"]


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return json.dumps({"temperature": 21, "condition": "sunny", "city": city})


chat = ChatOpenAI(
    model="gpt-4o", temperature=0, max_retries=0, stream_usage=True, use_responses_api="responses" in sys.argv
)
story = [HumanMessage("Tell me a story about a fox.")]
messages = [HumanMessage("Hello! My name is Ada.")]
messages += [chat.invoke(messages), HumanMessage("What is my name?")]
recalled = chat.invoke(messages)

whole = chat.invoke(story)
chunks = list(chat.stream(story))
streamed = chunks[0]
for chunk in chunks[1:]:
    streamed = streamed + chunk

asked = [HumanMessage("What is the weather in Paris?")]
called = chat.bind_tools([get_weather]).invoke(asked)
asked.append(called)
for call in called.tool_calls:
    asked.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
answer = chat.bind_tools([get_weather]).invoke(asked)

structured = chat.with_structured_output(Unit, method="json_schema").invoke("Which unit shall it be?")

print(
    json.dumps(
        {
            "recalled": recalled.text,
            "whole": whole.text,
            "streamed": streamed.text,
            "chunks": len(chunks),
            "usage": whole.usage_metadata,
            "stream_usage": streamed.usage_metadata,
            "calls": [{"name": call["name"], "args": call["args"]} for call in called.tool_calls],
            "answer": answer.text,
            "structured": structured.model_dump(),
            "finish_reason": whole.response_metadata.get("finish_reason") or whole.response_metadata["status"],
        }
    )
)
