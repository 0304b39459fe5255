"""The optimizers of both trainers: Muon for the matrices inside the layers, AdamW for the rest.

Muon (Jordan et al. 2024) takes all matrices of one shape at once here.
`torch.optim.Muon` orthogonalises one matrix after another; for a model this small that is half of a step.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""The polynomial of Jordan's Newton-Schulz iteration, which drives singular values to between 0.7 and 1.2."""


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly, computed in bfloat16; (n, rows, columns)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).bfloat16()
    for _ in range(iterations):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon:
    """Nesterov momentum, made orthogonal; `rate` is set before each step."""

    def __init__(self, matrices: list[Tensor], momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            groups[matrix.shape].append(matrix)
        self._groups = list(groups.values())
        self._velocity = [torch.zeros(len(group), *group[0].shape) for group in self._groups]
        self._momentum, self._decay = momentum, weight_decay

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, rate: float) -> None:
        for group, velocity in zip(self._groups, self._velocity, strict=True):
            gradient = torch.stack([m.grad if m.grad is not None else torch.zeros_like(m) for m in group])
            velocity.lerp_(gradient, 1 - self._momentum)
            update = orthogonal(gradient.lerp(velocity, self._momentum))
            rows, columns = group[0].shape
            scale = rate * max(1.0, rows / columns) ** 0.5
            for matrix, change in zip(group, update, strict=True):
                matrix.mul_(1 - rate * self._decay).sub_(change, alpha=scale)
                matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": self._velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._velocity = state["velocity"]


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for the rest, each at its own rate."""

    def __init__(self, model: nn.Module, matrix_rate: float, other_rate: float) -> None:
        learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in learned if p.ndim == 2 and "layers." in n]
        others = [p for n, p in learned if p.ndim != 2 or "layers." not in n]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.rates = (matrix_rate, other_rate)

    def step(self, scale: float) -> None:
        """One step at `scale` times the rates; gradients are zero after it."""
        self.muon.step(self.rates[0] * scale)
        for group in self.adam.param_groups:
            group["lr"] = self.rates[1] * scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=False)

    def state(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
