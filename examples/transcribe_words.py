"""Find out when each word of a recording was said: ``python transcribe_words.py talk.wav``.

``timestamp_granularities`` asks for words in addition to segments. Only ``verbose_json`` has them.
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
        reply = client.audio.transcriptions.create(
            model="whisper-1", file=path, response_format="verbose_json", timestamp_granularities=["segment", "word"]
        )
    for segment in reply.segments or []:
        print(f"{segment.start:6.2f} - {segment.end:6.2f} {segment.text}")
    for word in reply.words or []:
        print(f"{word.start:6.2f} - {word.end:6.2f}   {word.word}")
    print(f"{reply.language}, {reply.duration:.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
