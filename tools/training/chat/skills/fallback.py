"""Everything the model cannot do. It says so, in one sentence, rather than guess."""

# ruff: noqa: E501, RUF001 - a phrase is one line, however long

import re

from tools.training.chat.dialogue import World
from tools.training.chat.phrasing import DO, Phrases

SORRY = "I am a very small model, and I cannot do that. Ask me what I can do."

_TOPIC = (
    "[the weather|history|football|cooking|music|physics|chemistry|biology|love|money|politics|religion|space"
    "|quantum mechanics|climate change|economics|gravity|photosynthesis|the internet|computers|cars|art|Python"
    "|JavaScript|databases|machine learning|neural networks|philosophy|health|sleep|the moon|the sun|{w}|{w}|{w}s|{n}"
    "|geography|medicine|electricity|time travel|evolution|dinosaurs|black holes|taxes|the stock market|inflation|war|peace"
    "|democracy|dreams|friendship|happiness|success|fear|anger|wine|coffee|chess|basketball|tennis|guitars|films|novels"
    "|opera|fashion|gardening|yoga|dieting|vitamins|blood pressure|viruses|vaccines|DNA|atoms|magnets|rockets|satellites"
    "|robots|cryptography|Linux|compilers|algorithms|recursion|statistics|calculus|geometry|prime numbers|grammar|poetry"
    "|Latin|the Bible|Buddhism|Shakespeare|Einstein|Napoleon|Mozart|the Renaissance|the Cold War|ancient Rome|pyramids"
    "|volcanoes|earthquakes|rainbows|oceans|whales|bees|trees|mushrooms|cheese|bread|marriage|children"
    "|school|traffic|airplanes|trains|bicycles|energy|oil|solar panels|batteries|phones|social media|games]"
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
        "[lol|haha|hm|hmm|huh|asdf|foo bar|test|testing|whatever|blah blah|???|...|:)|no|nope|maybe|never mind|stop|wait|go on|continue|more|again|next]",
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
        f"{DO}[explain|describe|discuss|compare|summarize|outline|criticise|review|teach me|prove|derive|illustrate|clarify|comment on|argue about|predict|research|evaluate|interpret|simplify|present] [|the history of |the meaning of |the basics of |the future of |the idea behind |the role of |the importance of ]{_TOPIC}[| to me| to a child| in detail| briefly| in one sentence| in simple terms| step by step][|.|?]",
        f"{DO}[write|compose|draft|create|make|give me|prepare|generate|invent] [a|me a|one] [poem|song|essay|letter|speech|blog post|article|recipe|report|joke|riddle|haiku|quiz|summary|plan|slogan|headline|review|tweet|resume|cover letter|script|lesson|contract|rhyme|limerick|diary entry|puzzle|menu|itinerary|business plan] [about|on|for|with|against|in praise of|inspired by] {_TOPIC}[|.|?]",
        f"{DO}[calculate|compute|work out|solve|find|determine|estimate|figure out|evaluate] [{{d}} [+|plus|-|minus|*|times|/|divided by] {{e}}|the [sum|product|difference|average|ratio] of {{d}} and {{e}}|[the square root|the square|half|a third|the logarithm|the factorial|{{e}} percent] of {{d}}|the equation {{d}}x = {{e}}][|.|?]",
        "[How much is|What is|What's|What do you get from|What makes|Do you know what is] [{d} [+|plus|-|minus|*|times|x|/|divided by] {e}|the [sum|product|difference|average] of {d} and {e}|{d} percent of {e}|{d} squared|{d} to the power of {e}|the remainder of {d} by {e}][?|]",
        "[How many|How much] [{w}s|miles|metres|pounds|grams|litres|inches|seconds|dollars|euros] [are in|make|are|is] [{d} {w}s|a {w}|{d} kilometres|{d} kilos|an hour|a mile|a gallon|{d} feet][?|]",
        f"{DO}[translate|spell|reverse|define|rhyme with|rewrite|shorten|correct|sort|paraphrase|decode|draw|paint|sing|pronounce in {{l}}|abbreviate|improve|proofread|format|convert to {{l}}] [{{w}}|the word {{w}}|the {{w}}|this sentence: {{w}} {{w}} {{w}}|{{w}}, {{w}} and {{w}}|my {{w}}|{{n}}][|.|?]",
        "[What|Which] [is|was|were|are] the [first|best|oldest|richest|tallest|largest|smallest|deepest|longest|hottest|coldest|worst|most famous|most beautiful|cheapest|heaviest] [{w}|mountain|river|country|city|lake|film|book|animal|planet|star|song|team|player|building|bridge|language] [in the world|of all time|in {n}|ever|on earth|of {d}|in history|]?",
        "[Who|Which person|Which country|Which team|What company] [won|started|lost|invented|owns|makes|sings|plays|directed|wrote|discovered|leads|governs|designed|founded|painted|sold|killed|conquered] [{n}|the {w}|the world cup|the war|the election|the first {w}|the Nobel prize|the gold medal|the iPhone|Google|the light bulb|Star Wars|Faust|the match in {n}]?",
        "[When|In which year|In what century|On which day|How long ago] [was|were|did|is|does] [{n}|the {w}|the first {w}|the Berlin wall|the Titanic|Rome|the internet|Christmas|Easter|the next eclipse|the train to {n}|the shop] [born|built|invented|fall|sink|founded|discovered|leave|open|come|over|arrive|start|die|happen]?",
        "[Where|In which country|On which continent|How far away|How far] [is|are|was|can I find|can I buy|lies] [{n}|the {w}|the {w}s|Mount Everest|the Nile|the nearest {w}|a good {w}|the toilet|the station|my {w}]?",
        f"Why [is|are|do|does|did|can't|should|must|don't] {_TOPIC} [work|matter|exist|fail|happen|so popular|so difficult|important|dangerous|cost so much|change|make us happy|hurt]?",
        f"[How|Why|When] [do|does|did|can|should|would] [we|people|I|one|humans|{{n}}|birds|they] [use|learn|understand|measure|stop|avoid|like|fear|love|study|prove|improve|protect|discover] {_TOPIC}?",
        "[What should I|What can I|What do I|How do I|How can I|Where do I|Which {w} should I|When should I] [cook|eat|wear|buy|read|watch|learn|say|write|give my wife|do tomorrow|do about my {w}|visit in {n}|choose|bring to a party|sell|start with|repair first] [tonight|today|this weekend|in {n}|for dinner|for my birthday|to be happy|]?",
        "[My|The|Our|His|Her|This] [{w}|computer|car|phone|printer|dog|neighbour|boss|back|head|internet|washing machine|code|{w} {w}] [is broken|is slow|is ill|will not start|does not work|keeps crashing|is too loud|makes me sad|is on fire|stopped working|is leaking|barks all night|is gone|looks strange|smells|has a problem|shakes|is making me angry|will not open|lost its {w}|does not move]. [Help|Help me|What now|What do I do|What can be done|What should we do about it|What would you do|What can I try|Can I do anything|Should I do something|How do I fix it|Any advice|Why|Can you fix it|What does that mean|Who can repair it][?|.|]",
        f"[Give|Offer|Send] me [some |an |a |your |][opinion|tips|a tip|hints|information|facts|an example|a definition|a summary|news|statistics|an explanation|arguments|a plan|ideas] [on|about|for|of|regarding|concerning] {_TOPIC}[|.]",
        f"[I want to|I'd like to|I would like to|I have to|I need to|Help me to|Help me|I must|We want to|Show me how to] [learn|understand|study|know more about|write about|talk about|improve my|get better at|explain|know everything about] {_TOPIC}[|.]",
        f"[What do you think of|What is your view on|Do you believe in|Do you like|Are you interested in|Have you heard of|What do you know about|Are you for or against|Do you know anything about|Do you understand|Can you talk about|Have you ever seen|Did you read about] {_TOPIC}?",
        "[Book|Arrange|Prepare|Schedule|Design|Build|Programme|Develop|Cook|Bake|Manage|Host] [a trip|a holiday|a wedding|a birthday party|my day|my week|a meeting|a dinner|a website|an app|a house|a garden|a workout|a diet|a budget] [for {n}|in {n}|for me|with {w}s|for {d} people|next week|]",
        f"{DO}[write|show me|give me|create|debug|fix|explain|refactor|optimise|finish|test|review] [a|some|the|this|my] [Python|JavaScript|C|Java|Rust|Go|Bash|SQL|HTML|] [function|program|script|code|query|class|loop|regex|test|page] [for {{w}}s|that sorts numbers|to read files|with {{w}}|called {{w}}|that prints {{w}}|that adds {{d}} and {{e}}|without bugs|][|.|?]",
        "[I want to laugh|I want to be surprised|I need cheering up|Cheer up my {w}|Impress my friends|Surprise my {w}|Tell me something to laugh about|My {w} makes me laugh|I could use some cheer|Let us laugh together|Make {n} laugh][|.|!]",
        "[Who is|Who was|Who were|Do you know] [king {n}|queen {n}|{n} of {n}|{n}, the king|{n}, the first {w}|doctor {n}|saint {n}|the real {n}|the {w} of {n}|{n} and {n}|this {n}|the man from {n}|{n} in the film]?",
        f"[Please elaborate on|Hold a lecture on|Give a lecture about|I could use advice for|Your advice on|Analyse for me|Do an analysis of|Say more about|Enlighten me about] {_TOPIC}[|.]",
        "[{d} and {e}|{d}, {e} and {d}|The numbers {d} and {e}], [multiplied|multiplied together|divided|subtracted|taken together|compared], [give what|make what|is what|how much is that|please]?",
        "[Entertain me|Amuse me|Inspire me|Motivate me|Comfort me|Calm me down|Wake me up gently|Make me smile|Make me happy|Excite me|Teach me something|Tell me something new|Tell me something interesting|Flatter me|Scare me|Bore me|Tell me a lie|Tell me the truth|Tell me the news|Read my mind|Predict my future|Read my horoscope|Sing me a song|Dance for me|Draw me a picture|Play with me|Marry me|Kiss me|Love me|Hate me|Insult me|Praise me|Help me sleep|Do my homework|Do something|Do it|Show me something|Show me a picture|Think|Think harder|Be creative|Be funny|Talk|Talk to me|Chat with me][|.|!]",
        "[I am|I feel|We are|He is|She is|They are|My {w} is|{n} is] [so |very |a bit |][sad|bored|hungry|tired|angry|lonely|sick|stressed|nervous|afraid|in pain|cold|lost|late|drunk|confused|alone|worried|jealous|ashamed|ill][| today| again| because of {w}| about the {w}| and {w}][|.|!]",
        "[Yesterday|Today|Last week|Tomorrow|Next year|This morning|Once|In {n}|In {d}|At night] [I|we|she|he|they|{n}|the {w}|my {w}] [went to {n}|saw a {w}|will buy a {w}|lost the {w}|found {w}s|met {n}|ate {d} {w}s|had a dream|fell asleep|wrote a letter|won a {w}|was {w}][|.|!]",
        "[Is|Are|Was|Were] [it|there|he|she|they|you|we|{n}|the {w}|{w}s|these] [{w}|ever {w}|made of {w}|in {n}|true|wrong|possible|safe|legal|free|edible|older than {n}|really {w}|more {w} than {w}|{d} years old]?",
        "[Do|Does|Did|Has|Have|Can|Could|Will|Should|Must] [{w}s|{n}|people|birds|cats|the {w}|anybody|she|he|they|humans] [eat|fly|swim|love|cost|need|know|buy|leave|help|like|make|won|win|lie|dance|sleep|die] [{w}s|a {w}|the {w}|in {n}|at night|often|{d} {w}s|]?",
        "[If|When|Because|Although|While|Unless] [the {w}|it|you|{n}|a {w}|I|we] [is {w}|falls|comes|is late|had {d} {w}s|was {n}|wins|goes {w}], [what happens|what then|then what|the {w} is {w}|who pays|how many are left|should I go|what would you do][?|.]",
        "[the|a|my|no|some|every|this] {w} {w}[| {w}][|?|.|!]",
        "[Open|Close|Start|Stop|Run|Install|Update|Restart|Delete|Move|Copy to {n}|Scan|Upload|Share|Save to disk|Rename|Zip] [the|my|a|this|all] [{w}|file|files|browser|computer|program|window|camera|photo|photos|document|database|server|folder|system][|.|, please|!]",
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
    "ask",
)  # fmt: skip


_FOREIGN = (
    "Wie heißt du?", "Hallo, wie geht es dir?", "Was ist das?", "Erzähl mir einen Witz.", "Guten Morgen!",
    "Bonjour, ça va ?", "Comment tu t'appelles ?", "Quelle heure est-il ?", "Merci beaucoup", "Hola, ¿qué tal?",
    "¿Cómo te llamas?", "¿Dónde vives?", "Gracias", "Ciao, come stai?", "Che cosa puoi fare?", "Olá, tudo bem?",
    "Hej, hur mår du?", "Dzień dobry", "Привет, как дела?", "Как тебя зовут?", "你好", "你叫什么名字?", "こんにちは",
    "مرحبا", "Γειά σου", "안녕하세요", "😀", "👍", "🎉🎉", "❤️ you",
)  # fmt: skip
_SURE = re.compile(r"^(What is the capital|Who |Why |When |How many |Explain|Do you |Describe|Are |Was )")
# With tools at hand these requests may be for one of them.
_TOOL_LIKE = re.compile(
    r"weather|rain|snow|warm|cold|hot|sunny|wind|translat|play|music|listen|hear|sing|stream|search|find|research|google"
    r"|online|e?mail|letter|message|write to|contact|time|clock|hour|minute|late|remind|wake|alarm|ring|order|arriv|ship"
    r"|track|look|send|say | in |into|convert|change|exchange|user|profile|person|people|song|get|get |add|sum|plus|total"
    r"|information|know about|tell me about|news|show me|\d|\?$",
    re.I,
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
    while world.tools and _TOOL_LIKE.search(text) and (any(c.isdigit() for c in text) or not _SURE.search(text)):
        text = sentence(world)
    world.user(text)
    world.reply(SORRY)
