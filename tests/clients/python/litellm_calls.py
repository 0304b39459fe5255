"""litellm: chat, a stream with usage, a tool, errors of its own classes, embeddings."""

import json

import litellm

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


def complete(**fields):
    return litellm.completion(**{"model": "openai/gpt-4o", "messages": STORY, "max_retries": 0, **fields})


def raised(**fields):
    try:
        complete(**fields)
    except Exception as error:  # noqa: BLE001 - its class is what is looked at
        return type(error).__name__
    return "nothing"


whole = complete(temperature=0)
chunks = list(complete(temperature=0, stream=True, stream_options={"include_usage": True}))
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
called = complete(messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=TOOLS)
calls = [[call.function.name, json.loads(call.function.arguments)] for call in called.choices[0].message.tool_calls]
errors = [raised(temperature=9), raised(model="openai/no-such-model"), raised(api_key="sk-wrong")]
try:
    size = len(litellm.embedding(model="openai/text-embedding-3-small", input=["Hello"]).data[0]["embedding"])
except litellm.NotFoundError:
    size = None
usage = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)][-1]
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "streamed": text,
            "usage": whole.usage.model_dump(exclude_none=True),
            "stream_usage": usage.model_dump(exclude_none=True),
            "calls": calls,
            "errors": errors,
            "embedding_size": size,
        }
    )
)
