"""Transcribe a long recording as a stream: ``python transcribe_stream.py talk.wav``.

The text of each segment arrives as soon as it is recognized. The last event has the whole text and the usage.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")


def main(path: Path) -> None:
    with OpenAI(base_url=URL, api_key=KEY) as client:
        for event in client.audio.transcriptions.create(model="whisper-1", file=path, stream=True):
            if event.type == "transcript.text.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "transcript.text.done" and event.usage is not None:
                print(f"\n{event.usage.output_tokens} tokens")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
