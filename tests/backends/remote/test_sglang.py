"""The backend `remote` in front of a server that answers as SGLang's documentation says.

No SGLang has been asked: it needs a GPU. The events below are written by hand, in both forms that its stream has.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fixture_models import TINY_CHAT

from ark.config import ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams, TokenBatch
from ark.errors import APIError
from ark_backends.kit.tokenizer import HFTokenizer, load_tokenizer
from ark_backends.remote import Remote

pytestmark = pytest.mark.anyio

REPLY = [40, 41, 42]


class Sglang:
    """What the server was asked, and how it answers."""

    def __init__(self, tokenizer: HFTokenizer) -> None:
        self.tokenizer = tokenizer
        self.asked: list[dict[str, Any]] = []
        self.incremental = False
        self.finish: dict[str, Any] = {"type": "stop", "matched": 42}
        self.url = ""

    def get(self, path: str) -> Any:
        return {
            "/health": {},
            "/get_model_info": {"model_path": "tiny-chat", "is_generation": True},
            "/v1/models": {"data": [{"id": "tiny-chat", "max_model_len": 512}]},
        }.get(path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/tokenize":
            return {"tokens": self.tokenizer.encode(body["prompt"])}
        self.asked.append(body)
        if body["stream"]:
            return [*self._events(body)]
        # The trials of a grammar: a text, or a schema.
        _, _, text = body["sampling_params"]["ebnf"].partition("start: ")
        return {"output_ids": self.tokenizer.encode("[1]" if text.startswith("%") else json.loads(text))}

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for count in range(1, len(REPLY) + 1):
            ids = REPLY[count - 1 : count] if self.incremental else REPLY[:count]
            meta: dict[str, Any] = {"id": "1", "completion_tokens": count, "prompt_tokens": 5, "cached_tokens": 4}
            meta["finish_reason"] = self.finish if count == len(REPLY) else None
            if body.get("return_logprob"):
                meta["output_token_logprobs"] = [[-0.5, token, None] for token in ids]
                meta["output_top_logprobs"] = [[[-0.5, token, None], [-1.5, 7, None]] for token in ids]
            yield {"text": "", "output_ids": ids, "meta_info": meta}


class Handler(BaseHTTPRequestHandler):
    sglang: Sglang

    def do_GET(self) -> None:
        self._send(self.sglang.get(self.path))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._send(self.sglang.post(self.path, body))

    def _send(self, found: Any) -> None:
        data = b"" if found is None else json.dumps(found).encode()
        if isinstance(found, list):
            data = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in found) + b"data: [DONE]\n\n"
        self.send_response(404 if found is None else 200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def sglang() -> Iterator[Sglang]:
    made = Sglang(load_tokenizer(TINY_CHAT))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"sglang": made}))
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


async def run(sglang: Sglang, **fields: Any) -> list[TokenBatch]:
    engine = {"url": sglang.url, "priority": True}
    backend = await Remote.open(ModelConfig(name="far", path=str(TINY_CHAT), backend="remote", engine=engine))
    try:
        assert "seed" not in backend.capabilities.parameters
        assert {"tools", "frequency_penalty"} <= backend.capabilities.parameters
        fields = {"max_tokens": 9, "stop_token_ids": frozenset({42, 99}), "owner": "ada", **fields}
        job = GenerationJob(request_id="1", prompt=[1, 2, 3, 4, 5], **fields)
        return [batch async for batch in backend.generate(job)]
    finally:
        await backend.close()


@pytest.mark.parametrize("incremental", [False, True])
async def test_tokens_and_log_probabilities(sglang: Sglang, incremental: bool) -> None:
    sglang.incremental = incremental
    batches = await run(sglang, top_logprobs=1, sampling=SamplingParams(temperature=0.0))
    assert [token for batch in batches for token in batch.token_ids] == REPLY
    assert (batches[0].cached_tokens, batches[-1].finish_reason) == (4, "stop")
    found = [logprob for batch in batches for logprob in batch.logprobs]
    assert [(one.logprob, one.top) for one in found] == [(-0.5, [(token, -0.5)]) for token in REPLY]


async def test_what_is_asked_for(sglang: Sglang) -> None:
    sampling = SamplingParams(temperature=0.5, top_k=0, logit_bias={7: 1.0}, min_tokens=20, presence_penalty=0.5)
    await run(sglang, sampling=sampling)
    body = sglang.asked[-1]
    assert (body["input_ids"], body["stream"], body["priority"]) == ([1, 2, 3, 4, 5], True, -1)
    assert len(body["extra_key"]) == 64
    wanted = {"max_new_tokens": 9, "temperature": 0.5, "top_k": -1, "stop_token_ids": [42, 99], "ignore_eos": True}
    wanted |= {"min_new_tokens": 9, "presence_penalty": 0.5, "logit_bias": {"7": 1.0}, "n": 1}
    assert wanted.items() <= body["sampling_params"].items()


async def test_an_abort_is_an_error(sglang: Sglang) -> None:
    sglang.finish = {"type": "abort", "message": "out of memory"}
    with pytest.raises(APIError, match="engine has failed"):
        await run(sglang)
