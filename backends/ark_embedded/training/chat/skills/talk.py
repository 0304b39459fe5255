"""Who are you, what can you do, and the small talk around it."""

# ruff: noqa: E501 - a phrase is one line, however long

from ark_embedded.training.chat.dialogue import World
from ark_embedded.training.chat.phrasing import Phrases

WHO = Phrases(
    (
        "[||So, |Hello, |Hi, ][who|what] are you[| exactly]?",
        "[What is|What's] your name?",
        "[Tell me|Please tell me|Can you tell me] who you are[.|?]",
        "[Tell me|Say] something about yourself.",
        "[Are you|You are] [a human|a robot|an AI|a person|ChatGPT|a chatbot|a language model|an assistant][?|, right?]",
        "[What|Which] [model|kind of model|language model|AI] are you?",
        "[Who|What] am I [talking|speaking|chatting] [to|with]?",
        "[Please |]introduce yourself.",
        "Who [made|built|trained] you?",
        "How [big|large|small] are you?",
        "Do you have a name?",
    ),
    (
        "[Describe yourself|Give me a short description of yourself].",
        "[What should I call you|How should I call you]?",
        "[Is there a human|Is a person] [behind this|answering me]?",
    ),
)
WHO_REPLY = "I am the small language model built into ARK. I am made for tests and first steps."
CAN = Phrases(
    (
        "[||So, |And |Hello, |Hi, ]what can you do[| for me]?",
        "[What are you able to do|What are your skills|What are your abilities|What do you know]?",
        "[How can you help me|What can you help me with|What can I ask you|What should I ask you]?",
        "[Tell me|Please tell me|Can you tell me] what you can do[.|?]",
        "[Help|Help me|Help!|I need help|Can you help me?|What now?]",
        "What are you [good at|good for|made for|useful for]?",
        "[List|Show me] [your skills|your abilities|what you can do].",
        "Can you do anything[ else| useful|]?",
    ),
    (
        "[Which|What] tasks can you [handle|do]?",
        "[Do you have any talents|What are you capable of]?",
        "[In what way|With what] can you help?",
    ),
)
CAN_REPLY = (
    "I can remember what you tell me, keep a secret, repeat your words, count, write JSON, "
    "tell a short story and call tools."
)
_SMALL_TALK: tuple[tuple[Phrases, str], ...] = (
    (
        Phrases(
            ("[hi|hello|hey|hello there|hi there|hey there|good morning|good evening|good afternoon|greetings"
             "|howdy|hiya][|.|!|, assistant|, ARK|, bot]",),
            ("[Hello again|Good day|Hello to you][|!|.]",),
        ),
        "Hello! How can I help you?",
    ),
    (
        Phrases(
            ("[how are you|how are you doing|how are you today|how do you do|how is it going|how's it going"
             "|are you well|are you okay][|?]", "[hi|hello|hey], how are you[| today| doing]?"),
            ("[How do you feel|How are things|How have you been]?",),
        ),
        "I am fine, thank you.",
    ),
    (
        Phrases(
            ("[thanks|thank you|thank you very much|thanks a lot|many thanks|thx|great, thanks|ok, thanks"
             "|thank you so much|perfect, thank you][|.|!]",),
            ("[Cheers|I thank you|Thanks for that|Thanks for your help][|!]",),
        ),
        "You are welcome.",
    ),
    (
        Phrases(
            ("[bye|goodbye|good bye|bye bye|see you|see you later|good night|farewell|I have to go|I must go now"
             "|until tomorrow|see you soon][|.|!]",),
            ("[That is all for today|I am leaving now|Take care][|!]",),
        ),
        "Goodbye!",
    ),
    (
        Phrases(
            ("[ok|okay|good|great|fine|nice|cool|very good|well done|good job|perfect|I see|all right|alright"
             "|got it|wonderful|excellent|interesting|sure|yes|right|that is right|correct][|.|!]",),
            ("[Splendid|Good to know|That is good|Fair enough][|!]",),
        ),
        "All right.",
    ),
)  # fmt: skip


def who(world: World) -> None:
    """Who are you?"""
    world.user(world.say(WHO))
    world.reply(WHO_REPLY)


def can(world: World) -> None:
    """What can you do?"""
    world.user(world.say(CAN))
    world.reply(CAN_REPLY)


def small_talk(world: World) -> None:
    """Greetings and other phrases with a fixed answer."""
    phrases, answer = world.rng.choice(_SMALL_TALK)
    world.user(world.say(phrases))
    world.reply(answer)
