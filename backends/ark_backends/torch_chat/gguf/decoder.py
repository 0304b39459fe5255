"""The parts of a model in a GGUF, for the compiled kernels, as the model of transformers would have them.

Importing transformers takes seconds and 150 MB, and a server that computes by the kernels would use nothing of it. That
both are the same model is checked when a file is first opened, by `ark_backends.torch_chat.gguf.referee`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from ark_backends.kit.gguf.file import GGUF
from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.gguf.architecture import configuration
from ark_backends.torch_chat.gguf.parts import Parts
from ark_backends.torch_chat.kv import KVSpec
from ark_backends.torch_chat.stored import StoredEmbedding
from ark_backends.torch_chat.structure import FAMILIES, POST_NORMS

LINEARS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


class Decoder:
    """The parts under the names that transformers gives them. It computes nothing."""

    def __init__(self, gguf: GGUF, dtype: torch.dtype | None = None) -> None:
        """Raises ConfigError for a file that is not right, and LookupError for one that is beyond this module."""
        values = configuration(gguf)
        self.architecture: str = values["architectures"][0]
        """The class of transformers."""
        fit = values["num_attention_heads"] % values["num_key_value_heads"] == 0 and "rms_norm_eps" in values
        if self.architecture not in FAMILIES or not fit:
            raise LookupError(f"{self.architecture} of another kind")
        self._parts = Parts(gguf, values, dtype)
        self.config = _Config(**{"hidden_act": "silu"} | values)
        # The type of what is not a matrix, as transformers has it.
        self.device, self.dtype = torch.device("cpu"), torch.float32
        config = self.config
        queries, keys = (config.head_dim * heads for heads in (config.num_attention_heads, config.num_key_value_heads))
        self._shapes = {
            "q_proj": (queries, config.hidden_size),
            "k_proj": (keys, config.hidden_size),
            "v_proj": (keys, config.hidden_size),
            "o_proj": (config.hidden_size, queries),
            "gate_proj": (config.intermediate_size, config.hidden_size),
            "up_proj": (config.intermediate_size, config.hidden_size),
            "down_proj": (config.hidden_size, config.intermediate_size),
        }
        shape = (config.vocab_size, config.hidden_size)
        embedding = StoredEmbedding(self._parts.weight("model.embed_tokens", shape))
        self.lm_head = self._parts.linear("lm_head", shape, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.stored = embedding.stored
        self.model = SimpleNamespace(
            embed_tokens=embedding,
            layers=[self._layer(f"model.layers.{index}") for index in range(config.num_hidden_layers)],
            norm=self._norm("model.norm", config.hidden_size),
            rotary_emb=_Rotary(config.rope_parameters, config.head_dim, self._parts),
        )
        self._parts.check_all_used()

    @property
    def spec(self) -> KVSpec:
        """The KV of a token, as the kernels keep it."""
        config = self.config
        return KVSpec(
            layers=config.num_hidden_layers,
            heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            dtype=torch.float32,
            device=self.device,
            windows=tuple(self._windows()),
            group=config.num_attention_heads // config.num_key_value_heads,
            fused=getattr(config, "attn_logit_softcapping", None) is None,
            grain=compiled.LANES,
        )

    def get_input_embeddings(self) -> StoredEmbedding:
        found: StoredEmbedding = self.model.embed_tokens
        return found

    def _windows(self) -> list[int | None]:
        config = self.config
        if self.architecture not in POST_NORMS:
            return [None] * config.num_hidden_layers
        # In Gemma 2 every second one sees all.
        usual = ("sliding_attention", "full_attention")
        kinds = getattr(config, "layer_types", [usual[index % 2] for index in range(config.num_hidden_layers)])
        return [config.sliding_window if kind == "sliding_attention" else None for kind in kinds]

    def _layer(self, name: str) -> SimpleNamespace:
        hidden = self.config.hidden_size
        names = ["input_layernorm", "post_attention_layernorm"]
        if self.architecture in POST_NORMS:
            names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        layer = SimpleNamespace(**{one: self._norm(f"{name}.{one}", hidden) for one in names})
        for part, linears in LINEARS.items():
            made = {one: self._linear(f"{name}.{part}.{one}", self._shapes[one]) for one in linears}
            setattr(layer, part, SimpleNamespace(**made))
        size = self.config.head_dim
        layer.self_attn.head_dim = size
        layer.self_attn.scaling = float(getattr(self.config, "query_pre_attn_scalar", size)) ** -0.5
        for one in ("q_norm", "k_norm"):
            if self._parts.has(f"{name}.self_attn.{one}.weight"):
                setattr(layer.self_attn, one, self._norm(f"{name}.self_attn.{one}", size))
        return layer

    def _linear(self, name: str, shape: tuple[int, int]) -> Any:
        return self._parts.linear(name, shape, bias=self._parts.has(f"{name}.bias"))

    def _norm(self, name: str, size: int) -> SimpleNamespace:
        return SimpleNamespace(weight=self._parts.vector(name, "weight", size))


class _Config(SimpleNamespace):
    """A configuration like those of transformers."""

    def get_text_config(self) -> _Config:
        return self


class _Rotary:
    """Cosines and sines of positions, as transformers computes them."""

    def __init__(self, parameters: dict[str, Any], size: int, parts: Parts) -> None:
        tables = {None: parameters} if "rope_type" in parameters else parameters
        self._frequencies = {kind: _frequencies(table, size) for kind, table in tables.items()}
        factors = parts.factors(size // 2)
        if factors is not None:
            self._frequencies = {kind: found / factors for kind, found in self._frequencies.items()}

    def __call__(
        self, like: torch.Tensor, positions: torch.Tensor, kind: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of positions (1, tokens), each (1, tokens, head_dim)."""
        angles = positions[..., None].float() * self._frequencies[kind]
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _frequencies(parameters: dict[str, Any], size: int) -> torch.Tensor:
    kind = parameters["rope_type"]
    if kind not in ("default", "linear") or "partial_rotary_factor" in parameters:
        raise LookupError(f"rotary positions of the type {kind}")
    places = torch.arange(0, size, 2, dtype=torch.int64).float() / size
    return 1.0 / parameters["rope_theta"] ** places / parameters.get("factor", 1.0)
