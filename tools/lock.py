"""Write requirements.txt and requirements-cuda.txt: what a server installs, with the hashes of all files.

Versions are those of constraints.txt and, of what it does not have, those that the files have already. uv asks the
index for them, and downloads nothing. requirements-cpu.txt is written by hand: no index has that build of torch.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FILES = {
    "requirements.txt": """\
# What a server installs beside torch, with the hashes of all files; made by `make lock`. Together with a torch:
#   pip install --require-hashes -r requirements.txt -r requirements-cuda.txt
#   pip install --no-deps --no-build-isolation .
# On a machine without a GPU requirements-cpu.txt, for the smaller build, in place of the second.
""",
    "requirements-cuda.txt": "# torch as an index has it, on Linux with what it needs of CUDA; made by `make lock`.\n",
}
COMMAND = ["uv", "pip", "compile", "pyproject.toml", "-", "--extra", "all", "--extra", "otel", "--universal",
           "--constraint", "constraints.txt", "--generate-hashes", "--no-annotate", "--no-header", "-q"]  # fmt: skip
BUILD = "hatchling"
"""What makes the wheel: with it here, nothing is downloaded that has no hash."""

_CUDA = re.compile(r"nvidia-|cuda-|(triton|torch)$")
_ENTRY = re.compile(
    r"^(?P<name>\S+)==(?P<version>[^\s;]+)(?P<marker>[^\\\n]*?)(?P<hashes>(?:\s\\\n\s+--hash=\S+)+)", re.M
)


class Requirement(NamedTuple):
    name: str
    version: str
    marker: str
    """As it stands behind the version."""
    hashes: frozenset[str]


def main() -> None:
    found = list(read(_compiled()))
    for name, head in FILES.items():
        chosen = (one for one in found if bool(_CUDA.match(one.name)) == ("cuda" in name))
        (ROOT / name).write_text(head + "".join(map(_written, chosen)), encoding="utf-8")


def read(text: str) -> Iterator[Requirement]:
    """The requirements of a file."""
    for entry in _ENTRY.finditer(text):
        hashes = frozenset(re.findall(r"--hash=(\S+)", entry["hashes"]))
        yield Requirement(entry["name"], entry["version"], entry["marker"], hashes)


def _written(one: Requirement) -> str:
    hashes = (f"--hash={each}" for each in sorted(one.hashes))
    return " \\\n    ".join([f"{one.name}=={one.version}{one.marker}", *hashes]) + "\n"


def _compiled() -> str:
    """What uv finds, for every platform. It keeps the versions of the file that it writes."""
    before = "".join(path.read_text(encoding="utf-8") for path in map(ROOT.joinpath, FILES) if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.txt"
        output.write_text(before, encoding="utf-8")
        subprocess.run([*COMMAND, "--output-file", str(output)], input=BUILD, text=True, cwd=ROOT, check=True)
        return output.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
