"""A real, tiny tokenizer and chat templates of the shapes that models have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers, trainers

from ark.errors import BadRequest

# Like Qwen3: reasoning only behind the last question of a user, an empty block in the last reply.
CHATML = """\
{%- if tools %}{{ '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}
{{- '# Tools\n' + tools | tojson + '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- elif m.role == 'assistant' %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}
{{- '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}
{%- endif %}
{{- m.content or '' }}
{%- for call in m.tool_calls or [] %}
{{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""

# Like Llama 3: the date stands in the system message, content is trimmed, a call ends with its own token.
LLAMA3 = """\
{{- '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date + '\n\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% set rest = messages[1:] %}
{%- else %}{% set rest = messages %}{% endif %}
{{- '<|eot_id|>' }}
{%- for m in rest %}
{%- if m.role == 'tool' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}
{%- elif m.tool_calls %}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{{- '{"name": "' + m.tool_calls[0].function.name + '", "parameters": ' }}
{{- m.tool_calls[0].function.arguments | tojson + '}<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

# Like Mistral: no prompt for the reply, tools before the last question, roles checked, the system folded.
MISTRAL = """\
{{- '<s>' }}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}
{%- else %}{% set rest = messages %}{% endif %}
{%- set ns = namespace(index=0, last=-1) %}
{%- for m in rest %}
{%- if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}
{%- if (m.role == 'user') != (ns.index % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- set ns.index = ns.index + 1 %}
{%- endif %}
{%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in rest %}
{%- if m.role == 'user' %}
{%- if tools and loop.index0 == ns.last %}{{ '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}
{{- '[INST] ' }}
{%- if loop.index0 == ns.last and system is defined %}{{ system + '\n\n' }}{% endif %}
{{- m.content + '[/INST]' }}
{%- elif m.role == 'assistant' and m.tool_calls %}
{{- '[TOOL_CALLS] [{"name": "' + m.tool_calls[0].function.name + '", "arguments": ' }}
{{- m.tool_calls[0].function.arguments | tojson + '}]</s>' }}
{%- elif m.role == 'assistant' %}{{ ' ' + m.content + '</s>' }}
{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS] ' + m.content + '[/TOOL_RESULTS]' }}
{%- else %}{{ raise_exception('only user and assistant roles are supported') }}
{%- endif %}
{%- endfor %}"""

# Like Gemma: the system is folded into the first question, the reply's role is `model`.
GEMMA = """\
{{- '<bos>' }}
{%- if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}
{%- else %}{% set first = '' %}{% set rest = messages %}{% endif %}
{%- for m in rest %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}
{{- (first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""

# Like DeepSeek R1: the prompt of a reply opens the reasoning, the past has none.
OPENED = """\
{%- for m in messages %}
{%- if m.role == 'user' %}{{ '<|user|>' + m.content }}
{%- elif m.role == 'assistant' %}{{ '<|assistant|>' + m.content.split('</think>')[-1] + '<|eos|>' }}
{%- else %}{{ m.content }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"""

# Without any special token, like the oldest models.
PLAIN = """\
{%- for m in messages %}
{%- if m.role == 'assistant' %}{{ 'ASSISTANT: ' + m.content + '\n' }}
{%- else %}{{ m.role | upper + ': ' + m.content + '\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""

# Like Qwen3-Coder: arguments are tags.
TAGGED = """\
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + (m.content or '') }}
{%- for call in m.tool_calls or [] %}
{{- '<tool_call>\\n<function=' + call.function.name + '>\\n' }}
{%- for key, value in call.function.arguments | items %}
{{- '<parameter=' + key + '>\\n' + value + '\\n</parameter>\\n' }}
{%- endfor %}
{{- '</function>\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Like Mistral since version 11: arguments may be text.
TEXT = """\
{{- '<s>' }}
{%- for m in messages %}
{%- if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}
{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}
{%- else %}{{ m.content }}
{%- for call in m.tool_calls or [] %}
{%- set arguments = call.function.arguments %}
{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' }}
{{- arguments if arguments is string else arguments | tojson }}
{%- endfor %}
{{- '</s>' }}
{%- endif %}
{%- endfor %}"""

TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>"),
    "llama3": (LLAMA3, "<|eot_id|>"),
    "mistral": (MISTRAL, "</s>"),
    "gemma": (GEMMA, "<end_of_turn>"),
    "opened": (OPENED, "<|eos|>"),
    "plain": (PLAIN, "<|endoftext|>"),
    "tagged": (TAGGED, "<|im_end|>"),
    "text": (TEXT, "</s>"),
}
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<|eom_id|>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<bos>", "<start_of_turn>", "<end_of_turn>",
    "<|user|>", "<|assistant|>", "<|eos|>",
]  # fmt: skip
VISIBLE = ["<think>", "</think>", "<tool_call>", "</tool_call>"]


class Stream:
    def __init__(self, tokenizer: TinyTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._given = 0

    def push(self, token_ids: Sequence[int]) -> str:
        self._ids += token_ids
        text = self._text()
        while text.endswith("\ufffd"):
            text = text[:-1]
        piece, self._given = text[self._given :], max(self._given, len(text))
        return piece

    def flush(self) -> str:
        return self._text()[self._given :]

    def _text(self) -> str:
        return self._tokenizer.core.decode(self._ids, skip_special_tokens=True)


class TinyTokenizer:
    """`ark.engines.chat.Tokenizer` with one of the templates."""

    def __init__(self, core: Core, shape: str) -> None:
        template, self.stop = TEMPLATES[shape]
        self.core = core
        self.shape = shape
        self.date = "01 Jan 2026"
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        # As transformers does: Jinja's own filter escapes HTML.
        environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
        self._template = environment.from_string(template)
        self.stop_id: int = core.token_to_id(self.stop)

    @property
    def vocab_size(self) -> int:
        size: int = self.core.get_vocab_size()
        return size

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return frozenset({self.stop_id, self.core.token_to_id("<|endoftext|>"), self.core.token_to_id("<|eom_id|>")})

    @property
    def special_texts(self) -> list[str]:
        return [*SPECIAL, *VISIBLE]

    @property
    def chat_template(self) -> str:
        return TEMPLATES[self.shape][0]

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        try:
            return self._template.render(
                messages=messages,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                date=self.date,
                **(template_kwargs or {}),
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise BadRequest(f"The template refuses: {error}") from error

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.core.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        text: str = self.core.decode(list(token_ids), skip_special_tokens=False)
        return text

    def stream(self) -> Stream:
        return Stream(self)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


@pytest.fixture(scope="session")
def core() -> Core:
    """A byte-level BPE tokenizer, trained on a few lines."""
    tokenizer = Core(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [
        "system user assistant tool model ipython the quick brown fox jumps over the lazy dog",
        "name arguments parameters hello world, how are you? I am fine.\n\n Today Date: 01 Jan 2026\n",
    ]
    tokenizer.train_from_iterator(corpus * 4, trainer)
    tokenizer.add_tokens(VISIBLE)
    return tokenizer


@pytest.fixture(params=sorted(TEMPLATES))
def tokenizer(request: pytest.FixtureRequest, core: Core) -> TinyTokenizer:
    """One tokenizer for each shape of template."""
    return TinyTokenizer(core, request.param)


@pytest.fixture
def of_shape(core: Core) -> Any:
    """Makes the tokenizer of a named shape."""
    return lambda shape: TinyTokenizer(core, shape)
