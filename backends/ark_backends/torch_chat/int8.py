"""Weights in 8 bits: 32 inputs of an output share a scale, and so do 32 activations that are multiplied with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

GROUP = 32
"""Inputs that share a scale."""

STEPS = 127.0
"""Levels on either side of zero."""


@dataclass(frozen=True)
class Rounded:
    """A weight in 8 bits, as GGUF's Q8_0 has it: `steps` (outputs, inputs filled up to whole groups) in int8, each
    times the `scale` (outputs, groups) of its group in float16."""

    steps: torch.Tensor
    scale: torch.Tensor


def rounded(weight: torch.Tensor) -> Rounded:
    """A weight (outputs, inputs) of any float type, by groups of inputs."""
    full = weight.detach().float()
    full = torch.nn.functional.pad(full, (0, -full.shape[1] % GROUP))
    groups = full.view(len(full), -1, GROUP)
    scale = (groups.abs().amax(dim=2) / STEPS).half()
    # A scale that is no number stays one: what is not finite must not be lost.
    inverse = scale.float().reciprocal().nan_to_num_(nan=0.0, posinf=0.0)
    steps = (groups * inverse[:, :, None]).round_().clamp_(-STEPS, STEPS).to(torch.int8)
    return Rounded(steps.view(len(full), -1), scale)
