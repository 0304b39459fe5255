"""A reply as it is generated, with OpenAI's client.

Reasoning arrives separately from the answer, and the last chunk has the usage. To use another server than the one on
this machine, set ``ARK_URL`` and ``ARK_KEY``.
"""

from __future__ import annotations

import os

from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")


def main() -> None:
    with OpenAI(base_url=URL, api_key=KEY) as client:
        stream = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "Hello! My name is Ada."}],
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            if chunk.usage is not None:
                print(f"\n{chunk.usage.completion_tokens} tokens")
            for choice in chunk.choices:
                thought = (choice.delta.model_extra or {}).get("reasoning_content")
                print(thought or choice.delta.content or "", end="", flush=True)


if __name__ == "__main__":
    main()
