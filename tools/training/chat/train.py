"""The training run: `python -m tools.training.chat.train --out DIR`.

Steps are counted, not hours, so that a slow machine makes the same model as a fast one. A run that
was stopped continues from its last round: the data of a round depends only on the seed and its number.
With `--start-from` a run takes up the weights of an exported model, with a fresh optimizer, and meets
the last stage of the curriculum from its first step.
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from tools.training.chat import batches
from tools.training.chat import tokenizer as pieces
from tools.training.chat.model import ChatConfig, ChatModel
from tools.training.optimizer import Optimizer

ROUND = 40
"""Steps between two checkpoints, and batches sorted by length at once."""
LATEST = "latest.pt"


@dataclass(frozen=True)
class Plan:
    """What a run is to do. Batches are counted per worker.

    `peak` scales both rates, `decay_from` is the share of the steps after which they come down, and `start_from` is
    an exported model to go on from.
    """

    out: Path
    start_from: Path | None = None
    steps: int = 8400
    seed: int = 1
    workers: int = 2
    threads: int = 1
    tokens: int = 2200
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    peak: float = 1.0
    warm_up: int = 100
    decay_from: float = 0.7


def rate(step: int, plan: Plan) -> float:
    """Warm up, stay, and come down over the last part: (0, `peak`]."""
    begin = plan.decay_from * plan.steps
    rising = min(1.0, (step + 1) / plan.warm_up)
    falling = 1.0 if step < begin else (plan.steps - step) / (plan.steps - begin)
    return plan.peak * min(rising, max(falling, 0.01))


@dataclass
class Progress:
    """How far a run has come: steps, tokens read and learned by all workers, seconds at work."""

    step: int = 0
    tokens: int = 0
    learned: int = 0
    seconds: float = 0.0


def load_tokenizer(plan: Plan) -> Tokenizer:
    """The run's tokenizer, learned at its first start, or that of the model it goes on from."""
    path = plan.out / "tokenizer.json"
    if not path.exists() and plan.start_from:
        shutil.copyfile(plan.start_from / "tokenizer.json", path)
    elif not path.exists():
        pieces.train(list(pieces.corpus(plan.seed, 8000))).save(str(path))
    return Tokenizer.from_file(str(path))


def _average(model: ChatModel, workers: int) -> None:
    if workers == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.view(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def earlier_runs(exported: Path) -> list[dict[str, Any]]:
    """How the weights of an exported model came about, the oldest run first, as its report has it."""
    training = json.loads((exported / "report.json").read_text())["training"]
    earlier: list[dict[str, Any]] = training.pop("earlier", [])
    return [*earlier, training]


def _stage(step: int, plan: Plan) -> batches.Stage:
    if plan.start_from:
        return batches.CURRICULUM[-1]
    return next(s for s in batches.CURRICULUM if step < s.until * plan.steps or s.until == 1)


def _begin(config: ChatConfig, plan: Plan) -> tuple[ChatModel, Optimizer, Progress]:
    """A run as its last checkpoint left it, else as it starts: from an exported model, or from nothing."""
    model = ChatModel(config)
    optimizer = Optimizer(model, plan.matrix_rate, plan.other_rate)
    latest = plan.out / LATEST
    if latest.exists():
        saved = torch.load(latest, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load(saved["optimizer"])
        return model, optimizer, Progress(**saved["progress"])
    if plan.start_from:
        model.load_state_dict(load_file(plan.start_from / "model.safetensors"))
    return model, optimizer, Progress()


def work(rank: int, plan: Plan) -> None:
    """One worker's part of the run."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    if plan.workers > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29741")
        dist.init_process_group("gloo", rank=rank, world_size=plan.workers)
    tokenizer = load_tokenizer(plan)
    config = ChatConfig(vocab_size=tokenizer.get_vocab_size())
    latest = plan.out / LATEST
    model, optimizer, progress = _begin(config, plan)
    earlier = earlier_runs(plan.start_from) if plan.start_from else []
    compiled = torch.compile(model, dynamic=True)
    while progress.step < plan.steps:
        began = time.monotonic()
        losses: list[Tensor] = []
        counts = torch.zeros(2, dtype=torch.long)
        seed = f"{plan.seed}-{progress.step}-{rank}"
        data = batches.round_of(
            tokenizer,
            _stage(progress.step, plan),
            seed,
            count=ROUND,
            tokens=plan.tokens,
            context=config.max_position_embeddings,
        )
        for batch in data:
            loss = compiled(batch.ids, batch.positions, batch.where, batch.targets)
            loss.backward()
            _average(model, plan.workers)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(rate(progress.step, plan))
            progress.step += 1
            losses.append(loss.detach())
            counts += torch.tensor([batch.ids.numel(), batch.targets.numel()])
        if plan.workers > 1:
            dist.all_reduce(counts)
        spent = time.monotonic() - began
        progress.tokens += int(counts[0])
        progress.learned += int(counts[1])
        progress.seconds += spent
        if rank == 0:
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):
                raise FloatingPointError("the loss is no longer a number")
            line = {**asdict(progress), "loss": round(mean, 4), "tokens_per_second": round(int(counts[0]) / spent)}
            print(json.dumps(line), flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state(), "progress": asdict(progress)}
            torch.save({**state, "config": asdict(config), "earlier": earlier}, latest.with_suffix(".new"))
            latest.with_suffix(".new").replace(latest)
    if plan.workers > 1:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, tokenizer and log go here")
    for name, default in (("steps", 8400), ("seed", 1), ("workers", 2), ("threads", 1), ("tokens", 2200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--start-from", type=Path, help="an exported model whose weights and tokenizer to go on from")
    parser.add_argument("--peak", type=float, default=1.0, help="scales the learning rates")
    parser.add_argument("--decay-from", type=float, default=0.7, help="the share of the steps after which rates fall")
    plan = Plan(**vars(parser.parse_args()))
    plan.out.mkdir(parents=True, exist_ok=True)
    random.seed(plan.seed)
    load_tokenizer(plan)
    if plan.workers == 1:
        work(0, plan)
    else:
        # Workers end with their parent, however it ends.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        mp.spawn(work, args=(plan,), nprocs=plan.workers, daemon=True)


if __name__ == "__main__":
    main()
