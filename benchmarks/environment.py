"""Create an environment for the systems that benchmarks compare ARK with.

    python benchmarks/environment.py /tmp/peers

It reports what cannot be installed, and the benchmarks go on without it.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = {
    "xllamacpp": "llama.cpp, its server included",
    "cyllama": "llama.cpp again, which gives all logits",
    "gguf": "writes the weights that llama.cpp reads",
    "fastapi": "for `transformers serve`, and for the minimal server beside which ARK's own cost is measured",
    "uvicorn": "the same",
    "llama-cpp-python": "another server of llama.cpp; without a wheel xllamacpp's stands in",
}


def main() -> None:
    target = Path(sys.argv[1])
    venv.create(target, with_pip=True)
    python = target / "bin" / "python"
    # Torch, transformers and safetensors are those of the environment that runs this.
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    inside = next((target / "lib").glob("python3*/site-packages"))
    (inside / "here.pth").write_text(f"{packages}\n")
    for package, use in PACKAGES.items():
        command = [python, "-m", "pip", "install", "--quiet", "--only-binary", "llama-cpp-python", package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = "installed" if done.returncode == 0 else f"not installed: {done.stderr.strip().splitlines()[-1]}"
        print(f"{package} ({use}): {said}")


if __name__ == "__main__":
    main()
