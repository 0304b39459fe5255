"""The model itself: loaded, guarded, and run over packed sequences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from ark_backends.kit.packed import pack
from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.attention import NAME, Piece, Plan, Probe, UnsupportedModel, packed_attention
from ark_backends.torch_chat.kv import KVBuffer, KVSpec
from ark_backends.torch_chat.stored import shapes_only
from ark_backends.torch_chat.structure import Structure, architecture_of

if TYPE_CHECKING:
    from ark_backends.torch_chat.compiled.model import CompiledModel

log = logging.getLogger("ark.torch_chat")

LAYER_TYPES = {"full_attention", "sliding_attention"}


class Runner:
    """A transformers model whose attention is packed. Used on one thread."""

    def __init__(self, model: Any, spec: KVSpec | None = None) -> None:
        """Take over a loaded causal LM, or with its `spec` the parts of one, which are to be compiled before anything
        is computed. Raises UnsupportedModel."""
        self.plain_attention = "" if spec is not None else _take_attention(model)
        self.model = model
        self.name = architecture_of(model)
        self.config = model.config
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocab_size: int = model.get_input_embeddings().num_embeddings
        self.compiled: CompiledModel | None = None
        """What computes instead of the model; see `compile`."""
        self.spec = self.probe() if spec is None else spec

    @property
    def deterministic(self) -> bool:
        """Whether a token's logits are the same bits whatever is cached and whatever runs beside it."""
        return self.compiled is not None

    def forward(self, pieces: Sequence[Piece], wanted: Sequence[int]) -> torch.Tensor:
        """Compute pieces and write their KV, whose length is left to the caller to raise.

        Pieces of one token come first. Returns the logits after the last token of each piece whose index is
        `wanted`, in ascending order: (len(wanted), vocabulary).
        """
        ends = list(accumulate(len(piece.token_ids) for piece in pieces))
        return self.rows(pieces, [ends[index] - 1 for index in wanted])

    def rows(self, pieces: Sequence[Piece], wanted: Sequence[int]) -> torch.Tensor:
        """The same after tokens anywhere, by their places among those of all pieces, in ascending order."""
        if self.compiled is not None:
            return self.compiled.rows(pieces, wanted)
        ids: list[int] = []
        positions: list[int] = []
        for piece in pieces:
            ids.extend(piece.token_ids)
            positions.extend(range(piece.kv.length, piece.kv.length + len(piece.token_ids)))
        with torch.inference_mode():
            return self._call(ids, positions, list(wanted), Plan(self.spec, pieces))

    def logits(self, *sequences: Sequence[int]) -> torch.Tensor:
        """Logits (tokens, vocabulary) after each token of some sequences, one behind the other, which follow nothing.
        Those of one token come first."""
        pieces = [Piece(KVBuffer(self.spec, len(tokens)), tokens) for tokens in sequences]
        ids = [token for tokens in sequences for token in tokens]
        places = [place for tokens in sequences for place in range(len(tokens))]
        if self.compiled is not None:
            return self.compiled.rows(pieces, list(range(len(ids))))
        with torch.inference_mode():
            return self._call(ids, places, list(range(len(ids))), Plan(self.spec, pieces))

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
        with torch.inference_mode(), shapes_only():
            try:
                logits = self._call([0, 0], [0, 1], [1], probe)
            except TypeError as error:
                raise UnsupportedModel(f"its forward pass does not take what packing needs ({error})") from error
        if logits.dim() != 2 or logits.shape[0] != 1:
            raise UnsupportedModel("it does not give the logits of chosen tokens")
        return probe.spec(self.device)

    def attend_to(self, windows: tuple[int | None, ...]) -> None:
        """Let each layer see so many tokens, None for all."""
        self.spec = replace(self.spec, windows=windows)
        if self.compiled is not None:
            self.compiled.attend_to(windows)

    def compile(self, *, quantized: bool = False) -> None:
        """Compute by compiled kernels from now on, which take the model's weights, `quantized` to 8 bits if wanted.

        Not for models that `compiled.unfit` says something about. Raises NotUsed where they cannot be compiled; the
        model is lost then.
        """
        self.spec = replace(self.spec, dtype=torch.float32, grain=compiled.LANES)
        structure, self.model = Structure(self.model), None
        try:
            # Only here, because it imports numba.
            from ark_backends.torch_chat.compiled.model import CompiledModel  # noqa: PLC0415

            threads = torch.get_num_threads()
            self.compiled = CompiledModel(structure, self.spec.windows, threads, quantized=quantized)
        except Exception as error:  # a compiler may fail in any way, and its next version in others
            log.exception("kernels cannot be compiled")
            raise compiled.NotUsed("they cannot be compiled") from error

    def pack(self) -> int:
        """Compute linear layers by oneDNN where that is faster, and return their number."""
        return pack(self.model)


def _take_attention(model: Any) -> str:
    """Have a model call ARK's attention, and return the name of its own. Raises UnsupportedModel."""
    # Only here: models that the kernels compute may have come without transformers.
    from transformers import AttentionInterface  # noqa: PLC0415

    guard(model)
    AttentionInterface.register(NAME, packed_attention)
    plain: str = model.config._attn_implementation
    model.eval().requires_grad_(False)
    model.set_attn_implementation(NAME)
    return plain


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
