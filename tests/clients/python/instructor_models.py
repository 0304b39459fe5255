"""instructor: pydantic models by a schema for the reply, by a tool and by a strict one."""

import json
from typing import Literal

import instructor
import openai
from pydantic import BaseModel, Field


class Home(BaseModel):
    """Where somebody lives."""

    city: Literal["Paris", "London"]
    country: str | None = Field(default=None, max_length=20)


class Person(BaseModel):
    """Somebody, without a word on other properties: what is nested and what may be left out included."""

    age: int = Field(ge=0, le=150)
    job: Literal["poet", "mathematician"]
    home: Home
    tags: list[Literal["one", "two"]] = Field(default=[], max_length=3)


def ask(mode: instructor.Mode) -> Person:
    client = instructor.from_openai(openai.OpenAI(max_retries=0), mode=mode)
    messages = [{"role": "user", "content": "Ada of London, a mathematician, is 36 years old."}]
    made: Person = client.chat.completions.create(
        model="gpt-4o", response_model=Person, messages=messages, max_retries=0, temperature=0, max_tokens=400
    )
    return made


MODES = (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT)
print(json.dumps({mode.name: ask(mode).model_dump() for mode in MODES}))
