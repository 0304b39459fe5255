"""The training run: `python -m tools.training.speech.train --clips DIR --out DIR`.

A run that was stopped continues from its last round. Its length is in hours of processor time of one worker: a run that
shares its machine makes the same model, later. `--hours` larger than before goes on with a finished run.
"""

import argparse
import json
import math
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tools.training.optimizer import Optimizer
from tools.training.speech import clips, windows
from tools.training.speech import tokenizer as words
from tools.training.speech.model import SpeechConfig, SpeechModel
from tools.training.speech.windows import FULL, SHORT, Shape

ROUND = 40
"""Steps between two checkpoints."""
MIDDLE = Shape(frames=1600, packed=0.75, prompted=0.15)


@dataclass(frozen=True)
class Plan:
    """What a run is to do. Batches are counted per worker."""

    clips: Path
    out: Path
    hours: float = 1.0
    seed: int = 1
    workers: int = 2
    threads: int = 1
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    warm_up: float = 0.01
    decay_from: float = 0.65


@dataclass
class Progress:
    """How far a run has come, all workers together; `seconds` are processor time of one of them."""

    step: int = 0
    windows: int = 0
    audio_hours: float = 0.0
    seconds: float = 0.0

    def share(self, plan: Plan) -> float:
        return min(1.0, self.seconds / 3600 / plan.hours)


def rate(share: float, plan: Plan) -> float:
    """Warm up, stay, and come down over the last part: (0, 1]."""
    falling = 1.0 if share < plan.decay_from else (1 - share) / (1 - plan.decay_from)
    return max(0.02, min(1.0, (share + 0.001) / plan.warm_up, falling))


def shape(share: float, rng: random.Random) -> tuple[Shape, int]:
    """What windows a step has and how many: short ones first, then more and more of the full length."""
    full = min(max((share - 0.3) / 0.3, 0.0), 0.85)
    drawn = rng.random()
    if drawn < full:
        return FULL, 1
    middle = 0.6 if share > 0.25 else 0.1
    return (MIDDLE, 2) if rng.random() < middle else (SHORT, 5)


def load_vocabulary(plan: Plan) -> words.Vocabulary:
    """The run's tokenizer, learned at its first start."""
    path = plan.out / "tokenizer.json"
    if not path.exists():
        words.train().save(str(path))
    return words.Vocabulary.load(path)


def _average(model: SpeechModel, workers: int) -> None:
    if workers == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.view(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _stock(plan: Plan) -> list[clips.Clip]:
    return [clip for path in sorted(plan.clips.glob("[0-9][0-9][0-9].npz")) for clip in clips.load(path)]


def _run_round(
    model: SpeechModel, optimizer: Optimizer, maker: windows.Maker, plan: Plan, progress: Progress
) -> dict[str, float]:
    """Some steps. Every worker takes the same kinds of windows, and its own windows."""
    began = time.process_time()
    share = progress.share(plan)
    rng = random.Random(f"{plan.seed}-{progress.step}")
    sums: dict[str, list[float]] = {}
    for _ in range(ROUND):
        kind, count = shape(share, rng)
        # Sums, norms and losses stay in float32; CPUs with AVX-512 take two thirds of the time for the products.
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(maker.batch(kind, count))
        losses.total(1.0 if share < 0.6 else 0.4).backward()
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        _average(model, plan.workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(rate(share, plan))
        progress.step += 1
        progress.windows += count * plan.workers
        progress.audio_hours += count * plan.workers * kind.frames / 360_000
        for name, value in vars(losses).items():
            sums.setdefault(f"{name}_{kind.frames // 100}", []).append(value.item())
    spent = torch.tensor(time.process_time() - began)
    if plan.workers > 1:
        dist.all_reduce(spent)
        spent /= plan.workers
    progress.seconds += spent.item()
    return {name: round(sum(values) / len(values), 4) for name, values in sums.items()}


def work(rank: int, plan: Plan) -> None:
    """One worker's part of the run."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    if plan.workers > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29753")
        dist.init_process_group("gloo", rank=rank, world_size=plan.workers)
    vocabulary = load_vocabulary(plan)
    model = SpeechModel(SpeechConfig(vocab_size=vocabulary.size))
    optimizer = Optimizer(model, plan.matrix_rate, plan.other_rate)
    progress = Progress()
    latest = plan.out / "latest.pt"
    if latest.exists():
        saved: dict[str, Any] = torch.load(latest, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load(saved["optimizer"])
        progress = Progress(**saved["progress"])
    maker = windows.Maker(vocabulary, _stock(plan), f"{plan.seed}-{progress.step}-{rank}")
    while progress.share(plan) < 1:
        means = _run_round(model, optimizer, maker, plan, progress)
        if rank == 0:
            if not all(map(math.isfinite, means.values())):
                raise FloatingPointError("the loss is no longer a number")
            print(json.dumps({**asdict(progress), "share": round(progress.share(plan), 3), **means}), flush=True)
            state: dict[str, Tensor] = model.state_dict()
            torch.save(
                {
                    "model": state,
                    "optimizer": optimizer.state(),
                    "progress": asdict(progress),
                    "config": asdict(model.config),
                },
                latest.with_suffix(".new"),
            )
            latest.with_suffix(".new").replace(latest)
    if plan.workers > 1:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, required=True, help="what clips.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, tokenizer and log go here")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the schedule, all of it")
    for name, default in (("seed", 1), ("workers", 2), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    plan = Plan(**vars(parser.parse_args()))
    plan.out.mkdir(parents=True, exist_ok=True)
    load_vocabulary(plan)
    if plan.workers == 1:
        work(0, plan)
    else:
        # Workers end with their parent, however it ends.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        mp.spawn(work, args=(plan,), nprocs=plan.workers, daemon=True)


if __name__ == "__main__":
    main()
