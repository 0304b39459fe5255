"""Threads that end with their work, and how many CPU threads one model leaves to others."""

import ctypes
import sys
import threading

import pytest

from ark_backends.kit.threads import run_on_own_thread, set_num_threads

pytestmark = pytest.mark.anyio


def test_gives_back_what_the_work_returns_and_its_thread_is_gone():
    thread = run_on_own_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_raises_what_the_work_raises():
    def fail():
        raise KeyError("from there")

    with pytest.raises(KeyError, match="from there"):
        run_on_own_thread(fail)


def test_an_end_of_the_program_is_told_too():
    def end():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run_on_own_thread(end)


def _new_thread() -> int:
    """The number that a thread has that has not computed so far."""
    import torch

    return run_on_own_thread(torch.get_num_threads)


def test_a_threads_number_is_its_own():
    import torch

    before, here = _new_thread(), torch.get_num_threads()

    def count():
        set_num_threads(before + 1)
        set_num_threads(None)
        return torch.get_num_threads()

    assert run_on_own_thread(count) == before + 1
    assert (_new_thread(), torch.get_num_threads()) == (before, here)


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
        # There are as many worker streams as the engine has threads.
        assert backend._engine._encoder._streams.count == before + 1
    finally:
        await backend.close()


async def test_the_threads_of_a_chat_model_are_its_own():
    from fixture_models import TINY_CHAT

    from ark.config import ModelConfig
    from ark_backends.torch_chat import TorchChat

    before = _new_thread()
    engine = {"device": "cpu", "threads": before + 1}
    backend = await TorchChat.open(ModelConfig(name="chat", path=str(TINY_CHAT), engine=engine))
    # Behind its end: the engine's thread begins with the number, whenever that is.
    await backend.close()
    assert _new_thread() == before


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc for the size of the stack")
def test_a_thread_has_the_stack_that_it_is_given_and_others_have_theirs():
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_ulong

    def stack_size() -> int:
        attributes, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
        assert libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes) == 0
        assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
        libc.pthread_attr_destroy(attributes)
        return size.value

    usual = run_on_own_thread(stack_size)
    assert usual != 77 << 20
    assert run_on_own_thread(stack_size, stack_size=77 << 20) == 77 << 20
    assert run_on_own_thread(stack_size) == usual
    assert threading.stack_size() == 0
