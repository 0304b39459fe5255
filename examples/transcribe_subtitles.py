"""Write subtitles beside a recording: ``python transcribe_subtitles.py talk.mp4`` writes ``talk.srt`` and ``talk.vtt``.

Of a film, the first audio track is transcribed. Each format takes a request of its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")
FORMATS: tuple[Literal["srt", "vtt"], ...] = ("srt", "vtt")


def main(path: Path) -> None:
    with OpenAI(base_url=URL, api_key=KEY) as client:
        for name in FORMATS:
            text = client.audio.transcriptions.create(model="whisper-1", file=path, response_format=name)
            written = path.with_suffix(f".{name}")
            written.write_text(text, encoding="utf-8")
            print(written.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
