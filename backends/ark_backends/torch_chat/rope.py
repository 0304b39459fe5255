"""Rotary positions, computed once for every position and looked up afterwards."""

from __future__ import annotations

from collections.abc import Callable

import torch

BLOCK = 1024
"""Positions computed at once. Always the same ones together, so that a position's numbers depend on nothing else."""


class Rope:
    """Cosines and sines of positions, as the model's own module gives them."""

    def __init__(
        self, module: Callable[..., tuple[torch.Tensor, torch.Tensor]], device: torch.device, kind: str | None = None
    ) -> None:
        """`kind` is that of a layer, where the module knows several."""
        self._module = module
        self._kinds = () if kind is None else (kind,)
        self._device = device
        self._cosines: list[torch.Tensor] = []
        self._sines: list[torch.Tensor] = []
        self._cosine, self._sine = self._extend(1)

    @property
    def width(self) -> int:
        return int(self._cosine.shape[-1])

    def at(self, positions: torch.Tensor, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (tokens, 1, head_dim), float32. `longest` is the largest of `positions` (tokens).

        The first half of the sines is negative: then ``x * cosine + roll(x, head_dim / 2) * sine`` is the rotation.
        """
        if longest >= len(self._cosine):
            self._cosine, self._sine = self._extend(longest + 1)
        return self._cosine.index_select(0, positions), self._sine.index_select(0, positions)

    def _extend(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        like = torch.empty(0, dtype=torch.float32, device=self._device)
        while len(self._cosines) * BLOCK < length:
            start = len(self._cosines) * BLOCK
            cosine, sine = self._module(
                like, torch.arange(start, start + BLOCK, device=self._device)[None], *self._kinds
            )
            sine = sine[0].clone()
            sine[:, : sine.shape[1] // 2].neg_()
            self._cosines.append(cosine[0])
            self._sines.append(sine)
        return torch.cat(self._cosines)[:, None], torch.cat(self._sines)[:, None]
