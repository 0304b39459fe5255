"""langchain-openai's embeddings: of texts, or by its default of ids of OpenAI's tokenizer."""

import json
import sys

import httpx
from langchain_openai import OpenAIEmbeddings


def dot(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def note(request: httpx.Request) -> None:
    inputs.extend(json.loads(request.content)["input"])


TEXTS = ["A kitten is sleeping on the sofa.", "A small cat naps on the couch.", "The bank raised interest rates."]
MODEL = "text-embedding-3-small"

inputs: list[str | list[int]] = []
plain = OpenAIEmbeddings(model=MODEL, check_embedding_ctx_length=False, max_retries=0).embed_documents(TEXTS)
if sys.argv[1] == "texts":
    kitten, cat, bank = plain
    print(json.dumps({"size": len(kitten), "near": dot(kitten, cat), "far": dot(kitten, bank)}))
else:
    with httpx.Client(event_hooks={"request": [note]}) as client:
        ids = OpenAIEmbeddings(model=MODEL, max_retries=0, http_client=client).embed_documents(TEXTS)
    are_ids = inputs and all(isinstance(one, list) and isinstance(one[0], int) for one in inputs)
    same = all(dot(one, two) > 0.999 for one, two in zip(ids, plain, strict=True))
    print(json.dumps({"sent": "ids" if are_ids else "texts", "same": same}))
