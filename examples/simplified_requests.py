"""``ark_simplified``: a stream of text only, read with requests and without an SSE library.

Each event's data is the text of a token and nothing else. The last two events are the usage as JSON and ``[DONE]``. An
error is an event with the name ``error``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import requests

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """The name and the data of each event. Several data lines make one text with line breaks."""
    name, data = "message", list[str]()
    for raw in lines:
        line = raw.decode()
        if not line and data:
            yield name, "\n".join(data)
            name, data = "message", []
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif line.startswith("event:"):
            name = line.removeprefix("event:").strip()


def main() -> None:
    body: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Count to 5."}],
        "stream": True,
        "ark_simplified": True,
    }
    headers = {"authorization": f"Bearer {KEY}"}
    with requests.post(f"{URL}/chat/completions", json=body, headers=headers, stream=True, timeout=60) as reply:
        reply.raise_for_status()
        waiting: list[str] = []
        # Byte by byte, because requests would wait for more text than a token has.
        for name, data in events(reply.iter_lines(chunk_size=1)):
            if name == "error":
                raise SystemExit(data)
            waiting.append(data)
            # The last two events are not text.
            if len(waiting) > 2:
                print(waiting.pop(0), end="", flush=True)
        usage, _done = waiting
        print(f"\n{usage}")


if __name__ == "__main__":
    main()
