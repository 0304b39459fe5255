"""What transformers computes of a GGUF, found out in a process of its own while the kernels are compiled here.

It is needed once: that a file passed is noted beside the compiled kernels, and holds until the file, ARK or a library
that it was computed with is another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ark_backends.kit.gguf.file import GGUF, parts
from ark_backends.torch_chat.check import Case, stored_case
from ark_backends.torch_chat.kv import KVSpec
from ark_backends.torch_chat.runner import Runner

DESCRIBED = ("layers", "heads", "head_dim", "windows", "group", "fused")
"""What of the KV is compared."""


class NoVerdict(Exception):
    """There is nothing to compare with; the message says why."""


class Referee:
    """The process, from its start until it is asked."""

    def __init__(self, path: Path, dtype: torch.dtype | None, sample: list[int]) -> None:
        """`sample` are tokens of a text."""
        self._directory = tempfile.TemporaryDirectory(prefix="ark-")
        kind = None if dtype is None else str(dtype).removeprefix("torch.")
        request = [str(path.resolve()), kind, sample, torch.get_num_threads(), self._answer]
        # It finds what this process finds, however that was started.
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )

    @property
    def _answer(self) -> str:
        return str(Path(self._directory.name) / "answer")

    def case(self, spec: KVSpec) -> Case:
        """What the model computes. Raises NoVerdict, and also where its KV is not like `spec`."""
        with self._directory:
            _, said = self._process.communicate()
            if self._process.returncode != 0:
                last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
                raise NoVerdict(f"transformers does not compute it ({last or self._process.returncode})")
            found: dict[str, Any] = torch.load(self._answer, weights_only=True)
        if found["spec"] != described(spec):
            raise NoVerdict(f"transformers has other layers: {found['spec']}")
        return Case(**found["case"])

    def dismiss(self) -> None:
        """End the process, if it was not asked."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        self._directory.cleanup()


def described(spec: KVSpec) -> list[Any]:
    return [getattr(spec, name) for name in DESCRIBED]


def key(path: Path, *, quantized: bool, dtype: torch.dtype | None) -> str:
    """The name of what was computed of a file: another one for whatever may compute something else."""
    # Imported where kernels are compiled anyway.
    from llvmlite import binding  # noqa: PLC0415

    files = [(str(part.resolve()), (stat := part.stat()).st_size, stat.st_mtime_ns) for part in parts(path)]
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    versions = [version(name) for name in ("torch", "transformers", "numba", "numpy")]
    everything = [files, quantized, str(dtype), code, versions, binding.get_host_cpu_name()]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:32]


def main() -> None:
    from ark_backends.torch_chat.gguf.model import build  # noqa: PLC0415 - only in the child

    path, kind, sample, threads, answer = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    runner = Runner(build(GGUF(Path(path)), None if kind is None else getattr(torch, kind)))
    case = stored_case(runner, sample)
    torch.save({"spec": described(runner.spec), "case": vars(case)}, answer)


if __name__ == "__main__":
    main()
