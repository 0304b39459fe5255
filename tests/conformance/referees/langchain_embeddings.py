"""langchain-openai's embeddings: of texts, or by its default of ids of OpenAI's tokenizer."""

import json
import sys

import tiktoken
from langchain_openai import OpenAIEmbeddings


def dot(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def has_tokenizer() -> bool:
    try:
        tiktoken.get_encoding("cl100k_base")
    except OSError:
        return False
    return True


TEXTS = ["A kitten is sleeping on the sofa.", "A small cat naps on the couch.", "The bank raised interest rates."]
MODEL = "text-embedding-3-small"

if sys.argv[1] == "ids" and not has_tokenizer():
    print(json.dumps({"tokenizer": False}))
    sys.exit()
plain = OpenAIEmbeddings(model=MODEL, check_embedding_ctx_length=False, max_retries=0).embed_documents(TEXTS)
if sys.argv[1] == "texts":
    kitten, cat, bank = plain
    print(json.dumps({"size": len(kitten), "near": dot(kitten, cat), "far": dot(kitten, bank)}))
else:
    ids = OpenAIEmbeddings(model=MODEL, max_retries=0).embed_documents(TEXTS)
    same = all(dot(one, two) > 0.999 for one, two in zip(ids, plain, strict=True))
    print(json.dumps({"tokenizer": True, "same": same}))
