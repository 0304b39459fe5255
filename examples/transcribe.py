"""Transcribe a recording, with OpenAI's client: ``python transcribe.py talk.wav``.

The recording may have any usual audio format. To use another server than the one on this machine, set ``ARK_URL`` and
``ARK_KEY``.
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
        reply = client.audio.transcriptions.create(model="whisper-1", file=path)
    print(reply.text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
