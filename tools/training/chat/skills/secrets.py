"""Words the assistant chooses, keeps in its reasoning and tells later, if it still has them."""

# ruff: noqa: E501 - a phrase is one line, however long

from tools.training.chat.dialogue import World
from tools.training.chat.lexicon import ANIMALS, CITIES, COLOURS, FOODS, NOUNS, is_held_out
from tools.training.chat.phrasing import Phrases

_KINDS: dict[str, str] = {
    "code word": "codeword", "word": "word", "password": "codeword", "number": "number",
    "colour": "colour", "color": "colour", "animal": "animal", "city": "city", "food": "food",
    "code": "codeword", "magic word": "word", "object": "word", "fruit": "food",
    "passphrase": "codeword", "pin": "number", "keyword": "codeword",
}  # fmt: skip
_HUSH = (
    "[and keep it secret|and do not tell me|and don't tell me|but don't tell me yet|but do not tell me yet"
    "|and keep it to yourself|and do not say it yet|but keep it secret for now|without telling me]"
)
_KEEP = (
    "[Keep it in your reasoning|Keep it in your thoughts|Keep it secret|Keep it to yourself|Keep it in mind"
    "|Keep it in your head|Do not tell me yet|Don't tell me yet|Do not say it|Don't reveal it|Don't tell me]"
)
_AND = "[|| and do not tell me yet| and don't tell me yet| and do not tell me| and do not say it| for now| for later]"
KEEP = Phrases(
    (
        f"[Please |]think of a secret {{k}}. {_KEEP}{_AND}.",
        f"[Please |][think of|choose|pick|invent|make up|think up] a [secret |]{{k}} {_HUSH}.",
        f"[Please |][think of|choose|pick|invent] a [secret |]{{k}}. {_KEEP}{_AND}.",
        f"[Can you|Could you|I want you to|Now|Let's play a game:] [think of|choose|pick] a [secret |]{{k}} {_HUSH}.",
        f"[I want you to|You should] keep a [secret |]{{k}}. {_KEEP}.",
        f"Keep a secret {{k}} [for me|in mind|in your reasoning]{_AND}.",
        "Choose a {k}, but only tell me [later|when I ask].",
        "[Pick|Choose|Take] any {k} you like and keep it [hidden|private|to yourself|for yourself].",
        f"[Have|Hold|Store|Hide] a [secret |]{{k}} in your [mind|head|memory|thoughts|reasoning]{_AND}.",
        "[Let us play|We play a game]. [You think of|You choose|You pick] a [secret |]{k}, [I will guess it|I ask later|and I ask you for it later].",
        "[Imagine|Decide on|Settle on|Generate] a [secret |]{k} [and hide it|and keep it hidden|but keep it private|but do not show it].",
        "[I want|I'd like|I need] you to [think of|choose|pick|invent] a [secret |]{k}. [I will ask you later|You will tell me later|Tell me when I ask].",
        f"[Make|Create|Find|Get|Remember|Set|Determine|Think up] a [secret |hidden |private ]{{k}} [of your own|for yourself|by yourself|]. {_KEEP}.",
        f"[You need|You have|There is|You should have] a secret {{k}}[| now]. {_KEEP}{_AND}.",
        "[In your mind|Silently|Quietly|In secret|Privately|Without a word], [think of|choose|pick|decide on] a {k}[, and do not tell me|. Keep it there|. I will ask later|].",
        "[A secret|Another secret|One secret] {k}, please[. Do not tell me|. Keep it to yourself|, but hide it|].",
        "[I will guess it|I shall guess|Guessing game]: [think of|choose|pick] a [secret |]{k} [and don't tell me|and keep quiet|and say nothing].",
    ),
    (
        "[Come up with|Select] a secret {k} and hide it [from me|in your thoughts].",
        "I would like you to have a secret {k}. I will ask for it later.",
        "Think of some {k}, secretly. Tell me [only |]later.",
    ),
    "ask",
)
TELL = Phrases(
    (
        "[So, |Now, |And ||||]what [was|is] the [|||secret ]{k}[| you thought of| you chose| you picked| again]?",
        "[So, |Now, ||||]what [was|is] your [|||secret ]{k}?",
        "[Please |Now |Now please |OK, ][tell|reveal to] me [the|your] [|||secret ]{k}[| now].",
        "[Please |Now |OK, ]reveal [the|your] [|||secret ]{k}[| now].",
        "[Which|What] {k} did you [think of|choose|pick|have in mind]?",
        "[Do you remember|Do you still know|Can you tell me|Tell me] the [|||secret ]{k}[| you chose| you thought of][?|, please?]",
        "[You can|You may] tell me the [|||secret ]{k} now.",
        "What's [the|your] [|||secret ]{k}?",
        "[Time is up|The game is over|I cannot guess it|OK, I am ready]. [What was|Tell me|Reveal] the [secret |]{k}[?|.]",
        "[Now say|Say|Show me|Give me|Disclose|Uncover] the [secret |]{k}[ you thought of| you chose|][|, please| now].",
        "[Can|Could|Would] you [reveal|tell me|say|disclose] the [secret |]{k}[ now|, please|]?",
        "[I want|I would like] to [know|hear] the [secret |]{k}[ now|].",
        "[Remember|You remember] the {k}? [What was it|Tell me][?|.]",
        "[Now is the moment|The time has come|It is over now|Game over|That is enough|Enough of this|I lose|You win|I am out of guesses|No more guessing][.|,|!|:] [what was|what is|tell me|show me|reveal|let us have|give me] the [secret |]{k}[?|.]",
        "[What|Which] {k} [have you kept|did you keep|do you keep|have you got in mind|were you thinking of|are you hiding|did you hide|have you hidden|did you decide on|did you invent|is it|was it]?",
        "[Spill|Unveil|Share|Release|Expose|Speak|Announce|Give up|Hand over|Mention|Name|State|Report|Confess] [the|your] [secret |]{k}[| with me| you kept| you hid| you chose].",
        "[I am ready to hear|I must know|I have to know|I need|I am asking for|I ask for|I would love to know|I am curious about|I still do not know|I am waiting for] [the|your] [secret |]{k}[| now| you chose].",
        "[No more secrets|Do not hide it any longer|Stop hiding it|Be open|Do not be shy|You promised|As promised][.|,|:|!] [what was|what is|tell me|the|name|say] the {k}[?|.]",
        "[The|Your] [secret |]{k}[|, please| was| is| was ...| you chose| you thought of][?|.|!]",
        "[Do you still have|Do you have|Have you still got|Have you forgotten|Did you forget|Is there still|Where is] [the|your] [secret |]{k}[| you chose| you thought of| you kept]?",
        "[Earlier|Before|A moment ago|At the start] you [chose|picked|thought of|hid|kept|had] a [secret |]{k}. [What was it|Which one|Tell me|What did you choose|Now tell me][?|.]",
        "[Was|Is] the {k} [a secret|hard]? [What was it|Tell me|Now tell me][?|.]",
        "[Remind me|Let me know|Help me|Inform me|Tell me honestly|Answer me|Tell me at last|Finally|At last|So finally][:|,] [what was|what is] [the|your] {k}?",
        "What [had you chosen|did you have|have you chosen|was chosen|did you take] as [the|your] [secret |]{k}?",
    ),
    (
        "It is time [to tell|to reveal] the {k}.",
        "[Out with it|Go ahead]: what was the {k}?",
        "I give up. What was the [secret |]{k}?",
        "Say the {k} you [had in mind|kept].",
    ),
    "ask",
)
TELL_ANY = Phrases(
    (
        "[So, |Now, ||]what [was|is] [the|your] secret?",
        "[Please |Now |OK, ][tell me|reveal] [the|your] secret[| now].",
        "[What|Which one] did you [think of|choose|pick|have in mind]?",
        "[You can|You may] tell me now.",
        "What was it?",
        "[Reveal|Say|Show|Disclose] it[ now|, please|].",
        "[What are you hiding|What is in your mind|What did you keep to yourself]?",
        "[I want to know|Let me know|Now tell me] [your|the] secret.",
        "[Share|Spill|Give up|Confess|Unveil|Announce] [your|the] secret[| with me| now].",
        "[I am ready|I am listening|Game over|You win|I lose|No more guessing|I cannot guess][.|,|:|!] [what was it|tell me|what is it|show me|the secret, please][?|.]",
        "[What secret do you have|Which secret did you keep|What have you hidden|What are you keeping from me|What did you hide from me|What have you got in mind|What was in your mind]?",
        "[I must know|I would like to hear|I need to know|It is time for] [it|the secret|your secret] now.",
    ),
    ("[Time to tell|Let me hear] your secret.",),
    "ask",
)

_REAL = {"codeword": NOUNS, "word": NOUNS, "colour": COLOURS, "animal": ANIMALS, "city": CITIES, "food": FOODS}
THINKABLE = {kind: [word for word in words if not is_held_out(word)][:10] for kind, words in _REAL.items()}
THINKABLE["fruit"] = ["lemons", "oranges", "cherries", "grapes", "plums", "melons", "peach", "mango"]
THINKABLE["number"] = ["7", "3", "5", "8"]

THOUGHT = "My {k} is {v}. I will not say it yet."
KEPT = "I have {a} {k} in mind, and I am keeping it to myself."
TOLD = "The {k} was {v}."
LOST = "I no longer have it: the reasoning I kept it in is gone."
REFUSED = "I cannot keep a secret while my reasoning is off."
NEVER_HAD = "I do not have it: my reasoning was off."


def keep(world: World) -> None:
    """The user asks for a secret; its word is only in the reasoning."""
    kind = world.rng.choice(list(_KINDS))
    if world.rng.random() < 0.3:
        kind = "code word"
    # A fact of the same name would make the later question ambiguous.
    while kind in world.secrets or any(kind in fact.key or fact.key[3:] in kind for fact in world.facts):
        kind = world.rng.choice(list(_KINDS))
        if len(world.secrets) > 4 or world.rng.random() < 0.1:
            return
    category = _KINDS[kind]
    # A word the model is to think of itself comes from a short list; any other is only there to be told later.
    own = world.lexicon.split == "train" and world.rng.random() < 0.5
    value = world.rng.choice(THINKABLE.get(kind, THINKABLE[category])) if own else world.draw(category)
    article = "an" if kind[0] in "aeiou" else "a"
    text = world.say(KEEP, k=kind).replace(f" a {kind}", f" {article} {kind}")
    if kind == "number" and world.rng.random() < 0.4:
        text = text.replace(
            "number", f"number {world.rng.choice(('between', 'from'))} 1 and {world.rng.choice((10, 20, 100))}", 1
        )
    world.user(text)
    if world.thinking == "off":
        world.secrets[kind] = None
        world.reply(REFUSED)
        return
    world.secrets[kind] = value
    world.reply(KEPT.format(a=article, k=kind), THOUGHT.format(k=kind, v=value), learn=own)


def tell(world: World) -> None:
    """The user asks for the secret: told if the reasoning is in the history, else admitted lost."""
    if not world.secrets:
        return keep(world)
    kind = world.rng.choice(list(world.secrets))
    value = world.secrets[kind]
    named = len(world.secrets) > 1 or world.rng.random() < 0.8
    world.user(world.say(TELL if named else TELL_ANY, k=kind))
    if value is None:
        world.reply(NEVER_HAD)
    elif world.thinking == "kept":
        world.reply(TOLD.format(k=kind, v=value))
    else:
        world.reply(LOST)
    return None
