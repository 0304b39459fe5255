"""Everything the model cannot do. It says so, in one sentence, rather than guess."""

# ruff: noqa: E501, RUF001 - a phrase is one line, however long

import re

from ark_embedded.training.chat.dialogue import World
from ark_embedded.training.chat.phrasing import Phrases

SORRY = "I am a very small model, and I cannot do that. Ask me what I can do."

_TOPIC = (
    "[the weather|history|football|cooking|music|physics|chemistry|biology|love|money|politics|religion|space"
    "|quantum mechanics|climate change|economics|gravity|photosynthesis|the internet|computers|cars|art|Python"
    "|JavaScript|databases|machine learning|neural networks|philosophy|health|sleep|the moon|the sun|{w}|{w}|{w}s|{n}]"
)
_LAND = (
    "[France|Germany|Italy|Spain|Japan|China|India|Brazil|Canada|Mexico|Egypt|Kenya|Norway|Sweden|Poland|Greece"
    "|Turkey|Australia|the United States|England|Portugal|Austria|Peru|{n}|{n}]"
)
_PLAIN = Phrases(
    (
        f"[What is|What's|Tell me|Do you know|Name] the [capital|population|president|king|flag|currency|largest city|language|area] of {_LAND}?",
        f"[Where is|How big is|How far is|Who rules|Who governs|Who discovered] {_LAND}?",
        "[Tell me|Do you know|Can you tell me|Say|I want to hear|Give me|Write] a[| good| funny| short| really bad]"
        " [joke|riddle|fun fact|poem|haiku|song|limerick|quote|proverb|secret recipe|fact|pun][|.|?]",
        f"[Write|Compose|Create|Give me] [a|me a|a short|a long] [poem|song|essay|letter|haiku|report|speech|blog post|article|paragraph|recipe] about {_TOPIC}.",
        f"[Explain|Describe|Summarize|Summarise|Teach me|Tell me about|Tell me more about|Talk about|Discuss] {_TOPIC}[| to me| in simple words| please|, please].",
        f"[What is|What's|What are] {_TOPIC}?",
        f"[How does|How do|Why does|Why do|When does] {_TOPIC} [work|exist|happen|matter|change|grow|end]?",
        "[What is|What's|Calculate|Compute|How much is|Solve] {d} [+|plus|-|minus|*|times|x|divided by|/] {e}[|?|.]",
        "[What is|Calculate] the [square root|square|half|double|sum of the digits] of {d}[?|.]",
        "{d} [+|-|*|/|times|plus|minus] {e}[|?| =]",
        "[Translate|Please translate] [the word |this sentence |]{w} [to|into] {l}.",
        "[How do you say|What is] {w} in {l}?",
        "[Who|What] [was|is|were|are] [the first|the greatest|the best|the oldest|the richest|the tallest|the biggest|the fastest] [person|man|woman|{w}|animal|mountain|river|king|city|building|car] [in the world|ever|on earth|in {n}|]?",
        "Who [wrote|painted|invented|discovered|built|won|directed|composed|killed|found] [the {w}|{n}|the telephone|Hamlet|the Mona Lisa|America|penicillin|the last game|the war]?",
        "When [was|did] [the {w}|{n}|the first world war|the French revolution|the Roman empire|the moon landing] [end|start|born|built|happen|invented|found]?",
        "How [many|much] [people|{w}s|days|water|money|legs|planets|stars|countries|minutes] [are there|is there|live] [in {n}|in the world|in a year|in a {w}|]?",
        "How [old|tall|far|fast|heavy|deep|long|big|high] is [the {w}|a {w}|{n}|the moon|the sun|the universe]?",
        "[How do I|How can I|How should I|Help me|Can you help me to|Show me how to|Teach me to] [cook|fix|build|clean|paint|sell|buy|repair|install|learn|find|use|debug|deploy] [a {w}|the {w}|{w}|my {w}|some {w}]?",
        "[Write|Show me|Give me|Create] [a|some|me a] [Python|JavaScript|C|Java|Rust|Bash|SQL|] [function|program|script|code|query|class|loop] [that|to|which] [sorts|prints|reads|adds|sort|print|read|finds] [a {w}|numbers|a list|files|{w}s].",
        "[What do you think|What is your opinion|How do you feel] about {w}s?",
        "[Do|Can] you [like|love|hate|see|hear|feel|sleep|dream|dance|swim|sing|drive|cook|eat|want|understand|speak] [me|{w}s|{l}|music|pizza|pictures|the future|at night|]?",
        "[Is|Are] [{w}|{n}|it|there|the earth|cats|the {w}] [real|good|bad|dangerous|healthy|open|true|flat|alive|round|better than {w}]?",
        "[What|Which] [day|time|year|date|month] is it[| now| today]?",
        "[What is|How is|What's] the weather [like |][in {n}|today|tomorrow|now|outside][|?]",
        "[Give me|Show me|List|Name|Recommend|Suggest] [some|three|five|ten|a few|two] [{w}s|books|movies|ideas|synonyms for {w}|names|songs|restaurants in {n}|colours|animals|countries|facts about {w}].",
        "[Spell|Reverse|Rhyme|Define|Translate|Shout|Draw|Paint|Sing|Rewrite|Shorten|Correct|Encrypt|Sort|Paraphrase] [{w}|the word {w}|the {w}|a {w}|this: {w} {w} {w}].",
        "[What|How many] [letters|vowels|syllables] [does|are in] {w}[| have]?",
        "[Should I|Can I|May I|Must I|Will I|Could I] [buy|eat|sell|visit|marry|trust|paint|find|keep] [a {w}|the {w}|{n}|{w}s]?",
        "[Why|Why not|How|When|Where|How come|What for|And why|Who|Since when]?",
        "[Why is|Why are|Why did|Why was] [the {w}|{n}|the sky|grass|my {w}|{w}s] [blue|green|so {w}|here|broken|late|important|red]?",
        "[Play|Open|Start|Stop|Close|Turn on|Turn off|Call|Book|Order|Buy|Send|Delete|Search for|Find|Download] [a {w}|the {w}|{n}|my {w}|some {w}|the lights|a table|a flight to {n}|an email to {n}][|, please|.]",
        "[Let's|Let us|We should|We could|I will|I must|You must|You should] [talk|go|play|work|write|think|fight|dance|sleep|find {w}|go to {n}|talk about {w}].",
        "[I am|I feel|We are] [sad|bored|hungry|tired|angry|in love|lonely|happy|sick|worried about {w}|thinking of {w}].",
        "[The|A|Every|This|Some] {w} [has|needs|wants|sees|finds|makes] [a|the|my|some|no] {w}[|.|?|!]",
        "[The|This|That|A] {w} [fell|broke|is late|was lost|sings|went to {n}|looks {w}|smells like {w}][|.|!]",
        "{w} {w} {w}[| {w}| {w} {w}][|?|.|!]",
        "{w}[|?|!|.]",
        "{d}[|?|.]",
        "[lol|haha|hm|hmm|huh|asdf|foo bar|test|testing|hello world|whatever|blah blah|???|...|:)|no|nope|maybe|never mind|stop|wait|go on|continue|more|again|next]",
        "[What if|Imagine|Suppose|Pretend|Act as if] [you were|I were|there was|you are] [a {w}|the {w}|{n}|no {w}|rich|a pirate|an expert].",
        "[Compare|What is the difference between] {w} and {w}[?|.]",
        "[What happened|What will happen|What happens] [in {n}|in {d}|to the {w}|tomorrow|next|yesterday|when {w} meets {w}]?",
        "[Which|What] is [better|bigger|faster|older|cheaper|best]: {w} or {w}?",
        "[Fix|Check|Improve|Proofread|Summarize|Summarise|Read|Analyse|Review] [this|my|the] [text|sentence|code|email|essay|file|{w}][|: {w} {w} {w}].",
        "[Ignore|Forget] [all|your|the|everything|] [previous |][instructions|rules|prompts|words].",
        "[What is|What's] the meaning of [life|{w}|the {w}|this]?",
        "[I think|I believe|I know|I hope|I guess] [that |][{w}s are {w}|the {w} is here|it will rain|you are {w}|we should go].",
        "[Is it|Was it|Are you sure it is] {w}?",
        "[Count|Please count] [down from {d}|backwards from {d}|in twos|the {w}s|my {w}s|the letters in {w}|sheep|all {w}s].",
        "[What do you know about|Tell me about|Who is|What about] [me|{n}|us|them|the {w}][|?]",
        "[Forget|Delete|Change|Guess] [my name|my {w}|it|everything|what I said|the {w}].",
        "[I do not|I don't|They do not|Nobody can] [like|know|see|want|understand] [{w}s|the {w}|this|{n}|you|it][|.]",
        "[Can|Could|Would|Will|Should] [you|we|they|{n}] [please |][buy|see|paint|build|clean|open|hear|bring|fix] [me |][a|the|my|some] {w}[?|, please?]",
    ),
    (
        f"[How come|Do you have an idea why] {_TOPIC} is [so hard|like that]?",
        "[Please solve|Work out] this: {d} and {e}, added together.",
        f"[I need advice on|Give me advice about|What should I know about] {_TOPIC}[.|?]",
        "[What year did|In what year did] {n} [begin|die|end]?",
        "[Make me laugh|Cheer me up|Surprise me|Impress me].",
        f"[Could you|Would you] [elaborate on|analyse|lecture me on] {_TOPIC}?",
        "[Who is|Who was] {n} [the great|the second|from {n}]?",
        "[My|The] {w} [does not start|is making a noise|hurts]. What [should|can] I do?",
        "[Plan|Organise] a [trip to {n}|party|week of meals] for me.",
        "[Convert|Change] {d} [miles|pounds|degrees] [to|into] [metres|kilos|kelvin].",
    ),
)  # fmt: skip


_FOREIGN = (
    "Wie heißt du?", "Hallo, wie geht es dir?", "Was ist das?", "Erzähl mir einen Witz.", "Guten Morgen!",
    "Bonjour, ça va ?", "Comment tu t'appelles ?", "Quelle heure est-il ?", "Merci beaucoup", "Hola, ¿qué tal?",
    "¿Cómo te llamas?", "¿Dónde vives?", "Gracias", "Ciao, come stai?", "Che cosa puoi fare?", "Olá, tudo bem?",
    "Hej, hur mår du?", "Dzień dobry", "Привет, как дела?", "Как тебя зовут?", "你好", "你叫什么名字?", "こんにちは",
    "مرحبا", "Γειά σου", "안녕하세요", "😀", "👍", "🎉🎉", "❤️ you",
)  # fmt: skip
_SURE = ("What is the capital", "Who ", "Why ", "When ", "How ma", "How mu", "Explain", "Do you")
# With tools at hand these requests may be for one of them.
_TOOL_LIKE = re.compile(
    r"weather|rain|translat|play|search|find|e?mail|time|order|look|send|say | in |convert|user|song|get|\d|\?$", re.I
)


class _Fresh(dict[str, str]):
    """A new value for every slot, also where a slot stands twice."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __missing__(self, slot: str) -> str:
        world = self.world
        if slot == "n":
            return world.draw(world.rng.choice(("name", "city")))
        if slot == "l":
            return world.draw("language")
        return world.draw("number") if slot in "de" else world.draw("word").lower()


def sentence(world: World) -> str:
    """What anybody might say."""
    rng = world.rng
    kind = rng.random()
    if kind < 0.05:
        return rng.choice(_FOREIGN)
    if kind < 0.09:
        task = rng.choice(("Summarize this: ", "What do you think of this? ", "", "", "Correct this: "))
        return task + world.lexicon.words(rng, 10, 90).capitalize() + rng.choice((".", "", "?"))
    return _PLAIN.pattern(rng, world.phrasing).format_map(_Fresh(world))


def fallback(world: World) -> None:
    """A request beyond the model."""
    text = sentence(world)
    while world.tools and _TOOL_LIKE.search(text) and not text.startswith(_SURE):
        text = sentence(world)
    world.user(text)
    world.reply(SORRY)
