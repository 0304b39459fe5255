"""A reply that follows a JSON schema.

The schema is enforced token by token, so the reply always parses, unless it ends at its token limit with the finish
reason ``length``. A schema that cannot be enforced is refused with a 400 that names the part.
"""

from __future__ import annotations

import json
import os
from typing import Any

from openai import BadRequestError, OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "languages": {"type": "array", "items": {"enum": ["de", "en", "fr"]}, "maxItems": 3},
    },
    "required": ["name", "age", "languages"],
    "additionalProperties": False,
}


def ask(client: OpenAI, schema: dict[str, Any]) -> Any:
    reply = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Describe a person as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
        max_tokens=500,
    )
    (choice,) = reply.choices
    if choice.finish_reason == "length" or choice.message.content is None:
        raise SystemExit("the reply was cut")
    return json.loads(choice.message.content)


def main() -> None:
    with OpenAI(base_url=URL, api_key=KEY) as client:
        person = ask(client, PERSON)
        print(f"{person['name']!r} is {person['age']} and speaks {', '.join(person['languages']) or 'nothing'}.")
        try:
            ask(client, {"type": "object", "properties": {"even": {"type": "integer", "not": {"const": 1}}}})
        except BadRequestError as error:
            print(f"refused: {error.message}")


if __name__ == "__main__":
    main()
