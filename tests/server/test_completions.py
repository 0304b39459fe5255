"""POST /completions: OpenAI's client against a real server with a random model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

pytest.importorskip("torch")

import torch
from running import serve
from tiny_model import save_tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from ark.app import create_app
from ark.config import Config, ModelConfig

PROMPT = "Thequickbrownfox"
FIM = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_tiny_llama(path, hidden=32, layers=1)
    return path


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[openai.OpenAI]:
    model = ModelConfig(
        name="tiny",
        path=str(path),
        engine={"dtype": "float32", "quantization": "none", "threads": 1, "self_check": False},
    )
    with (
        serve(create_app(Config(models=(model,)))) as server,
        # Not strict: OpenAI's own replies have null where its client's types for this route do not, as in the finish
        # reason of a chunk.
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made,
    ):
        yield made


def complete(client: openai.OpenAI, **fields: Any) -> Any:
    return client.completions.create(**({"model": "tiny", "prompt": PROMPT, "temperature": 0} | fields))


def test_ids_and_text_are_the_same_prompt(client: openai.OpenAI, path: Path) -> None:
    ids = AutoTokenizer.from_pretrained(path).encode(PROMPT, add_special_tokens=False)
    by_text, by_ids = complete(client), complete(client, prompt=ids)
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert by_text.usage.prompt_tokens == len(ids)


def test_a_stream_adds_up_to_the_whole(client: openai.OpenAI) -> None:
    whole = complete(client, n=2, temperature=1.0, seed=3, logprobs=1, echo=True)
    texts, offsets = ["", ""], [[], []]
    for chunk in complete(client, n=2, temperature=1.0, seed=3, logprobs=1, echo=True, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            offsets[choice.index] += choice.logprobs.text_offset
    assert texts == [choice.text for choice in whole.choices]
    assert offsets == [choice.logprobs.text_offset for choice in whole.choices]
    for choice in whole.choices:
        assert choice.text.startswith(PROMPT)
        for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True):
            assert choice.text.startswith(token, offset)


def test_a_prompt_is_scored_as_by_the_model_itself(client: openai.OpenAI, path: Path) -> None:
    """What evaluation harnesses add up: how likely a continuation is, and whether it is the most likely one."""
    ids = AutoTokenizer.from_pretrained(path).encode(PROMPT, add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.inference_mode():
        table = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
    wanted = [float(table[place, token]) for place, token in enumerate(ids[1:])]
    for fields in ({"prompt": [ids]}, {"prompt": PROMPT}, {"prompt": [ids, ids[:3]]}):
        scored = complete(client, max_tokens=0, echo=True, logprobs=1, **fields).choices[0].logprobs
        assert scored.token_logprobs[0] is None
        assert scored.top_logprobs[0] is None
        assert scored.token_logprobs[1:] == pytest.approx(wanted, abs=1e-3)
        for place, top in enumerate(scored.top_logprobs[1:]):
            assert max(top.values()) == pytest.approx(float(table[place].max()), abs=1e-3)


def test_the_most_likely_of_several(client: openai.OpenAI) -> None:
    fields = {"temperature": 1.0, "seed": 5, "logprobs": 0}

    def mean(choice: Any) -> float:
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    all_of_them = sorted((mean(choice) for choice in complete(client, n=4, **fields).choices), reverse=True)
    best = complete(client, n=2, best_of=4, **fields)
    assert [mean(choice) for choice in best.choices] == pytest.approx(all_of_them[:2])
    assert best.usage.completion_tokens == 64


def test_a_model_that_fills_in(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path, hidden=32, layers=1, tags=FIM)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = ModelConfig(name="tiny", path=str(tmp_path), engine={"threads": 1, "self_check": False})
    with (
        serve(create_app(Config(models=(model,)))) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        # Braces are text, and so are the model's own tokens.
        filled = complete(client, prompt="f{x}", suffix="{prefix}<fim_middle>}")
        raw = complete(client, prompt="<fim_prefix>f{x}<fim_suffix>y<fim_middle>")
    assert len(tokenizer.encode("<fim_middle>")) == 1
    letters = len(tokenizer.encode("f{x}") + tokenizer.encode("{prefix}}")) + len("<fim_middle>")
    assert filled.usage.prompt_tokens == 3 + letters
    assert raw.usage.prompt_tokens == 3 + len("f{x}y")


def test_an_error_has_openais_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete(client, suffix="x")
    assert (raised.value.param, raised.value.code) == ("suffix", "unsupported_parameter")
    assert json.loads(raised.value.response.text)["error"]["message"].startswith("The model 'tiny'")
