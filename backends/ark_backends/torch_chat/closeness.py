"""How far numbers are from those that were expected."""

from __future__ import annotations

import torch


def relative_errors(got: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """For each row (rows, width): the length of the difference over that of what was expected."""
    difference = torch.linalg.vector_norm(got.float() - expected.float(), dim=-1)
    return difference / torch.linalg.vector_norm(expected.float(), dim=-1).clamp_min(1e-12)
