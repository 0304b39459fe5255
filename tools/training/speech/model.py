"""The model while it is trained: Whisper's architecture, small, with the names transformers gives its parameters.

Written out here for what training adds: heads on the encoder that name phonemes and words, cross-attention that is
shown where a word is heard, timestamps as points on one curve, and windows of any length anywhere in the 30 seconds.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.training.speech.tokenizer import TIMES
from tools.training.speech.windows import Batch

POSITIONS = 1500
CONTEXT = 448
SOUND = 8.0
"""How much larger than torch's the convolutions' weights begin."""


@dataclass(frozen=True)
class SpeechConfig:
    """Sizes. The encoder reads 1,500 positions for each window and is nearly all of the work."""

    vocab_size: int = 3204
    phonemes: int = 128
    words: int = 440
    d_model: int = 192
    encoder_layers: int = 4
    encoder_heads: int = 3
    decoder_layers: int = 2
    decoder_heads: int = 3
    ffn: int = 640

    def as_transformers(self) -> dict[str, Any]:
        """The sizes as transformers' WhisperConfig takes them."""
        return {
            "vocab_size": self.vocab_size,
            "num_mel_bins": 80,
            "d_model": self.d_model,
            "encoder_layers": self.encoder_layers,
            "encoder_attention_heads": self.encoder_heads,
            "encoder_ffn_dim": self.ffn,
            "decoder_layers": self.decoder_layers,
            "decoder_attention_heads": self.decoder_heads,
            "decoder_ffn_dim": self.ffn,
            "max_source_positions": POSITIONS,
            "max_target_positions": CONTEXT,
            "activation_function": "gelu",
            "tie_word_embeddings": True,
        }


def sinusoids(count: int, size: int) -> Tensor:
    """Vaswani et al. 2017, sines before cosines as Whisper has them: (count, size)."""
    rates = torch.exp(-torch.arange(size // 2) * (9.2103404 / (size // 2 - 1)))
    angles = torch.outer(torch.arange(count), rates)
    return torch.cat((angles.sin(), angles.cos()), 1)


@torch.no_grad()  # type: ignore[untyped-decorator]
def listen_around(query: nn.Linear, key: nn.Linear, head: int, heads: int, *, shift: int, first: int) -> None:
    """Let a head of the encoder begin with what stands `shift` positions on, and what is near it.

    Query and key read one band of the sinusoids, from frequency `first` on (a higher one is a wider view), the query
    turned by the shift: their product is largest where the difference of the positions is the shift.
    """
    size = query.in_features
    band = size // heads // 2
    rates = torch.exp(-torch.arange(size // 2) * (9.2103404 / (size // 2 - 1)))[first : first + band] * shift
    rows, sines = head * 2 * band, torch.arange(first, first + band)
    cosines, numbers = sines + size // 2, torch.arange(band)
    for row, column, value in (
        (rows, sines, rates.cos()),
        (rows, cosines, rates.sin()),
        (rows + band, cosines, rates.cos()),
        (rows + band, sines, -rates.sin()),
    ):
        query.weight[row + numbers, column] += 0.85 * value
    key.weight[rows + numbers, sines] += 0.85
    key.weight[rows + band + numbers, cosines] += 0.85


class Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)

    def _split(self, x: Tensor) -> Tensor:
        rows, length, size = x.shape
        return x.view(rows, length, self.heads, size // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, source: Tensor, causal: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """The result, and the queries and keys of the first head."""
        q, k, v = self._split(self.q_proj(x)), self._split(self.k_proj(source)), self._split(self.v_proj(source))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), q[:, 0], k[:, 0]


class EncoderLayer(nn.Module):  # type: ignore[misc]
    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        size = config.d_model
        self.self_attn = Attention(size, config.encoder_heads)
        self.self_attn_layer_norm = nn.LayerNorm(size)
        self.fc1 = nn.Linear(size, config.ffn)
        self.fc2 = nn.Linear(config.ffn, size)
        self.final_layer_norm = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.self_attn_layer_norm(x)
        x = x + self.self_attn(normed, normed)[0]
        return x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))


class DecoderLayer(nn.Module):  # type: ignore[misc]
    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        size = config.d_model
        self.self_attn = Attention(size, config.decoder_heads)
        self.self_attn_layer_norm = nn.LayerNorm(size)
        self.encoder_attn = Attention(size, config.decoder_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(size)
        self.fc1 = nn.Linear(size, config.ffn)
        self.fc2 = nn.Linear(config.ffn, size)
        self.final_layer_norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed = self.self_attn_layer_norm(x)
        x = x + self.self_attn(normed, normed, causal=True)[0]
        heard, queries, keys = self.encoder_attn(self.encoder_attn_layer_norm(x), source)
        x = x + heard
        return x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x)))), queries, keys


class Encoder(nn.Module):  # type: ignore[misc]
    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(80, config.d_model, 3, padding=1)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding.from_pretrained(sinusoids(POSITIONS, config.d_model), freeze=True)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, mel: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """What the decoder reads, and the state halfway."""
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.embed_positions.weight[offset : offset + x.shape[1]]
        halfway = x
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index == len(self.layers) // 2 - 1:
                halfway = x
        return self.layer_norm(x), halfway


class Decoder(nn.Module):  # type: ignore[misc]
    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.text = nn.Embedding(config.vocab_size - TIMES, config.d_model)
        self.time = nn.Linear(config.d_model, config.d_model, bias=False)
        self.embed_positions = nn.Embedding(CONTEXT, config.d_model)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)
        self.register_buffer("curve", sinusoids(TIMES, config.d_model), persistent=False)

    def embedding(self) -> Tensor:
        """All tokens' vectors, (vocabulary, size): timestamps last."""
        return torch.cat((self.text.weight, self.time(self.curve)))

    def forward(self, ids: Tensor, source: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits (B, L, vocabulary), and queries and keys of the first cross-attention head of each layer."""
        embedding = self.embedding()
        x = functional.embedding(ids, embedding) + self.embed_positions.weight[: ids.shape[1]]
        attended = []
        for layer in self.layers:
            x, queries, keys = layer(x, source)
            attended.append((queries, keys))
        return self.layer_norm(x) @ embedding.T, attended


def _pointing(attended: tuple[Tensor, Tensor], spans: Tensor) -> Tensor:
    """Minus the log of how much of its attention each token gives to where it should listen; spans (B, L, 2)."""
    queries, keys = attended
    scores = (queries @ keys.transpose(1, 2)) * queries.shape[-1] ** -0.5
    places = torch.arange(keys.shape[1])
    inside = (places >= spans[..., :1]) & (places < spans[..., 1:])
    known = inside.any(-1)
    kept = scores[known]
    held = kept.masked_fill(~inside[known], float("-inf")).logsumexp(-1)
    return (kept.logsumexp(-1) - held).sum() / max(1, len(kept))


@dataclass(frozen=True)
class Losses:
    """What a batch cost: tokens, pointing, phonemes, words; and the share of tokens that were right."""

    tokens: Tensor
    pointing: Tensor
    phonemes: Tensor
    words: Tensor
    right: Tensor

    def total(self, guidance: float) -> Tensor:
        """The sum to be learned from; `guidance` weighs everything but the tokens."""
        return self.tokens + guidance * (0.5 * self.pointing + 0.5 * self.phonemes + self.words)


class SpeechModel(nn.Module):  # type: ignore[misc]
    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.phonemes = nn.Linear(config.d_model, config.phonemes)
        self.words = nn.Linear(config.d_model, config.words)
        self.before = nn.Linear(config.d_model, config.words)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and parameter.requires_grad:
                deep = name.endswith(("out_proj.weight", "fc2.weight"))
                nn.init.normal_(parameter, std=0.01 if deep else 0.02)
        # Sound as loud as the positions that are added to it: at torch's own scale it is a twenty-fifth of them.
        with torch.no_grad():
            self.encoder.conv1.weight.mul_(SOUND**0.5)
            self.encoder.conv2.weight.mul_(SOUND)
        # Attention that begins everywhere at once takes thousands of steps to find its neighbours.
        heads = config.encoder_heads
        for layer, reach in zip(self.encoder.layers, (3, 6, 10, 16), strict=False):
            for head in range(heads):
                shift = round(reach * (2 * head / (heads - 1) - 1))
                wide = config.d_model // 16 if reach > 6 and shift == 0 else 0
                listen_around(layer.self_attn.q_proj, layer.self_attn.k_proj, head, heads, shift=shift, first=wide)

    def forward(self, batch: Batch) -> Losses:
        source, halfway = self.encoder(batch.mel, batch.offset)
        logits, attended = self.decoder(batch.ids, source)
        scores = logits.flatten(0, 1).log_softmax(-1)
        picked = scores[batch.where, batch.targets]
        tokens = -(picked * batch.weights).sum() / batch.weights.sum()
        # The first layer listens to the word it has just written, the last to the one it is about to write.
        following = torch.cat((batch.spans[:, 1:], torch.zeros_like(batch.spans[:, :1])), 1)
        pointing = 0.5 * _pointing(attended[0], batch.spans) + _pointing(attended[-1], following)
        phonemes = functional.cross_entropy(self.phonemes(halfway).flatten(0, 1), batch.phonemes.flatten())
        words = functional.cross_entropy(self.words(source).flatten(0, 1), batch.words.flatten())
        said = batch.before >= 0
        before = functional.cross_entropy(self.before(source[said]), batch.before[said]) if said.any() else words * 0
        hard = batch.weights == 1.0
        right = (scores[batch.where[hard]].argmax(-1) == batch.targets[hard]).sum() / max(1, int(hard.sum()))
        return Losses(tokens, pointing, phonemes, words + 0.3 * before, right.detach())
