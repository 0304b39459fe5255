"""Opening: what a directory says, what cannot be opened, and why."""

import shutil
import subprocess
import sys

import pytest
from embedding_jobs import configured, job, vectors

from ark.config import ConfigError

pytestmark = pytest.mark.anyio


def test_importing_the_backend_imports_no_engine():
    code = (
        "import sys, ark_backends.bge as b; assert b.Bge;"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'numpy', 'FlagEmbedding'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["sparse_linear.pt", "colbert_linear.pt"])
async def test_without_its_files_there_are_no_heads(opened, copied, missing, caplog):
    async with opened(copied(missing)) as backend:
        assert not {"ark_sparse", "ark_colbert"} & backend.capabilities.parameters
        assert {"dimensions", "ark_truncate"} <= backend.capabilities.parameters
    assert "no sparse weights" in caplog.text


async def test_pooling_and_normalisation_come_from_the_directory(opened, copied):
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "pool", "type": "sentence_transformers.models.Pooling"},
    ]
    path = copied("sparse_linear.pt", "colbert_linear.pt", modules=modules, pool__config={"pooling_mode": "mean"})
    async with opened(path) as found, opened(path, engine={"pooling": "mean", "normalize": False}) as said:
        one, other = [vectors(await backend.embed(job("w1 w2 w3"))) for backend in (found, said)]
    assert abs(one - other).max() < 1e-6
    async with opened(path, engine={"normalize": True, "pooling": "cls"}) as said:
        unit = vectors(await said.embed(job("w1 w2 w3")))
    assert abs((unit**2).sum() - 1) < 1e-5
    assert abs((one**2).sum() - 1) > 0.1


async def test_without_files_it_is_cls_with_a_warning(opened, m3, caplog):
    async with opened(m3) as found, opened(m3, engine={"pooling": "cls"}) as said:
        one, other = [vectors(await backend.embed(job("w1 w2 w3"))) for backend in (found, said)]
    assert abs(one - other).max() < 1e-6
    assert caplog.text.count("does not say how to pool") == 1


async def refused(path, reason, **more):
    from ark_backends.bge import Bge

    with pytest.raises(ConfigError, match=reason):
        await Bge.open(configured(path, **more))


async def test_what_cannot_be_opened(m3, tmp_path):
    await refused(m3, "poling", engine={"poling": "cls"})
    await refused(m3, "quantum", engine={"device": "quantum"})
    await refused(m3, "float16 is for GPUs", engine={"dtype": "float16"})
    await refused(m3, "dimensions: 48 is more than the 32", dimensions=(16, 48))
    await refused(m3, "leaves no room", context_length=2)
    await refused(tmp_path / "missing", "does not exist")
    await refused(tmp_path, "cannot load")


async def test_a_directory_that_asks_for_more_than_is_computed(copied):
    await refused(copied(modules=[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]), "module Dense")
    (copied() / "modules.json").unlink()
    old = {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}
    await refused(copied(**{"1_Pooling__config": old}), "asks for cls and max")


async def test_broken_files(copied):
    from safetensors.torch import load_file, save_file

    path = copied()
    weights = load_file(path / "model.safetensors")
    gone = weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    await refused(path, r"lack 1 parameters, such as encoder\.layer\.1")
    save_file({**weights, "encoder.layer.1.output.dense.weight": gone[:3].clone()}, path / "model.safetensors")
    await refused(path, "cannot load")
    (path / "model.safetensors").write_bytes(b"nothing")
    await refused(path, "cannot load")
    (path / "modules.json").write_text("{")
    await refused(path, "modules.json cannot be read")


async def test_a_hub_id_that_was_downloaded_before(opened, m3, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--encoder"
    shutil.copytree(m3, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    async with opened("some/encoder") as hub, opened(m3) as directory:
        one, other = [await backend.embed(job("w1 w2 w3", colbert=True)) for backend in (hub, directory)]
    assert abs(vectors(one) - vectors(other)).max() < 1e-6
    assert one[0].colbert == other[0].colbert


async def test_loading_leaves_the_process_as_it_was(opened, m3, capfd):
    import torch
    from transformers.utils import logging

    before = torch.get_default_dtype(), torch.is_grad_enabled(), logging.get_verbosity()
    async with opened(m3) as backend:
        await backend.embed(job(*["w1 w2"] * 600))
    assert before == (torch.get_default_dtype(), torch.is_grad_enabled(), logging.get_verbosity())
    shown = capfd.readouterr()
    assert "it/s" not in shown.err + shown.out
