"""From a GGUF's metadata to the configuration of transformers for the same model. This module is light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ark.config import ConfigError
from ark_backends.kit.gguf.file import GGUF

MOST = 1 << 20
"""Largest size, number of heads or of layers that is believed."""

Values = dict[str, Any]

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Parts of a layer: llama.cpp's name to that of transformers."""

HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}

POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}

GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}

FUSED = LAYER | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}

SIMPLE = LAYER | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}

OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


@dataclass(frozen=True)
class Architecture:
    """What an architecture is called in transformers, and how its numbers differ."""

    model: str
    """The class of transformers."""
    kind: str
    """The `model_type` of transformers."""
    layer: Mapping[str, str]
    extra: Callable[[Metadata, Values], None] | None = None
    """Adds to the configuration what only this architecture has."""
    rotated_in_pairs: bool = False
    """Queries and keys are stored in another order: neighbours, and not halves, are rotated together."""
    gain: float = 0.0
    """What is added to gains of normalisations where they are stored."""


class Metadata:
    """The values of an architecture. Each getter raises ConfigError for a value that no model has."""

    def __init__(self, gguf: GGUF) -> None:
        self._gguf = gguf
        self._values = gguf.metadata
        self.name = self.text("general.architecture")

    def text(self, key: str) -> str:
        value = self._values.get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "it is no text" if key in self._values else "it is not there")
        return value

    def has(self, key: str) -> bool:
        return f"{self.name}.{key}" in self._values

    def size(self, key: str, default: int | None = None) -> int:
        """A number of things, of each layer the same."""
        value = self._values.get(f"{self.name}.{key}", default)
        if isinstance(value, memoryview) and len(value) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, memoryview):
            raise self._wrong(f"{self.name}.{key}", "it differs between layers, which ARK does not compute")
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise self._wrong(f"{self.name}.{key}", "it is not there" if value is None else f"it is {str(value)[:40]}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._values.get(f"{self.name}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            raise self._wrong(f"{self.name}.{key}", "it is not there" if value is None else f"it is {str(value)[:40]}")
        return float(value)

    def window(self) -> int | None:
        """Tokens that sliding attention sees; None where it sees all."""
        key = "attention.sliding_window"
        return self.size(key) if self._values.get(f"{self.name}.{key}") else None

    def word(self, key: str) -> str | None:
        value = self._values.get(f"{self.name}.{key}")
        return value if isinstance(value, str) else None

    def id(self, key: str) -> int | None:
        value = self._values.get(f"tokenizer.ggml.{key}")
        return value if isinstance(value, int) and 0 <= value < 1 << 31 else None

    def tensor(self, name: str) -> Any:
        return self._gguf.tensors.get(name)

    def _wrong(self, key: str, what: str) -> ConfigError:
        return ConfigError(f"{self._gguf.path}: {key} is wrong: {what}")


def configuration(gguf: GGUF) -> Values:
    """The config.json that the model would have. Raises ConfigError for an architecture that ARK does not run."""
    metadata = Metadata(gguf)
    known = ARCHITECTURES.get(metadata.name)
    if known is None:
        names = ", ".join(ARCHITECTURES)
        raise ConfigError(f"{gguf.path}: ARK does not run GGUFs of the architecture {metadata.name!r}, only: {names}")
    layers, heads, hidden = (metadata.size(key) for key in ("block_count", "attention.head_count", "embedding_length"))
    if layers > len(gguf.tensors):
        raise ConfigError(f"{gguf.path}: it has {len(gguf.tensors)} tensors for {layers} layers")
    embedding = metadata.tensor("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ConfigError(f"{gguf.path}: it has no tensor token_embd.weight")
    head_dim = metadata.size("attention.key_length", max(1, hidden // heads))
    config: Values = {
        "architectures": [known.model],
        "model_type": known.kind,
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden,
        "intermediate_size": metadata.size("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.size("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": metadata.size("context_length"),
        "tie_word_embeddings": metadata.tensor("output.weight") is None,
        "attention_bias": metadata.tensor("blk.0.attn_q.bias") is not None,
        "bos_token_id": metadata.id("bos_token_id"),
        "eos_token_id": metadata.id("eos_token_id"),
        "pad_token_id": None,
        "rope_parameters": _rope(metadata),
        "quantization_config": {"quant_method": "gguf"},
        "dtype": "float32",
    }
    if metadata.has("attention.layer_norm_rms_epsilon"):
        config["rms_norm_eps"] = metadata.number("attention.layer_norm_rms_epsilon")
    if metadata.size("attention.value_length", head_dim) != head_dim:
        raise ConfigError(f"{gguf.path}: its keys and values differ in size, which ARK does not compute")
    rotated = metadata.size("rope.dimension_count", head_dim)
    if rotated != head_dim:
        if known.rotated_in_pairs:
            raise ConfigError(f"{gguf.path}: it rotates {rotated} of {head_dim} numbers, which ARK does not compute")
        config["rope_parameters"]["partial_rotary_factor"] = rotated / head_dim
    if known.extra is not None:
        known.extra(metadata, config)
    return config


def _rope(metadata: Metadata) -> Values:
    found: Values = {"rope_type": "default", "rope_theta": metadata.number("rope.freq_base", 10_000.0)}
    kind = metadata.word("rope.scaling.type")
    if kind == "linear":
        found |= {"rope_type": "linear", "factor": metadata.number("rope.scaling.factor")}
    elif kind == "yarn":
        found |= {"rope_type": "yarn", "factor": metadata.number("rope.scaling.factor")}
        found["original_max_position_embeddings"] = metadata.size("rope.scaling.original_context_length")
        for key, name in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
            if metadata.has(f"rope.scaling.{key}"):
                found[name] = metadata.number(f"rope.scaling.{key}")
    elif kind not in (None, "none", "longrope"):
        raise ConfigError(f"ARK does not compute rope scaling of the type {kind!r}")
    return found


def _llama(metadata: Metadata, config: Values) -> None:
    if config["hidden_size"] % config["num_attention_heads"]:
        # Mistral's models are stored as Llama's, which transformers does not let have such heads.
        config |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}


def _qwen2(metadata: Metadata, config: Values) -> None:
    config["use_sliding_window"] = False


def _phi3(metadata: Metadata, config: Values) -> None:
    config["original_max_position_embeddings"] = metadata.size(
        "rope.scaling.original_context_length", config["max_position_embeddings"]
    )
    config["sliding_window"] = metadata.window()
    factors = [metadata.tensor(f"rope_factors_{kind}.weight") for kind in ("long", "short")]
    if factors[0] is not None and factors[1] is not None:
        long, short = (list(tensor.data.cast("f")) for tensor in factors if tensor.kind == "F32")
        config["rope_parameters"] |= {
            "rope_type": "longrope",
            "long_factor": long,
            "short_factor": short,
            "original_max_position_embeddings": config["original_max_position_embeddings"],
        }
        if metadata.has("rope.scaling.attn_factor"):
            config["rope_parameters"]["attention_factor"] = metadata.number("rope.scaling.attn_factor")


def _starcoder2(metadata: Metadata, config: Values) -> None:
    config["norm_epsilon"] = metadata.number("attention.layer_norm_epsilon")
    config["use_bias"] = config.pop("attention_bias")
    config["hidden_act"] = "gelu_pytorch_tanh"
    config["sliding_window"] = metadata.window()


def _granite(metadata: Metadata, config: Values) -> None:
    config["attention_multiplier"] = metadata.number("attention.scale", config["head_dim"] ** -0.5)
    config["embedding_multiplier"] = metadata.number("embedding_scale", 1.0)
    config["residual_multiplier"] = metadata.number("residual_scale", 1.0)
    config["logits_scaling"] = metadata.number("logit_scale", 1.0)


def _smollm3(metadata: Metadata, config: Values) -> None:
    # Which layers do not rotate is nowhere written.
    config["no_rope_layers"] = [int((index + 1) % 4 != 0) for index in range(config["num_hidden_layers"])]
    config["use_sliding_window"] = False


def _first_gemma(metadata: Metadata, config: Values) -> None:
    config["hidden_act"] = "gelu_pytorch_tanh"


def _gemma(metadata: Metadata, config: Values) -> None:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    # Only the largest of each family divides by another number.
    largest = config["num_hidden_layers"] == {"gemma2": 46, "gemma3": 62}[metadata.name]
    config["query_pre_attn_scalar"] = hidden // heads if largest else config["head_dim"]
    config["hidden_activation"] = "gelu_pytorch_tanh"
    config["sliding_window"] = metadata.size("attention.sliding_window", 4096)


def _gemma2(metadata: Metadata, config: Values) -> None:
    _gemma(metadata, config)
    config["attn_logit_softcapping"] = metadata.number("attn_logit_softcapping", 50.0)
    config["final_logit_softcapping"] = metadata.number("final_logit_softcapping", 30.0)


def _gemma3(metadata: Metadata, config: Values) -> None:
    _gemma(metadata, config)
    if metadata.has("final_logit_softcapping"):
        config["final_logit_softcapping"] = metadata.number("final_logit_softcapping")
    local = {"rope_type": "default", "rope_theta": metadata.number("rope.freq_base_swa", 10_000.0)}
    whole = config["rope_parameters"]
    if not metadata.has("rope.freq_base"):
        whole["rope_theta"] = 1_000_000.0
    config["rope_parameters"] = {"sliding_attention": local, "full_attention": whole}
    every = metadata.size("attention.sliding_window_pattern", 6)
    kinds = ("full_attention", "sliding_attention")
    config["layer_types"] = [kinds[(index + 1) % every > 0] for index in range(config["num_hidden_layers"])]


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("LlamaForCausalLM", "llama", LAYER, _llama, rotated_in_pairs=True),
    "granite": Architecture("GraniteForCausalLM", "granite", LAYER, _granite, rotated_in_pairs=True),
    "smollm3": Architecture("SmolLM3ForCausalLM", "smollm3", LAYER, _smollm3, rotated_in_pairs=True),
    "phi3": Architecture("Phi3ForCausalLM", "phi3", FUSED, _phi3),
    "starcoder2": Architecture("Starcoder2ForCausalLM", "starcoder2", SIMPLE, _starcoder2),
    "olmo2": Architecture("Olmo2ForCausalLM", "olmo2", LAYER | HEAD_NORMS | POST_NORMS),
    "qwen2": Architecture("Qwen2ForCausalLM", "qwen2", LAYER, _qwen2),
    "qwen3": Architecture("Qwen3ForCausalLM", "qwen3", LAYER | HEAD_NORMS),
    "gemma": Architecture("GemmaForCausalLM", "gemma", LAYER, _first_gemma, gain=1.0),
    "gemma2": Architecture("Gemma2ForCausalLM", "gemma2", LAYER | GEMMA_NORMS, _gemma2, gain=1.0),
    "gemma3": Architecture("Gemma3ForCausalLM", "gemma3_text", LAYER | HEAD_NORMS | GEMMA_NORMS, _gemma3, gain=1.0),
}
"""llama.cpp's names of those that ARK runs."""
