"""Five hundred random schemas, on a random model at a high temperature: every reply parses and validates."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("torch")
pytest.importorskip("jsonschema")

import jsonschema
from tiny_model import save_tiny_llama

from ark.chat.grammar import Answer, grammar
from ark.config import ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark.errors import BadRequest
from ark_backends.torch_chat import TorchChat

pytestmark = pytest.mark.anyio

COUNT = 500
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email", "ipv6")


def leaf(draw: random.Random) -> dict[str, Any]:
    low, least = draw.randint(-50, 50), draw.randint(0, 4)
    values = ["a", "ä", 'q"\\', 1, 2.5, None, True, "", [1], {"x": 1}, {"deep": [1, "two"]}]
    kinds: list[dict[str, Any]] = [
        {"type": draw.choice(["string", "integer", "number", "boolean", "null"])},
        {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 20)},
        {"type": "integer", "minimum": low, "maximum": low + draw.randint(0, 100)},
        {"type": "number", "exclusiveMinimum": low, "maximum": low + draw.randint(1, 100)},
        {"enum": draw.sample(values, draw.randint(1, 4))},
        {"const": draw.choice(values)},
        {"type": "string", "pattern": draw.choice(["^[a-c]{2,5}$", r"^\d{3}-\d{4}$", "^(yes|no)$", "^x.*y$"])},
        {"type": "string", "format": draw.choice(FORMATS)},
        {"type": draw.sample(["string", "integer", "boolean", "null"], 2)},
    ]
    return draw.choice(kinds)


def object_of(draw: random.Random, depth: int) -> dict[str, Any]:
    names = draw.sample(["a", "b c", 'quo"te', "größe", "list", "x1", "$id_"], draw.randint(0, 4))
    made: dict[str, Any] = {"type": "object", "properties": {name: schema(draw, depth) for name in names}}
    made["required"] = [name for name in names if draw.random() < 0.7]
    if draw.random() < 0.8:
        made["additionalProperties"] = False
    return made


def schema(draw: random.Random, depth: int) -> dict[str, Any]:
    kind = draw.choice(["leaf", "object", "object", "array", "tuple", "any", "all", "map"]) if depth else "leaf"
    inner = [schema(draw, depth - 1) for _ in range(draw.randint(1, 3))] if kind not in ("leaf", "object") else []
    least = draw.randint(0, 2)
    if kind == "object":
        return object_of(draw, depth - 1)
    if kind == "leaf":
        return leaf(draw)
    return {
        "array": {"type": "array", "items": inner[0], "minItems": least, "maxItems": least + 2},
        "tuple": {"type": "array", "prefixItems": inner, "items": False, "minItems": len(inner)},
        "any": {"anyOf": inner},
        "all": {"allOf": [{"type": "object", "properties": {"one": inner[0]}, "required": ["one"]}, {}]},
        "map": {"type": "object", "additionalProperties": inner[0], "maxProperties": 2},
    }[kind]


def whole(draw: random.Random) -> dict[str, Any]:
    """A schema as requests have it, now and then with definitions, of which one is recursive."""
    made = schema(draw, 3)
    if draw.random() < 0.2:
        tree = {
            "type": "object",
            "properties": {"value": leaf(draw), "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
        }
        tree |= {"required": ["value", "next"], "additionalProperties": False}
        made = {"type": "object", "properties": {"made": made, "tree": {"$ref": "#/$defs/tree"}}, "required": ["tree"]}
        made["$defs"] = {"tree": tree}
    return made


async def test_every_reply_parses_and_validates(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path, hidden=32, layers=1, every_byte=True)
    engine = {"dtype": "float32", "threads": 1, "max_running": 32, "prefill_chunk": 512, "self_check": False}
    config = ModelConfig(name="tiny", path=str(tmp_path), engine=engine, max_queue=COUNT)
    backend = await TorchChat.open(config)
    outcomes: dict[str, int] = {}
    # A random model closes a string once in 250 letters; the bias spares the test waiting for it.
    closing = backend.tokenizer.encode('"}]')

    async def ask(number: int) -> None:
        draw = random.Random(number)
        wanted = whole(draw)
        made = grammar(Answer(wanted, "schema"), None, None)
        temperature = 0.0 if number % 10 == 0 else 1.5
        job = GenerationJob(
            request_id=str(number),
            prompt=backend.tokenizer.encode(f"Reply number {number}:"),
            max_tokens=400,
            sampling=SamplingParams(
                temperature=temperature, seed=number, top_k=draw.choice([0, 20]), logit_bias=dict.fromkeys(closing, 3.0)
            ),
            stop_token_ids=backend.tokenizer.stop_token_ids,
            grammar=made,
        )
        ids: list[int] = []
        finish: str | None = None
        try:
            async for batch in backend.generate(job):
                ids += batch.token_ids
                finish = batch.finish_reason
        except BadRequest as error:
            finish = f"refused: {error.param}"
        outcomes[str(finish)] = outcomes.get(str(finish), 0) + 1
        if finish == "stop":
            value = json.loads(backend.tokenizer.decode(ids[:-1]))
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.Draft202012Validator(wanted, format_checker=checker).validate(value)

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(COUNT):
                tasks.start_soon(ask, number)
    finally:
        await backend.close()
    refused = outcomes.get("refused: schema", 0)
    assert outcomes["stop"] + outcomes.get("length", 0) + refused == COUNT, outcomes
    # Nearly all of these schemas can be enforced, and few replies are cut.
    assert outcomes["stop"] > 0.8 * COUNT, outcomes
    assert refused < 0.02 * COUNT, outcomes
