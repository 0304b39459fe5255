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
        "[Who|What] is [this|there|that]?",
        "What are you called?",
        "[Are you|Is this] [real|alive|intelligent|a machine|a computer|a program|a test model|somebody|conscious][?|]",
        "[Am I|Are we] [talking|speaking|chatting] [to|with] [a human|a robot|a machine|a person|an AI]?",
        "[Tell me|Please tell me|Can you tell me|I want to know] [more |]about yourself[|.|?]",
        "[What do they call you|How are you called|What is this model called|What name do you have]?",
        "[How|When|Where|Why] were you [made|built|trained|created]?",
        "[What is|What's] ARK?",
        "[Describe|Explain] [what you are|who you are|what kind of thing you are][|.|!]",
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
        "[What|Which] [things|kinds of things|commands|features|functions] [can you do|do you know|do you have|do you support]?",
        "[How|For what] can I use you?",
        "[How do you|In what ways do you|How will you] help?",
        "[What else|What more] can you do?",
        "[Explain|Describe|Say] what you can do[|, please][|.|!]",
        "[Give me|Show me] [an overview|a list] of [your skills|your abilities|what you can do][|.|!]",
        "[Do you have|Have you got] [any skills|any abilities|special skills|features]?",
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
             "|howdy|hiya|hi again|hello my friend|hello hello|hey ARK|hello, is anyone there|hello everyone|hi friend|hello, assistant|good morning to you|hi, good morning][|.|!|, assistant|, ARK|, bot]",),
            ("[Hello again|Good day|Hello to you][|!|.]",),
        ),
        "Hello! How can I help you?",
    ),
    (
        Phrases(
            ("[how are you|how are you doing|how are you today|how do you do|how is it going|how's it going"
             "|are you well|are you okay|how is your day|how was your day|how do you feel today|are you fine|is everything all right|is everything fine|everything okay|what's up|how are you feeling|how have things been|how is life][|?]", "[hi|hello|hey], how are you[| today| doing]?"),
            ("[How do you feel|How are things|How have you been]?",),
        ),
        "I am fine, thank you.",
    ),
    (
        Phrases(
            ("[thanks|thank you|thank you very much|thanks a lot|many thanks|thx|great, thanks|ok, thanks"
             "|thank you so much|perfect, thank you|thanks again|thank you again|thank you for your help|thank you for that|thanks for the answer|thank you for the story|that helps, thanks|much appreciated|I appreciate it|thanks, that was nice|thank you, ARK|I am grateful|ty|nice, thank you][|.|!]",),
            ("[Cheers|I thank you|Thanks for that|Thanks for your help][|!]",),
        ),
        "You are welcome.",
    ),
    (
        Phrases(
            ("[bye|goodbye|good bye|bye bye|see you|see you later|good night|farewell|I have to go|I must go now"
             "|until tomorrow|see you soon|until next time|talk to you later|see you tomorrow|I am going now|I am leaving|I have to leave now|I need to leave|I am off|so long|that is all|that's all, bye|that is all, thank you, goodbye|we are done for today|have a nice day|have a good evening|bye for now|ok, bye|end of the conversation][|.|!]",),
            ("[That is all for today|I am leaving now|Take care][|!]",),
        ),
        "Goodbye!",
    ),
    (
        Phrases(
            ("[ok|okay|good|great|fine|nice|cool|very good|well done|good job|perfect|I see|all right|alright"
             "|got it|wonderful|excellent|interesting|sure|yes|right|that is right|correct|that is fine|that is great|that is nice|good to hear|very nice|not bad|amazing|I understand|understood|makes sense|that makes sense|I agree|exactly|fantastic|sounds good|very well|lovely|fine by me|okay then|no problem|brilliant|awesome|super|nice one|good answer|good work|you are right|true|indeed|agreed|great work|nice job][|.|!]",),
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
