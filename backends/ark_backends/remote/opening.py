"""What is asked of an engine before it gets a job: which kind it is, and whether it reads the same tokens as ARK."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import httpx2
import msgspec

from ark.config import ConfigError, ModelConfig
from ark.engines import hub
from ark.engines.chat import GenerationJob, Grammar, SamplingParams
from ark.engines.model_files import find_local
from ark_backends.kit.gguf.file import GGUF
from ark_backends.kit.gguf.vocabulary import tokenizer as gguf_tokenizer
from ark_backends.kit.sampling_defaults import sampling_by_name
from ark_backends.kit.tokenizer import PARSED, HFTokenizer, load_tokenizer
from ark_backends.kit.weights import NEEDED, recommended_sampling
from ark_backends.remote.api import Asked, Description, EngineAPI
from ark_backends.remote.client import Clients
from ark_backends.remote.llama_cpp import LlamaCpp
from ark_backends.remote.options import RemoteOptions
from ark_backends.remote.sglang import Sglang
from ark_backends.remote.upstreams import Silent, Unfit
from ark_backends.remote.vllm import Vllm

T = TypeVar("T")

log = logging.getLogger("ark.remote")

CHECK_TIMEOUT = 10.0
"""Seconds for an answer to one question."""

PROBES = (
    "The quick brown fox, 12345 times:  two spaces\n\n\tand a tab.",
    "d\u00e9j\u00e0 vu \u4f60\u597d \u3053\u3093\u306b \u0645\u0631\u062d\u0628\u0627 \U0001f642 \U0001f468\u200d",
    'def f(x):\n    return {"a": [x**2, 0x1F, -1.5e-3]}  # ok\r\n',
    " leading and trailing ",
)
"""Texts that tokenizers treat differently."""

SENTENCE = "ark, that is"
SPACES = Grammar(
    lark='%llguidance {"no_forcing": true}\nstart: %json {"const": [1], "x-guidance": {"whitespace_pattern": " "}}\n'
)
TRIAL = Grammar(lark=f'%llguidance {{"no_forcing": true}}\nstart: "{SENTENCE}"\n')


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that serves the model."""

    api: EngineAPI
    description: Description
    grammars: bool
    """It keeps to grammars in llguidance's dialect."""
    repeats_spaces: bool
    """What a JSON schema allows of white space in one place it lets be repeated."""
    spells_tags: bool
    """By a grammar it writes tags as letters, which the model has learned as tokens."""


def find_tokenizer(model: ModelConfig) -> Path:
    """The directory or file of a model's tokenizer, downloaded if need be; no weights. Raises ConfigError."""
    if (local := find_local(model.source)) is not None:
        return local
    if model.source.startswith(("/", ".", "~")) or model.source.count("/") > 1:
        raise ConfigError(f"the tokenizer {model.source!r} does not exist")
    return hub.download(model.source, model.revision, NEEDED)


def open_tokenizer(path: Path) -> tuple[HFTokenizer, SamplingParams]:
    """A tokenizer, and what its model's makers recommend. Raises ConfigError."""
    if path.is_dir():
        return load_tokenizer(path), recommended_sampling(path)
    gguf = GGUF(path)
    return gguf_tokenizer(gguf), sampling_by_name(path.name, str(gguf.metadata.get("general.name", "")))


def first_that_answers(options: RemoteOptions, look: Callable[[str], T]) -> T:
    """What `look` finds at the first URL where it does not raise Unfit. Raises ConfigError after a time."""
    deadline = time.monotonic() + options.open_timeout
    while True:
        problems = []
        for url in options.urls:
            try:
                return look(url)
            except Unfit as error:
                problems.append(f"{url}: {error}")
        if time.monotonic() >= deadline:
            raise ConfigError("no engine can be used: " + "; ".join(problems))
        time.sleep(1.0)


def asked_for_health(clients: Clients, url: str) -> None:
    """Raises Unfit where an engine is not well."""
    with clients.checking(url, CHECK_TIMEOUT) as http:
        try:
            http.get("/health").raise_for_status()
        except (httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.ReadError) as error:
            raise Silent(str(error) or type(error).__name__) from error
        except (httpx2.HTTPError, OSError) as error:
            raise Unfit(str(error) or type(error).__name__) from error


class Checker:
    """Checks engines, in a thread."""

    def __init__(self, options: RemoteOptions, clients: Clients, tokenizer: HFTokenizer) -> None:
        self._options = options
        self._clients = clients
        self._tokenizer = tokenizer
        apis: list[EngineAPI] = [Vllm(), Sglang(), LlamaCpp(tokenizer, prefix_cache=options.prefix_cache)]
        self._apis = [api for api in apis if options.server in ("auto", api.name)]

    def wait(self) -> Opened:
        """The first engine that answers. Raises ConfigError."""
        return first_that_answers(self._options, self.check)

    def ask(self, url: str) -> None:
        """Raises Unfit where an engine is not well."""
        asked_for_health(self._clients, url)

    def check(self, url: str) -> Opened:
        """What serves the model at a URL. Raises Unfit where it does not answer yet, and ConfigError where it is not
        this model's engine."""
        self.ask(url)
        with self._clients.checking(url, CHECK_TIMEOUT) as http:
            try:
                return self._check(http, url)
            except (httpx2.HTTPError, OSError) as error:
                raise Unfit(str(error) or type(error).__name__) from error
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(f"{url} answers as no engine that ARK knows: {error!r}") from error

    def _check(self, http: httpx2.Client, url: str) -> Opened:
        for api in self._apis:
            try:
                description = api.describe(http, self._options.model)
            except LookupError as error:
                raise ConfigError(f"{url}: {error}") from error
            if description is not None:
                break
        else:
            raise ConfigError(f"{url} is none of: {', '.join(api.name for api in self._apis)}")
        self._check_tokens(api, http, url, description.model)
        grammars = self._text(self._try_out(api, http, description, TRIAL)) == SENTENCE
        spaces = self._tokenizer.encode(" ")
        array = self._text(self._try_out(api, http, description, SPACES, spaces[-1:])) if grammars else ""
        return Opened(
            api=api,
            description=description,
            grammars=grammars,
            repeats_spaces="  " in array,
            spells_tags=grammars and self._spells_tags(api, http, description),
        )

    def _check_tokens(self, api: EngineAPI, http: httpx2.Client, url: str, model: str) -> None:
        """Raises ConfigError where the engine reads other tokens: it would answer what nobody has asked."""
        # Between letters, which are no part of them.
        special = "".join(f"x{text}" for text in sorted(self._tokenizer.special_texts))
        for text in (*PROBES, special):
            own = self._tokenizer.encode(text)
            if self._options.tokenizer_check == "ids":
                said = api.detokenize(http, model, own)
                if said != self._tokenizer.decode(own):
                    raise ConfigError(
                        f"{url} has another vocabulary: ARK's ids of {text[:40]!r} are {said[:40]!r} there"
                    )
                continue
            theirs = api.tokenize(http, model, text)
            if own == theirs:
                continue
            place = next((i for i, (a, b) in enumerate(zip(own, theirs, strict=False)) if a != b), len(own))
            near = self._tokenizer.decode(own[max(0, place - 2) : place + 3])
            raise ConfigError(
                f"{url} has another tokenizer: near {near!r} it reads {theirs[place : place + 3]}, and ARK "
                f"{own[place : place + 3]}; 'path' has to name the model that it serves"
            )

    def _spells_tags(self, api: EngineAPI, http: httpx2.Client, description: Description) -> bool:
        """Whether a grammar's tags, such as those of tool calls, are written letter by letter, and not as the tokens
        that the model has learned."""
        tags = "".join(sorted(text for text in self._tokenizer.special_texts if PARSED.search(text)))
        ids = self._tokenizer.encode(tags)
        grammar = Grammar(lark=f'%llguidance {{"no_forcing": true}}\nstart: {json.dumps(tags)}\n')
        return bool(ids) and self._try_out(api, http, description, grammar, ids)[: len(ids)] != ids

    def _text(self, ids: Sequence[int]) -> str:
        """The text of what an engine wrote, without its end."""
        ends = self._tokenizer.hidden | self._tokenizer.stop_token_ids
        return self._tokenizer.decode([token for token in ids if token not in ends])

    def _try_out(
        self,
        api: EngineAPI,
        http: httpx2.Client,
        found: Description,
        grammar: Grammar,
        prefer: Sequence[int] = (),
    ) -> list[int]:
        """What the engine writes by a grammar, with the tokens `prefer` where it can; nothing where it refuses the
        grammar. Some ignore a grammar that they cannot read."""
        prompt = self._tokenizer.encode("x")
        job = GenerationJob(
            request_id="trial",
            prompt=prompt,
            max_tokens=min(32, found.context_length - len(prompt)),
            sampling=SamplingParams(temperature=0.0, logit_bias=dict.fromkeys(prefer, 100.0)),
            stop_token_ids=self._tokenizer.stop_token_ids,
            grammar=grammar,
        )
        body = api.body(job, Asked(model=found.model, salt="trial", stream=False))
        response = http.post(api.path, json=body)
        if response.status_code in (400, 422, 500):
            return []
        return api.ids(response.raise_for_status().json())
