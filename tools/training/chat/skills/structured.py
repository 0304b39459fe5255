"""JSON with keys and values from the request."""

# ruff: noqa: E501 - a phrase is one line, however long

import json

from tools.training.chat.dialogue import World
from tools.training.chat.phrasing import DO, Phrases

_JSON = Phrases(
    (
        "[Build|Make|Write|Generate|Construct|Provide|Send|Print] [a|one|the] [JSON object|JSON document|JSON record|small JSON] [from|for|of|out of|using|holding|that has|that contains|where] {p}.",
        "[Write|Show|Store|Save|Serialize|List] {p} [as|in] JSON.",
        "{p}. [As JSON|In JSON|JSON, please|Make it JSON].",
        "[Here is the data|My data|Data|Input]: {p}. [Write it as JSON|Give me JSON|Make JSON of it].",
        "[What is|What would be] the JSON for {p}?",
        "Your [answer|reply] must be JSON: {p}",
        "JSON {p}",
        "[Please |||][give|show|send] me [JSON|a JSON object|some JSON] with [|the keys |the fields ]{p}.",
        "[Write|Make|Create|Return|Output|Produce|Build] [JSON|a JSON object|the JSON|a JSON] with [|the keys |the fields ]{p}.",
        "[Answer|Reply|Respond] [in JSON|as JSON|with JSON|with a JSON object][| only]: {p}.",
        "[JSON|As JSON|In JSON][|, please]: {p}",
        "[Put|Turn|Convert] this into JSON: {p}",
        "[Can you|Could you] [write|give me|make] [JSON|a JSON object] with {p}?",
        "I need [JSON|a JSON object] with {p}.",
        f"{DO}[write|give me|make|create|return|output|produce|build|show me|send|generate|compose|type|prepare] [JSON|a JSON|a JSON object|one JSON object|some JSON|valid JSON|the JSON|a small JSON object] [with|from|of|for|out of|that has|that holds|made of|using] [||the keys |the fields |the data |the values ]{{p}}[|.]",
        f"{DO}[turn|convert|change|put|make|transform|pack|bring|write|render|translate] [this|the following|these values|this data|these fields|these pairs|my data] [into|to|in|as] [JSON|a JSON object|JSON form|JSON format]: {{p}}",
        "[JSON with|JSON from|JSON of|JSON for|A JSON object with|A JSON with|A JSON object of|Object with|An object with] {p}[|.|, please.]",
        "[Use JSON|Use the JSON format|In JSON format|As a JSON object|JSON only|Only JSON|Valid JSON|JSON output|JSON time|Now in JSON|JSON please][:|:|.] {p}",
        "[Here are|These are|I have|I give you|Take|Use] [some fields|some values|the keys and values|the values|my fields|this data|key and value]: {p}. [JSON, please|Make JSON|Write JSON|Now the JSON|I want JSON|Return JSON].",
        "[JSON|One JSON object|A JSON record|A JSON document|An object in JSON|Some JSON|JSON output|The JSON object|A small JSON], [please|pls|if you can|thanks|quickly|now|my friend|if possible|okay][,|,|:|.| -] [|with |holding |made of |from |of |it has |built from |for ]{p}[|.]",
        "[JSON|A JSON object|An object|A JSON record|Write JSON|Make a JSON object|Give me JSON|I want JSON|Build JSON] [having|containing|including|carrying|holding|consisting of|that contains|which has] {p}[|.|, please.]",
        "[Express|Represent|Encode|Format|Serialise|Describe|Note|Formulate] {p} [as|in|with] [JSON|a JSON object][|, please][.|]",
        "[Represent|Express|Encode|Format|Write out|Formulate|State] [the following|these values|this data|these pairs|the pairs] [in|with|through] JSON: {p}",
        "[I want|I'd like|I am looking for|Let me have|We need] [JSON|a JSON object|a JSON] [with|of|for|from|that has] {p}.",
        "[How does|How would] {p} look [as|in] JSON?",
    ),
    (
        "[Format|Encode] as [JSON|a JSON object]: {p}",
        "[A JSON object|JSON], please, [containing|having] {p}.",
        "[Express|Represent] this as JSON: {p}",
    ),
    "opened",
)
_KEYS = [
    "name",
    "age",
    "city",
    "color",
    "colour",
    "size",
    "count",
    "id",
    "price",
    "title",
    "status",
    "type",
    "value",
    "answer",
    "key",
    "code",
    "date",
    "time",
    "user",
    "email",
    "total",
    "score",
    "level",
    "width",
    "height",
    "weight",
    "speed",
    "mode",
    "path",
    "state",
    "year",
    "month",
    "day",
    "number",
    "word",
    "animal",
    "food",
]


def json_object(world: World) -> None:
    """A JSON object with one to three keys and values from the request."""
    rng = world.rng
    pairs: dict[str, str | int] = {}
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        key = rng.choice(_KEYS) if rng.random() < 0.6 else world.draw("word").lower()
        kind = rng.random()
        if kind < 0.35:
            pairs[key] = int(world.draw("number"))
        else:
            pairs[key] = world.draw(rng.choice(("word", "name", "colour", "city", "animal")))
    form = rng.choice(("{k}={v}", "{k}={v}", "{k} = {v}", "{k}: {v}", "{k} {v}", "{k} is {v}", '"{k}": "{v}"'))
    parts = [
        (form if isinstance(value, str) else form.replace('"{v}"', "{v}")).format(k=key, v=value)
        for key, value in pairs.items()
    ]
    joined = ", ".join(parts) if rng.random() < 0.5 else ", ".join(parts[:-1]) + " and " + parts[-1]
    if len(parts) == 1:
        joined = parts[0]
    text = world.say(_JSON, p=joined)
    if len(parts) == 1:
        text = text.replace("the keys ", "the key ").replace("the fields ", "the field ")
    world.user(text)
    world.reply(json.dumps(pairs, ensure_ascii=False))
