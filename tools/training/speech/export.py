"""A checkpoint as directories that engines open: `python -m tools.training.speech.export --run DIR`.

First a transformers Whisper directory (kept in the run), from it CTranslate2's, which is what the server loads.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from ctranslate2.converters import TransformersConverter
from torch import Tensor

from ark_embedded import SPEECH
from tools.training.speech.model import SpeechConfig, SpeechModel
from tools.training.speech.tokenizer import Vocabulary


def load_model(path: Path) -> SpeechModel:
    """The model of a checkpoint."""
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    model = SpeechModel(SpeechConfig(**saved["config"]))
    model.load_state_dict(saved["model"])
    return model


def _weights(model: SpeechModel) -> dict[str, Tensor]:
    """The parameters under transformers' names; the timestamps' vectors written out."""
    state = model.state_dict()
    kept = {f"model.{n}": w for n, w in state.items() if n.startswith(("encoder.", "decoder."))}
    for name in ("text.weight", "time.weight"):
        del kept[f"model.decoder.{name}"]
    kept["model.decoder.embed_tokens.weight"] = model.decoder.embedding().detach()
    kept["proj_out.weight"] = kept["model.decoder.embed_tokens.weight"]
    return kept


def as_transformers(model: SpeechModel, vocabulary: Vocabulary, target: Path) -> None:
    """Write the directory that `WhisperForConditionalGeneration.from_pretrained` reads."""
    target.mkdir(parents=True, exist_ok=True)
    ends = {"bos_token_id": vocabulary.end, "eos_token_id": vocabulary.end, "pad_token_id": vocabulary.end}
    start = {"decoder_start_token_id": vocabulary.start}
    config = transformers.WhisperConfig(**model.config.as_transformers(), **ends, **start)
    whisper = transformers.WhisperForConditionalGeneration(config)
    whisper.load_state_dict(_weights(model))
    whisper.generation_config = transformers.GenerationConfig(
        **ends,
        **start,
        alignment_heads=[[model.config.decoder_layers - 1, 0]],
        begin_suppress_tokens=[vocabulary.tokenizer.encode(" ", add_special_tokens=False).ids[0], vocabulary.end],
        suppress_tokens=[],
        lang_to_id={},
        is_multilingual=False,
        max_length=448,
        no_timestamps_token_id=vocabulary.no_times,
        prev_sot_token_id=vocabulary.previous,
        return_timestamps=False,
    )
    # Without this, transformers 5 drops what it does not know when it reads the file again.
    whisper.generation_config._from_model_config = False
    whisper.save_pretrained(target)
    transformers.WhisperFeatureExtractor().save_pretrained(target)
    vocabulary.tokenizer.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|endoftext|>",
                "eos_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
                "clean_up_tokenization_spaces": False,
                "model_max_length": 448,
            },
            indent=2,
        )
        + "\n"
    )


def export(run: Path, target: Path) -> None:
    """Convert the run's checkpoint; weights become int8, which every CPU computes in."""
    vocabulary = Vocabulary.load(run / "tokenizer.json")
    source = run / "transformers"
    as_transformers(load_model(run / "latest.pt"), vocabulary, source)
    converted = run / "ctranslate2"
    TransformersConverter(str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(
        str(converted), quantization="int8", force=True
    )
    target.mkdir(parents=True, exist_ok=True)
    for path in converted.iterdir():
        shutil.copyfile(path, target / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the directory train.py wrote to")
    parser.add_argument("--target", type=Path, default=SPEECH)
    arguments = parser.parse_args()
    export(arguments.run, arguments.target)


if __name__ == "__main__":
    main()
