"""The tests' chat model, opened once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from fixture_models import TINY_CHAT

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


class Chat(Protocol):
    """Answers a conversation greedily, as `apply_chat_template` renders it."""

    def __call__(self, messages: list[dict[str, Any]], **options: Any) -> str: ...


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(TINY_CHAT, local_files_only=True)


@pytest.fixture(scope="session")
def model() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield transformers.AutoModelForCausalLM.from_pretrained(TINY_CHAT, local_files_only=True).eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def chat(model: Any, tokenizer: Any) -> Chat:
    def answer(messages: list[dict[str, Any]], **options: Any) -> str:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=160)
        reply: str = tokenizer.decode(out[0, ids.shape[1] :])
        assert reply.endswith("<|im_end|>"), f"no end: {reply!r}"
        return reply.removesuffix("<|im_end|>")

    return answer
