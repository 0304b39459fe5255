"""Which format a model's chat template shows."""

from __future__ import annotations

import pytest
from fixture_models import TINY_CHAT

from ark.chat.tools.formats import find_format

QWEN = "{%- if tools %}For each call return <tool_call>...{%- endif %}"
MISTRAL = '{%- if tools %}[AVAILABLE_TOOLS]{%- endif %}{{ "[TOOL_CALLS] [" }}'
MISTRAL_ARGS = '{%- if tools %}[AVAILABLE_TOOLS]{%- endif %}{{ "[TOOL_CALLS]" + name + "[ARGS]" + arguments }}'
QWEN_XML = "{%- if tools %}Reply with <tool_call>\n<function=name>\n<parameter=key>...{%- endif %}"
LLAMA = "{%- if tools is not none %}Environment: ipython{%- endif %}{{ '\"parameters\": ' }}"
LLAMA_3_1 = '{%- if builtin_tools %}{{ "<|python_tag|>" }}{%- endif %}'


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (QWEN, "hermes"),
        (MISTRAL, "mistral"),
        (MISTRAL_ARGS, "mistral_args"),
        (QWEN_XML, "qwen_xml"),
        (LLAMA, "llama"),
        (LLAMA_3_1, "llama"),
        ("{% for message in messages %}{{ message.content }}{% endfor %}", None),
        ("{% for tool in tools %}{{ tool }}{% endfor %}", None),
        (None, None),
    ],
)
def test_template(template: str | None, name: str | None) -> None:
    form = find_format(template)
    assert (None if form is None else form.name) == name


def test_the_configuration_decides() -> None:
    form = find_format(None, "mistral")
    assert form is not None
    assert form.name == "mistral"


def test_the_tests_own_model_speaks_hermes() -> None:
    form = find_format((TINY_CHAT / "chat_template.jinja").read_text())
    assert form is not None
    assert form.name == "hermes"
