"""The device that a model runs on. Importing this module imports torch."""

from __future__ import annotations

import torch

from ark.config import ConfigError


def device(name: str) -> torch.device:
    """The device that the option `device` names. Raises ConfigError when it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return chosen
