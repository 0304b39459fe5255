"""The tools the model is trained with: eleven of a catalogue, and any number of made-up ones."""

# ruff: noqa: E501 - a phrase is one line, however long

import random
from dataclasses import dataclass, replace
from typing import Any

from ark_embedded.training.chat.lexicon import Lexicon
from ark_embedded.training.chat.phrasing import Phrases, expand


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
            ),
            ("[Do I need an umbrella|Should I wear a coat] in {city}?", "[Give me|Find out] the [forecast|weather report] for {city}."),
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
            ),
            ("[What does the clock say|What hour is it now] in {city}?", "[Give me|Find out] the local time of {city}."),
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
            ),
            ("[Run a search for|Do a web search for] {query}.", "[See what you can find about|Dig up something about] {query}."),
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
            ),
            ("{to} should get an email about {subject}.", "[Drop|Shoot] {to} an email [on|about] {subject}."),
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
            ),
            ("[Count down|Let the clock run for] {minutes} minutes.", "I need a timer that rings after {minutes} minutes."),
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
            ),
            ("[What would be the {language} for|Give me the {language} for] {text}?", "[Turn|Bring] {text} into {language}."),
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
            ),
            ("[I am still waiting for|When will I get|Any news of] order {order_id}[.|?]",),
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
            ),
            ("[Give me the value of|What do I get for] {amount} in {currency}[.|?]",),
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
            ),
            ("[Start|Could we have] the song {song}[.|?]", "I am in the mood for the song {song}."),
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
            ),
            ("[Find|What is|Tell me] the sum of {a} and {b}.",),
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
            ),
            ("[Who is the user|What do we know about the user] {name}?",),
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
