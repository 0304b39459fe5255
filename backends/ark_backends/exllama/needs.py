"""What a machine lacks for an engine on NVIDIA GPUs, said before anything of it is imported.

Without a GPU the import of such an engine fails after seconds, with an error about its compiler, and leaves half of
itself behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec

TORCH = "https://pytorch.org/get-started/locally"


def missing_requirements(package: str) -> Sequence[str]:
    """Each thing that is missing, with what to do about it; nothing where the engine can run. Imports torch."""
    missing = []
    if not _found(package):
        missing.append(f"{package}: pip install 'ark-server[{package}]'")
    if not _found("torch"):
        return [*missing, f"torch with CUDA: {TORCH}"]
    import torch  # noqa: PLC0415

    if torch.version.cuda is None:
        missing.append(f"torch with CUDA (torch {torch.__version__} was built without): {TORCH}")
    elif not torch.cuda.is_available():
        missing.append("an NVIDIA GPU: torch finds none. See nvidia-smi and CUDA_VISIBLE_DEVICES")
    elif package == "exllamav3":
        missing += [
            f"a GPU of compute capability 8.0 or newer: {torch.cuda.get_device_name(index)} is older"
            for index in range(torch.cuda.device_count())
            if torch.cuda.get_device_capability(index) < (8, 0)
        ]
    if package == "exllamav3" and not _found("triton"):
        missing.append("triton, which a torch with CUDA brings")
    if not _found(f"{package}_ext"):
        missing += _builder(package)
    return missing


def _builder(package: str) -> Sequence[str]:
    """What is missing to compile an engine's own kernels, which it does when it is first imported."""
    nvcc = os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc")
    tools = {
        "nvcc (the CUDA toolkit; CUDA_HOME says where)": shutil.which("nvcc") or os.path.exists(nvcc),
        "g++": shutil.which("g++") or shutil.which("c++"),
        "ninja": shutil.which("ninja") or _found("ninja"),
    }
    absent = [tool for tool, there in tools.items() if not there]
    if not absent:
        return []
    return [f"{' and '.join(absent)}, to compile {package}'s kernels, or a wheel of {package} that has them compiled"]


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        # Half imported, or a stand-in.
        return True
