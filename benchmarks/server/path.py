"""The way of one short streamed reply through ARK: its modules, its functions, and the calls for each further token.

The application is driven in this process with the echo of ``examples/echo_backend.py``, after a first reply that fills
the caches. A call counts where ``sys.setprofile`` sees a Python function of `ark` begin or go on, so that a generator
counts once for each value. The calls for a token are the difference between two replies of different lengths.

    python benchmarks/server/path.py [--list]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import anyio

import ark

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "examples"))

from ark.app import Ark, create_app
from ark.config import Config, ModelConfig

HOME = str(Path(ark.__file__).parent)
SHORT, LONG = "hello", "hello, hello"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the modules with their functions")
    options = parser.parse_args()
    short, long = anyio.run(measure)
    print(f"{len({module(code) for code in short})} modules, {len(short)} functions, {short.total()} calls")
    more = long - short
    tokens = len(LONG) - len(SHORT)
    names = {module(code) for code in more}
    calls = more.total() / tokens
    print(f"a further token: {calls:.3g} calls in {len(more)} functions of {len(names)} modules")
    if options.list:
        for name in sorted({module(code) for code in short}):
            inside = sorted({code for code in short if module(code) == name}, key=lambda code: code.co_firstlineno)
            print(f"\n{name}")
            for code in inside:
                each = f", {more[code] / tokens:.3g} for a token" if more[code] else ""
                print(f"    {code.co_qualname}: {short[code]}{each}")


async def measure() -> tuple[Counter[CodeType], Counter[CodeType]]:
    """The calls of a short reply and of a longer one."""
    app = create_app(Config(models=[ModelConfig(name="echo", backend="echo_backend:EchoBackend")]))
    async with app.lifespan():
        services = app.services
        assert services is not None
        await services.registry.models[0].ready()
        await calls(app, SHORT)
        return await calls(app, SHORT), await calls(app, LONG)


async def calls(app: Ark, content: str) -> Counter[CodeType]:
    """The functions of ARK that one streamed reply calls, and how often."""
    found: Counter[CodeType] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            found[frame.f_code] += 1

    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": content}], "stream": True}).encode()
    received = [{"type": "http.request", "body": body, "more_body": False}]
    ended = anyio.Event()

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
        elif not message["more_body"]:
            ended.set()

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
    sys.setprofile(note)
    try:
        await app(scope, receive, send)
    finally:
        sys.setprofile(None)
    return found


def module(code: CodeType) -> str:
    return ".".join(("ark", *Path(code.co_filename).relative_to(HOME).with_suffix("").parts))


if __name__ == "__main__":
    main()
