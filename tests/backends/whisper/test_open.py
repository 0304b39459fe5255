"""What can be opened as a Whisper, what cannot, and in which words."""

import json
import shutil
import sys

import pytest
from huggingface_hub import constants
from recordings import file_of, noise

from ark.config import ConfigError
from ark.engines.loading import find_backend
from ark.engines.transcription import TranscriptionJob
from ark_backends.whisper import Whisper, WhisperOptions
from ark_backends.whisper.conversion import converted

pytestmark = pytest.mark.anyio


def configured(path, **more):
    from ark.config import ModelConfig

    engine = {"device": "cpu", "workers": 1, "threads": 1, "beam_size": 1, "max_new_tokens": 6} | more.pop("engine", {})
    return ModelConfig(name="test", task="transcription", path=str(path), engine=engine, **more)


async def works(path, **more):
    backend = await Whisper.open(configured(path, **more))
    try:
        job = TranscriptionJob(request_id="test", audio=file_of(noise(1.0)), language="en", temperature=0.0)
        return [result async for result in backend.transcribe(job)]
    finally:
        await backend.close()


async def refused(path, **more):
    with pytest.raises(ConfigError) as caught:
        await Whisper.open(configured(path, **more))
    return str(caught.value)


@pytest.fixture
def copied(english, tmp_path):
    def copy(*without):
        target = tmp_path / "model"
        shutil.copytree(english, target, ignore=shutil.ignore_patterns(*without))
        return target

    return copy


def test_the_entry_point():
    assert find_backend("whisper", "transcription").kind is Whisper


async def test_a_ctranslate2_directory(english, opened):
    async with opened(english) as backend:
        assert backend.languages == ("en",)
        assert backend.status().alive


async def test_a_multilingual_one(multilingual, opened):
    async with opened(multilingual) as backend:
        assert sorted(backend.languages) == ["de", "en", "fr"]


@pytest.mark.parametrize("missing", ["tokenizer.json", "vocabulary.json"])
async def test_a_file_is_missing(copied, missing):
    message = await refused(copied(missing))
    assert missing.split(".", maxsplit=1)[0] in message
    assert message.startswith("model 'test'")


async def test_weights_that_break_off(copied):
    path = copied()
    whole = (path / "model.bin").read_bytes()
    (path / "model.bin").write_bytes(whole[: len(whole) // 2])
    assert "cannot load" in await refused(path)


async def test_another_tokenizer(copied):
    path = copied()
    about = json.loads((path / "tokenizer.json").read_bytes())
    about["added_tokens"] = [one for one in about["added_tokens"] if one["content"] != "<|startofprev|>"]
    (path / "tokenizer.json").write_text(json.dumps(about))
    assert "<|startofprev|>" in await refused(path)


async def test_a_directory_of_something_else(tmp_path):
    assert "neither" in await refused(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "neither" in await refused(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in await refused(tmp_path)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"device": "tpu"}, "tpu"),
        ({"device": "cuda:99"}, "CUDA devices"),
        ({"device": "cuda:x"}, "cuda:x"),
        ({"compute_type": "float16"}, "float16"),
        ({"compute_type": "int3"}, "compute_type"),
        ({"workers": 0}, "workers"),
        ({"vad": {"threshold": 2.0}}, "threshold"),
        ({"max_new_tokens": 400}, "max_new_tokens"),
        ({"worker": 1}, "worker"),
    ],
)
async def test_options_that_cannot_be(english, engine, words):
    assert words in await refused(english, engine=engine)


@pytest.mark.parametrize(
    "engine", [{"vad": True}, {"vad": {"speech_pad_ms": 0}}, {"batch": 4}, {"compute_type": "float32"}]
)
async def test_options(english, engine):
    # What is left of noise without speech is nothing at all, or what a random model makes of it.
    assert (await works(english, engine=engine))[0].duration == 1.0


def test_the_options_defaults():
    options = WhisperOptions()
    assert (options.device, options.compute_type, options.batch) == ("auto", "auto", 1)


async def test_a_model_of_transformers_is_converted_once(english_source, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(english_source, path, ignore=shutil.ignore_patterns("ctranslate2-*"))
    assert await works(path)
    made = list(path.glob("ctranslate2-*"))
    assert len(made) == 1
    before = (made[0] / "model.bin").stat().st_mtime_ns
    assert converted(path) == made[0]
    assert (made[0] / "model.bin").stat().st_mtime_ns == before
    assert not list(path.glob(".ctranslate2-*"))


async def test_other_weights_are_converted_again(english_source, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(english_source, path, ignore=shutil.ignore_patterns("ctranslate2-*"))
    first = converted(path)
    about = json.loads((path / "config.json").read_bytes())
    (path / "config.json").write_text(json.dumps(about | {"note": "new"}))
    assert converted(path) != first


async def test_a_directory_that_cannot_be_written(english_source, tmp_path, monkeypatch):
    """A folder that is there, but is a file: not even root can write into it."""
    path = tmp_path / "model"
    shutil.copytree(english_source, path, ignore=shutil.ignore_patterns("ctranslate2-*"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from ark_backends.whisper import conversion

    plain = conversion.tempfile.TemporaryDirectory

    def only_in_the_cache(*args, **more):
        if more["dir"] == path:
            raise PermissionError("read-only")
        return plain(*args, **more)

    monkeypatch.setattr(conversion.tempfile, "TemporaryDirectory", only_in_the_cache)
    place = converted(path)
    assert place.is_relative_to(tmp_path / "cache" / "ark")
    assert converted(path) == place


async def test_a_conversion_that_fails_leaves_nothing(english_source, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(english_source, path, ignore=shutil.ignore_patterns("ctranslate2-*"))
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be converted" in await refused(path)
    assert not [file for file in path.iterdir() if "ctranslate2" in file.name]


async def test_a_conversion_without_torch(english_source, tmp_path, monkeypatch):
    path = tmp_path / "model"
    shutil.copytree(english_source, path, ignore=shutil.ignore_patterns("ctranslate2-*"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "extra 'torch'" in await refused(path)


async def test_the_extra_is_missing(english, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    for name in [name for name in sys.modules if name.startswith("ark_backends.whisper.")]:
        monkeypatch.delitem(sys.modules, name)
    assert "needs ark-server[transcription]" in await refused(english)


async def test_a_hub_id_that_was_downloaded(english, tmp_path, monkeypatch):
    """As the hub's client keeps it, with the network out of reach."""
    commit = "0" * 40
    home = tmp_path / "models--Systran--faster-whisper-test"
    shutil.copytree(english, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert await works("Systran/faster-whisper-test")
    assert "HF_HUB_OFFLINE forbids" in await refused("Systran/faster-whisper-other")


def test_only_the_files_needed_are_downloaded():
    from ark_backends.kit.weights import wanted
    from ark_backends.whisper.opening import FILES

    files = ["README.md", "config.json", "model.bin", "tokenizer.json", "vocabulary.txt", ".gitattributes"]
    assert wanted(files, FILES) == ["config.json", "model.bin", "tokenizer.json", "vocabulary.txt"]


def test_the_backends_module_is_light():
    import subprocess

    code = (
        "import sys, ark_backends.whisper;"
        "print([n for n in ('faster_whisper','ctranslate2','av','numpy') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
