"""Repeating what the user said."""

# ruff: noqa: E501 - a phrase is one line, however long

from ark_embedded.training.chat.dialogue import World
from ark_embedded.training.chat.phrasing import Phrases
from ark_embedded.training.chat.skills import facts, fallback

_ECHO = Phrases(
    (
        "[Please |]read [this|these words] [back|back to me|aloud]: {v}",
        "[Now |Please |]type [exactly |][this|these words|the following]: {v}",
        "[Give|Tell|Show] me back [this|these words|the words]: {v}",
        "[Quote|Recite|Mirror|Return|Mimic|Reproduce|Duplicate] [this|the following|me|these words|after me|the phrase|exactly this]: {v}",
        "[I say|You say|Now you say|Please answer|Now you]: {v}",
        "[Your answer|The answer|Your reply] [must|should] be[ exactly|]: {v}",
        "[The text to|What you should|The words to] [repeat|say] [is|are]: {v}",
        "[I would like you to|You should|You must|I need you to] [repeat|say|write|echo][| this]: {v}",
        "[Answer|Reply|Respond] [only|just|exactly|] with: {v}",
        "[Please |]repeat after me: {v}",
        "[Please |]repeat[| this| the following| my words| exactly| the words]: {v}",
        "[Please |][echo|say|repeat] {v}",
        "[Please |][echo|say|print|write|type|answer with|reply with|respond with][|| this| the words| exactly| only| just]: {v}",
        "[Reply|Answer|Respond] with [|exactly |only |just ][|the word |the words ]{q}",
        "[Please |][reply|answer|respond] with [|exactly |only |just ][|the word |the words ]{v}",
        "[Please |][echo|say|repeat|write][|| the word| the words| the phrase| the text] {q}[|.]",
        "[Can you|Could you|Will you] [say|repeat|echo] {q}?",
        "[Now |And |Again, ][say|repeat] {v}",
        "[Say|Write] {q} and nothing else.",
        "[Repeat|Repeat after me|Echo|Say|Repeat this]:\n{v}",
        "[Say|Please say|Just say|Repeat] {v}",
    ),
    (
        "[Copy|Output] [this|the following] [text|words]: {v}",
        "[Let me hear|I want to hear|I want you to say]: {v}",
        "Speak after me: {v}",
        "[Parrot|Send back] [this|the following]: {v}",
    ),
)


def _spoken(world: World) -> str:
    fact = facts.any_fact(world)
    text = world.rng.choice((fallback.sentence(world), facts.spoken(world, fact)))
    return text.rstrip(".?! ").replace("\n", " ")[:120].rstrip() or "hello"


def echo(world: World) -> None:
    """The user's words come back as they are; quotation marks round them do not."""
    rng = world.rng
    text = world.lexicon.words(rng, 1, rng.choice((1, 2, 3, 5, 8)))
    style = rng.random()
    if style > 0.6:
        # Also what would be a question or a fact, were it not to be repeated.
        text = _spoken(world)
    elif style < 0.1:
        text = text.title()
    elif style < 0.2:
        text = text[:1].upper() + text[1:]
    elif style < 0.25:
        text = text.upper()
    if style <= 0.6 and rng.random() < 0.15:
        text += rng.choice((" ", ", ")) + world.draw(rng.choice(("number", "code", "name")))
    quote = rng.choice(('"', '"', "'"))
    ending = rng.choice(("", "", "", "", ".", "!", "?"))
    said = world.say(_ECHO, v="\0", q="\1")
    # An ending belongs to the words where a colon announces them, and to the sentence elsewhere.
    if "\0" in said:
        if ":" in said:
            text += ending
        elif said.endswith("\0") and rng.random() < 0.25:
            said += rng.choice((".", "!", ", please.", " please"))
    world.user(said.replace("\0", text).replace("\1", f"{quote}{text}{quote}"))
    world.reply(text)
