"""A checkpoint as a directory that transformers opens: `python -m tools.training.chat.export`."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from tools.training.chat import TINY_CHAT
from tools.training.chat.model import ChatConfig

_TEMPLATE = Path(__file__).parent / "chat_template.jinja"


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def export(run: Path, target: Path) -> None:
    """Write weights (bfloat16), tokenizer, template and configuration to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    saved = torch.load(run / "latest.pt", weights_only=True)
    config = ChatConfig(**saved["config"])
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    end_of_text, end_of_turn = (tokenizer.token_to_id(t) for t in ("<|endoftext|>", "<|im_end|>"))
    # Half the size on disk; config.json asks for float32, in which a CPU computes faster.
    weights = {name: w.to(torch.bfloat16).contiguous() for name, w in saved["model"].items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    ends = {"bos_token_id": None, "eos_token_id": end_of_turn, "pad_token_id": end_of_text}
    _write(target / "config.json", {**config.as_transformers(), **ends})
    _write(
        target / "generation_config.json",
        {"do_sample": False, "eos_token_id": [end_of_turn, end_of_text], "pad_token_id": end_of_text},
    )
    _write(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": config.max_position_embeddings,
        },
    )
    shutil.copyfile(run / "tokenizer.json", target / "tokenizer.json")
    shutil.copyfile(_TEMPLATE, target / "chat_template.jinja")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the directory train.py wrote to")
    parser.add_argument("--target", type=Path, default=TINY_CHAT)
    arguments = parser.parse_args()
    export(arguments.run, arguments.target)


if __name__ == "__main__":
    main()
