"""The memory of one sequence: it grows where it is, moves seldom, and gives back what it does not need."""

import asyncio
import mmap

import psutil
import pytest
import torch

from ark_backends.torch_chat import kv as kv_module
from ark_backends.torch_chat.kv import ROOM, KVBuffer, KVSpec

CPU = torch.device("cpu")
SPEC = KVSpec(layers=2, heads=3, head_dim=8, dtype=torch.float32, device=CPU, windows=(None, None))
LARGE = KVSpec(layers=8, heads=4, head_dim=64, dtype=torch.bfloat16, device=CPU, windows=(None,) * 8)


def filled(spec: KVSpec, length: int, capacity: int) -> KVBuffer:
    kv = KVBuffer(spec, capacity)
    kv.data[:, :, :, :length] = torch.arange(length)[:, None]
    kv.length = length
    return kv


def is_kept(kv: KVBuffer) -> bool:
    return bool((kv.data[:, :, :, : kv.length] == torch.arange(kv.length, dtype=kv.data.dtype)[:, None]).all())


def test_it_grows_where_it_is_up_to_its_addresses():
    kv = filled(SPEC, 10, 10)
    where = kv.data.data_ptr()
    assert kv.resizing(10 * ROOM) == 10 * (ROOM - 1) * SPEC.token_bytes
    kv.resize(10 * ROOM)
    assert (kv.capacity, kv.nbytes, kv.data.data_ptr()) == (10 * ROOM, SPEC.nbytes(10 * ROOM), where)
    assert is_kept(kv)


def test_it_moves_beyond_them():
    """Then old and new exist together."""
    kv = filled(SPEC, 10, 10)
    where, capacity = kv.data.data_ptr(), 10 * ROOM + 1
    assert kv.resizing(capacity) == SPEC.nbytes(capacity)
    kv.resize(capacity)
    assert (kv.length, kv.capacity) == (10, capacity)
    assert kv.data.data_ptr() != where
    assert is_kept(kv)


@pytest.mark.parametrize("refused", [1, 2])
def test_where_there_are_no_addresses_for_more(monkeypatch, refused):
    """As under a limit of address space: it has what it needs, or says that it has not."""
    pages, asked = kv_module._pages, []

    def refusing(size: int) -> mmap.mmap:
        asked.append(size)
        if len(asked) <= refused:
            raise OSError(12, "Cannot allocate memory")
        return pages(size)

    monkeypatch.setattr(kv_module, "_pages", refusing)
    if refused == 2:
        with pytest.raises(OSError, match="allocate"):
            KVBuffer(SPEC, 100)
    else:
        assert KVBuffer(SPEC, 100).stride == 100
    assert asked == [ROOM * SPEC.nbytes(100), SPEC.nbytes(100)]


def test_pages_are_taken_when_written_and_given_back():
    """Memory is what the capacity says, whatever the addresses are."""
    process = psutil.Process()
    size = LARGE.nbytes(2**14)
    before = process.memory_info().rss
    kv = KVBuffer(LARGE, 2**14)
    assert len(kv._mapped) == ROOM * size
    assert process.memory_info().rss - before < size // 4
    kv.data[:, :, :, : 2**14] = 1.0
    full = process.memory_info().rss
    assert full - before > size * 3 // 4
    kv.data[:, :, :, :100] = torch.arange(100, dtype=torch.bfloat16)[:, None]
    kv.length = 100
    kv.resize(128)
    assert kv.capacity == 128
    assert full - process.memory_info().rss > size * 3 // 4
    assert is_kept(kv)
    kv.resize(2**14)
    kv.data[:, :, :, 100 : 2**14] = 2.0
    assert is_kept(kv)
    del kv
    assert process.memory_info().rss - before < size // 4


@pytest.mark.anyio
async def test_a_full_cache_moves_no_conversation(llama, opened, words):
    """Each turn goes on in the memory of the one before it, also where nothing is free; nobody is evicted for a copy
    that is not made."""
    async with opened(llama, kv_bytes=llama.kv(340)) as chat:
        prompts = {session: words(60, place) for place, session in enumerate("abc")}
        places = {}
        for turn in range(3):
            for session, prompt in prompts.items():
                reply = await chat.matches(prompt, 10, session=session)
                assert reply.cached == (len(prompt) - 16 if turn else 0)
                prompts[session] = [*prompt, *words(16, 10 + turn)]
            await asyncio.sleep(0)
            now = {cached.session: cached.kv.data.data_ptr() for cached in chat.engine._cache._idle}
            assert len(now) == 3
            assert now == (places or now)
            places = now
        assert chat.backend.status().kv_bytes <= llama.kv(340)
