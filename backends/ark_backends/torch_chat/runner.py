"""The model itself: loaded, guarded, and run over packed sequences."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from ark.config import ConfigError
from ark_backends.kit.packed import Packer, pack
from ark_backends.torch_chat import devices, int8
from ark_backends.torch_chat.attention import NAME, Piece, Plan, Probe, UnsupportedModel, packed_attention
from ark_backends.torch_chat.compiled import NotUsed, compile_steps
from ark_backends.torch_chat.decoder import Decoder
from ark_backends.torch_chat.int8 import Int8Linear
from ark_backends.torch_chat.kv import KVBuffer, KVSpec
from ark_backends.torch_chat.linear import FloatLinear, PackedFloatLinear
from ark_backends.torch_chat.ways import Ways, measured

if TYPE_CHECKING:
    from ark_backends.torch_chat.compiled.steps import Steps

log = logging.getLogger("ark.torch_chat")

LAYER_TYPES = {"full_attention", "sliding_attention"}


class Runner:
    """A transformers model whose attention is packed. Used on one thread."""

    def __init__(self, model: Any) -> None:
        """Take over a loaded causal LM. Raises UnsupportedModel."""
        guard(model)
        AttentionInterface.register(NAME, packed_attention)
        self.plain_attention: str = model.config._attn_implementation
        model.eval().requires_grad_(False)
        model.set_attn_implementation(NAME)
        self.model = model
        self.name = type(model).__name__
        self.config = model.config
        self.device: torch.device = model.device
        self.vocab_size: int = model.get_input_embeddings().weight.shape[0]
        self.decoder: Decoder | None = None
        """The fast pass, where the model is one that it knows; otherwise the model's own runs."""
        self.spec = self.probe()
        self.ways = Ways()
        """How attention is computed; see `measure`."""
        self.steps: Steps | None = None
        """What computes single tokens, where that is not the fast pass; see `compile`."""

    @property
    def network(self) -> Any:
        """The torch module that a forward pass calls, with the ids of all pieces as `input_ids` (1, tokens)."""
        return self.model if self.decoder is None else self.decoder

    def forward(self, pieces: Sequence[Piece], wanted: Sequence[int]) -> torch.Tensor:
        """Compute pieces and write their KV, whose length is left to the caller to raise.

        Pieces of one token come first. Returns the logits after the last token of each piece whose index is
        `wanted`, in ascending order: (len(wanted), vocabulary).
        """
        singles = sum(1 for piece in pieces if len(piece.token_ids) == 1)
        if self.steps is None or not singles:
            return self._pass(pieces, wanted)
        # Whatever stands beside them: what computes a token must not depend on that.
        logits = self.steps(
            [piece.token_ids[0] for piece in pieces[:singles]], [piece.kv for piece in pieces[:singles]]
        )
        chosen = [index for index in wanted if index < singles]
        if len(chosen) < singles:
            logits = logits[chosen]
        if singles == len(pieces):
            return logits
        others = self._pass(pieces[singles:], [index - singles for index in wanted if index >= singles])
        return torch.cat((logits, others))

    def _pass(self, pieces: Sequence[Piece], wanted: Sequence[int]) -> torch.Tensor:
        ids: list[int] = []
        positions: list[int] = []
        ends: list[int] = []
        for piece in pieces:
            ids.extend(piece.token_ids)
            positions.extend(range(piece.kv.length, piece.kv.length + len(piece.token_ids)))
            ends.append(len(ids) - 1)
        return self._compute(pieces, ids, positions, [ends[index] for index in wanted])

    def logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """Logits (tokens, vocabulary) after each of these tokens, which follow nothing."""
        places = list(range(len(tokens)))
        return self._compute([Piece(KVBuffer(self.spec, len(tokens)), tokens)], list(tokens), places, places)

    def _compute(self, pieces: Sequence[Piece], ids: list[int], positions: list[int], keep: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            if self.decoder is None:
                return self._call(ids, positions, keep, Plan(self.spec, pieces, ways=self.ways))
            rows = torch.tensor([ids, positions])
            plan = Plan(self.spec, pieces, ways=self.ways, joined=True)
            logits: torch.Tensor = self.decoder(input_ids=rows[:1], position_ids=rows[1:], keep=keep, plan=plan)
            return logits

    def _call(self, ids: list[int], positions: list[int], keep: list[int], plan: Plan | Probe) -> torch.Tensor:
        rows = torch.tensor([ids, positions], device=self.device)
        output = self.model(
            input_ids=rows[:1],
            position_ids=rows[1:],
            # Even without a cache object, the model would make one of its own and mix up the sequences in it.
            use_cache=False,
            logits_to_keep=torch.tensor(keep, dtype=torch.long, device=self.device),
            ark_plan=plan,
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    def probe(self) -> KVSpec:
        """What each layer keeps and attends to, seen in one pass. Raises UnsupportedModel."""
        # The shapes are taken from the first keys that arrive: configurations name them in many ways.
        probe = Probe()
        with torch.inference_mode():
            try:
                logits = self._call([0, 0], [0, 1], [1], probe)
            except TypeError as error:
                raise UnsupportedModel(f"its forward pass does not take what packing needs ({error})") from error
        if logits.dim() != 2 or logits.shape[0] != 1:
            raise UnsupportedModel("it does not give the logits of chosen tokens")
        spec = probe.spec(self.device)
        return spec if self.decoder is None else replace(spec, dtype=torch.float32)

    def speed_up(self) -> bool:
        """Compute with the fast pass from now on. False where the model is none of those that it knows."""
        if not self.spec.fused or not Decoder.fits(self.model):
            return False
        self.decoder = Decoder(self.model)
        self.spec = replace(self.spec, dtype=torch.float32)
        return True

    def slow_down(self) -> None:
        """Back to the model's own pass."""
        self.decoder = None
        self.spec = self.probe()

    def measure(self) -> None:
        """Compute attention in the ways that are fastest here, which are measured now."""
        spec = self.spec
        self.ways = Ways()
        if spec.has_ways and spec.group is not None:
            self.ways = measured(spec.group * spec.heads, spec.heads, spec.head_dim, torch.get_num_threads())

    def compile(self) -> None:
        """Compute single tokens by one compiled function from now on. Raises NotUsed where that is no faster, or wrong;
        then torch has the weights in the order that suits it."""
        assert self.decoder is not None
        try:
            self.steps = compile_steps(self.decoder, self.spec, torch.get_num_threads(), self._pass)
        except NotUsed:
            for _, linear, _ in self.decoder.linears():
                if isinstance(linear, Int8Linear):
                    linear.keep(None)
            raise

    def pack(self) -> int:
        """Compute linear layers by oneDNN where that is faster, and return their number. What the fast pass was made
        from is let go."""
        if self.decoder is None:
            return pack(self.model)
        packer = Packer()
        count = 0
        self.let_go()
        with torch.inference_mode():
            for _, layer, put in self.decoder.linears():
                packed = packer.pack(layer.weight, layer.bias) if isinstance(layer, FloatLinear) else None
                if packed is not None:
                    put(PackedFloatLinear(packed))
                    count += 1
        return count

    def let_go(self) -> None:
        """Forget the model that the fast pass was made from; its weights go as those of the pass are replaced."""
        if self.decoder is not None:
            self.decoder.shrink()
            self.model = None


def load(path: Path, *, device: str, dtype: str, quantization: str = "none") -> tuple[Any, bool]:
    """The model in a directory, on its device, and whether it is to be quantized.

    Raises ConfigError when it cannot be loaded whole.
    """
    target = devices.device(device)
    size = devices.checkpoint_bytes(path)
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # as below
        raise _unloadable(path, error) from error
    quantized = int8.wanted(quantization, target, devices.float32_bytes(config, size))
    kind = devices.dtype(dtype, target, config, size, quantized=quantized)
    try:
        with _without_bar():
            model, report = AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                dtype=kind,
                local_files_only=True,
                output_loading_info=True,
                # Refused below, by their names; transformers itself would only point at its log.
                ignore_mismatched_sizes=True,
            )
        model = model.to(target)
    except Exception as error:  # files can be broken in any way, and each library has its own errors for it
        raise _unloadable(path, error) from error
    # transformers fills these with random numbers, and says so in the log only.
    absent, other = sorted(report["missing_keys"]), sorted(str(key[0]) for key in report["mismatched_keys"])
    if absent:
        raise ConfigError(f"the weights in {path} lack {len(absent)} parameters, such as {absent[0]}")
    if other:
        raise ConfigError(
            f"the weights in {path} have {len(other)} parameters of another shape than config.json says, "
            f"such as {other[0]}"
        )
    return model, quantized


def _unloadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"cannot load a chat model from {path}: {error}")


@contextmanager
def _without_bar() -> Iterator[None]:
    """No progress bar of transformers: a server's standard error is its log, one line of JSON for each record."""
    if not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()


def guard(model: Any) -> None:
    """Refuse models that the packed pass would compute wrongly without a sign. Raises UnsupportedModel."""
    if not getattr(model, "_supports_attention_backend", False):
        raise UnsupportedModel("its architecture does not use transformers' attention interface")
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModel("it is an encoder-decoder model")
    types = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if types - LAYER_TYPES:
        names = ", ".join(sorted(types - LAYER_TYPES))
        raise UnsupportedModel(f"it has layers other than full and sliding attention: {names}")


def longest_context(config: Any) -> tuple[int, str | None]:
    """Tokens that the model can place, and why that is less than it was made for, if it is."""
    text = config.get_text_config()
    longest = int(getattr(text, "max_position_embeddings", None) or 2048)
    for parameters in _rope_parameters(getattr(text, "rope_parameters", None)):
        kind = str(parameters.get("rope_type", "default"))
        if kind == "longrope":
            # Its frequencies are those of the longest position in the whole batch: beyond this length one
            # conversation would change another's.
            original = int(
                parameters.get("original_max_position_embeddings")
                or getattr(text, "original_max_position_embeddings", None)
                or longest
            )
            if original < longest:
                return original, "longrope changes all sequences of a batch beyond this length"
        # "dynamic" does the same beyond max_position_embeddings, which the context never passes.
    return longest, None


def _rope_parameters(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        return []
    if "rope_type" in value or "rope_theta" in value:
        return [value]
    return [inner for inner in value.values() if isinstance(inner, dict)]
