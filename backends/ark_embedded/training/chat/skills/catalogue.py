"""The tools the model is trained with: eleven of a catalogue, and any number of made-up ones."""

# ruff: noqa: E501 - a phrase is one line, however long

import random
from dataclasses import dataclass, replace
from typing import Any

from ark_embedded.training.chat.lexicon import Lexicon
from ark_embedded.training.chat.phrasing import DO, Phrases, expand


@dataclass(frozen=True)
class Parameter:
    """One argument: where its values come from, and whether it is written as a number."""

    name: str
    category: str
    describe: str
    numeric: bool = False
    slot: str = ""
    aliases: tuple[str, ...] = ()
    """Other names under which a request may declare it."""


@dataclass(frozen=True)
class Tool:
    """A function the model may call. Slots in `ask` and keys of `results` name its values."""

    name: str
    describe: str
    parameters: tuple[Parameter, ...]
    ask: Phrases
    results: tuple[tuple[tuple[str, str], ...], ...]
    aliases: tuple[str, ...] = ()
    extra: dict[str, Any] | None = None
    """An optional parameter that requests declare now and then, and no call needs."""

    def variant(self, rng: random.Random) -> "Tool":
        """The tool as one client names it."""
        if rng.random() < 0.5:
            return self
        parameters = tuple(
            replace(p, name=rng.choice((p.name, *p.aliases)), slot=p.slot or p.name) for p in self.parameters
        )
        return replace(self, name=rng.choice((self.name, *self.aliases)), parameters=parameters)

    def schema(self, rng: random.Random) -> dict[str, Any]:
        """The tool as a request describes it, worded differently each time."""
        properties: dict[str, Any] = {}
        for parameter in self.parameters:
            properties[parameter.name] = {"type": rng.choice(("integer", "number")) if parameter.numeric else "string"}
            if rng.random() < 0.6:
                properties[parameter.name]["description"] = expand(rng, parameter.describe)
        if self.extra and rng.random() < 0.2:
            properties |= self.extra
        function: dict[str, Any] = {"name": self.name}
        if rng.random() < 0.9:
            function["description"] = expand(rng, self.describe)
        function["parameters"] = {"type": "object", "properties": properties}
        if rng.random() < 0.8 or len(properties) > len(self.parameters):
            function["parameters"]["required"] = [p.name for p in self.parameters]
        return {"type": "function", "function": function}


_CITY = Parameter(
    "city", "city", "[The city|City|Name of the city|A city name][|.]", aliases=("location", "place", "location")
)
_UNIT = {"unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}
_WHERE = "[in|for|at]"
_NEED = "[|||Please |Now |Hi, |OK, |So, ]"
_CAN_YOU = "[Can you|Could you|Will you|Please]"

CATALOGUE: tuple[Tool, ...] = (
    Tool(
        "get_weather",
        "[Get|Returns|Look up|Fetch] the [current |]weather [in|for|of] a [city|given city|place].",
        (_CITY,),
        Phrases(
            (
                f"{_NEED}[what is|what's|how is|how's] the weather [like |]in {{city}}[| now| today| right now]?",
                f"{_CAN_YOU} [get|check|look up|tell me] the weather {_WHERE} {{city}}[|.|?]",
                "[Weather|The weather] in {city}[|, please|?]",
                "[Is it|Will it be] [raining|sunny|cold|warm|hot|windy] in {city}[| today| now]?",
                "[How warm|How cold] is it in {city}?",
                "[What about|How about|Show me|Give me] the weather [for|in] {city}[|?|.]",
                "[Temperature|The temperature|What is the temperature] in {city}[|?]",
                "[Is|Does|Will] it [snow|rain|freeze] in {city}?",
                "I [need|want] [to know |]the weather in {city}.",
                f"{DO}[get|check|look up|tell me|find|show me|fetch|report|describe|give me|ask for|retrieve|query] [the weather|the current weather|the temperature|the weather conditions|today's weather|how the weather is|what the weather is like] [in|for|at|over|of|near] {{city}}[| now| today| right now| at the moment][.|.|?|]",
                "[How|What] is the [weather|temperature|climate|sky|air] [today |now |like |]in {city}[| today| right now| at the moment| outside]?",
                "[What's|Whats|How's] the [weather|temperature] [like |looking |doing |]in {city}[| today| now][?|]",
                "[Is|Will|Does|Did] it [rain|be raining|snowing|be snowing|get cold|be warm|be sunny|cloudy|nice|windy|stormy|foggy|freezing|wet|dry|humid] in {city}[| today| now| tomorrow| tonight][?|]",
                "[Rain|Sun|Snow|Wind|Storm|Clouds|Sunshine|Frost] in {city}[| today| now][?|?|]",
                "[I wonder|I want to know|I would like to know|I'd like to know|I need to know|I ask you|Tell me|Let me know] [how the weather is|what the weather is like|how warm it is|how cold it is|if it rains|whether it rains|if it is raining|if it is cold|if the sun shines] in {city}[| today| now][.|?|]",
                "[I am going to|I am travelling to|I travel to|I fly to|We are driving to|I am in|I arrive in|I visit|My friend lives in|I will be in] {city}[. How is the weather|. What is the weather like|. Is it warm there|, how warm is it|, what about the weather|. How cold is it|, will it rain][ there|][?|]",
                "{city}[: the weather|: weather|, the weather| weather| weather now| weather today|: temperature| temperature]?",
                "[Can I go outside|Can I go for a walk|Do people freeze|Is the sun out|Can I wear a T-shirt|Is the sky clear|Are there clouds|Is there a storm|Is there any rain|Are the streets wet] in {city}[| today| now]?",
                "[How many degrees|What temperature|Which temperature|How much rain|How much snow|How much wind|How hot|How warm|How cold|How windy|How wet|How humid] [is it|is there|does it have|do they have|has it got|do we have] in {city}[| now| today]?",
                "[What does|How does] the [weather forecast|forecast|weather report|weather service] [say|look|read] for {city}[| today| tomorrow][?|]",
                "[The forecast|Forecast|Weather forecast|Weather report|The weather report|A weather report|Today's forecast] [for|in|of|from] {city}[|, please|?|.]",
                "[Will I need|Do people need|Shall I take|Should I take|Must I pack|Should I pack|Is it good to have] [an umbrella|a coat|a jacket|boots|sunglasses|a hat|warm clothes|gloves] [to|for|over in|when I go to] {city}[| today]?",
                "[Weather|Current weather|Local weather|Weather update|Temperature|Weather data|Weather check|Conditions] [for|in|at|of|from] {city}[|, please|?|.]",
            ),
            ("[Do I need an umbrella|Should I wear a coat] in {city}?", "[Give me|Find out] the [forecast|weather report] for {city}."),
            "ask",
        ),
        (
            (("temperature", "number"), ("condition", "weather")),
            (("weather", "weather"),),
            (("city", "=city"), ("temperature", "number")),
            (("temp_c", "number"),),
            (("", "weather"),),
            (("", "degrees"),),
        ),
        ("get_current_weather", "weather", "current_weather", "get_weather_forecast"),
        _UNIT,
    ),
    Tool(
        "get_time",
        "[Get|Returns|Tells|Look up] the [current |local |]time in a [city|given city].",
        (_CITY,),
        Phrases(
            (
                f"{_NEED}[what time is it|what is the time|what's the time] in {{city}}[| now]?",
                f"{_CAN_YOU} [get|check|look up|tell me] the time {_WHERE} {{city}}[|.|?]",
                "[Time|Local time|The time] in {city}[|, please|?]",
                "[How late is it|Which hour is it] in {city}?",
                "[Show|Give|Tell] me the time in {city}.",
                "[What is|What's] the [current|local] time in {city}?",
                "[Is it|Is it already] [morning|evening|night|late] in {city}?",
                "I [need|want] [to know |]the time in {city}.",
                f"{DO}[get|check|look up|tell me|find|show me|fetch|give me|report|ask for|retrieve|say|read] [the time|the current time|the exact time|what time it is|the hour|the clock time|how late it is] [in|for|at|over in|of|near] {{city}}[| now| right now| at the moment][.|.|?|]",
                "[What|Which] time [is it|do they have|have they got|do we have|is it now|is it there] in {city}[| now| right now| at the moment| please| today][?|]",
                "[What is|What's|Whats|How is|Do you know|Can you see] the [time|exact time|time of day|hour|current time|time right now|clock] in {city}[| now| right now| at the moment][?|]",
                "[I wonder|I want to know|I would like to know|I'd like to know|I need to know|Tell me|Let me know|I ask you] [what time it is|how late it is|what the time is|which hour it is|if it is late|whether it is night|if it is morning already] in {city}[| now][.|?|]",
                "[I want to call somebody|My friend lives|My sister is|I have a call with someone|I am|We are|I have a meeting|My team sits|I call a client] in {city}[. What time is it there|. What is the time there|, what time is it|. How late is it there|, what is the time][| now][?|]",
                "{city}[: the time|: time|, what time| time| time now|: local time|: what time is it| local time]?",
                "[Are they asleep|Are people awake|Is everybody sleeping|Is it dark|Is it daytime|Is it night time|Is it already noon|Is it past noon|Is it after midnight|Is it lunch time|Is it tomorrow already|Are the shops open] in {city}[| now]?",
                "[Time|Current time|Exact time|Clock|Clock time|Hour|Time check|Time now|Time of day] [in|for|at|of] {city}[|, please|?|.]",
                "[What hour|Which hour|What time] do they have in {city}[| now]?",
                "[What|Which time] does [your clock|my watch|a clock|the watch|the church clock] [show|read|tell|say] [over in|for|for people in|if I am in] {city}[| now]?",
                "[How late|How early|What o'clock] is it [now |]in {city}[| now]?",
            ),
            ("[What does the clock say|What hour is it now] in {city}?", "[Give me|Find out] the local time of {city}."),
            "ask",
        ),
        ((("time", "time"),), (("city", "=city"), ("time", "time")), (("local_time", "time"),), (("", "time"),)),
        ("get_current_time", "time_in_city", "current_time"),
        {"format": {"type": "string"}},
    ),
    Tool(
        "search",
        "[Search|Searches] the [web|internet|documents|database|library][| for a query].",
        (Parameter("query", "phrase", "[The query|What to search for|Search text|The search words][|.]"),),
        Phrases(
            (
                f"{_NEED}[search|search the web|look|search the internet] for {{query}}.",
                f"{_CAN_YOU} [search for|look up|find|google] {{query}}[|.|?]",
                "[Find|Look up|Search] {query}[|, please|.]",
                "Search: {query}",
                "[Google|Search online for|Look for|Research|Query] {query}[|, please|.]",
                "[Find information about|Find something about|Get information on|What does the web say about] {query}[|.]",
                f"{DO}[search for|look for|look up|find|google|search the web for|search the internet for|browse for|hunt for|query|search online for|research|find results for|find pages about|find articles on|find documents about|get results for|fetch results for|check the web for|look on the internet for|make a search for|start a search for|use the search for] {{query}}[|.|?]",
                "[Search|Query|Find|Look up|Google|Web search|Search for|Search query|Internet search|Research|Keywords|Search words|Search term][:|:| -] {query}",
                "[I want to find|I am looking for|I need information about|I need something about|I'd like to read about|I want to read about|I want results for|I need results for|I search for|I am searching for|Let us find|Let's look for|Let's search for|We need to find] {query}[|.]",
                "[What can be found|What is there|What is written|What does the internet say|What do they write|Is there anything|What is on the web|What comes up|What do you get online] [about|on|for] {query}[?|]",
                "[Look|Check|Search|Have a look|Go] [on the web|online|on the internet|in the library|through the documents|in the database|on the net] for {query}[|.]",
                "[Do|Run|Make|Start|Can you do|Could you run|I need|Let us do] a [quick|new|short|small|library|database|document] search [on|about|for] {query}[|.|?]",
                "[See if there is|See whether there is|Dig out|Dig for|Discover|Find out] [something|anything|more|everything] [on|about] {query}[|.]",
                "{query}[: search it|: look it up|: find it| - search this|: google it]",
            ),
            ("[Run a search for|Do a web search for] {query}.", "[See what you can find about|Dig up something about] {query}."),
            "ask",
        ),
        ((("result", "phrase"),), (("title", "phrase"), ("hits", "number")), (("count", "number"),), (("", "phrase"),), (("", "sentence"),), (("", "list"),)),
        ("web_search", "search_web", "search_documents"),
        {"limit": {"type": "integer"}},
    ),
    Tool(
        "send_email",
        "[Send|Sends] an email[| to a person| with a subject].",
        (
            Parameter("to", "name", "[The recipient|Who gets it|Recipient of the email][|.]"),
            Parameter("subject", "phrase", "[The subject|Subject line|Subject of the email][|.]"),
        ),
        Phrases(
            (
                f"{_NEED}send an email to {{to}} [with the subject|with subject|about] {{subject}}.",
                f"{_CAN_YOU} [send an email|email|write an email] to {{to}} [with the subject|about] {{subject}}[|.|?]",
                "[Email|Mail|Write to] {to} about {subject}[|, please|.]",
                "[Write|Send] {to} an email with the subject {subject}.",
                "[Message|Contact] {to} about {subject}.",
                "[Compose|Prepare] an email to {to} [about|with the subject] {subject}.",
                f"{DO}[send|write|compose|prepare|draft|deliver|dispatch|mail|type|post] [an email|a mail|an e-mail|a message|a short email|a quick email|one email|a note] to {{to}} [with the subject|with subject|about|on|on the subject|concerning|regarding|on the topic|titled|with the title|saying|subject] {{subject}}[|.|?]",
                f"{DO}[email|mail|write to|message|contact|write|notify|inform|tell|ping|update] {{to}} [about|with the subject|regarding|concerning|on the subject of|by email about|in an email about|on] {{subject}}[|.|?]",
                f"{DO}[send|write|mail|give] {{to}} [an email|a mail|a message|a short email|an e-mail|a note] [with the subject|about|on|regarding|concerning|with subject|titled|on the subject] {{subject}}[|.|?]",
                "[Email|Mail|New email|E-mail|Message|A mail|An email] [to|for] {to}[, subject|, about|: subject|, the subject is|, with subject|; subject:|, subject:] {subject}[|.]",
                "[I want to|I need to|I'd like to|I have to|I must|Let us|Let's|Help me to|We should] [email|write to|mail|send an email to|send a mail to|write an email to|message] {to} [about|with the subject|regarding|concerning|on] {subject}[|.]",
                "[Let|Make sure] {to} [know by email about|hears by email about|knows by mail about|reads about|gets a message about|gets a mail about] {subject}[|.]",
                "{to} [needs|must get|has to get|must receive|should receive|waits for|is waiting for|wants|will get] [a mail|a message|an email|an e-mail] [on|regarding|concerning|with the subject|about] {subject}[|, please][|.]",
                "[Drop|Shoot|Fire off|Throw] [a mail|a message|a quick email|a note] to {to} [on|about|regarding] {subject}[|, please][|.]",
                "[To|Recipient|Email to|Mail to]: {to}[, subject|. Subject|, about|. About]: {subject}",
                "[An email|A mail|A message] [about|with the subject|on] {subject} [to|for|goes to|should go to|must go to] {to}[|, please|.]",
            ),
            ("{to} should get an email about {subject}.", "[Drop|Shoot] {to} an email [on|about] {subject}."),
            "ask",
        ),
        ((("status", "status"),), (("id", "code"), ("status", "status")), (("", "status"),)),
        ("email", "send_mail"),
    ),
    Tool(
        "set_timer",
        "[Set|Start|Sets|Starts] a timer[| for some minutes].",
        (Parameter("minutes", "small", "[Minutes|How many minutes|Duration in minutes|The minutes][|.]", True),),
        Phrases(
            (
                f"{_NEED}[set|start] a timer [for|of|to] {{minutes}} minutes.",
                f"{_CAN_YOU} [set|start|make] a timer for {{minutes}} minutes[|.|?]",
                "[Timer|A timer][| for|:] {minutes} minutes[|, please|.]",
                "[Set|Start|Give me|I need|Make|Create|Run] a {minutes} minute timer.",
                "[Alert|Notify|Call] me [in|after] {minutes} minutes.",
                "[Can you|Please] [time|measure] {minutes} minutes[|?|.]",
                "[Wake me|Remind me|Ring|Beep] in {minutes} minutes.",
                f"{DO}[set|start|make|create|run|begin|put|launch|prepare|activate|set up|give me|turn on|switch on|configure] [a|the|my|one|another|a new|the kitchen] [timer|alarm|egg timer|countdown|stopwatch|clock] [for|of|to|with|at|lasting|over|on] {{minutes}} [minutes|minutes|min|mins][| from now|, please|][.|.|?|]",
                f"{DO}[set|start|make|create|run|begin|give me|use] a {{minutes}} [minute|minutes|min|-minute] [timer|alarm|countdown][|, please][.|.|?|]",
                f"{DO}[ring|beep|alert me|notify me|call me|tell me|warn me|wake me up|wake me|ping me|remind me|buzz|give a signal|make a noise|say something|stop me|let me know] [in|after|when] {{minutes}} minutes[| are over| have passed| from now|][.|.|?|]",
                "[Timer|Alarm|Countdown|Egg timer|New timer|A timer|Set timer|Start timer][:|,| for| on| of| at|] {minutes} [minutes|min|mins][|, please|.|!]",
                "{minutes} [minutes|min] [timer|on the clock|on the timer|countdown|alarm|, starting now|from now|, go][|, please|.|!]",
                "[I need|I want|I'd like|I would like|We need] [a timer|an alarm|a countdown|the timer|a reminder|a signal|to be woken|to be reminded|to be warned] [for|of|in|after|with] {minutes} minutes[|, please|.]",
                "[My tea needs|The eggs need|The pasta takes|The cake needs|The pizza takes|I nap for|I sleep for|I will rest for|I have a break of|The bread needs|I exercise for|I will read for|The rice cooks for] {minutes} minutes[. Set a timer|, start a timer|. Start the timer|, set the timer|. Please set a timer|, tell me when it is over|. Wake me][.|]",
                "[Count|Let me count|Start to count|Tick|Tick away] {minutes} minutes[| for me| down| on your clock][.|]",
                "[Let|Make] [a timer|the timer|your clock|an alarm|the stopwatch] [run|tick|go|count] for {minutes} minutes[|, please][.|]",
                "[I want|I'd like|Give me|Set up|Make] [an alarm|a timer|a bell|something] that [goes off|beeps|ends|stops|calls me] [after|in] {minutes} minutes[.|]",
                "[Time|Measure|Clock|Track] {minutes} minutes[| for me|, please|][.|]",
                "[How about|Let us have|Let's have|What about] a timer [of|for] {minutes} minutes[?|.]",
            ),
            ("[Count down|Let the clock run for] {minutes} minutes.", "I need a timer that rings after {minutes} minutes."),
            "ask",
        ),
        ((("status", "status"),), (("timer_id", "code"),), (("ends_at", "time"),), (("", "status"),)),
    ),
    Tool(
        "translate",
        "[Translate|Translates] [a text|text|a word|words] [into|to] [a|another] language.",
        (
            Parameter("text", "phrase", "[The text|Text to translate|What to translate][|.]"),
            Parameter("language", "language", "[The language|Target language|Language to translate into][|.]"),
        ),
        Phrases(
            (
                f"{_NEED}translate {{text}} [to|into] {{language}}.",
                f"{_CAN_YOU} translate {{text}} [to|into] {{language}}[|.|?]",
                "[How do you say|What is] {text} in {language}?",
                "[I need|Give me|Show me] {text} in {language}.",
                "What [does {text} mean|is the word for {text}] in {language}?",
                "[Say|Put] {text} [in|into] {language}[|, please|.]",
                f"{DO}[translate|render|convert|put|express|transfer] [||the text |the words |the phrase |this: ]{{text}} [to|into|in] {{language}}[|.|?]",
                f"{DO}[give me|tell me|show me|find|get] [the {{language}} translation of|the translation into {{language}} of|a {{language}} version of|the {{language}} words for|the {{language}} version of] {{text}}[|.|?]",
                "[How do you|How does one|How would you|How can I|How do I|How should I|How do they] [say|write|express|translate|spell] {text} [in|into] {language}[?|]",
                "[What|How] is {text} [in|called in|when translated to|written in|said in] {language}[?|]",
                "[What's|Whats|What does one say for|What do they say for|Do you know] {text} in {language}[?|]",
                "{text}[: translate to|: translate into|, translated to|, in the language|, please translate to] {language}[|, please|?|.]",
                "[I need|I want|I'd like|I would like] [a {language} translation of|the {language} translation of|to translate to {language}:|to say in {language}:|the {language} form of|to know the {language} for] {text}[|.]",
                "[Translation|Translate|Translation please|In translation][:|,] {text}[, to| to| into|, into| in] {language}",
                "[To|Into|In] {language}[|, please]: {text}",
                "[The|I need the|What is the|What's the|Tell me the|Show me the] {language} [for|word for|words for|name for|expression for] {text}[|, please][|.|?]",
                "[What would|What could|Which] [the {language} word be for|the {language} be of|{language} words mean|{language} word means|one say in {language} for] {text}?",
                "[Turn|Bring|Change|Make] [this|these words|the following|this text] into {language}: {text}",
                "[My friend speaks|I am writing in|They only understand|I am learning|My teacher speaks|We talk in] {language}. [How do I say|What is|Translate|Translate for them|Please translate] {text}[|.|?]",
            ),
            ("[What would be the {language} for|Give me the {language} for] {text}?", "[Turn|Bring] {text} into {language}."),
            "ask",
        ),
        ((("translation", "phrase"),), (("text", "phrase"),), (("", "phrase"),)),
    ),
    Tool(
        "lookup_order",
        "[Look up|Find|Get|Check] an order by its [id|number][|.]",
        (Parameter("order_id", "code", "[The order id|Order number|Id of the order][|.]"),),
        Phrases(
            (
                f"{_NEED}[look up|check|find|show me|track] [order|the order|my order] {{order_id}}.",
                f"{_CAN_YOU} [look up|check|find|track] [order|my order] {{order_id}}[|.|?]",
                "[Where is|What is the status of|What happened to|What about] [order|my order] {order_id}?",
                "[Find|Get|Give me|Show] [the status of|information on|details of] order {order_id}.",
                "[Tell me about|I ask about|Check on] [|my ]order {order_id}.",
                "[Status of|Has|Did] order {order_id}[| arrive| ship| arrived]?",
                f"{DO}[look up|check|find|show me|track|trace|look for|get|fetch|open|search for|locate|see|verify|pull up|look at|give me|retrieve|follow|inspect] [order|the order|my order|order number|the order number|our order|an order with number|the order with the id|order id] {{order_id}}[| for me|, please][.|.|?|]",
                f"{DO}[tell me|check|show me|find out|look up|get|give me|report] [the status of|the state of|where is|what happened to|the details of|everything about|how it goes with|if you have|the progress of|the place of] [order|my order|the order|order number] {{order_id}}[.|.|?|]",
                "[Where is|Where's|What about|What is with|What's with|How is|What happened with|What became of|What is up with|What do you know about|How far is|What is going on with] [order|my order|the order|our order|order number] {order_id}[| now| today][?|]",
                "[Has|Did|Is|Was|Will|When does|When did] [order|my order|the order|order number] {order_id} [arrive|shipped|been shipped|been sent|sent|leave|delivered|be delivered|left the house|ready|on its way|lost|come|get here|paid|packed][| yet| already| today][?|]",
                "[I still wait for|I have been waiting for|We still wait for|I am longing for|I expect] [my order|order|the order] {order_id}[. Any news|. Where is it|. Check it|. When does it come|][?|.]",
                "[When can I expect|When will they bring|When do I get|Is there any news about|Any update on|Any information on|Is there something new on|News about] [my order|order|the order] {order_id}?",
                "[Order|My order|Order number|Order id|Order status|Order tracking|Tracking|The order|Status of order|Status of my order|Order no.][:|,|] {order_id}[|, please|?|.]",
                "[I ordered something|I bought something|I paid already|I am worried|I am a customer|I made an order|Nothing has come|My parcel is late|I placed an order|I want to complain][. The order is|. The number is|. My order is|, order|. It is order|. Please check order|. Where is order] {order_id}[|.|?]",
                "[I want|I need|I'd like|I would like|I have to know|I am asking for] [to track|to check|to see|the status of|the state of|information on|details of|to know where is] [order|my order|the order] {order_id}[|, please|.]",
            ),
            ("[I am still waiting for|When will I get|Any news of] order {order_id}[.|?]",),
            "ask",
        ),
        (
            (("status", "status"),),
            (("order_id", "=order_id"), ("status", "status")),
            (("status", "status"), ("city", "city")),
            (("total", "number"),),
            (("", "status"),),
        ),
    ),
    Tool(
        "convert_currency",
        "[Convert|Converts] [an amount|money|an amount of money] [into|to] [a|another] currency.",
        (
            Parameter("amount", "number", "[The amount|How much|Amount of money][|.]", True),
            Parameter("currency", "currency", "[The currency|Target currency|Currency code][|.]"),
        ),
        Phrases(
            (
                f"{_NEED}[convert|change|exchange] {{amount}} [to|into] {{currency}}.",
                f"{_CAN_YOU} [convert|change] {{amount}} [to|into] {{currency}}[|.|?]",
                "[How much is|What is|What are] {amount} in {currency}?",
                "{amount} [in|to] {currency}[|, please|?]",
                "I have {amount}. [How much is that|What is that] in {currency}?",
                "[Turn|Make|Swap] {amount} [into|to] {currency}.",
                f"{DO}[convert|change|exchange|swap|turn|transfer|calculate|compute|switch|recalculate|express|put|trade] [||the amount |the amount of |the sum of |my |my money, ]{{amount}} [to|into|in|for] {{currency}}[|.|?]",
                f"{DO}[tell me|show me|give me|calculate|find out|check|compute|work out] [what {{amount}} is in {{currency}}|how much {{amount}} is in {{currency}}|what {{amount}} makes in {{currency}}|{{amount}} in {{currency}}|what {{amount}} would be in {{currency}}|how much {{currency}} I get for {{amount}}][|.|?]",
                "[How much|How many|What] [is|are|would be|makes|will be|is worth] {amount} [in|in terms of|expressed in|converted to|changed to|exchanged to] {currency}[| today| now][?|]",
                "[What's|Whats|What would] {amount} [be |make |give |]in {currency}[| today| now][?|]",
                "[How much|How many] {currency} [is|are|do I get for|can I get for|would I get for|are there in|do you give for|will I have for|can I buy with|do I have with] {amount}[| today| now][?|]",
                "{amount} [into|in|to|as|=|becomes how much in|is how much in|would be what in|converted to|changed into] {currency}[|, please|?|.]",
                "[Currency|Exchange|Conversion|Convert|Money exchange|Change][:|,] {amount} [to|into|in] {currency}[|.]",
                "[I have|I got|I own|I earned|I found|I need to pay|It costs|The price is|The bill is|I was paid] {amount}[. What is it in|, how much is it in|. Convert it to|. Change it to|. How many|, what would that be in|. Please convert to] {currency}[|.|?]",
                "[What is|Tell me|Show me|I need|Calculate|What's] the [value|worth|price|equivalent] [of|for] {amount} [expressed in|converted to|in terms of|if I pay in] {currency}[.|?]",
                "[What will I get|How much will I get|What can I get|What do they give me] [if I change|when I change|if I exchange|when I swap] {amount} [to|into|for] {currency}?",
                "[I want|I need|I'd like|I would like] [to change|to exchange|to convert|to swap|to turn|to have] {amount} [to|into|in] {currency}[|, please|.]",
            ),
            ("[Give me the value of|What do I get for] {amount} in {currency}[.|?]",),
            "ask",
        ),
        ((("amount", "number"),), (("result", "decimal"),), (("amount", "decimal"), ("currency", "=currency")), (("", "decimal"),)),
        ("exchange", "currency_converter"),
    ),
    Tool(
        "play_music",
        "[Play|Plays|Start] [a song|music|a song by its title|some music].",
        (Parameter("song", "title", "[The song|Title of the song|Song title|What to play][|.]"),),
        Phrases(
            (
                f"{_NEED}play [|the song |]{{song}}.",
                f"{_CAN_YOU} play [|the song |]{{song}}[|.|?]",
                "[Play me|Stream|Start playing] {song}[|, please|.]",
                "[Music|Song]: {song}",
                "[I want to hear|Let me hear|Put on|Let's listen to] {song}[|, please|.]",
                f"{DO}[play|put on|stream|start playing|turn on|play me|play us|begin playing|queue|spin|blast|play for me|play loudly|play softly] [|||the song |the track |the tune |the music |my song |the piece |a song called |the song called ]{{song}}[|.|?]",
                "[I want|I'd like|I would like|I need|I'd love|I love|We want|We would like] to [listen to|hear|dance to|play|sing along with|enjoy] [||the song |the track |the tune ]{song}[|, please|.]",
                "[Music|Song|Play|Now playing|Next song|Track|Tune|Playlist|Music please|Next track]: {song}",
                "[How about|What about|Next up|Time for|Now for|Let us play|Let's play|Let's hear|Let us hear|Let's dance to|Next,|Let's put on] [|the song |the track ]{song}[|.|?|!]",
                "[Can I|Could I|May I|Can we|Could we|May we] [hear|listen to|have] [|the track |the tune ]{song}[?|]",
                "[Start|Begin|Launch|Start up|Start with] [the track|the tune|the music|the record|with the song|my track] {song}[|, please][.|]",
                "[I am in a mood|We are in the mood|My mood is right|I feel in the mood|This is the mood] [for|to hear|for the tune|for the track] {song}[.|]",
                "[Do you have|Have you got|Is there] the [song|track|tune] {song}[? Play it|? Then play it|? Put it on|? Please play it][.|]",
                "{song}[: play it|, play it| - play this song|: put it on|, play that song]",
            ),
            ("[Start|Could we have] the song {song}[.|?]", "I am in the mood for the song {song}."),
            "ask",
        ),
        ((("status", "status"),), (("playing", "=song"),), (("", "status"),)),
    ),
    Tool(
        "add_numbers",
        "[Add|Adds] two numbers[|.]",
        (
            Parameter("a", "number", "[The first number|First number][|.]", True, aliases=("x", "first")),
            Parameter("b", "number", "[The second number|Second number][|.]", True, aliases=("y", "second")),
        ),
        Phrases(
            (
                f"{_NEED}[what is|what's|how much is|calculate|compute] {{a}} [+|plus] {{b}}?",
                f"{_CAN_YOU} add {{a}} [and|to] {{b}}[|.|?]",
                "[Compute|Evaluate|Solve] {a} + {b}.",
                "[How much do you get|What do I get] for {a} plus {b}?",
                "[Add|Sum|Add up] {a} [and|to] {b}[|, please|.]",
                "{a} [+|plus] {b}[| =|?]",
                f"{DO}[add|sum|add up|add together|sum up|total|count together|put together|combine] [||the numbers |the two numbers |these two: |up ]{{a}} [and|to|plus|with] {{b}}[|, please][.|.|?|]",
                f"{DO}[calculate|compute|work out|evaluate|solve|do|find|figure out|tell me|give me|determine|show me|get] [|what is |how much is |the result of |the value of |the answer to |the addition ]{{a}} [+|plus] {{b}}[.|.|?|]",
                f"{DO}[calculate|compute|work out|evaluate|figure out|determine] the [sum|total|addition] [of|for] {{a}} [and|plus] {{b}}[.|.|?|]",
                "[What is|What's|Whats|How much is|What makes|What gives|How much makes|What do you get for|What do we get from|Do you know what is|How many is|What does] {a} [+|plus|added to|and] {b}[| together| in total| make][?|]",
                "[The|I need the|I want the|Sum up: the|I would like the|Now the] sum of {a} and {b}[|, please| is what|?|.]",
                "[What sum|Which sum|What total] [do|does] {a} and {b} [make|give|have]?",
                "[How much|What] [are|is|do|make|would] {a} and {b} [together|in total|combined|added up|summed|make|added][?|]",
                "{a} [+|plus|and|added to|, plus] {b} [is|is what|equals|equals what|makes|gives|=|is how much|together|in total|makes what][?|?|]",
                "[Sum|Addition|Add|Total|Plus|Maths|Math|Calculation][:|,] {a} [and|+|plus] {b}[|.]",
                "[I have|We have|There are|I bought|She has|I count] {a} and [you have |then |get |he has |another |]{b}[. What is the total|. How many together|. How much in total|. Add them|. How much is that|, how much is that together|. Sum them up][?|.|]",
                "If I add {b} to {a}, [what do I get|what is the result|how much is it]?",
            ),
            ("[Find|What is|Tell me] the sum of {a} and {b}.",),
            "ask",
        ),
        ((("sum", "number"),), (("result", "number"),), (("", "number"),)),
        ("add", "sum", "calculator"),
    ),
    Tool(
        "get_user",
        "[Get|Find|Look up|Fetch] [a user|the profile of a user|a person] by [name|user name][|.]",
        (Parameter("name", "name", "[The name|Name of the user|User name][|.]"),),
        Phrases(
            (
                f"{_NEED}[look up|find|show me|get] [the user|user] {{name}}.",
                f"{_CAN_YOU} [look up|find|get] [the user|user] {{name}}[|.|?]",
                "[Show|Get|Give] me the profile of {name}[|, please|.]",
                "[Is there|Do we have] a user [called|named] {name}?",
                "[Find|Get|Load|Open] [|the ]profile [of|for] {name}.",
                "[Tell me about|Information about|Search for] the user {name}.",
                f"{DO}[look up|find|show me|get|fetch|load|open|check|search for|pull up|display|retrieve|look for|see|give me|tell me about|search] [the user|user|the profile of|the account of|the user called|the user named|the data of|the details of|the person|a user called|the record of|the user profile of|information on user|the member|the customer] {{name}}[| for me|, please][.|.|?|]",
                "[Is|Does|Do we know|Have we got|Do you have|Do you know|Where is|Is there|Do you find|Have you got|Can you see] [the user|user|a user called|a user named|a profile for|an account for|a user with the name|a person called] {name}[?|]",
                "[User|Profile|Account|User profile|User name|User data|Person|Lookup user|Get user|User lookup|User info|Member|Customer][:|:|,|] {name}[|, please|?|.]",
                "[I need|I want|I'd like|I would like|We need] [the profile of|the data of|the account of|to see user|to look up user|information about user|the details of|the user data of|to find the user|to know about the user|the user] {name}[|, please|.]",
                "[Who is|Who's] {name}, the user[| called that| in our data]?",
                "[What|Which data|What information|What facts] do [you|I|they] have [about|on] the user {name}?",
                "[What do you know|What do they know|What is known|What does the system know] about user {name}?",
                "[What is in|What's in|What is stored in|What does it say in|What do we have in] the [profile|account|record|user data] of {name}[?|]",
                "[Which|What] [profile|account|data|details|record] [does|has] [the user |user |]{name} [have|got][?|]",
                "{name}[: show the profile|: look up this user|, which user is it|: get the user|: find this user|: user profile|'s profile|'s account|'s user data][, please|.|]",
            ),
            ("[Who is the user|What do we know about the user] {name}?",),
            "ask",
        ),
        ((("email", "code"),), (("name", "=name"), ("age", "small")), (("id", "number"), ("city", "city")), (("", "status"),)),
    ),
)  # fmt: skip

_VERBS = [
    "get",
    "fetch",
    "find",
    "check",
    "read",
    "open",
    "update",
    "create",
    "remove",
    "start",
    "stop",
    "show",
    "load",
    "count",
    "book",
]


def made_up(rng: random.Random, lexicon: Lexicon) -> Tool:
    """A tool nobody has seen: random name, one or two string parameters."""
    verb = rng.choice(_VERBS)
    noun = lexicon.draw(rng, "word").lower()
    names: list[str] = []
    while len(names) < rng.choice((1, 1, 2)):
        name = lexicon.draw(rng, "word").lower()
        if name not in names and name != noun:
            names.append(name)
    with_them = " and ".join(f"{name} {{{name}}}" for name in names)
    assigned = ", ".join(f"{name}={{{name}}}" for name in names)
    tool = f"{verb}_{noun}"
    ask = [
        f"[Please |||]{verb} the {noun} [with|for] {with_them}.",
        f"[Call|Use|Run|Please call|Please use] {tool} [with|for] {with_them}.",
        f"[Call|Use|Run] {tool} with {assigned}.",
        f"[Can you|Could you] {verb} the {noun} [with|for] {with_them}?",
    ]
    if len(names) == 1:
        ask += [f"[Please |||]{verb} the {noun} [of|for] {{{names[0]}}}.", f"{verb} {noun} {{{names[0]}}}"]
    category = rng.choice(("codeword", "word", "name", "city"))
    return Tool(
        tool,
        f"[{verb.capitalize()}|{verb.capitalize()}s] [a|the] {noun}[|.]",
        tuple(Parameter(name, category, f"[The|A] {name}[|.]") for name in names),
        Phrases(tuple(ask)),
        ((("status", "status"),), ((noun, "word"),), ((noun, "number"),), (("", "word"),), (("", "phrase"),)),
    )
