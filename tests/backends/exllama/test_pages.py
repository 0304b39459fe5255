"""Whose state is reused, and what is forgotten first, in the real generator's page table."""

import asyncio

import paged_model
import pytest

from ark.engines.chat import SamplingParams

pytestmark = pytest.mark.anyio


async def converse(chat, prompt, count=20, **more):
    """A turn; returns the conversation with its reply, and the tokens of it that were there."""
    reply = await chat.matches(prompt, count, **more)
    return prompt + reply.tokens, reply.cached


async def test_nothing_is_shared_between_owners(opened, words):
    async with opened(pages=32) as chat:
        # Less than a page, exactly one, and several.
        for length in (100, 257, 700):
            prompt = words(length)
            _, first = await converse(chat, prompt, owner="a")
            _, other = await converse(chat, prompt, owner="b")
            _, nobody = await converse(chat, prompt)
            _, again = await converse(chat, prompt, owner="a")
            assert (first, other, nobody, again) == (0, 0, 0, length - 1)


async def test_owners_beside_each_other(opened, words):
    async with opened(pages=32) as chat:
        prompt = words(700)
        replies = await asyncio.gather(*(chat.matches(prompt, 40, owner=owner) for owner in "aabb"))
        cached = sorted(reply.cached for reply in replies)
        # One of each owner's computes the prompt, the other one finds its full pages at least.
        assert cached[:2] == [0, 0]
        assert all(one >= 512 for one in cached[2:])


async def test_a_first_page_written_by_generation_is_its_owners_too(opened, words):
    async with opened() as chat:
        said = (await chat.run([7], 100, owner="a")).tokens
        _, other = await converse(chat, [7, *said], owner="b")
        assert other == 0
        _, mine = await converse(chat, [7, *said], owner="a")
        assert mine == 100


async def test_a_prompt_that_repeats_itself_is_right(opened, words):
    async with opened(pages=12) as chat:
        page = words(256)
        for seed in range(4):
            await converse(chat, page * 3 + words(5, seed), session=f"s{seed}")
            await converse(chat, page + words(5, seed), 300, session="t")
            await converse(chat, words(600, seed), 100)
        await converse(chat, page * 2 + words(3))


async def test_a_reply_fills_a_page_that_another_prompt_waits_to_compute(opened, words):
    """The prompt is the conversation that the reply is about to make, and waits for others to be read."""
    async with opened(by_hand=True, pages=32) as chat:

        async def turn(count):
            for _ in range(count):
                for _ in range(6):
                    await asyncio.sleep(0)
                chat.engine.run_once(wait=False)

        async def ask(prompt, count):
            replies.append((await chat.run(prompt, count)).tokens)

        replies = []
        first = words(740)
        whole = first + paged_model.greedy(first, 40)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(first, 40))
            await turn(27)
            # The third page of `first` is nearly full.
            tasks.create_task(ask(words(600), 2))
            await turn(1)
            tasks.create_task(ask(whole[:780], 5))
            await turn(60)
        assert sorted(map(len, replies)) == [2, 5, 40]
        assert whole[740:] in replies
        assert paged_model.greedy(whole[:780], 5) in replies
        assert all(page.ref_count == 0 for page in chat.generator.pages._table.all_pages)


async def test_live_sessions_outlive_what_has_none(opened, words):
    async with opened(pages=16) as chat:
        talk, _ = await converse(chat, words(700), session="s")
        for seed in range(12):
            await converse(chat, words(900, seed))
        _, cached = await converse(chat, [*talk, 5], session="s")
        assert cached == len(talk) - 1


async def test_the_session_that_was_used_longest_ago_goes_first(opened, words):
    async with opened(pages=16) as chat:
        talks = {}
        for name in "abc":
            talks[name], _ = await converse(chat, words(900, ord(name)), session=name)
        talks["a"], _ = await converse(chat, talks["a"] + [5], session="a")
        # Needs more than is left: what goes is of b.
        await converse(chat, words(1100), session="d")
        _, a = await converse(chat, talks["a"] + [6], session="a")
        _, c = await converse(chat, talks["c"] + [6], session="c")
        assert (a, c) == (len(talks["a"]) - 1, len(talks["c"]) - 1)
        _, b = await converse(chat, talks["b"] + [6], session="b")
        assert b < len(talks["b"]) - 1


async def test_a_conversation_loses_its_end_first(opened, words):
    async with opened(pages=10) as chat:
        talk, _ = await converse(chat, words(1500), session="s")
        # Six of ten pages are in use, and six more are needed.
        await converse(chat, words(1300), session="t")
        _, cached = await converse(chat, [*talk, 5], session="s")
        assert cached == 4 * 256


async def test_a_session_does_not_evict_itself(opened, words):
    async with opened(pages=12) as chat:
        talk, _ = await converse(chat, words(1500), session="s")
        await converse(chat, words(900), session="t")
        for _ in range(3):
            talk, cached = await converse(chat, [*talk, 5], session="s")
            assert cached >= len(talk) - 21 - 21 - 512


async def test_a_released_session_is_forgotten(opened, words):
    async with opened() as chat:
        talk, _ = await converse(chat, words(700), session="s")
        assert chat.backend.status().kv_bytes == 3
        chat.backend.release("s")
        _, cached = await converse(chat, [*talk, 5], session="s")
        assert cached == 0
        chat.backend.release("s")
        await converse(chat, words(5), 1)
        assert chat.backend.status().kv_bytes == 1


async def test_a_release_leaves_what_others_have(opened, words):
    async with opened(pages=24) as chat:
        shared = words(600)
        one, _ = await converse(chat, shared + words(300, 1), session="one")
        two, _ = await converse(chat, shared + words(300, 2), session="two")
        chat.backend.release("one")
        _, cached = await converse(chat, [*two, 5], session="two")
        assert cached == len(two) - 1
        _, cached = await converse(chat, [*one, 5])
        # The pages that only the first one had are gone; of the page in which the two part, the second's is left.
        assert 512 <= cached <= 600


async def test_released_while_it_runs(opened, words):
    async with opened() as chat:
        said = []
        async for batch in chat.backend.generate(chat.job(words(700), 300, session="s")):
            if batch.token_ids and not said:
                chat.backend.release("s")
            said += batch.token_ids
        assert said == paged_model.greedy(words(700), 300)
        _, cached = await converse(chat, words(700), session="s")
        assert cached == 0


async def test_a_turn_leaves_no_page_of_the_turn_before(opened, words):
    async with opened() as chat:
        talk = words(20)
        for turn in range(12):
            talk, _ = await converse(chat, talk + words(3, turn), 5, session="s")
        assert len(talk) < 256
        assert chat.backend.status().kv_bytes == 1


async def test_the_other_replies_of_a_job_are_only_a_cache(opened, words):
    async with opened() as chat:
        params = SamplingParams(temperature=1.5, seed=5)
        first = []
        async for batch in chat.backend.generate(chat.job(words(300), 20, sampling=params, n=3, session="s")):
            if batch.index == 0:
                first += batch.token_ids
        talk = words(300) + first
        _, cached = await converse(chat, [*talk, 5], session="s")
        assert cached == len(talk) - 1


async def test_pages_are_put_in_order_when_all_were_touched(opened, words, package):
    """The generators move pages when they are idle and all have been used, eight times each in exllamav3."""
    async with opened(pages=8) as chat:
        talk, _ = await converse(chat, words(300), session="s")
        moved = 0
        generator = chat.generator._generator
        table = generator if package == "exllamav2" else generator.pagetable
        name = "defrag_cache" if package == "exllamav2" else "defrag"
        plain = getattr(table, name)

        def counting():
            nonlocal moved
            before = [page.page_index for page in table.all_pages]
            plain()
            moved += before != [page.page_index for page in table.all_pages]

        setattr(table, name, counting)
        for seed in range(20):
            await converse(chat, words(300 + 30 * seed, seed), 10, session=f"t{seed % 3}" if seed % 2 else None)
            talk, _ = await converse(chat, [*talk, 5], 5, session="s")
        assert moved


@pytest.mark.parametrize("owner", ["a", "b"])
async def test_a_page_begun_behind_a_full_one_is_no_beginning(opened, words, owner):
    """A prompt that ends with a page that was found, and what was generated behind it sent as a prompt of its own."""
    async with opened() as chat:
        prompt = words(257)
        for _ in range(2):
            said = (await chat.matches(prompt, 40, owner="a")).tokens
        _, cached = await converse(chat, [prompt[-1], *said], owner=owner)
        assert cached == 0


async def test_a_page_begun_behind_one_that_another_job_computes_is_no_beginning(opened, words):
    async with opened() as chat:
        prompt = words(257)
        one, _ = await asyncio.gather(*(chat.matches(prompt, 40) for _ in range(2)))
        _, cached = await converse(chat, [prompt[-1], *one.tokens])
        assert cached == 0


async def test_no_page_of_a_long_reply_is_a_beginning(opened, words):
    """A long reply goes on, piece by piece, behind pages that are found again."""
    async with opened(reserve=256, pages=32) as chat:
        talk, _ = await converse(chat, words(1), 700)
        for start in (255, 256, 511, 512):
            _, cached = await converse(chat, talk[start : start + 80], 3)
            assert cached == 0


async def test_no_page_of_guessed_tokens_is_a_beginning(opened, words):
    """A reply ends at its stop id while tokens behind it had been guessed, into the next page."""
    async with opened(draft_tokens=4, pages=32) as chat:
        for length in range(249, 257):
            stop = paged_model.greedy(words(length), 1)[0]
            await chat.run(words(length), 9, stop_token_ids=frozenset({stop}))
        beginnings = [words(length) for length in range(249, 257)]
        for page in chat.generator.pages._table.all_pages:
            if page.prev_hash is None and page.kv_position:
                held = page.sequence[0, : page.kv_position].tolist()
                assert any(held[:200] == one[:200] for one in beginnings)


async def test_a_page_that_was_computed_again_elsewhere_is_emptied(opened, words):
    """A job gives back a page untouched, whose content another job has computed anew in the meantime."""
    async with opened(pages=12, context_length=2048, reserve=2048) as chat:
        talk = words(700)
        await chat.matches(talk, 1)
        await chat.matches(words(700, 1), 1, session="s")
        # It is given eight pages, two of the conversation among them, for a reply that does not come so far.
        hog = chat.backend.generate(chat.job(words(5), 1950))
        while not (await anext(hog)).token_ids:
            pass
        taken = [page for page in chat.generator.pages._table.all_pages if page.ref_count and page.can_revert]
        again = {bytes(page.phash_revert): page for page in taken if page.kv_position_revert == 256}
        assert again
        await chat.matches(talk, 1)
        table = chat.generator.pages._table
        assert any(phash in table.unreferenced_pages for phash in again)
        await hog.aclose()
        for start in (256, 512):
            _, cached = await converse(chat, talk[start : start + 100], 3)
            assert cached == 0
