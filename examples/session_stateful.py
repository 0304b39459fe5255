"""A session by name: ``ark_stateful`` has an id that the program chooses, and each request has only the new message.

The server keeps the conversation, the model's hidden reasoning included. The session belongs to the API key. One that
has expired is a 404 `session_expired`, and never silently starts from nothing.
"""

from __future__ import annotations

import os
import uuid

from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")


def main() -> None:
    session = str(uuid.uuid4())
    with OpenAI(base_url=URL, api_key=KEY) as client:
        for text in ("My name is Ada.", "My favourite colour is blue.", "What is my name?"):
            raw = client.chat.completions.with_raw_response.create(
                model="gpt-4o",
                messages=[{"role": "user", "content": text}],
                extra_body={"ark_stateful": session},
            )
            reply = raw.parse()
            read = 0 if reply.usage is None else reply.usage.prompt_tokens
            print(f"{text}\n  {reply.choices[0].message.content}")
            print(f"  [{raw.headers['x-ark-session']}; {read} prompt tokens]")


if __name__ == "__main__":
    main()
