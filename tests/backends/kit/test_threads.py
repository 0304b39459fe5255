"""What one model's number of CPU threads leaves to others."""

import threading

import pytest

pytestmark = pytest.mark.anyio


def _new_thread() -> int:
    """The number that a thread has that has not computed so far."""
    import torch

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


async def test_the_threads_of_an_embedding_model_are_its_own(tmp_path):
    from tiny_m3 import save_tiny_m3

    from ark.config import ModelConfig
    from ark.engines.embedding import EmbeddingJob
    from ark_backends.bge import Bge

    save_tiny_m3(tmp_path)
    before = _new_thread()
    engine = {"device": "cpu", "threads": before + 1}
    backend = await Bge.open(ModelConfig(name="m3", task="embedding", path=str(tmp_path), engine=engine))
    try:
        await backend.embed(EmbeddingJob(request_id="test", inputs=["a"]))
        assert _new_thread() == before
        # Lanes are as many as the engine has threads.
        assert backend._engine._encoder._lanes.count == before + 1
    finally:
        await backend.close()


async def test_the_threads_of_a_chat_model_are_its_own():
    from ark.config import ModelConfig
    from ark_backends.torch_chat import TorchChat
    from ark_embedded import chat_model_path

    before = _new_thread()
    engine = {"device": "cpu", "threads": before + 1}
    backend = await TorchChat.open(ModelConfig(name="chat", path=str(chat_model_path()), engine=engine))
    # Behind its end: the engine's thread begins with the number, whenever that is.
    await backend.close()
    assert _new_thread() == before
