"""llama.cpp's own server, from the package xllamacpp: `llama_server.py --weights FILE --port N`."""

from __future__ import annotations

import argparse
import time

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True, help="conversations at once")
    parser.add_argument("--slot-tokens", type=int, required=True, help="what each of them may hold")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cache-mib", type=int, help="memory for conversations without a slot; its default otherwise")
    parser.add_argument("--embeddings", action="store_true", help="serve vectors, the mean of all tokens' ones")
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = options.weights
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.slot_tokens
    params.use_jinja = True
    params.verbosity = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    if options.embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if options.cache_mib is not None:
        params.cache_ram_mib = options.cache_mib
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
