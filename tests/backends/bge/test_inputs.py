"""What a model reads of an input: special tokens, lengths, ids."""

import anyio
import pytest
from embedding_jobs import job, vectors

from ark.errors import BadRequest, ContextLengthExceeded

pytestmark = pytest.mark.anyio


async def test_ids_get_the_special_tokens_that_they_lack(opened, m3):
    async with opened(m3) as backend:
        text = await backend.embed(job("w1 w2"))
        ids = await backend.embed(job([5, 6], [0, 5, 6, 2], [0, 5, 6], [5, 6, 2]))
    assert text[0].tokens == 4
    assert [one.tokens for one in ids] == [4, 4, 4, 4]
    assert abs(vectors(ids) - vectors(text)).max() < 1e-6


async def test_ids_that_the_model_does_not_have(opened, m3):
    async with opened(m3) as backend:
        for bad in (64, -1, 2**40):
            reason = rf"input\[1\]\[1\] has the token {bad}; this model's are 0 to 63"
            with pytest.raises(BadRequest, match=reason) as error:
                await backend.embed(job([5], [5, bad]))
            assert error.value.param == "input[1][1]"
        assert backend.status().jobs_cancelled == 0
        assert backend.status().waiting == 0


async def test_too_long(opened, m3):
    long = "w1 " * 100
    async with opened(m3) as backend:
        assert backend.max_length == 64
        with pytest.raises(ContextLengthExceeded, match=r"64 tokens at once; input\[1\] has 102") as error:
            await backend.embed(job("w1", long))
        assert error.value.param == "input[1]"
        cut = await backend.embed(job(long, [5] * 100, truncate=True))
        exact = await backend.embed(job("w1 " * 62))
    assert [one.tokens for one in cut] == [64, 64]
    assert abs(vectors(cut) - vectors(exact)).max() < 1e-6


async def test_lengths_of_the_configuration_and_of_the_model(opened, m3, minilm, copied):
    for more, expected in (({}, 64), ({"context_length": 10}, 10), ({"context_length": 900}, 64)):
        async with opened(m3, **more) as backend:
            assert backend.max_length == expected
    short = copied(sentence_bert_config={"max_seq_length": 20})
    async with opened(short) as backend:
        assert backend.max_length == 20
    async with opened(short, context_length=40) as backend:
        assert backend.max_length == 40
    async with opened(minilm, context_length=512) as backend:
        assert (await backend.embed(job("word " * 500)))[0].tokens == 502


async def test_texts_that_are_hardly_there(opened, minilm):
    async with opened(minilm) as backend:
        lone, joined, whole, nothing = await backend.embed(job("a\ud800b", "\ud83d\ude42", "🙂", "\u200b"))
        replaced = await backend.embed(job("a\ufffdb"))
    assert abs(vectors([lone]) - vectors(replaced)).max() < 1e-6
    assert abs(vectors([joined]) - vectors([whole])).max() < 1e-6
    assert nothing.tokens == 2


async def test_colbert_is_bounded(opened, m3):
    async with opened(m3, engine={"colbert_bytes": 24 * 4 * 10}) as backend:
        await backend.embed(job("w1", "w2", colbert=True))
        with pytest.raises(BadRequest, match="10 at most"):
            await backend.embed(job("w1 w2 w3", "w1 w2 w3 w4 w5", colbert=True))
        await backend.embed(job("w1 w2 w3", "w1 w2 w3 w4 w5"))


async def test_short_texts_are_not_read_behind_long_ones(opened, m3):
    from ark.concurrency import TURNS

    long = ["w1 " * 100_000] * 12
    left = 2 * TURNS + 4
    async with opened(m3) as backend, anyio.create_task_group() as tasks:

        async def embed_long():
            nonlocal left
            await backend.embed(job(*long, truncate=True))
            left -= 1

        for _ in range(left):
            tasks.start_soon(embed_long)
        while backend.status().waiting < left:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        await backend.embed(job("w1"))
        assert left > TURNS


async def test_long_texts_are_read_in_pieces(opened, m3):
    from ark.engines.token_budget import CHUNK_SIZE

    texts = ["w1", "w2 " * CHUNK_SIZE, "w3 w4", *["w5 " * 30] * (CHUNK_SIZE // 60), "w6"]
    async with opened(m3) as backend:
        reader = backend._reader
        pieces = []
        rows = reader.read(job(*texts, truncate=True), lambda: pieces.append(0))
        alone = [reader.read(job(text, truncate=True))[0] for text in texts]
    assert rows == alone
    # Two of them count the long one, of which no more is read than that.
    assert len(pieces) == 5


async def test_of_a_text_that_is_far_too_long_the_beginning_is_read(opened, m3):
    long = "w1 w2 w3 " * 500_000
    async with opened(m3) as backend:
        reader = backend._reader
        read = []

        class Counting:
            def encode_batch_fast(self, texts, **more):
                read.extend(texts)
                return core.encode_batch_fast(texts, **more)

        core, reader._core = reader._core, Counting()
        (cut,) = reader.read(job(long, truncate=True))
        assert cut == reader.read(job("w1 w2 w3 " * 100, truncate=True))[0]
        with pytest.raises(ContextLengthExceeded, match=r"input\[1\] has far more, special ones included") as error:
            reader.read(job("w1", long))
    assert error.value.param == "input[1]"
    assert sum(map(len, read)) < 400_000


async def test_reading_ends_when_the_client_has_left(opened, m3):
    text = "w1 " * 30_000
    async with opened(m3) as backend:
        read = []
        encode = backend._reader._core.encode_batch_fast

        class Counting:
            def encode_batch_fast(self, texts, **more):
                read.append(texts)
                return encode(texts, **more)

        backend._reader._core = Counting()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.embed, job(*[text] * 200, truncate=True))
            while not read:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        assert len(read) < 200
        assert backend.status().waiting == 0
