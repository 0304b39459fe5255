"""A model whose chat template shows no tools: refused in words that help, or told of them by ARK itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytest.importorskip("torch")

from running import serve
from tiny_model import TAGS, save_tiny_llama

from ark.app import create_app
from ark.config import Config, ModelConfig

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARAMETERS = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": PARAMETERS, "strict": True}}]
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    path = tmp_path_factory.mktemp("model")
    save_tiny_llama(path, hidden=32, layers=1, template=TEMPLATE, tags=TAGS)
    engine = {"dtype": "float32", "threads": 1, "self_check": False}
    models = (
        ModelConfig(name="plain", path=str(path), engine=engine),
        ModelConfig(name="told", path=str(path), engine=engine, tool_format="hermes"),
    )
    with (
        serve(create_app(Config(models=models))) as running,
        openai.OpenAI(
            base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
        ) as made,
    ):
        yield made


def test_the_error_says_what_can_be_done(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="plain", messages=HELLO, tools=TOOLS)
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")
    for part in ("chat template has no tools", "examples/prompt_tools.py", "'tool_format'"):
        assert part in caught.value.message


def test_the_model_reads_about_the_tools_and_calls_them(client: openai.OpenAI) -> None:
    """In a session, whose second turn reads only the result."""
    fields: dict[str, Any] = {"model": "told", "tools": TOOLS, "max_tokens": 100, "temperature": 1.5}
    session = {"ark_stateful": "00000000-0000-4000-8000-0000000000bb"}
    bare = client.chat.completions.create(model="told", messages=HELLO, max_tokens=1)
    first = client.chat.completions.create(messages=HELLO, tool_choice="required", extra_body=session, **fields)
    assert first.usage is not None
    assert bare.usage is not None
    # The description is in the prompt.
    assert first.usage.prompt_tokens > bare.usage.prompt_tokens + 100
    message = first.choices[0].message
    assert message.tool_calls
    called: Any = message.tool_calls[0]
    assert json.loads(called.function.arguments)["a"] in ("x", "y")
    results: list[Any] = [{"role": "tool", "tool_call_id": one.id, "content": "a tree"} for one in message.tool_calls]
    second = client.chat.completions.create(messages=results, tool_choice="none", extra_body=session, **fields)
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    # The last token was given out, and is computed with the next turn.
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.total_tokens - 1
