"""Finding a backend by its name."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from echo_backend import EchoBackend

from ark.config import Config, ConfigError, ModelConfig
from ark.engines.loading import ENTRY_POINT_GROUP, InstalledBackend, find_backend, installed_backends
from ark.engines.model_files import ModelFiles
from ark.models.backend_selection import select_backend
from ark.models.default_models import default_models
from ark.models.served import Registry


def test_a_name_with_a_colon_is_imported_as_it_stands() -> None:
    assert find_backend("echo_backend:EchoBackend", "chat").kind is EchoBackend


def test_the_installed_ones_are_entry_points() -> None:
    assert "torch_chat" in {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "no backend is called 'nothing'; installed: .*torch_chat"),
        ("no_such_module:Backend", "no_such_module"),
        ("echo_backend:Nothing", "Nothing"),
        ("echo_backend:", "echo_backend:"),
        (":EchoBackend", ":EchoBackend"),
        ("::", "::"),
        ("a b:c", "a b:c"),
    ],
)
def test_what_cannot_be_loaded_is_said(name: str, says: str) -> None:
    with pytest.raises(LookupError, match=says):
        find_backend(name, "chat")


def test_a_backend_of_another_task_is_refused() -> None:
    with pytest.raises(LookupError, match="'echo_backend:EchoBackend' does not do the task 'embedding'"):
        find_backend("echo_backend:EchoBackend", "embedding")


Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package with a backend: the entry point of its name points at its class `Backend`."""

    def install(name: str, source: str) -> None:
        (tmp_path / f"{name}_package.py").write_text(source)
        metadata = tmp_path / f"{name}-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{name} = {name}_package:Backend\n")
        monkeypatch.syspath_prepend(tmp_path)
        installed_backends.cache_clear()

    yield install
    installed_backends.cache_clear()


GGUF = """
from ark.config import ModelConfig
from ark.engines.backend import Detection

class Backend:
    async def generate(self, job): ...

    @classmethod
    def default_for(cls, task):
        return ModelConfig(name="a-little-gguf", engine={"anything": 1})

    @staticmethod
    def detect(files):
        return Detection(2, "for GGUF files") if list(files.directory.glob("*.gguf")) else None
"""


def test_a_third_partys_backend_brings_its_models_and_finds_them(install: Install, tmp_path: Path) -> None:
    install("a_gguf", GGUF)
    assert default_models()[0] == ModelConfig(name="a-little-gguf", backend="a_gguf", engine={"anything": 1})
    # It does not do the other tasks, whatever it says of them.
    assert [model.task for model in default_models()][:1] == ["chat"]
    assert {model.backend for model in default_models()[1:]} <= {"bge", "whisper"}
    assert Registry(Config()).names(None)[0] == "a-little-gguf"
    directory = tmp_path / "model"
    directory.mkdir()
    assert select_backend(ModelConfig(name="m", path=str(directory))).name == "torch_chat"
    (directory / "q4.gguf").touch()
    selected = select_backend(ModelConfig(name="m", path=str(directory)))
    assert (selected.name, selected.reason) == ("a_gguf", "for GGUF files")


def test_one_without_answers_is_served_by_its_name_alone(install: Install) -> None:
    install("a_quiet_one", "from echo_backend import EchoBackend as Backend")
    assert find_backend("a_quiet_one", "chat").kind is EchoBackend
    assert select_backend(ModelConfig(name="m", path="/no/such")).name == "torch_chat"
    quiet = InstalledBackend("a_quiet_one", EchoBackend)
    model = ModelConfig(name="m")
    files = ModelFiles(task="chat")
    assert (quiet.default_for("chat"), quiet.detect(files), quiet.problems(model, files)) == (None, None, [])
    assert (quiet.extras, quiet.fetch(model, print), quiet.download_bytes(model)) == (None, None, 0)


def test_one_that_cannot_be_imported_breaks_no_start(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    before = default_models()
    install("a_broken_one", "raise OSError('libcuda.so.1 is missing')")
    caplog.set_level(logging.INFO)
    assert default_models() == before
    Registry(Config())
    broken = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in broken] == ["the backend a_broken_one cannot be imported"]
    assert "libcuda.so.1" in caplog.text


@pytest.mark.parametrize("method", ["default_for", "detect", "missing_requirements", "unsupported_reason"])
@pytest.mark.parametrize(("what", "says"), [("raise OSError(7)", "fails at"), ("return 7", "answers")])
def test_one_that_fails_when_it_is_asked_breaks_no_start(
    method: str, what: str, says: str, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"a_failing_{method}_that_{says[:4]}s"
    install(name, f"class Backend:\n    def generate(self): ...\n    def {method}(*args): {what}\n")
    model = ModelConfig(name="m", path="/no/such")
    (backend,) = (backend for backend in installed_backends() if backend.name == name)
    assert default_models()[0].backend == "torch_chat"
    assert select_backend(model).name == "torch_chat"
    assert backend.problems(model, ModelFiles(task="chat")) == []
    assert any(message.startswith(f"the backend {name} {says} {method}") for message in caplog.messages)


def test_what_is_wrong_with_a_models_own_options_is_told() -> None:
    class Strict(EchoBackend):
        @staticmethod
        def unsupported_reason(model: ModelConfig, files: ModelFiles) -> str | None:
            raise ConfigError("engine.speed: there is none")

    strict = InstalledBackend("strict", Strict)
    assert strict.problems(ModelConfig(name="m"), ModelFiles(task="chat")) == ["engine.speed: there is none"]


def test_the_core_does_not_import_the_backends_of_its_own() -> None:
    program = (
        "import sys, ark.app\n"
        "sys.exit(', '.join(name for name in sys.modules if name.startswith('ark_backends')) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
