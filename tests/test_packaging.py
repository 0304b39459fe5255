"""The two distributions, ark-server and ark-conformance: sdists that make wheels, and wheels that work on their own.

An environment holds one wheel and links to the installed packages that it declares to need. So this shows that a wheel
has every file, that its entry points work, and that it uses nothing that it does not declare; it does not show that the
declared versions can be downloaded.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from process import Process, started

import ark
import ark_conformance
from tools import lock

pytest.importorskip("build")
pytest.importorskip("hatchling")
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONFORMANCE = tomllib.loads((ROOT / "conformance" / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = {"ark": ROOT, "ark_backends": ROOT / "backends"}
"""The packages of ark-server, and where each lies."""


def build(source: Path, folder: Path) -> Path:
    """Make an sdist, and a wheel from it."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return only(built, "*.whl")


@pytest.fixture(scope="module")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "conformance", tmp_path_factory.mktemp("conformance"))


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


class Environment:
    """A Python environment with a wheel, and what the wheel needs with some extras."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.bin = folder / "bin"
        command = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet"]
        subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)
        (self.site,) = folder.glob("lib/python3.*/site-packages")
        for needed in needs(Distribution.at(only(self.site, "ark_*.dist-info")), set(extras)):
            for file in needed.files or ():
                place = self.site / file.parts[0]
                if file.parts[0] not in ("..", "__pycache__") and not place.exists():
                    place.symlink_to(Path(str(needed.locate_file(file.parts[0]))))

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = (str(self.bin / command[0]), *command[1:])
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean() | variables, cwd=self.bin
        )


def clean() -> dict[str, str]:
    """The environment variables without those that name this checkout or a configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ARK_", "PYTHON"))}


def needs(root: Distribution, extras: set[str]) -> Iterator[Distribution]:
    """Everything that a distribution needs here, directly or not."""
    waiting, seen = [(root, frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while waiting:
        one, chosen = waiting.pop()
        for text in one.requires or ():
            wanted = Requirement(text)
            if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in chosen | {""}):
                continue
            name, more = canonicalize_name(wanted.name), frozenset(wanted.extras)
            if (name, more) in seen:
                continue
            seen.add((name, more))
            if name == canonicalize_name(str(root.metadata["Name"])):
                # An extra that consists of others.
                waiting.append((root, more))
                continue
            try:
                found = distribution(name)
            except PackageNotFoundError:
                pytest.skip(f"{name} is not installed here")
            waiting.append((found, more))
            yield found


def test_the_sdists_have_what_a_checkout_has(built: Path, conformance: Path) -> None:
    names = names_in(only(built, "*.tar.gz"))
    for name in ("Makefile", "constraints.txt", "LICENSE", "CHANGELOG.md", "docs/conf.py", "examples/streaming.py"):
        assert name in names
    assert {
        "requirements-cpu.txt",
        "tests/test_packaging.py",
        "tools/docs/write.py",
        "conformance/pyproject.toml",
    } <= names
    assert not [name for name in names if name.startswith((".venv", ".ci", "build/")) or name.endswith(".pyc")]
    names = names_in(only(conformance, "*.tar.gz"))
    assert {"LICENSE", "README.md", "pyproject.toml", "ark_conformance/calls/chat.toml"} <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {"ark_conformance"}


def names_in(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    names, metadata = look_into(wheel, f"ark_server-{ark.__version__}", PACKAGES)
    assert "License-Expression: Apache-2.0" in metadata
    # An index shows the README.
    assert "# ARK\n" in metadata
    assert not [name for name in names if "training" in name]


def test_the_suites_wheel_has_every_call_and_needs_nothing_of_the_server(conformance: Path) -> None:
    folder = {"ark_conformance": ROOT / "conformance"}
    name = f"ark_conformance-{ark_conformance.__version__}"
    names, metadata = look_into(only(conformance, "*.whl"), name, folder)
    assert {"ark_conformance/calls/chat.toml", "ark_conformance/calls/audio/talk.mp3"} <= names
    assert "Requires-Dist: openai" in metadata
    assert "Requires-Dist: ark" not in metadata


def look_into(wheel: Path, name: str, packages: Mapping[str, Path]) -> tuple[set[str], str]:
    """The names of a wheel's files, which are those of the packages, and its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{name}.dist-info/METADATA").decode()
    files = {
        str(path.relative_to(folder))
        for package, folder in packages.items()
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"{package}/py.typed" for package in packages} <= files
    assert {path for path in names if not path.startswith(f"{name}.dist-info/")} == files
    return names, metadata


def test_only_the_suite_registers_a_plugin_of_pytest(wheel: Path, conformance: Path) -> None:
    """It would be loaded into every run of pytest where the server is installed."""
    assert "pytest11" not in entry_points(wheel)
    assert entry_points(wheel)["console_scripts"] == {"ark": "ark.__main__:main"}
    assert entry_points(only(conformance, "*.whl")) == {
        "console_scripts": {"ark-conformance": "ark_conformance.cli:main"},
        "pytest11": {"ark_conformance": "ark_conformance.plugin"},
    }


def entry_points(wheel: Path) -> dict[str, dict[str, str]]:
    parser = ConfigParser(delimiters="=")
    with zipfile.ZipFile(wheel) as archive:
        parser.read_string(archive.read(f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/entry_points.txt").decode())
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_suite_works_by_itself(conformance: Path, tmp_path: Path) -> None:
    alone = Environment(tmp_path, only(conformance, "*.whl"))
    assert alone.run("ark-conformance", "--version").stdout == f"ark-conformance {ark_conformance.__version__}\n"
    listed = alone.run("ark-conformance", "--list")
    assert "calls, " in listed.stdout.splitlines()[-1], listed.stderr
    recorded = alone.run("ark-conformance", "record", "--help")
    assert recorded.returncode == 0, recorded.stderr
    assert alone.run("python", "-c", "import ark").stderr.endswith("No module named 'ark'\n")


def test_without_extras_it_says_what_is_missing(wheel: Path, tmp_path: Path) -> None:
    bare = Environment(tmp_path, wheel)
    assert bare.run("ark", "--version").stdout == f"ark {ark.__version__}\n"
    imported = bare.run("python", "-c", "import ark.app, ark_backends; print(ark.app.__file__)")
    assert imported.stdout.startswith(str(tmp_path)), imported.stderr
    checked = bare.run("ark", "check")
    assert checked.returncode == 1
    assert "pip install 'ark-server[torch]'" in checked.stdout
    for command in (["chat"], ["models"], ["completion", "bash"], ["pull", "a/b"]):
        asked = bare.run("ark", *command)
        assert asked.returncode == 1
        assert re.match(
            r"ark: (this needs \w+|a/b is no directory here, and hub models need): pip install 'ark-server\[\w+\]'",
            asked.stderr,
        ), asked.stderr


@pytest.mark.timeout(600)  # as elsewhere, for a busy machine: all engines are imported from nothing
def test_with_its_extras_it_serves(wheel: Path, tmp_path: Path) -> None:
    whole = Environment(tmp_path / "env", wheel, "all")
    (tmp_path / "empty").mkdir()
    with started([str(whole.bin / "ark"), "serve"], tmp_path / "empty", clean()) as server:
        answers(server, whole)


def answers(server: Process, whole: Environment) -> None:
    server.listening(120)
    url = {"ARK_URL": f"http://127.0.0.1:{server.port}"}
    program = (
        "import httpx, os, time\n"
        "while httpx.get(os.environ['ARK_URL'] + '/ready', timeout=120).status_code != 200: time.sleep(1)\n"
        "said = [{'role': 'user', 'content': 'What is the longest river in Africa?'}]\n"
        "ask = {'model': 'gpt-4o', 'messages': said, 'temperature': 0, 'max_tokens': 48}\n"
        "reply = httpx.post(os.environ['ARK_URL'] + '/v1/chat/completions', json=ask, timeout=120)\n"
        "print(reply.json()['choices'][0]['message']['content'])\n"
    )
    asked = whole.run("python", "-c", program, **url)
    assert asked.returncode == 0, asked.stderr[-2000:] + server.log[-2000:]
    assert len(asked.stdout) > 20
    listed = json.loads(whole.run("ark", "models", "--json", **url).stdout)
    states = {model["id"]: model["ark"]["state"] for model in listed["data"]}
    assert states["gpt-4o"] == states["text-embedding-3-small"] == states["whisper-1"] == "ready"
    embedded = whole.run("ark", "embed", "a text", **url)
    assert len(json.loads(embedded.stdout)["embedding"]) == 384
    heard = whole.run("ark", "transcribe", str(ROOT / "tests" / "data" / "audio" / "talk.wav"), **url)
    assert heard.stdout.startswith("He might even have been made amiable himself.")


def test_version_changelog_and_documentation_agree() -> None:
    assert PROJECT["project"]["version"] == ark.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == ark.__version__
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        said = re.findall(r"\bARK (\d+\.\d+\.\d+)", page.read_text(encoding="utf-8"))
        # A measurement may be of an older version.
        assert page.name == "conformance.md" or set(said) <= {ark.__version__}, page


def constraints() -> dict[str, str]:
    """Versions by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.partition("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in pins}


def test_what_a_server_installs_is_there_with_its_hashes() -> None:
    """`make lock` was run since the pins or the dependencies changed."""
    names = [*lock.FILES, "requirements-cpu.txt"]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    locked = {name: list(lock.read(text)) for name, text in texts.items()}
    everything = [one for some in locked.values() for one in some]
    for name, text in texts.items():
        # Nothing was overlooked, each hash is one, and no index is named.
        assert len(re.findall(r"^[a-zA-Z]", text, re.MULTILINE)) == len(locked[name])
        assert text.count("--hash=") == sum(len(one.hashes) for one in locked[name])
        assert "://" not in text
        assert text.startswith(lock.FILES.get(name, "# torch built without CUDA"))
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for one in everything for each in one.hashes)
    pinned, versions = constraints(), {canonicalize_name(one.name): one.version for one in everything}
    assert {name: pinned.get(name, version) for name, version in versions.items()} == versions
    needed = {canonicalize_name(one.metadata["Name"]) for one in needs(distribution("ark-server"), {"all", "otel"})}
    assert needed <= versions.keys()
    assert "hatchling" in versions
    # Either torch goes with the rest.
    assert [one.name for one in locked["requirements-cpu.txt"]] == ["torch"]
    assert "torch" in {one.name for one in locked["requirements-cuda.txt"]}
    assert "torch" not in {one.name for one in locked["requirements.txt"]}


def test_every_extra_and_group_is_pinned() -> None:
    pinned = constraints().keys()
    lists = [
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
        CONFORMANCE["project"]["dependencies"],
    ]
    named = {canonicalize_name(Requirement(text).name) for texts in lists for text in texts}
    # exllamav3 needs a GPU, and the torch that was built for it.
    assert named - pinned <= {"ark-server", "exllamav3"}
