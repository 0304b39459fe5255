"""Who are you, what can you do, and the small talk around it."""

# ruff: noqa: E501 - a phrase is one line, however long

from tools.training.chat.dialogue import World
from tools.training.chat.phrasing import Phrases

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
        "[Identify|Introduce|Present|Explain|Define|Characterise|Reveal] yourself[| to me| in one sentence| in a few words| briefly][|.|!]",
        "[A few words|Some words|One sentence|A short text|A line|Some information|Anything|Something] about yourself[|, please][|.|?]",
        "[Talk|Speak|Write|Inform me|Teach me] [|a little |a bit |briefly ]about yourself[|, please][|.]",
        "[What|Which] [name|title|nickname] [do you have|do you go by|did they give you|were you given|is yours|do you use|do you answer to]?",
        "[Your name|Name|And your name|And you|And who are you|You are who|You are|So you are]?",
        "[May I|Can I|Could I|I want to|I would like to|I'd like to] [know|ask|learn|hear|have] [your name|who you are|what you are|what your name is|what they call you][?|.]",
        "[What|Which] [kind of|sort of|type of] [model|AI|bot|chatbot|assistant|program|software|system|machine|thing|language model] [are you|is this|am I using|do I use|is answering|am I talking to|runs here]?",
        "[What|Which] [AI|model|LLM|language model|chatbot|assistant|version|program] [is this|am I using|is it|do I have here|is running|is running here|answers here]?",
        "[Are you|You are|You're|Is this|I think you are|I guess you are|So you are] [GPT|GPT-4|Claude|Gemini|Llama|Siri|Alexa|an LLM|a bot|a chat bot|a neural network|software|a large model|a small model|a big model|a real person|human|a man|a woman|a girl|a boy|one of us|a toy|a demo|OpenAI|from OpenAI|my assistant|an alien|ARK|called ARK][?|?|, right?|, aren't you?|, correct?]",
        "[Human or machine|Bot or human|Are you a bot or a person|Are you human or machine|Person or program|Do you have a body|Do you have a face|Do you have parents|Are you somebody|Do I talk to a robot|Do I speak to a person]?",
        "[Who|What] [is|was] [behind this chat|behind these answers|on the other side|on the other end|answering here|answering my questions|writing this|writing these answers|typing|talking to me|speaking|speaking to me|replying|replying to me|responding]?",
        "[Who|What company|Which company|Which team|What team|Which people] [created|developed|designed|programmed|invented|owns|runs|wrote|trains|released|is responsible for] [you|this model|this bot|this assistant]?",
        "[Who is|Who was] your [maker|creator|author|developer|owner|father|mother|inventor|boss]?",
        "[How old are you|When is your birthday|What is your age|Where do you live|Where are you from|Where do you come from|Where are you|What are your origins|Do you live somewhere]?",
        "[How many parameters|How many layers|How much memory|What size] [do you have|have you got|are you made of|does this model have]?",
        "[What are you made for|What were you made for|Why do you exist|Why are you here|What is your purpose|What is your job|What is your role|What is your mission|Why was this model made]?",
        "[Tell me|Say|Write|Print|State|Give me|Show me] [your name|your full name|the name of this model|what you are called|your identity|what you are|which model you are|your model name][|, please][|.|?]",
        "[I do not know|I don't know|I wonder|I have no idea|I am curious|I am not sure|I forgot] [who you are|what you are|what your name is|your name|who I am talking to|what I am talking to|which model this is][|.]",
        "[We have not met|We do not know each other|I am new here|This is my first time here|I have never seen you]. [Who are you|What are you|What is your name|Please introduce yourself][?|.]",
        "[May I|Can I|Shall I|Should I|Could I|Do people|Does anyone|Is it okay to|Is it fine to] call you [ARK|assistant|bot|by a name|by your name|something|my friend|Bob|a robot]?",
        "[How do|What do|How would|By what name do] [I|we|people|they|others|your users|you want me to] call you[| then| normally| usually]?",
        "[Which|What|By which] name [should|shall|may|can|do] I [use for you|use when I talk to you|give you|write to you with|address you with]?",
        "[Does a human|Does a person|Do humans|Do people|Does somebody|Does a robot|Does a machine|Does a real person] [answer here|answer me|read this|write this|write these answers|sit behind this chat|reply to me|type this|stand behind this]?",
        "[Is it a human|Is it a person|Is this a human|Is this a person|Is that a human|Is a robot|Is a machine|Is a program|Is somebody|Is anybody human|Are humans|Are people] [answering|who answers|that answers|here|speaking|talking to me|writing to me|I talk to|on the line|behind it all|at the other end]?",
        "[A|Give a|Write a|Send a|Make a|I want a|Show me a] [short |brief |quick |little ][introduction|portrait|profile|summary|picture in words|description] of [yourself|who you are|what you are][, please|][|.]",
        "[ARK|What does ARK mean|What is ARK exactly|Are you part of ARK|Do you belong to ARK|Does ARK have a model|Is ARK your name|Tell me about ARK]?",
    ),
    (
        "[Describe yourself|Give me a short description of yourself].",
        "[What should I call you|How should I call you]?",
        "[Is there a human|Is a person] [behind this|answering me]?",
    ),
    "ask",
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
        "[What are|List|Name|Show|Tell me|Give me|Describe|Explain] your [capabilities|functions|strengths|features|options|powers|commands|duties|main skills|best skills|tricks|possibilities|limits][?|.|]",
        "[What|Which] [skill|skills|abilities|capabilities|functions|options|tricks|services|powers|languages of commands|actions] do you [have|offer|know|master|provide|support|possess]?",
        "[What kind of|What sort of|What type of|Which kind of] [work|jobs|things|questions|requests|commands|problems|help|duties|orders] [can you do|can you take|do you do|do you understand|do you accept|do you answer|do you offer|are possible|are you made for|should I give you|may I send you]?",
        "[What|How much] [can you manage|can you deliver|can you offer|do you offer|can be done here|can you really do|can you actually do|could you do for me|do you do|do you do all day|are you able to handle|may I expect|can I expect from you|is possible here|have you learned|did you learn|were you trained to do|were you built to do|did they teach you]?",
        "[How|Where|With which things|In which cases] [are you useful|could you be useful|could you help me|might you help|can you support me|can you assist|could you assist me|do you assist people|will you be of use|can you be of service|should I use you]?",
        "[What can I do|What can we do|What is possible|What shall we do|What do people do|What should I try|What can I try] [with you|here|with this chat|with this bot|in this chat]?",
        "[I need|I want|I would like|Give me|Show me|I am looking for] [some help|a hint|help|a menu|the menu|the manual|instructions|a list of commands|your features|a tour|examples of what you can do][|, please][.||?]",
        "[Menu|Commands|Options|Features|Usage|Manual|Instructions|Help page|Functions|Skills|Abilities][|, please][?||.]",
        "[I do not know|I don't know|I wonder|I have no idea|I am not sure|I would like to know|I want to know|Let me know|Inform me about|Tell me more about] [what you can do|what you are able to do|what to ask you|what I can ask|how you can help me|how to use you|how this works|your skills|your abilities][|.]",
        "[What|How] [do I do|do I begin|do I start|does this work|do I use this|do I use this chat|should I begin|shall I start|do I work with you]?",
        "[Is there anything|Is there something|Anything|Something] you can [do|do for me|help me with|help with]?",
        "[What are you useful for|What use are you|What is your use|What are you there for|Why should I use you|What makes you useful|What is special about you|What are you best at|What do you do best|What are you great at]?",
        "[Are you|How are you] [talented|skilled|gifted|useful][| at all| at something| in any way]?",
        "[List|Show|Show me|Tell me|Name|Reveal] your [talents|gifts|tasks|best talent|areas|fields|specialities|hidden talents][|.|!]",
        "[Show me|Tell me|Explain|Let me see|I wonder|I want to know] what you are [capable of|able to do|good for|skilled at|trained for][|.|!]",
        "[What is|What's|Is there|Do you know] your [talent|biggest talent|best ability|gift|main task|first task|task here|usual task|speciality|field]?",
        "[What|How many|Which] [tasks|jobs|things|kinds of task] [are you able to do|are you made to do|have you learned|do you know how to do|are yours|should I leave to you|do you take over|fall to you]?",
        "[In which|In what|In how many] [ways|areas|matters|fields|cases|respect] [are you of help|do you help people|are you helpful|could I use you|do you support me|are you any good]?",
        "[With which|For what|For which|With what kind of] [things|problems|tasks|work|questions] [do you help|are you of help|should I come to you|do people come to you|are you useful]?",
        "[Impressive|Interesting|Nice|Fine|Great]. [And what can you do|What else can you do|What can you do for me|What more can you do|What are your skills]?",
    ),
    (
        "[Which|What] tasks can you [handle|do]?",
        "[Do you have any talents|What are you capable of]?",
        "[In what way|With what] can you help?",
    ),
    "ask",
)
CAN_REPLY = (
    "I can remember what you tell me, keep a secret, repeat your words, count, write JSON, "
    "tell a short story and call tools."
)
_SMALL_TALK: tuple[tuple[Phrases, str], ...] = (
    (
        Phrases(
            ("[hi|hello|hey|hello there|hi there|hey there|good morning|good evening|good afternoon|greetings"
             "|howdy|hiya|hi again|hello my friend|hello hello|hey ARK|hello, is anyone there|hello everyone|hi friend|hello, assistant|good morning to you|hi, good morning|welcome|welcome back|good to see you|nice to see you|nice to meet you|pleased to meet you|a good morning|a good evening to you|hello world|heya|yo|hullo|hello everybody|hi all|hello you|a warm hello|hello from me|here I am|here I am again|I am back|I am here|morning|evening|salutations|a nice day to you|hello once more|hi once more|we meet again|knock knock|anybody there|are you there|is somebody here|ping][|.|!|, assistant|, ARK|, bot|, my friend|, you]",
             "[a good|good|a very good|and a good] day [to you all|to everybody|to my assistant|sir|madam|everyone|dear assistant|once again][|.|!]",
             "[hello|hi|hey|good morning|good evening|greetings|welcome][,|] [you all|you too|dear assistant|my dear|little model|little bot|old friend|all of you|my assistant|robot|machine|computer][|.|!]",
             "[hello|hi|hey|heyy|hiii|helloo|hallo][,|.|!|] [hello|hi|hey|you|good morning|good evening|good afternoon|nice to see you|I am back][|.|!]",
             "[I say hello|I wanted to say hello|I greet you|let me say hello|I just wanted to say hi|let me greet you|just saying hi][|.|!]"),
            ("[Hello again|Good day|Hello to you][|!|.]",),
        ),
        "Hello! How can I help you?",
    ),
    (
        Phrases(
            ("[how are you|how are you doing|how are you today|how do you do|how is it going|how's it going"
             "|are you well|are you okay|how is your day|how was your day|are you fine|is everything all right|is everything fine|everything okay|what's up|how are you feeling|how have things been|how is life|how is it|how goes it|how are you now|how is everything|how is everything going|how is all|how are you feeling today|how do you find yourself|how is your mood|what is your mood|how is your morning|how is your evening|how is your week|how was your week|how was your night|how did you sleep|did you sleep well|are you happy|are you in a good mood|are you alright|have you been well|have you been okay|have you been fine lately|how have your days been|how has your day been|how has it been|how have you slept|how has life been|are things fine|are things good|are things okay|do you feel well|do you feel fine|do you feel good|do you feel okay today|are you feeling okay|how are all things|how are your things|are you all right|are you doing well|are you doing fine|is life good|is all well|all well|all good|feeling well|feeling good|doing well|you okay|you good|are you good|are you feeling fine|how are your circuits|how is the day treating you|how does it go|how's life|how's everything|how's your day|how you doing|how r u|hru|sup|wassup|what is up|what's new|anything new|are you having a good day|having a good time|I hope you are well|I hope you are fine|hope you are doing well][|?|, bot?|, ARK?|, my friend?]",
             "[hi|hello|hey|good morning|good evening], [how are you|how is it going|how do you do|are you well|what's up|how is your day|all good][| today| doing| now][?|]",
             "[tell me|say|let me know|I want to know|may I ask|can I ask], how [are you|you are|you are doing|it goes|your day is|your day was][|?|.]",
             "[I am fine|I am good|I am well|I am okay|fine here|doing fine here]. [how are you|and you|what about you|how about you|and how are you][?|]"),
            ("[How do you feel|How are things|How have you been]?",),
        ),
        "I am fine, thank you.",
    ),
    (
        Phrases(
            ("[thanks|thank you|thank you very much|thanks a lot|many thanks|thx|great, thanks|ok, thanks"
             "|thank you so much|perfect, thank you|thanks again|thank you again|thank you for your help|thank you for that|thanks for the answer|thank you for the story|that helps, thanks|much appreciated|I appreciate it|thanks, that was nice|thank you, ARK|I am grateful|ty|nice, thank you|thank you kindly|thank you very very much|thanks so much|thanks a million|a thousand thanks|big thanks|my thanks|thank you, thank you|thanks thanks|tysm|thnx|tnx|thanks man|thanks, friend|thanks, bot|thank you, bot|thank you dear|thanks, you are great|thanks, well done|thanks, good job|thank you, that was helpful|thank you, very helpful|that was helpful|that was very helpful|that helped me|that helped a lot|you helped me|you helped me a lot|you have helped me|you are very helpful|you are so helpful|you are so kind|you are too kind|that is kind of you|how kind of you|very kind of you|so kind|I am very grateful|I am thankful|I am so thankful|I want to thank you|let me thank you|I would like to thank you|I owe you one|I owe you|I appreciate that|I appreciate your help|I really appreciate this|I value your help|with thanks|all my thanks|cheers for the help|cheers for everything|cheers for that one|my thanks to you|thanks to you|I do thank you|we thank you|we all thank you|accept my thanks|please accept my thanks|you have my thanks][|.|!|, ARK|, my friend]",
             "[many cheers|cheers] [mate|man|buddy|pal|very much|a lot|indeed|then, thank you|to you][|.|!]",
             "[cheers|cheers mate|ah cheers|ok cheers] for [everything|all of it|the help|your help|helping|your answer|the story|all your work][|.|!]",
             "[thanks|thank you|many thanks|thx|big thanks|thanks a lot] for [everything|all|this|the help|helping|helping me|your time|your answer|your answers|your patience|your work|the information|the list|being there|your reply|telling me|remembering|all your work|nothing|the quick reply|asking|the nice chat|listening][|.|!]",
             "[ok|okay|great|good|nice|perfect|wonderful|super|fine|cool|lovely|oh|ah|hey|well|alright|yes][,|.|!] [thanks|thank you|thanks a lot|many thanks|thank you so much|thx|I am grateful|that helps][|.|!]"),
            ("[Cheers|I thank you|Thanks for that|Thanks for your help][|!]",),
        ),
        "You are welcome.",
    ),
    (
        Phrases(
            ("[bye|goodbye|good bye|bye bye|see you|see you later|good night|farewell|I have to go|I must go now"
             "|until tomorrow|see you soon|until next time|talk to you later|see you tomorrow|I am going now|I am leaving|I have to leave now|I need to leave|I am off|so long|that is all|that's all, bye|that is all, thank you, goodbye|we are done for today|have a nice day|have a good evening|bye for now|ok, bye|end of the conversation|bye then|byebye|bye, bot|goodbye my friend|goodbye for now|goodbye, ARK|cu|cya|ciao ciao|later|laters|catch you later|see ya|see you around|see you again|see you next time|see you next week|we will meet again|until then|until later|until soon|till tomorrow|till next time|sleep well|sweet dreams|good night, bot|good night, ARK|night night|I go now|I am gone|I am out|I am heading out|I am heading home|I am going to bed|I am going home|I must leave|I must leave you now|I should go|I should leave|I have got to go|gotta go|gtg|I will go now|I will leave now|I will be back|I'll be back|back soon|be right back|I say goodbye|let me say goodbye|time to go|time for me to go|time to leave|it is time to leave|it is late, I have to go|it is getting late|my work is done|my time is up|I am finished|I am done|I am done here|I am done for today|we are finished|we are through|this is the end|the end of our talk|that was all|that was all for now|that was everything|nothing else, bye|nothing more, thank you, bye|take good care of yourself|you take care of yourself|take very good care|take good care, bye|that is all I need|that is all I wanted|that is all for now, bye|that is everything for today|that will be all|that would be all, thank you, bye|all for today, bye|this is all for now|that was all I had for today|I leave now|I am leaving the chat|I am leaving you now|I am leaving in a minute, bye|leaving now, bye|no more questions|I have no more questions|I have no further questions|let us stop here|let's stop here|let's call it a day|enough for today|have a good day|have a good night|have a great day|have a lovely day|have a nice weekend|have a good one|all the best|best wishes|so long, friend|adieu|over and out|logging off|signing off|I sign off|closing the chat][|.|!|, bot|, ARK|, my friend|, bye]",
             "[ok|okay|great|good|nice|well|alright|fine|so|thanks|thank you|right|oh|cool][,|.|!] [bye|goodbye|see you|good night|I have to go|I must go|see you later|I am going now|I need to go|until tomorrow|farewell|that was all|I am done|talk soon][|.|!]"),
            ("[That is all for today|I am leaving now|Take care][|!]",),
        ),
        "Goodbye!",
    ),
    (
        Phrases(
            ("[ok|okay|good|great|fine|nice|cool|very good|well done|good job|perfect|I see|all right|alright"
             "|got it|wonderful|excellent|interesting|sure|yes|right|that is right|correct|that is fine|that is great|that is nice|good to hear|very nice|not bad|amazing|I understand|understood|makes sense|that makes sense|I agree|exactly|fantastic|sounds good|very well|lovely|fine by me|okay then|no problem|brilliant|awesome|super|nice one|good answer|good work|you are right|true|indeed|agreed|great work|nice job|okay great|ok good|ok cool|okay fine|k|kk|yep|yup|yeah|aha|ah okay|oh nice|oh good|oh great|oh cool|ah good|wow|wow nice|wow great|neat|sweet|terrific|marvellous|marvelous|magnificent|superb|outstanding|impressive|beautiful|great stuff|good stuff|very good indeed|quite good|pretty good|so good|really good|really nice|good enough|well said|well spoken|well played|well answered|nicely done|nice answer|great answer|right answer|the right answer|that is the right answer|that is right indeed|that is true|that is correct|that is perfect|that is excellent|that is wonderful|that is okay|that is enough|that is interesting|that is fun|that is cool|that is amazing|that was good|that was great|that was nice|that was fine|that was fun|that was right|that was correct|that was easy|that was fast|that works|that works for me|it works|this works|this is good|this is great|this is nice|this is fine|this is right|I like it|I like that|I like this|I love it|I am happy with that|I am glad|I am pleased|glad to hear|glad to hear that|nice to hear|good for you|good boy|good bot|clever|clever bot|smart|as expected|as I thought|just as I thought|no worries|no objections|fine with me|okay with me|good by me|deal|done|absolutely|definitely|certainly|of course|naturally|precisely|quite right|quite so|you are correct|you got it|you got that right|you did well|you did it|you did a good job|bravo|hooray|hurray|yay|congratulations|respect|point taken|noted|that is splendid|simply splendid|a splendid answer|splendid work|splendid idea|how splendid|a good thing to know|nice to know|great to know|that is nice to know|that is fair|seems fair|sounds fair|okay, fair|fair point|fair answer|fair and right|that is more than fair|quite fair|that is a good answer|that is a good thing|how good|how nice|clear|all clear|crystal clear|I get it|I got it|I see now|I see what you mean|now I understand|now I see|now it is clear|I believe you|I trust you|approved|accepted|works for me|sounds great|sounds fine|sounds right|sounds nice|looks good|looks fine|looks right|seems right|seems fine|all good then|so be it|let it be so|alright then|very well then][|.|!|, bot|, ARK|, my friend]",
             "[ok|okay|great|good|nice|cool|yes|well|wow|oh|ah|alright|right|fine|perfect|wonderful|yeah][,|.|!] [good|great|nice|well done|I see|that is right|I understand|very good|got it|I like it|that works|perfect|you are right|that is true|sounds good|good job][|.|!]"),
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
