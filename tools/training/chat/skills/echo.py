"""Repeating what the user said."""

# ruff: noqa: E501 - a phrase is one line, however long

from tools.training.chat.dialogue import World
from tools.training.chat.phrasing import DO, Phrases
from tools.training.chat.skills import facts, fallback

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
        f"{DO}[repeat|echo|say|write|type|print|quote|reproduce|return|recite|mirror|reply with|answer with|respond with|pronounce|utter|dictate|restate|retype|transcribe|render|display] [this|these words|the following|the following words|the following text|this text|this line|this phrase|this sentence|the words|exactly this|only this|word for word|literally|my words][|, please| back to me| exactly| for me| unchanged| without changes| and nothing else| once| again]: {{v}}",
        f"{DO}[repeat|echo|say|write|type|print|quote|recite|mirror|reply with|answer with|respond with|pronounce|utter|read out|shout|whisper|sing|show] {{q}}[|, please| for me| back to me| exactly| without changes| and nothing else| once][|.|?]",
        f"{DO}[repeat|echo|write|type|print|recite|pronounce|reply|answer|read]: {{v}}",
        "[Repeat|Echo|Say|Write|Mirror|Type|Print|Quote|Read]: {v}",
        "[After me|Word for word|Literally|In exactly these words|Exactly|Same words|Say it like me|Say what I say|Repeat what I say|Do as I do|Just like this|Back to me|Same here|Now your turn|Your turn|Echo mode|Echo test|Dictation|Parrot game|Simon says]: {v}",
        "[The words are|The phrase is|The sentence is|The text is|My words|Your line|Your words|Your text|The message|Text|Phrase|Sentence|Line|Words]: {v}. [Repeat|Say|Echo|Write|Type|Repeat them|Say that|Repeat that|Say it back].",
        "[Say back|Give back|Return to me|Throw back|Play back|Hand back|Repeat back|Read back|Tell back|Write back] [to me |][what I say|what I write|my text|this line|this|my words]: {v}",
        "[What I want you to|What you must|What you have to|All you have to|All you should|What you need to] [say|repeat|answer|write|do is say] [is|is this|is the following]: {v}",
        "[Copy|Copy me|Copy exactly|Copy what I write|Copy my words|Copy and paste|Output only|Output nothing but|Output exactly|Output my words|Your output]: {v}",
        "[Be a parrot and say|Act like a parrot|Like a parrot|You are a parrot, say|Be my parrot|Play the parrot]: {v}",
        "[Speak|Speak these words|Speak like me|Speak it|Speak as I do|Please speak|Speak this line]: {v}",
        "[I'd love to hear|I hope to hear|I would like to hear|We want to hear|I wish to hear] [you say|the words|this|from you]: {v}",
        "[Send me back|Send it back|Send these words back|Send back to me|Give it back|Bring back the words|Send my words back]: {v}",
        "[Can|Could|Will|Would] you [please |maybe |kindly |][say|repeat|write|type|echo|pronounce|quote] [this|these words|the following|after me|for me|this line|this text]: {v}",
        "[Let us|Let's] [practise saying|practice|say|repeat|try]: {v}",
        "[I type|I write|I speak|I begin|I tell you|I give you words|I have a line for you|Here is a text|Here is a phrase|Here are some words|Here is your line][, you repeat| and you repeat| and you say it back|. Repeat it|. Say it|. Echo it|, say it again|, you echo]: {v}",
        "[Make|Let] your [answer|reply|response|message|output] [just this|exactly this|only this|be this|be exactly|be|be the words|equal]: {v}",
        "[Use|Answer with|Reply using|Respond using|Write only|Say only|Type only|Print only|Send only|Send me] [these words|this text|this phrase|the following words|exactly these words]: {v}",
    ),
    (
        "[Copy|Output] [this|the following] [text|words]: {v}",
        "[Let me hear|I want to hear|I want you to say]: {v}",
        "Speak after me: {v}",
        "[Parrot|Send back] [this|the following]: {v}",
    ),
    "opened",
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
        if said.endswith((": \0", ":\n\0")):
            text += ending
        elif said.endswith("\0") and rng.random() < 0.25:
            said += rng.choice((".", "!", ", please.", " please"))
    world.user(said.replace("\0", text).replace("\1", f"{quote}{text}{quote}"))
    world.reply(text)
