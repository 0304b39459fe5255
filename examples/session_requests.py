"""A session by cookie, with requests: a ``requests.Session`` keeps the cookie.

Any client with a cookie jar works. A client without one gets a new session with every request.
"""

from __future__ import annotations

import os
from typing import Any

import requests

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")


def main() -> None:
    messages: list[dict[str, Any]] = []
    with requests.Session() as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        for text in ("My name is Ada.", "What is my name?"):
            messages.append({"role": "user", "content": text})
            reply = http.post(f"{URL}/chat/completions", json={"model": "gpt-4o", "messages": messages}, timeout=60)
            reply.raise_for_status()
            message = reply.json()["choices"][0]["message"]
            messages.append({"role": "assistant", "content": message["content"]})
            print(f"{text}\n  {message['content']}\n  [{reply.headers['x-ark-session']}]")
        print(f"ark_session_id={http.cookies['ark_session_id']}")


if __name__ == "__main__":
    main()
