"""What a decoder of transformers consists of, for models of the kind that the compiled kernels compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ark_backends.torch_chat.rope import Rope
from ark_backends.torch_chat.stored import StoredEmbedding, StoredLinear, StoredWeight

POST_NORMS = frozenset({"Gemma2ForCausalLM", "Gemma3ForCausalLM"})
"""Those that normalise what attention and MLP give, too."""

GEMMAS = POST_NORMS | {"GemmaForCausalLM"}

FAMILIES = GEMMAS | {
    *("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM"),
}
"""Classes of transformers whose layers are those of this module. The check at load compares them all the same."""

ACTIVATIONS = {"silu": False, "gelu_pytorch_tanh": True}
"""Those of gates, and whether they are GELU."""


@dataclass(frozen=True)
class LinearPart:
    """A linear layer: of one or more modules with the same input, whose outputs stand behind each other."""

    name: str
    modules: tuple[Any, ...]
    gated: bool = False
    """The first module are gates of the second."""


class Structure:
    """The parts of a loaded model, which keeps its weights until they are taken from it."""

    def __init__(self, model: Any) -> None:
        body, config = model.model, model.config.get_text_config()
        attention = body.layers[0].self_attn
        architecture = architecture_of(model)
        gemma = architecture in GEMMAS
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(attention.head_dim)
        self.hidden = int(config.hidden_size)
        self.vocabulary = int(model.lm_head.out_features)
        self.gelu = ACTIVATIONS[_activation(config)]
        self.scale = float(attention.scaling)
        self.softcap = float(getattr(config, "attn_logit_softcapping", None) or 0.0)
        self.final_softcap = float(getattr(config, "final_logit_softcapping", None) or 0.0)
        self.epsilon = float(config.rms_norm_eps)
        embedding = body.embed_tokens
        stored = isinstance(embedding, StoredEmbedding)
        self.embedding: torch.Tensor | StoredWeight = embedding.stored if stored else embedding.weight.detach()
        self.tied = (
            embedding.stored is model.lm_head.stored
            if stored
            else embedding.weight.data_ptr() == model.lm_head.weight.data_ptr()
        )
        """Whether the embedding is the head's weight."""
        # As the model itself rounds it.
        self.embedding_scale = float(torch.tensor(self.hidden**0.5, dtype=model.dtype)) if gemma else 1.0
        self._added = 1.0 if gemma else 0.0
        self._post_norms = architecture in POST_NORMS
        self._model = model
        kinds = getattr(config, "layer_types", None) if architecture == "Gemma3ForCausalLM" else None
        self.ropes = [Rope(body.rotary_emb, model.device, kind) for kind in sorted(set(kinds))] if kinds else []
        self.rotations = [sorted(set(kinds)).index(kind) for kind in kinds] if kinds else [0] * len(body.layers)
        self.ropes = self.ropes or [Rope(body.rotary_emb, model.device)]
        if architecture == "SmolLM3ForCausalLM":
            # Some of its layers do not see positions: they turn by nothing.
            self.rotations = [1 - turned for turned in config.no_rope_layers]
            self.ropes.append(Rope(_still(self.head_dim), model.device))

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a model is one of those that this module knows."""
        if type(model).__name__ not in FAMILIES or model.device.type != "cpu":
            return False
        config = model.config.get_text_config()
        attention = model.model.layers[0].self_attn
        # Checkpoints that come quantized have layers of other classes.
        linears = [module for name, module in model.named_modules() if name.endswith(("_proj", "lm_head"))]
        rotary = model.model.rotary_emb
        rotated = [module.shape[-1] * 2 for name, module in rotary.named_buffers() if name.endswith("inv_freq")]
        return (
            _activation(config) in ACTIVATIONS
            and set(rotated) == {attention.head_dim}
            and all(type(module) in (torch.nn.Linear, StoredLinear) for module in linears)
        )

    def linears(self) -> Iterator[LinearPart]:
        """Every linear layer in the order of computation."""
        for index, layer in enumerate(self._model.model.layers):
            attention, mlp = layer.self_attn, layer.mlp
            yield LinearPart(f"layer {index} read", (attention.q_proj, attention.k_proj, attention.v_proj))
            yield LinearPart(f"layer {index} write", (attention.o_proj,))
            yield LinearPart(f"layer {index} open", (mlp.gate_proj, mlp.up_proj), gated=True)
            yield LinearPart(f"layer {index} close", (mlp.down_proj,))
        yield LinearPart("head", (self._model.lm_head,))

    def gains(self) -> list[torch.Tensor]:
        """Of the normalisations before attention and MLP of each layer, and of the last one."""
        layers = self._model.model.layers
        if self._post_norms:
            pairs = [(layer.input_layernorm, layer.pre_feedforward_layernorm) for layer in layers]
        else:
            pairs = [(layer.input_layernorm, layer.post_attention_layernorm) for layer in layers]
        return [self._gain(norm) for norm in (*(norm for pair in pairs for norm in pair), self._model.model.norm)]

    def post_gains(self) -> list[torch.Tensor]:
        """Of the normalisations behind attention and MLP, where there are some."""
        layers = self._model.model.layers if self._post_norms else ()
        pairs = [(layer.post_attention_layernorm, layer.post_feedforward_layernorm) for layer in layers]
        return [self._gain(norm) for pair in pairs for norm in pair]

    def head_gains(self) -> list[torch.Tensor]:
        """Of the normalisations of queries and of keys of each layer, where there are some."""
        attentions = [layer.self_attn for layer in self._model.model.layers]
        norms = [norm for one in attentions if hasattr(one, "q_norm") for norm in (one.q_norm, one.k_norm)]
        return [self._gain(norm) for norm in norms]

    def _gain(self, norm: Any) -> torch.Tensor:
        gain: torch.Tensor = norm.weight.detach().float() + self._added
        return gain


def _still(size: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Cosines and sines of angles of zero, for any positions."""

    def angles(like: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (*positions.shape, size)
        return like.new_ones(shape), like.new_zeros(shape)

    return angles


def architecture_of(model: Any) -> str:
    """The class of transformers that a model is of, or has the parts of."""
    return str(getattr(model, "architecture", type(model).__name__))


def _activation(config: Any) -> str:
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)
