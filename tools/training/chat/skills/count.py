"""Counting, as a numbered list."""

# ruff: noqa: E501 - a phrase is one line, however long

from tools.training.chat.dialogue import World
from tools.training.chat.phrasing import DO, Phrases

_DIGITS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_COUNT = Phrases(
    (
        "[Print|Output|Type|Tell me|Name] [|all ]the numbers from [1|one] [to|up to|until] {n}.",
        "[Count|Count aloud|Count slowly|Count up|Let us count|You count] [until|till|to] {n}.",
        "[1|one] to {n}[, please|].",
        "[Show|Recite|Give] [|me ]the numbers 1 [to|until] {n}.",
        "How do you count to {n}?",
        "[Please |||]count [to|up to|from 1 to|from one to] {n}[|| for me| please|, please].",
        "[Can you|Could you] count [to|up to|from 1 to] {n}[|, please]?",
        "[Count|List|Write|Give me|Show me|Say] the numbers [from 1 to|up to|1 to|from one to] {n}.",
        "[Write|Give me|Make|Show me] a [|numbered ]list [from 1 to|of the numbers 1 to|of numbers up to] {n}.",
        "[Now |And now |I want you to |Let's ]count to {n}.",
        "[Write|List|Name|Say] the first {n} numbers.",
        f"{DO}count [to|up to|till|until|from 1 to|from one to|from 1 up to|from one up to|from 1 until|1 to|upwards to|all the way to|slowly to|aloud to|out loud to|for me to|up from 1 to|by ones to] {{n}}[||, please| for me| in a list| slowly| aloud| one by one| step by step][.|.|?|]",
        f"{DO}[write|print|type|list|show|give|say|name|recite|read out|output|display|produce|tell|write down|write out|send|call out|speak|generate] [|me |us ][|all |all of ][the |][numbers|integers|whole numbers|counting numbers|figures] [from 1 to|from one to|1 to|one to|up to|until|1 through|one through|from one through|between 1 and|between one and|1 until|till|that lead to|starting at 1 up to|starting with one up to|beginning with 1 and ending with] {{n}}[|, please| in words| in order| as a list| in a list| one per line| line by line][.|.|?|]",
        f"{DO}[list|go|run|step|move|proceed|work your way] [|from ][one|1] [to|through|up to] {{n}}[| as a list| in a list| in order| one by one|, please][.|?|]",
        f"{DO}[make|give me|write|produce|create|show me|print|build|draw up|prepare] a [list|numbered list|count|list of numbers|number list|table of numbers|sequence|row of numbers] [from 1 to|up to|from one to|to|of 1 to|of the first|with numbers up to|with the numbers to|that goes to|that ends at|ending with|which stops at] {{n}}[|, please][.|?|]",
        "[Numbers|The numbers|All numbers|Counting|Count|A count|List|A list|Integers|Figures] [up to|to|until|from 1 to|1 to|one to|from one to] {n}[|, please][|.|?|!]",
        "[One, two, three|1, 2, 3|1 2 3|One, two|1, 2|One]... [and so on until|up to|go on to|continue to|until|to] {n}[|, please][|.]",
        "[1|One] [until|up to|till|through] {n}[|, please| please][|.|!]",
        "[How do you|How does one|How would you|How can one] count [to|up to|from 1 to|until] {n}?",
        "[Do you know|Can you name|Do you remember|Tell me|Could you name|Would you tell me|Show me] [the|all the|all] numbers [to|up to|until|from 1 to|from one to] {n}[?|.]",
        "[I want|I'd like|I need|I want to see|I need to see|I'd love to see|I want to get|I am waiting for|I ask for] [the|all|all the] numbers [to|up to|until|1 to|from one to|1 through] {n}[|, please][.|]",
        "[Begin|Commence] [with|from] [1|one] and [go|go on|continue|work|move|run] [to|up to|up until|till] {n}[|, please][.|]",
        "[Begin|Start] counting[|, please| now][. Stop at| and stop at|, end at|, up to| until| and finish with] {n}[.|]",
        "[Stop|End|Finish] [counting |]at {n}[. Begin now|. Start with 1|. Go|, but start at 1][.|]",
        "[Is it true that you can|I hear you can|They say you can|I bet you can|Show that you can|Prove that you can] count [to|up to] {n}[. Do it|. Show me|. Go ahead|][.|]",
        "[Count|Count up|Count aloud|Start counting|Go], [1|one] to {n}[|, please][.|!|]",
        "[Enumerate|Number|Enumerate for me] [the numbers|all numbers|everything|things] [up to|to|until|1 to] {n}[.|]",
        "[Enumerate|Number the lines] [up to|until|1 to|one to] {n}[.|]",
        "[Keep on counting|Keep going|Go on counting|Continue counting] [up to|to|from one to|from 1 up to] {n}[.|]",
        "[Start at|Start with|Begin at] [1|one][, stop at|, end at|, finish at|; stop at|. The last is|, go to] {n}[.|]",
        "[Let me hear you|I would love to hear you|I want to hear you|Let us hear you] count [to|up to] {n}[.|]",
        "The numbers [1|one] [to|through|until] {n}[, please|, in a list|, one per line|][.|]",
    ),
    (
        "[Enumerate|Number] from 1 [to|through] {n}.",
        "[Start at one and count|Keep counting] until {n}.",
        "[I would like to hear|Let me see] the numbers from 1 to {n}.",
    ),
    "ask",
)
_RANGE = Phrases(
    (
        "[Please |||]count from {a} to {n}[|, please].",
        "[Can you|Could you] count from {a} to {n}?",
        "[List|Write|Say|Give me] the numbers from {a} to {n}.",
        f"{DO}count [from|up from|starting at|starting with|beginning at|beginning with] {{a}} [to|up to|until|till|through] {{n}}[|, please][.|?|]",
        f"{DO}[list|write|say|give me|show me|print|name|recite|output|tell me|type] [the numbers|all numbers|all the numbers|numbers|integers] [from |between |]{{a}} [to|through|until|up to|and] {{n}}[|, please][.|?|]",
        "[Begin|Go|Start counting|Begin counting] [at|with|from] {a} and [go|go on|stop|end|continue|finish] [at|with|to] {n}[|, please][.|]",
        "[From |]{a} [to|until|up to|through] {n}[|, please][.|]",
        "[Numbers|A list|Counting|A numbered list] [from|between] {a} [to|and|until] {n}[|, please][.|]",
    ),
    ("Start at {a} and count [to|until] {n}.", "[Enumerate|Number] from {a} to {n}."),
    "ask",
)
TOO_FAR = "I can only count to 20."


def _numbered(first: int, last: int) -> str:
    return "\n".join(f"{i}. {_DIGITS[i - 1]}" for i in range(first, last + 1))


def count(world: World) -> None:
    """A numbered list up to twenty; the number to reach is given as digits or as a word."""
    rng = world.rng
    if rng.random() < 0.12:
        world.user(
            world.say(
                _COUNT, n=str(rng.choice((21, 25, 30, 40, 50, 60, 100, 200, 1000, 1000000, rng.randint(21, 999))))
            )
        )
        world.reply(TOO_FAR)
        return
    if rng.random() < 0.1:
        first = rng.randint(1, 16)
        last = rng.randint(first + 1, min(first + 10, 20))
        world.user(world.say(_RANGE, a=str(first), n=str(last)))
        world.reply(_numbered(first, last))
        return
    number = rng.choice((rng.randint(1, 20), rng.randint(1, 12), rng.randint(2, 7)))
    world.user(world.say(_COUNT, n=str(number) if rng.random() < 0.75 else _DIGITS[number - 1]))
    world.reply(_numbered(1, number))
