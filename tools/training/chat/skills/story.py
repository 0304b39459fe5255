"""A short story on a word the user chooses."""

# ruff: noqa: E501 - a phrase is one line, however long

from tools.training.chat.dialogue import World
from tools.training.chat.phrasing import DO, Phrases

_STORY = Phrases(
    (
        "[Story|A story|Story time]: {np}",
        "[Make|Create|Compose|Think up] a [|short |small ]story [about|on|of|with] {np}[|, please].",
        "[I want to|Let me] [hear|read] [a story|something] about {np}.",
        "[Please |]tell [|me ]about {np} in a [short |]story.",
        "[Is there|Do you have] a story [about|with] {np}?",
        "[Write|Make up] a [fable|little fable|legend] [about|of] {np}.",
        "[Please |||]tell me a [|short |little |nice |long |very short ]story about {np}.",
        "[Tell|Write|Give me|Make up|Invent] a [|short |little |funny |small ]story about {np}[|, please].",
        "[Can you|Could you|Will you|Would you] [tell|tell me|write|write me] a [|short |little ]story about {np}?",
        "[I want|I would like|I'd like] [to hear |]a [|short |little ]story about {np}[|, please].",
        "[A|Another|One more] story about {np}[|, please|!]",
        "Write [me |][|two or three lines|a few sentences|a short text] about {np}.",
        "[Now |]tell me a story with {np}.",
        f"{DO}[tell|tell me|write|write me|invent|make up|give me|create|compose|think up|improvise|narrate|produce|present|tell us] a [|short |little |nice |small |brief |good |new |tiny |sweet |quick ]story [about|on|of|with|featuring|starring|around] {{np}}[|, please][.|.|?|]",
        "[I feel like|I am in the mood for|I would enjoy|How about|What about|Let us have|Let's have|I am waiting for|We need] a [|short |little |nice ]story [about|with] {np}[.|?|]",
        "{np}: [a story|write a story|tell a story|make a story of it].",
        "[The story of|The tale of|A short story about|Once upon a time there was|The adventures of] {np}[|, please][.|]",
        "[Do you have|Have you heard|Can you invent|Could you write|Can you think of] a [short |]story [about|with|of] {np}?",
        "[Give me|Write|Write me|Invent|Make up|I want|I know|Can you write|We want|Read me|Find me|Compose] a [|short |little |new |nice ][tale|fairy tale|bedtime story|fable|legend|fairytale] [of|on|with|for] {np}[|, please][.|?|]",
        "[A|Another|One more|One|The|Your best|A nice|A short|A little|Now a] [tale|fairy tale|bedtime story|story|fable|legend] [of|on|with|starring] {np}[|, please|, please][.|!|]",
        "[Entertain us|Amuse me|Delight me|Help my child to sleep|Make me happy] with [a tale of|a tale about|a little story of|a short story on|a bedtime story on] {np}[|, please][.|!|]",
        "[Do you know|Are there|Have you|Do you remember] [a tale|a legend|a fairy tale|any stories|some story|some tale] [about|of|with] {np}[?|]",
        "[Let me hear|I want to hear|Let us hear] [the story of|a story with|the legend of] {np}[|, please][.|]",
        "[My child|My daughter|My son|My friend] [wants|would like|loves|asked for] a story about {np}. [Tell one|Please tell it|Can you tell one][.|?|]",
        "[Make|Let] {np} [the hero of a story|the hero of a short story|appear in a story][.|]",
    ),
    (
        "[Do you know|Have you got] a story about {np}?",
        "[Entertain me with a story|Let me hear a tale|Tell me a tale] about {np}.",
        "[A bedtime story|A fairy tale] about {np}, please.",
    ),
    "ask",
)
_STORY_BARE = Phrases(
    (
        "[Please |]tell me a [|short ]story[|, please].",
        "[Write|Tell] a [|short ]story.",
        "[Can you|Could you] tell me a story?",
    )
)
_PLACES = ("by the sea", "on a high hill", "in a quiet village", "near a dark forest")
_FINDS = ("a golden key", "an old map", "a silver bell", "a small box")
_FRIENDS = ("a kind owl", "a clever fox", "an old sailor", "a shy mouse")
_ENDS = ("happy and tired", "with a big smile", "before the rain came", "and slept well")


def story_about(world: World, phrase: str) -> str:
    """A story about "a dragon", "the sea" or "Ada"; it says the word four times and ends."""
    rng = world.rng
    first, _, rest = phrase.partition(" ")
    again = f"the {rest}" if first in ("a", "an") else phrase
    name = again[:1].upper() + again[1:]
    return (
        f"This is a story about {phrase}. {name} lived {rng.choice(_PLACES)}. "
        f"One day {again} found {rng.choice(_FINDS)} and went on a journey. "
        f"On the way {again} met {rng.choice(_FRIENDS)}, and they became friends. "
        f"In the evening they went home, {rng.choice(_ENDS)}. The end."
    )


def story(world: World) -> None:
    """A short story on a given word."""
    rng = world.rng
    if rng.random() < 0.08:
        world.user(world.say(_STORY_BARE))
        world.reply(story_about(world, "a dragon"))
        return
    kind = rng.random()
    if kind < 0.7:
        word = world.draw(rng.choice(("word", "animal", "word", "job"))).lower()
        if rng.random() < 0.12:
            word = f"{rng.choice(('small', 'brave', 'old', 'red', 'lost', 'happy', 'lonely'))} {word}"
        phrase = f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
    elif kind < 0.8:
        phrase = f"the {world.draw('word').lower()}"
    elif kind < 0.9:
        phrase = world.draw("name")
    else:
        phrase = world.draw(rng.choice(("animal", "word"))).lower() + rng.choice(("s", ""))
    world.user(world.say(_STORY, np=phrase))
    world.reply(story_about(world, phrase))
