"""Call faster-whisper directly, from as many threads as there are clients, without HTTP.

`compare.py` runs it as a process of its own: `direct.py DIRECTORY OPTIONS FILE...`. It reads the number of clients of
each run from standard input, and writes one line of JSON for each result. Threads and workers are faster-whisper's own
choice.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import wave

os.environ["HF_HUB_OFFLINE"] = "1"

from faster_whisper import WhisperModel
from load import closed


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep what the libraries print out of the results
    path, text, *files = sys.argv[1:]
    options = {name: value for name, value in json.loads(text).items() if value is not None}
    model = WhisperModel(path, device="cpu", compute_type="int8")
    total = 0.0
    for file in files:
        with wave.open(file) as sound:
            total += sound.getnframes() / sound.getframerate()

    def ask(number: int) -> float:
        started, first = time.perf_counter(), 0.0
        segments, _ = model.transcribe(files[number], language="en", **options)
        for _ in segments:
            first = first or time.perf_counter() - started
        return first

    ask(0)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(dataclasses.asdict(closed(ask, len(files), int(line), total))), file=out, flush=True)


if __name__ == "__main__":
    main()
