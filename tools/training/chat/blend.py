"""Weights between two runs: `python -m tools.training.chat.blend`.

A short run with data for one weakness gains there and loses a little elsewhere. Between its weights and those of the
run before it lie weights that keep most of both (Wortsman et al., "Robust fine-tuning of zero-shot models",
arXiv:2109.01903).
"""

import argparse
import shutil
from pathlib import Path

import torch

from tools.training.chat.train import LATEST


def blend(run: Path, before: Path, share: float, out: Path) -> None:
    """Write to `out`, as a run, `share` (0 to 1) of a run's weights and the rest of those of the run before it."""
    if not 0 <= share <= 1:
        raise ValueError("a share is from 0 to 1")
    saved, begun = (torch.load(path / LATEST, weights_only=True) for path in (run, before))
    weights = {name: (1 - share) * begun["model"][name] + share * weight for name, weight in saved["model"].items()}
    # No optimizer: its state belongs to the run's own weights.
    content = {"model": weights, "share": share, **{key: saved[key] for key in ("progress", "config", "earlier")}}
    out.mkdir(parents=True, exist_ok=True)
    torch.save(content, out / LATEST)
    shutil.copyfile(run / "tokenizer.json", out / "tokenizer.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the directory train.py wrote to")
    parser.add_argument("--before", type=Path, required=True, help="the directory of the run it went on from")
    parser.add_argument("--share", type=float, required=True, help="the share of the later run, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="as a run, to be exported and evaluated")
    arguments = parser.parse_args()
    blend(arguments.run, arguments.before, arguments.share, arguments.out)


if __name__ == "__main__":
    main()
