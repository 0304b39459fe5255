"""The kinds of facts: how each is told and asked for, and what the model answers."""

# ruff: noqa: E501 - a phrase is one line, however long

from dataclasses import dataclass

from tools.training.chat.phrasing import Phrases

_BY_THE_WAY = "[|||By the way, |Keep this secret: |Here is a secret: |One more thing, |You see, |Oh, and |Also, |Hi, |Hello, |Hey, |Well, |Please note: |So, ]"
_REMEMBER = (
    "[||[please |]remember [that |]|[please |]remember[:| this:] |[please |]note that |"
    "[please |]keep in mind that |[I want you to |you should |]know that |don't forget that |"
    "for later, |for your information, |I tell you that |let me tell you that |just so you know, ]"
)
_ASK = "[|||||Hi, |Hello, |Hey, |By the way, |Sorry, |Please tell me: |Tell me, |Now, |So, |And |OK, |One question: |Quick question: ]"
_CAN_YOU = "[Can you|Could you|Would you|Will you]"

_ASK_MORE = (
    "I [do not|don't] [remember|know|recall] {a}. [Do you|Can you tell me|Please tell me|What is it again]?",
    "[Could you|Can you] [look up|find|name|mention] {a}[| for me]?",
    "[Name|Give|Repeat|Recall|Mention|Write] {a}[|, please| for me| now].",
    "[Have I told you|Did I tell you|Did I mention] {a}?",
    "[I want to know|I would like to know|I need to know|I am asking for|I need|I lost|I forgot] {a}.",
    "[You know|I told you|You should know|You must know] {a}[, right|]. [What is it|Tell me|So what is it][?|.]",
    "[Test|Check|Quiz|Question]: [what is|what's|do you know] {a}?",
    "[Do you have|Have you stored|Have you noted|Have you kept] {a}?",
    "[Are you able to tell me|Is it possible to tell me|Would you know|Do you happen to know] {a}?",
    "[What have I told you|What did I say|What do you know|What can you recall|What do you remember|What did you note] about {a}?",
    "[Any idea|Any memory|Have you any idea|Got any idea|Any record] [what {a} is|of {a}|about {a}]?",
    "[Prove|Show|Show me|Demonstrate] that you [remember|know|kept|noted] {a}.",
    "[If I asked you for|If somebody asks for|Suppose someone asks you for] {a}, what [would|do] you [say|answer]?",
    "[I hope|I guess|I am sure|I bet|I think|Surely] you [still |][know|remember|kept|noted|wrote down] {a}[. Which is it|. What is it|. Tell me][|?|.]",
    "[It slipped my mind|I am not sure any more|My memory is bad|Help me out|I keep forgetting|It is on the tip of my tongue][:|.|,] [what is {a}|what was {a}|{a}]?",
    "{a} [again|once more|please|now|is][?|?|.|...]",
    "[Fill in the blank|Complete this|Finish the sentence|Continue][:|.|,] {a} is ...",
    "[Look it up|Look back|Think back|Scroll up|Check your notes|Search your memory|Think]: [what is|what was] {a}?",
    "[What is the value of|What value has|What did I give as|What do you have for|What do you have as|What stands for] {a}?",
    "[Is {a} known to you|Is {a} something you know|Are you aware of {a}|Are you familiar with {a}]?",
    "[I'd love to hear|I want to hear|I am waiting for|I am looking for|I am trying to remember|I am curious about|I am after|I can't find|I cannot find|I cannot think of] {a}[|. Help me|. Can you tell me|. What is it][.|.|?]",
    "[Return|Print|Recite|Display|Show me|Hand me|Type|Spell out|Read me|Look for|Fetch|Get me|Find me] {a}.",
    "{a} is [what|what exactly|which one|what again]?",
    "[Somebody|A friend|My friend|The form|The guard] [wants to know|asked me for|needs|asks for] {a}. [What do I say|What is it|What should I answer|Tell me][|?|.]",
    "[Does|Did] {a} [ring a bell|come to mind]?",
    "[Would|Could|Might] you [still |][know|remember|recall|name|recite] {a}?",
    "[Let me know|Inform me about|Update me on|Refresh my memory on|Help me with|Help me remember|Help me recall] {a}.",
    "[Time for a test|Memory test|Small quiz|Pop quiz|Let us test you|I will test you now][:|.|,|!] [what is|what was|do you know|do you remember|tell me] {a}[?|.]",
    "[Previously|Before|A while ago|Some time ago|At the start|In the beginning] I [said|gave you|named|explained] {a}. [Which was it|Tell me|Repeat it|What did I say][|?|.]",
    "[Tell me if|Tell me whether|I'd like to see whether|I want to see if|I am not sure whether|I am not sure if|Let me find out if|Let me find out whether|Check if|Check whether|I ask myself whether|Show me whether|I want to know if|See if] you [still |][know|remember|have|kept|can tell me|can recall] {a}.",
    "[Can you|Could you|Would you|Will you|I want you to|I need you to] say {a}[| to me| out loud| again, please]?",
    "[Say to me|Say out loud|Say it:|State for me|State clearly|State once more|Say it again:|Now say it:] {a}.",
    "[Not long ago|Just now|A minute ago|In this chat|Above|Further up] I [told you|mentioned|wrote|noted] {a}. [Which was it|What did I write|Which one|What was that][?|]",
    "[I can never remember|I can hardly remember|I no longer remember|I am unable to remember|I no longer know] {a}. [Which one is it|What have I said|Remind me|Do you know it][?|.]",
    "[What again is|What exactly is|What then is|What, please, is|What might be|What would be|What could be] {a}?",
)
_ASK_CLAUSE = (
    "[I want to know|I would like to know|Would you know|Have I told you|Did I tell you|Did I mention] {a}[?|.]",
    "[Can you recall|Are you able to tell me|Could you say|Do you happen to know|I do not remember] {a}[?|.]",
    "[What have I told you|What did I say|What do you know|What do you remember|Any idea|What did you note] about {a}?",
    "[Prove|Show|Show me] that you [remember|know|noted] {a}.",
    "[I hope|I guess|I am sure|I bet|Surely] you [still |][know|remember|noted] {a}[. Tell me|. So|][|?|.]",
    "[Look back|Think back|Check your notes|Search your memory|Memory test|Small quiz][:|.] {a}?",
    "[I am trying to remember|I am curious about|I cannot recall|I keep forgetting|Refresh my memory on|Let me know|Say|State again] {a}.",
    "[Are you aware of|Do you have any idea|Did you notice|Did you remember|Have you noted|Did you keep] {a}?",
)


@dataclass(frozen=True)
class Fact:
    """A kind of fact: how it is told and asked, and the four sentences the model answers with."""

    key: str
    category: str
    tell: Phrases
    ask: Phrases
    answer: str
    noted: str
    unknown: str


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


_ASK_OWNED = Phrases(
    (
        f"{_ASK}[what is|what's|whats|what was] {{a}}[| again]?",
        f"{_ASK}[what is|what's] {{a}}?",
        "[Do you|Do you still|Can you] [remember|know|recall] {a}?",
        *_ASK_MORE,
        "[Please |]tell me {a}[| again| now| once more].",
        f"{_CAN_YOU} [tell me|remind me of|repeat|give me] {{a}}[|, please| again]?",
        "[Please |]remind me[: what is| of|: what was] {a}.",
        "[Do you know|Do you remember|Can you tell me|I forgot|Remind me] what {a} is[|?|.]",
        "{A}[|, please]?",
        "[What did I say|What did I tell you|Which one did I say] {a} [is|was]?",
    ),
    (
        "I [can't|cannot] remember {a}. [What is it?|What was it?|Can you help?]",
        "[Earlier I told you|I mentioned] {a}. What [is|was] it?",
        "[Say|State] {a} [please|now|once again].",
        "Let's see [if|whether] you [know|remember] {a}.",
    ),
    "ask",
)


def owned(owner: str, attribute: str, category: str) -> Fact:
    """A fact of the form "my dog's name is Rex", or of somebody else: "Ada's dog's name"."""
    mine = owner == "my"
    thing = f"{owner} {attribute}"
    yours = f"your {attribute}" if mine else thing
    return Fact(
        key=thing,
        category=category,
        tell=Phrases(
            (
                f"{_BY_THE_WAY}{{a}} is {{v}}.",
                f"{_REMEMBER}{{a}} is {{v}}.",
                f"{_REMEMBER}{{a}} is {{v}}.",
                f"{_REMEMBER}{{a}} is {{v}}[|, please|, okay?| by the way].",
                "{v} is {a}.",
                "[I should mention|I must tell you|I'd like to add|It is important] that {a} is {v}.",
                "[Make a note|Take note|Write this down|Listen]: {a} is {v}.",
                "[Did you know that|You may know that|I just learned that] {a} is {v}[?|.]",
                "{a}: {v}",
                "{A} is {v}. [Please |][remember|keep|store|note] [it|this|that][|, please|!].",
                "[Remember|Please remember|Note|Keep in mind|Remember for me] this: {a} is {v}.",
                "[Please |][remember|keep|note|save] {a}: {v}.",
                *(() if mine else ("[Please |]remember {a} {v}.", "[Please |]remember {a} {v}.")),
                "[I have told everyone|You should know|I can tell you|It is true] that {a} is {v}.",
                "[Guess what|Fun fact|News|Info|Note|Fact|Reminder|Memo|Important|Attention|Hint][:|:|!|,] {a} is {v}.",
                "[I say|I tell you|I think|I believe|As I said|As you know|It turns out|It happens that|I am sure|They say] {a} is {v}.",
                "[From now on|Since today|As of today|These days|At present|To be clear|In short|Officially], {a} is {v}.",
                "{a} [would be|equals|=|will be|has always been|shall be|happens to be] {v}.",
                "[Let|Let us say|Suppose] {a} be {v}.",
                "[Set|Put|Define] {a} [to|as] {v}.",
                "[I chose|I use|I have|I picked|I took|They gave me|I was given] {v} as {a}.",
                "[Add|Record|Log|Enter|Register|Keep|Put in your notes] {a}: {v}",
                "[Memorize|Memorise|Learn|Keep safe|Hold on to] [this|the following|this fact]: {a} is {v}.",
                "[I trust you with this|Between us|Here is a fact|Something to remember|A little information|This is for later]: {a} is {v}.",
            ),
            (
                "[Would you please|I need you to] remember that {a} is {v}?",
                "[Here is something about me|One more thing]: {a} is {v}.",
                "[Store|Save|Write down] [this|the following]: {a} is {v}.",
            ),
            "tell",
        ),
        ask=_ASK_OWNED,
        answer=f"{sentence(yours)} is {{v}}.",
        noted=f"I will remember that {yours} is {{v}}.",
        unknown=f"You have not told me {yours}.",
    )


NAME = Fact(
    key="my name",
    category="name",
    tell=Phrases(
        (
            "[||Hi, |Hi! |Hello, |Hello! |Hey, |Good morning, |Good evening, ][my name is|my name's|I am|I'm] {v}.",
            "[||Hi, |Hi! |Hello, |Hello! |Hey, |Good morning, ]my name is {v}[|, nice to meet you|, by the way].",
            "[||Hi, |Hello, ][call me|you can call me|please call me|people call me|I am called|they call me] {v}.",
            f"{_REMEMBER}my name is {{v}}.",
            "[Hi|Hello|Hey], [this is|it's|it is] {v}[| speaking| here].",
            "[Hi|Hello|Hey], {v} here.",
            "[My parents named me|You are talking to|The name is|I have the name|Hello from|Your user is] {v}.",
            "[My name? It's|My name? It is|My name: |Name:] {v}",
            "[Let me introduce myself|I should introduce myself|Allow me to introduce myself]: [I am|I'm|my name is] {v}.",
            "[You can|You may|Feel free to|Please|Just] [call|name] me {v}.",
            "[I was named|I am known as|I sign as|My full name is|My real name is|My name would be] {v}.",
            "[Write down|Note|Save|Remember|Keep|Learn] my name: {v}.",
            "[I am|I'm] {v}, [nice to meet you|pleased to meet you|your new user|a new user|and you|who are you][|.|?]",
            "[It's|It is|This is] [me, |]{v}[| again|, hello|, good morning].",
            "{v} is my name[|, by the way|, remember it].",
            "[As for me, I am|As for my name, it is|About me: I am|Me? I am|User:|I present myself:] {v}.",
        ),
        (
            "The name's {v}.",
            "[Nice to meet you|Pleased to meet you], [I am|I'm|my name is] {v}.",
            "[I go by|I go by the name of|Everybody calls me|My friends call me] {v}.",
        ),
        "tell",
    ),
    ask=Phrases(
        (
            f"{_ASK}[what is|what's|whats] my name[| again]?",
            f"{_ASK}[what is|what's] my name?",
            "[Do you|Do you still|Can you] [remember|know|recall] my name?",
            *_ASK_MORE,
            "[Who am I|Do you know who I am|Do you remember who I am|And who am I]?",
            "[Please |]tell me my name[| again| now].",
            f"{_CAN_YOU} [tell me|remind me of|repeat|name] my name[|, please| again]?",
            "[Do you know|Do you remember|Can you tell me|Tell me] what my name is[|?|.]",
            "[Please |][tell me|repeat|write|name] my name.",
            "What [am I called|do people call me|was my name]?",
            "My name[|, please]?",
            "[What do|How do] [I call myself|they call me|my friends call me]?",
            "[Which|What] name [did I give you|did I tell you|do I have|have I got|belongs to me|is mine]?",
            "[How do you|What do you|What will you|How will you|What would you|How would you|What did you] call me?",
            "[What|Which name|How] [do you have to|must you|can you|do you want to|will you] call me[| from now on| by]?",
            "[How am I called|Who is your user|Who is talking to you|Who are you talking to|Who is speaking|Whom do you talk to]?",
            "[Greet me by name|Call me by my name|Use my name|Address me by name|Say who I am|Tell me who I am]",
        ),
        (
            "I [can't|cannot] remember my name. [What is it?|What was it?|Can you help?]",
            "[Let's see if you know|I wonder if you know] my name.",
            "[By what name|What] should you call me?",
            "[Say|State] my name [please|now].",
        ),
        "ask",
    ),
    answer="Your name is {v}.",
    noted="Nice to meet you, {v}.",
    unknown="You have not told me your name.",
)
CITY = Fact(
    key="where I live",
    category="city",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}I live in {{v}}[| now].",
            f"{_REMEMBER}I live in {{v}}.",
            f"{_BY_THE_WAY}[my home is in|I am living in|I have a flat in|my home is] {{v}}.",
            "[I reside|I am based|I am at home|I have my home|I stay|I have been living|My family and I live|We live|I rent a room] in {v}.",
            "[The city I live in|The place I live in|The town where I live] is {v}.",
            "{v} is [where I live|my place to live|the city where I live].",
        ),
        ("[I moved to|I now live in] {v}.",),
        "tell",
    ),
    ask=Phrases(
        (
            f"{_ASK}where do I live[| again| now]?",
            "[Do you|Do you still|Can you] [remember|know|recall] where I live?",
            *_ASK_CLAUSE,
            "[Please |]tell me where I live.",
            "[In which city|In what city|In which town] do I live?",
            "[Which|What] [city|town|place] do I live in?",
            "[What is|What's|Name|Tell me|Give me] the [city|town|place] [where I live|I live in][?|.]",
            "[Where am I living|Where am I based|Where do I reside|Where do I stay|Where have I got my flat|Where do you think I live]?",
            "[And |So ]I live [where|in which city|in what town|in which place]?",
        ),
        ("[Where did I say I live|Where is my home]?", "[I forgot|Remind me] where I live."),
        "ask",
    ),
    answer="You live in {v}.",
    noted="I will remember that you live in {v}.",
    unknown="You have not told me where you live.",
)
AGE = Fact(
    key="how old I am",
    category="number",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}[I am|I'm] {{v}} years old.",
            f"{_REMEMBER}[I am|I'm] {{v}} years old.",
            f"{_BY_THE_WAY}I [turned|just turned] {{v}} years old.",
            "[I am|I'm] [exactly|about|already|only|now|almost] {v} years old.",
            "[I have reached the age of|I am at the age of|I am of the age of|I am aged|My age: ] {v}[| years].",
            "[I have been alive for|I have lived for|I was born] {v} years[| ago].",
        ),
        ("[My age|At the moment my age] is {v} years.",),
        "tell",
    ),
    ask=Phrases(
        (
            f"{_ASK}how old am I[| again| now]?",
            "[Do you|Do you still|Can you] [remember|know|recall] how old I am?",
            *_ASK_CLAUSE,
            "[Please |]tell me how old I am.",
            "[What is|What's|Tell me|Do you know|Do you remember|Give me|Say|What was] my age[?|?|.]",
            "[How many years have I lived|How many years do I have|What age am I|What age do I have|My age, please|Am I old or young, in years]?",
        ),
        ("[How many years old am I|How old did I say I am]?", "[I forgot|Remind me] how old I am."),
        "ask",
    ),
    answer="You are {v} years old.",
    noted="I will remember that you are {v} years old.",
    unknown="You have not told me how old you are.",
)
WORK = Fact(
    key="what I work as",
    category="job",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}I work as a {{v}}.",
            f"{_REMEMBER}I work as a {{v}}.",
            f"{_BY_THE_WAY}I earn my [living|money] as a {{v}}.",
            "[My job is|My profession is|By profession I am|I make my living as|I have a job as|I got a job as|I found work as|I am working as|I have been working as|I earn my bread as] a {v}.",
            "[As a job I am|By trade I am|In my job I am|For a living I work as] a {v}.",
        ),
        ("I am employed as a {v}.",),
        "tell",
    ),
    ask=Phrases(
        (
            f"{_ASK}what do I work as?",
            f"{_ASK}what [do I do for a living|is my profession|is my job|is my work|do I do for work]?",
            "[Do you|Do you still|Can you] [remember|know|recall] [what I work as|my job|what my job is|my profession]?",
            "[Please |]tell me [what I work as|my job].",
            *_ASK_CLAUSE,
            "[What is|What's|Tell me|Do you know|Name] my [occupation|trade|line of work|profession|job][?|?|.]",
            "[How do I earn my money|How do I earn my living|What kind of work do I do|What kind of job do I have|What job do I have|What am I by profession|What work do I do|What am I working as]?",
        ),
        ("[As what do I work|What did I say I work as]?", "[I forgot|Remind me] what I work as."),
        "ask",
    ),
    answer="You work as a {v}.",
    noted="I will remember that you work as a {v}.",
    unknown="You have not told me what you work as.",
)
LIKE = Fact(
    key="what I like",
    category="food",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}I [really |]like {{v}}[| very much| a lot].",
            f"{_REMEMBER}I [really |]like {{v}}.",
            f"{_BY_THE_WAY}I [love|adore] {{v}}.",
            "I [enjoy|prefer|am crazy about|am mad about|appreciate|am into|have always liked|am very keen on|am addicted to] {v}.",
            "[What I like is|What I like most is|The thing I like is|I must say I like|One thing I like is|I just like|I simply love] {v}.",
            "{v} is [what I like|the thing I like|what I like most].",
        ),
        ("I am fond of {v}.", "I am a big fan of {v}."),
        "tell",
    ),
    ask=Phrases(
        (
            f"{_ASK}what do I like[| again]?",
            "[Do you|Do you still|Can you] [remember|know|recall] what I like?",
            *_ASK_CLAUSE,
            "[Please |]tell me what I like.",
            "What did I say I like?",
            "[What do I enjoy|What do I prefer|What am I crazy about|What am I into|What do I like most|What makes me happy|What do I really like|What did I tell you I like]?",
            "[Name|Say|Repeat|Tell me|Give me|List] [the thing|something|what] I like[|, please].",
            "[Which thing|What thing|What exactly] do I like?",
        ),
        ("[I forgot|Remind me] what I like.", "[What is it that I like|What do I love]?"),
        "ask",
    ),
    answer="You like {v}.",
    noted="I will remember that you like {v}.",
    unknown="You have not told me what you like.",
)

OWNED: dict[str, str] = {
    "favourite colour": "colour", "favorite color": "colour", "favourite color": "colour",
    "favourite animal": "animal", "favorite animal": "animal", "favourite food": "food",
    "favorite food": "food", "favourite city": "city", "favorite city": "city",
    "favourite fruit": "food", "favourite number": "number", "favorite number": "number",
    "favourite word": "word", "favourite month": "month", "favourite book": "word",
    "favourite song": "word", "favorite movie": "word", "favourite drink": "food",
    "lucky number": "number", "house number": "number", "phone number": "number",
    "order number": "code", "room number": "number", "seat number": "code", "ticket number": "code",
    "account number": "number", "locker number": "number", "flight number": "code",
    "code word": "codeword", "password": "codeword", "passphrase": "codeword", "pin": "number",
    "door code": "codeword", "secret word": "codeword", "username": "codeword", "nickname": "name",
    "dog's name": "name", "cat's name": "name", "horse's name": "name", "sister's name": "name",
    "brother's name": "name", "mother's name": "name", "father's name": "name", "son's name": "name",
    "daughter's name": "name", "friend's name": "name", "boss's name": "name", "wife's name": "name",
    "husband's name": "name", "teacher's name": "name", "dog": "name", "cat": "name",
    "best friend": "name", "teacher": "name", "boss": "name", "city": "city", "home town": "city",
    "project": "word", "team": "word", "company": "word", "birthday month": "month", "car": "word",
    "hobby": "word", "language": "language", "native language": "language", "surname": "name",
    "last name": "name", "hometown": "city", "pet": "animal",
}  # fmt: skip
THINGS: dict[str, str] = {
    "code word": "codeword", "password": "codeword", "passphrase": "codeword", "magic word": "word",
    "door code": "codeword", "wifi password": "codeword", "room number": "number", "key": "codeword",
    "gate number": "number", "order id": "code", "ticket": "code", "project name": "word",
    "meeting room": "word", "secret": "codeword", "secret word": "codeword", "secret code": "codeword",
    "secret number": "number", "token": "code", "serial number": "code", "access code": "codeword",
    "file name": "word", "team name": "word", "deadline": "month", "answer": "codeword",
    "winner": "name", "host": "name", "captain": "name", "keyword": "codeword", "number": "number",
    "word": "codeword", "name of the ship": "name", "colour of the door": "colour",
}  # fmt: skip
FIXED = (NAME, CITY, AGE, WORK, LIKE)
