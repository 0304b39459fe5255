"""A session by cookie, with OpenAI's client: the server keeps what the model has read and thought.

OpenAI's client keeps cookies, so the program needs no changes. It sends the whole conversation, and the server
recognizes it and computes only what is new.
"""

from __future__ import annotations

import os
from typing import Any

from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")


def main() -> None:
    messages: list[Any] = []
    with OpenAI(base_url=URL, api_key=KEY) as client:
        for text in ("My name is Ada.", "What is my name?"):
            messages.append({"role": "user", "content": text})
            raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=messages)
            reply = raw.parse()
            messages.append(reply.choices[0].message)
            usage = reply.usage
            cached = (
                0 if usage is None or usage.prompt_tokens_details is None else usage.prompt_tokens_details.cached_tokens
            )
            print(f"{text}\n  {reply.choices[0].message.content}")
            print(f"  [{raw.headers['x-ark-session']}; {cached} prompt tokens cached]")


if __name__ == "__main__":
    main()
