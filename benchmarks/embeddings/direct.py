"""Call a library directly, once for each request, from as many threads as there are clients.

`compare.py` runs it as a process of its own: `direct.py {flag|st} DIRECTORY`. It reads one line of JSON for each run
from standard input, and writes one for each result. The libraries' `encode` cannot run concurrently, so one thread
computes the calls in the order of their arrival, as in a simple server without HTTP.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from load import WARM, Result, result
from texts import MAX_LENGTH


def load(name: str, path: str) -> Callable[[str], Any]:
    if name == "flag":
        from FlagEmbedding import FlagModel

        flag = FlagModel(path, pooling_method="mean", use_fp16=False, devices="cpu")
        return lambda text: flag.encode([text], max_length=MAX_LENGTH)[0]
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(path, device="cpu")
    return lambda text: model.encode([text], show_progress_bar=False, normalize_embeddings=True)[0]


def run(encode: Callable[[str], Any], texts: list[str], clients: int, seconds: float) -> Result:
    latencies: list[tuple[float, float]] = []
    number = count()
    begin = time.perf_counter() + WARM * seconds
    end = begin + (1 - WARM) * seconds

    def client() -> None:
        while (started := time.perf_counter()) < end:
            worker.submit(encode, texts[next(number) % len(texts)]).result()
            done = time.perf_counter()
            latencies.append((done, done - started))

    worker = ThreadPoolExecutor(max_workers=1)
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.shutdown()
    return result(latencies, begin, end)


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep what the libraries print out of the results
    encode = load(sys.argv[1], sys.argv[2])
    print(json.dumps([float(number) for number in encode("hello world")]), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(dataclasses.asdict(run(encode, **job))), file=out, flush=True)


if __name__ == "__main__":
    main()
