"""Tools that find something out: the weather, the time, a search, an order, a user."""

# ruff: noqa: E501 - a phrase is one line, however long

from tools.training.chat.phrasing import DO, Phrases
from tools.training.chat.skills.tool import CAN_YOU, NEED, Parameter, Tool

_CITY = Parameter(
    "city", "city", "[The city|City|Name of the city|A city name][|.]", aliases=("location", "place", "location")
)
_UNIT = {"unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}
_WHERE = "[in|for|at]"

WEATHER = Tool(
    "get_weather",
    "[Get|Returns|Look up|Fetch] the [current |]weather [in|for|of] a [city|given city|place].",
    (_CITY,),
    Phrases(
        (
            f"{NEED}[what is|what's|how is|how's] the weather [like |]in {{city}}[| now| today| right now]?",
            f"{CAN_YOU} [get|check|look up|tell me] the weather {_WHERE} {{city}}[|.|?]",
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
)  # fmt: skip
TIME = Tool(
    "get_time",
    "[Get|Returns|Tells|Look up] the [current |local |]time in a [city|given city].",
    (_CITY,),
    Phrases(
        (
            f"{NEED}[what time is it|what is the time|what's the time] in {{city}}[| now]?",
            f"{CAN_YOU} [get|check|look up|tell me] the time {_WHERE} {{city}}[|.|?]",
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
)  # fmt: skip
SEARCH = Tool(
    "search",
    "[Search|Searches] the [web|internet|documents|database|library][| for a query].",
    (Parameter("query", "phrase", "[The query|What to search for|Search text|The search words][|.]"),),
    Phrases(
        (
            f"{NEED}[search|search the web|look|search the internet] for {{query}}.",
            f"{CAN_YOU} [search for|look up|find|google] {{query}}[|.|?]",
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
)  # fmt: skip
ORDER = Tool(
    "lookup_order",
    "[Look up|Find|Get|Check] an order by its [id|number][|.]",
    (Parameter("order_id", "code", "[The order id|Order number|Id of the order][|.]"),),
    Phrases(
        (
            f"{NEED}[look up|check|find|show me|track] [order|the order|my order] {{order_id}}.",
            f"{CAN_YOU} [look up|check|find|track] [order|my order] {{order_id}}[|.|?]",
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
)  # fmt: skip
USER = Tool(
    "get_user",
    "[Get|Find|Look up|Fetch] [a user|the profile of a user|a person] by [name|user name][|.]",
    (Parameter("name", "name", "[The name|Name of the user|User name][|.]"),),
    Phrases(
        (
            f"{NEED}[look up|find|show me|get] [the user|user] {{name}}.",
            f"{CAN_YOU} [look up|find|get] [the user|user] {{name}}[|.|?]",
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
)  # fmt: skip
