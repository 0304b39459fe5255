"""The tasks that clients draw from, and what each requires of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
from bad import KINDS as BAD
from bad import send_bad
from client import CHAT, CLOSE_ENOUGH, EMBEDDING, MODES, Client, Conversation, Reference
from leaving import KINDS as LEAVING
from leaving import leave, leave_turn
from talk import secret_word

Task = Callable[[Client, Reference, float], Awaitable[None]]

LEAVES = 0.08
"""Share of the turns of named sessions that are aborted first and then sent again."""
LEFT_BEHIND = 0.3
"""Share of the named sessions that are not deleted."""


async def talk(client: Client, reference: Reference, think: float) -> None:
    """One conversation: every answer is the one that was given alone."""
    draw = client.draw
    script = draw.choice(reference.scripts)
    # What is kept in reasoning is not in the messages.
    mode = draw.choice([mode for mode in MODES if not (script.secret and mode == "stateless")])
    conversation = Conversation(client, script, mode)
    word = ""
    for number, turn in enumerate(script.turns):
        if mode == "named" and number and draw.random() < LEAVES and await leave_turn(conversation, turn, number):
            # It was committed before the server saw that nobody is there.
            continue
        sent = time.monotonic()
        answer = await conversation.take(turn, stream=draw.random() < 0.5)
        client.book.wait("turn", sent)
        if answer.status != 200:
            client.book.fail("chat", f"{answer.status} {answer.content[:300]}")
            return
        if script.secret and number == 0:
            # Its own word, which must come back: a sampled one may be another than alone.
            word = secret_word(answer.reasoning) or ""
        expected = f"The code word was {word}." if turn.asks_secret else script.answers[number]
        if answer.content != expected:
            note = (
                f"{mode}, turn {number} of {[one.text for one in script.turns]}: {answer.content!r}, not {expected!r}"
            )
            client.book.fail("wrong answer", note)
        client.book.done["turns"] += 1
        await asyncio.sleep(think * 2 * draw.random())
    if mode == "named" and draw.random() > LEFT_BEHIND:
        await client.http.delete(f"/sessions/{conversation.session}")
    client.book.done[f"conversations, {mode}"] += 1


async def embed(client: Client, reference: Reference, think: float) -> None:
    """Some texts: every vector is that of the text alone."""
    draw = client.draw
    picked = [draw.randrange(len(reference.texts)) for _ in range(draw.randint(1, 8))]
    sent = time.monotonic()
    try:
        vectors = await client.embed([reference.texts[number] for number in picked])
    except RuntimeError as error:
        client.book.fail("embeddings", str(error)[:300])
        return
    client.book.wait("embedding", sent)
    for number, vector in zip(picked, vectors, strict=True):
        if max(abs(a - b) for a, b in zip(vector, reference.vectors[number], strict=True)) > CLOSE_ENOUGH:
            client.book.fail("wrong vector", reference.texts[number][:80])
    client.book.done["embeddings"] += 1


async def transcribe(client: Client, reference: Reference, think: float) -> None:
    """A recording: its text is what it was alone."""
    name = client.draw.choice(list(reference.recordings))
    sent = time.monotonic()
    try:
        text = await client.transcribe(name, reference.recordings[name])
    except RuntimeError as error:
        client.book.fail("transcription", str(error)[:300])
        return
    client.book.wait("transcription", sent)
    if text != reference.transcriptions[name]:
        client.book.fail("wrong transcription", f"{name}: {text!r}, not {reference.transcriptions[name]!r}")
    client.book.done["transcriptions"] += 1


async def look_around(client: Client, reference: Reference, think: float) -> None:
    """Requests that monitoring and clients make now and then."""
    path = client.draw.choice(["/models", "/sessions", "/metrics", "/health", f"/models/{'gpt-4o'}"])
    reply = await client.http.get(path)
    client.book.statuses[reply.status_code] += 1
    if reply.status_code != 200:
        client.book.fail("look around", f"{path}: {reply.status_code}")
    client.book.done["look around"] += 1


async def misbehave(client: Client, reference: Reference, think: float) -> None:
    """Something that the server has to refuse, with the right status."""
    await send_kind(client, client.draw.choice(BAD))


async def send_kind(client: Client, kind: str) -> None:
    problem = await send_bad(client, kind)
    if problem:
        client.book.fail("bad input", f"{kind}: {problem}")
    client.book.done[f"bad input, {kind}"] += 1


async def leave_early(client: Client, reference: Reference, think: float) -> None:
    """A request whose client disconnects."""
    await leave_kind(client, client.draw.choice(LEAVING))


async def leave_kind(client: Client, kind: str) -> None:
    await leave(client, kind)
    client.book.done[f"left, {kind}"] += 1


async def every_kind(client: Client) -> None:
    """Each kind of bad input and of leaving once, so that none is left to chance."""
    for kind in BAD:
        await send_kind(client, kind)
    for kind in LEAVING:
        await leave_kind(client, kind)


async def press(client: Client, reference: Reference) -> None:
    """A large request of each kind: when several ask so at once, memory comes to where it may go."""
    story = " ".join(reference.texts * 4)[:6000]
    messages = [{"role": "user", "content": story}]
    await client.post("/embeddings", model=EMBEDDING, input=reference.texts * 2)
    await client.post("/chat/completions", model=CHAT, messages=messages, max_tokens=20, ark_stateful=False)


def tasks(*, audio: bool) -> dict[Task, float]:
    """Each with its weight."""
    chosen: dict[Task, float] = {talk: 5, embed: 2, misbehave: 3, leave_early: 2, look_around: 1}
    return chosen | ({transcribe: 1} if audio else {})


async def run_client(client: Client, reference: Reference, think: float, stop: asyncio.Event) -> None:
    """One task after the other, until told to stop."""
    chosen = tasks(audio=bool(reference.transcriptions))
    while not stop.is_set():
        (task,) = client.draw.choices(list(chosen), list(chosen.values()))
        try:
            await task(client, reference, think)
        except (httpx.HTTPError, OSError) as error:
            client.book.fail("connection", f"{task.__name__}: {type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and the others go on
            client.book.fail("soak", f"{task.__name__}: {type(error).__name__}: {error}")
        await asyncio.sleep(think * 2 * client.draw.random())
