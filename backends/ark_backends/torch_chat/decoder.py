"""The fast pass: the layers of Llama and its kin, computed with few and joined operations.

For a few tokens a forward pass of transformers costs more in calls than in arithmetic. Here the projections that read
the same input are one matrix, keys and values are stored by one copy, positions are looked up, and the factor of a
normalisation is applied to what comes out of the matrix. Every operation treats each token by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import silu

from ark_backends.torch_chat.attention import Plan
from ark_backends.torch_chat.linear import FloatLinear, Linear
from ark_backends.torch_chat.rope import Rope

FAMILIES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
"""Classes of transformers whose layers are those of this module. The check at load compares them all the same."""

GRAIN = 32768
"""Elements from which torch shares an elementwise operation among threads."""

LANES = 32
"""Elements that torch's vector loops take at a time; a rest is computed by other code, whose exponential differs."""


class Norm:
    """RMS normalisation: the input times the gain, and the factor of each token that is left to be applied."""

    def __init__(self, module: Any) -> None:
        self.gain = module.weight.float()
        self.epsilon = float(module.variance_epsilon)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * self.gain, length.square_().mul_(1 / x.shape[-1]).add_(self.epsilon).rsqrt_()


@dataclass
class Layer:
    """One layer's parts. `read` gives queries, keys and values; `open` gives gate and up."""

    before_attention: Norm
    read: Linear
    head_norm: Norm | None
    write: Linear
    before_mlp: Norm
    open: Linear
    close: Linear


class Decoder(torch.nn.Module):  # type: ignore[misc]
    """A causal LM of `FAMILIES` on a CPU, in float32 between its layers."""

    def __init__(self, model: Any) -> None:
        """Take over the weights of a loaded model, which goes on to work with views of them."""
        super().__init__()
        body = model.model
        config = model.config.get_text_config()
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        attention = body.layers[0].self_attn
        self.head_dim = int(attention.head_dim)
        self.scale = float(attention.scaling)
        self.rope = Rope(body.rotary_emb, model.device)
        self._embedding: torch.Tensor = body.embed_tokens.weight.detach()
        self.layers = [self._layer(layer) for layer in body.layers]
        self.norm = Norm(body.norm)
        self.head_size = int(model.lm_head.out_features)
        self.head: Linear = FloatLinear(model.lm_head.weight, model.lm_head.bias)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a model is one of those that this pass computes."""
        if type(model).__name__ not in FAMILIES or model.device.type != "cpu":
            return False
        config = model.config.get_text_config()
        attention = model.model.layers[0].self_attn
        rotated = model.model.rotary_emb.inv_freq.shape[-1] * 2
        # Checkpoints that come quantized have layers of other classes.
        linears = [module for name, module in model.named_modules() if name.endswith(("_proj", "lm_head"))]
        return (
            config.hidden_act == "silu"
            and rotated == attention.head_dim
            and all(type(module) is torch.nn.Linear for module in linears)
        )

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, keep: Sequence[int], plan: Plan
    ) -> torch.Tensor:
        """Logits (len(keep), vocabulary) after the tokens at `keep`. Ids and positions are (1, tokens)."""
        x = self.embedded(input_ids[0])
        tokens, narrow, query = len(x), self.head_dim, self.heads * self.head_dim
        turned = self.heads + self.kv_heads
        cosine, sine = self.rope.at(position_ids[0], plan.longest)
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            joined = layer.read(*layer.before_attention(x))
            rotated = joined[:, : turned * narrow].view(tokens, turned, narrow)
            if layer.head_norm is not None:
                gained, factor = layer.head_norm(rotated)
                torch.mul(gained, factor, out=rotated)
            swapped = rotated.roll(narrow // 2, -1).mul_(sine)
            rotated.mul_(cosine).add_(swapped)
            plan.write_joined(index, joined[:, query:].view(tokens, 2, self.kv_heads, narrow))
            if index == last and not keep:
                # A piece of a prompt: its keys and values are all that anybody needs.
                return x.new_empty(0, self.head_size)
            queries = joined[:, :query].view(1, tokens, self.heads, narrow).transpose(1, 2)
            seen = plan.attend(index, queries, self.scale, {}).reshape(tokens, query)
            if index == last and len(keep) < tokens:
                # Beyond this point a token matters to nothing but its own logits.
                chosen = torch.tensor(keep, dtype=torch.long)
                x, seen = x.index_select(0, chosen), seen.index_select(0, chosen)
            x.add_(layer.write(seen))
            x.add_(layer.close(_gated(layer.open(*layer.before_mlp(x)))))
        return self.head(*self.norm(x))

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """What the first layer reads: (tokens, hidden), float32, of ids (tokens)."""
        return self._embedding.index_select(0, ids).float()

    def linears(self) -> Iterator[tuple[str, Linear, Callable[[Linear], None]]]:
        """Every linear layer in the order of computation: its name, itself, and what puts another in its place."""
        for index, layer in enumerate(self.layers):
            for name in ("read", "write", "open", "close"):
                yield f"layer {index} {name}", getattr(layer, name), _setter(layer, name)
        yield "head", self.head, _setter(self, "head")

    def shrink(self) -> None:
        """Keep the embedding in bfloat16 where that is what it was trained in: only rows of it are read."""
        half = self._embedding.to(torch.bfloat16)
        if torch.equal(half.to(self._embedding.dtype), self._embedding):
            self._embedding = half

    def _layer(self, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        head_norm = None
        if hasattr(attention, "q_norm"):
            head_norm = Norm(attention.q_norm)
            gains = [attention.q_norm.weight] * self.heads + [attention.k_norm.weight] * self.kv_heads
            head_norm.gain = torch.stack(gains).float()
        return Layer(
            before_attention=Norm(layer.input_layernorm),
            read=_joined(attention.q_proj, attention.k_proj, attention.v_proj),
            head_norm=head_norm,
            write=_joined(attention.o_proj),
            before_mlp=Norm(layer.post_attention_layernorm),
            open=_joined(mlp.gate_proj, mlp.up_proj),
            close=_joined(mlp.down_proj),
        )


def _joined(*modules: Any) -> FloatLinear:
    """One layer of several with the same input. The modules keep views of the joined weight."""
    if len(modules) == 1:
        return FloatLinear(modules[0].weight, modules[0].bias)
    weight = torch.cat([module.weight for module in modules])
    bias = None
    if any(module.bias is not None for module in modules):
        absent = [torch.zeros(module.out_features, dtype=weight.dtype) for module in modules]
        bias = torch.cat([a if m.bias is None else m.bias for m, a in zip(modules, absent, strict=True)])
    for module, part in zip(modules, weight.split([module.out_features for module in modules]), strict=True):
        module.weight.data = part
    return FloatLinear(weight, bias)


def _gated(joined: torch.Tensor) -> torch.Tensor:
    """SwiGLU of gate and up side by side (tokens, 2 * width), in place; returns (tokens, width)."""
    gate, up = joined.chunk(2, dim=-1)
    elements = gate.numel()
    shares = min(torch.get_num_threads(), -(-elements // GRAIN))
    if elements % (shares * LANES) == 0:
        silu(gate, inplace=True)
    else:
        # Shares that end within a vector would compute the same number in two ways, one for some neighbours and the
        # other for others. Pieces of this size are not shared.
        for piece in gate.split(max(1, GRAIN // gate.shape[1])):
            silu(piece, inplace=True)
    return gate.mul_(up)


def _setter(holder: Any, name: str) -> Callable[[Linear], None]:
    def put(linear: Linear) -> None:
        setattr(holder, name, linear)

    return put
