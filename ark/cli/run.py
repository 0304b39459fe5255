"""``ark run``: one reply to one prompt, for programs of the shell."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ark.cli.client import Client, CommandError, add_server_arguments
from ark.cli.usage import Help

_DESCRIPTION = """\
Ask a model once, and print its reply as it comes. What standard input has stands below the prompt:

    git diff | ark run 'Write a message for this commit.'

With --schema the reply is JSON of a schema. The server keeps nothing of the conversation; 'ark chat' has one.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser("run", help="ask a model once", description=_DESCRIPTION, formatter_class=Help)
    add_server_arguments(parser)
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to ask; by default the standard input alone")
    parser.add_argument("--model", help="a model of the server; otherwise its first chat model")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument("--schema", metavar="FILE", help="a JSON schema that the reply follows")
    parser.add_argument("--temperature", metavar="T", type=float, help="0 to 2; by default the model's own")
    parser.add_argument("--max-tokens", metavar="N", type=int, help="the longest reply")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    finish = ""
    with Client(args.url, args.key) as client:
        # Before the input is read, which may be long in coming.
        model = client.model(args.model, "chat")
        body = {"model": model, **_body(args)}
        for chunk in client.events("/chat/completions", body):
            for choice in chunk.get("choices", ()):
                print(choice.get("delta", {}).get("content") or "", end="", flush=True)
                finish = choice.get("finish_reason") or finish
    print()
    if finish == "length" and args.schema:
        raise CommandError("the reply was cut at its longest length, so it is no whole JSON")
    return 0


def _body(args: argparse.Namespace) -> dict[str, Any]:
    """The request, without its model. Raises CommandError."""
    # Not from a terminal: somebody who typed the command alone would wait without knowing for what.
    given = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read().strip()
    text = "\n\n".join(part for part in (args.prompt, given) if part)
    if not text:
        raise CommandError("there is no prompt: give one as an argument, or by the standard input")
    messages = [{"role": "user", "content": text}]
    if args.system is not None:
        messages.insert(0, {"role": "system", "content": args.system})
    body: dict[str, Any] = {"messages": messages, "stream": True, "ark_stateful": False}
    if args.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": _read_schema(Path(args.schema)), "strict": True},
        }
    for name in ("temperature", "max_tokens"):
        if getattr(args, name) is not None:
            body[name] = getattr(args, name)
    return body


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise CommandError(f"{path} is no JSON schema: it is no object")
    return schema
