"""Tools in the messages themselves, for a model whose chat template shows none: as its family's templates write them.

The system message describes the tools, an assistant's calls are text, and their results are a user's message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ark.chat.tools.formats import HERMES, LLAMA, ToolFormat

_HERMES = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""

_LLAMA = """\
Given the following functions, please respond with a JSON for a function call with its proper arguments that best \
answers the given prompt.

Respond in the format {{"name": function name, "parameters": dictionary of argument name and its value}}. Do not use \
variables.

{tools}"""

_ANY = """\
# Tools

You can call these functions, each of which has a JSON schema of its arguments:
{tools}

To call one, reply in this form, with its own name and arguments:
{example}"""

_RESULTS = {
    "mistral": "[TOOL_RESULTS] {}[/TOOL_RESULTS]",
    "mistral_args": "[TOOL_RESULTS]{}[/TOOL_RESULTS]",
    "llama": "{}",
}
_RESULT = "<tool_response>\n{}\n</tool_response>"


def write_tools(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None, form: ToolFormat
) -> list[dict[str, Any]]:
    """Messages that say what a template with tools would have written."""
    written: list[dict[str, Any]] = []
    results = False
    for message in messages:
        one = dict(message)
        if calls := one.pop("tool_calls", None):
            pairs = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
            one["content"] = "\n".join(filter(None, (one.get("content"), write_calls(form, pairs))))
        if one.get("role") != "tool":
            written.append(one)
        else:
            text = _RESULTS.get(form.name, _RESULT).format(one.get("content") or "")
            if results:
                # Templates want the roles to alternate.
                written[-1]["content"] += f"\n{text}"
            else:
                written.append({"role": "user", "content": text})
        results = one.get("role") == "tool"
    if tools:
        system = written.pop(0)["content"] if written and written[0].get("role") == "system" else ""
        text = "\n\n".join(filter(None, (system, _describe(tools, form))))
        written.insert(0, {"role": "system", "content": text})
    return written


def write_calls(form: ToolFormat, calls: Sequence[tuple[str, Any]]) -> str:
    """Calls, each a name and the value of its arguments, as the model writes them."""
    if form.tagged:
        return form.separator.join(f"{form.marker}\n{_tags(*call)}\n{form.close}" for call in calls)
    if form.name_separator:
        return "".join(f"{form.marker}{name}{form.name_separator}{_json(arguments)}" for name, arguments in calls)
    objects = [f'{{"name": {_json(name)}, "{form.key}": {_json(arguments)}}}' for name, arguments in calls]
    if form.array:
        return f"{form.marker} [{form.separator.join(objects)}]"
    if form.bare:
        return form.separator.join(objects)
    return form.separator.join(f"{form.marker}\n{one}\n{form.close}" for one in objects)


def _describe(tools: Sequence[Mapping[str, Any]], form: ToolFormat) -> str:
    if form is LLAMA:
        return _LLAMA.format(tools="\n\n".join(json.dumps(tool, ensure_ascii=False, indent=4) for tool in tools))
    text = _HERMES if form is HERMES else _ANY
    example = write_calls(form, [("function_name", {"argument": "value"})])
    return text.format(tools="\n".join(map(_json, tools)), example=example)


def _tags(name: str, arguments: Any) -> str:
    values = arguments if isinstance(arguments, dict) else {"arguments": arguments}
    texts = {key: value if isinstance(value, str) else _json(value) for key, value in values.items()}
    parameters = "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in texts.items())
    return f"<function={name}>\n{parameters}</function>"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
