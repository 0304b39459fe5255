"""Templates write what they do in transformers."""

from typing import Any

import pytest
from jinja2 import TemplateError
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ark_backends.kit.template import TemplatedTokenizer
from ark_backends.kit.tokenizer import HFTokenizer

ROLES = {"bos_token": "<s>", "eos_token": "</s>"}

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be <b>kind</b>."},
    {"role": "user", "content": "caf\u00e9 'quoted' & more"},
    {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [{"function": {"arguments": {"a": [1]}}}]},
    {"role": "tool", "content": "42", "name": None},
]

TEMPLATES = {
    "usual": "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] | trim }}{{ eos_token }}{% endfor %}",
    "lines": "{%- for m in messages %}\n    {{ m.role }}\n    {%- if loop.last %}!{% endif %}\n{% endfor %}\n",
    "json": "{{ messages | tojson }}{{ tools | tojson(indent=2) }}{{ tools | tojson(separators=(',', ':')) }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{{ m.name is defined }};{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "loops": "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.role }}"
    "{% if m.role == 'assistant' %}{% break %}{% endif %}{% endfor %}",
    "generation": "a {% generation %}{{ messages[0].content }}{% endgeneration %} b",
    "arguments": "{{ flavour }}{{ add_generation_prompt }}{{ dict(a=1)['a'] }}{{ unknown_token is defined }}",
    "day": "{{ strftime_now('%Y') | length }}",
}


def core() -> Tokenizer:
    made = Tokenizer(models.BPE({"a": 0, "b": 1, "<s>": 2, "</s>": 3}, []))
    made.add_tokens([AddedToken("<s>", special=True)])
    return made


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_writes_what_it_does_in_transformers(template: str) -> None:
    source = TEMPLATES[template]
    ours = HFTokenizer(TemplatedTokenizer(core(), source, ROLES))
    theirs = HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=core(), chat_template=source, **ROLES))
    values: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "f", "description": "<i>"}}],
        "template_kwargs": {"flavour": "mint"},
    }
    assert ours.render(TALK, **values) == theirs.render(TALK, **values)
    assert (ours.vocab_size, ours.special_texts) == (theirs.vocab_size, theirs.special_texts)


def test_a_template_may_refuse() -> None:
    made = TemplatedTokenizer(core(), "{{ raise_exception('no ' + messages[0].role) }}", {})
    with pytest.raises(TemplateError, match="no system"):
        made.apply_chat_template(TALK, tokenize=False)


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ namespace(__init__=1) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ dict.__globals__['json'] }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_reaches_nothing_but_what_it_is_given(source: str) -> None:
    with pytest.raises(TemplateError):
        TemplatedTokenizer(core(), source, {}).apply_chat_template(TALK, tokenize=False)
