"""Counting, as a numbered list."""

from ark_embedded.training.chat.dialogue import World
from ark_embedded.training.chat.phrasing import Phrases

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
    ),
    (
        "[Enumerate|Number] from 1 [to|through] {n}.",
        "[Start at one and count|Keep counting] until {n}.",
        "[I would like to hear|Let me see] the numbers from 1 to {n}.",
    ),
)
_RANGE = Phrases(
    (
        "[Please |||]count from {a} to {n}[|, please].",
        "[Can you|Could you] count from {a} to {n}?",
        "[List|Write|Say|Give me] the numbers from {a} to {n}.",
    ),
    ("Start at {a} and count [to|until] {n}.", "[Enumerate|Number] from {a} to {n}."),
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
    if rng.random() < 0.08:
        first = rng.randint(1, 16)
        last = rng.randint(first + 1, min(first + 10, 20))
        world.user(world.say(_RANGE, a=str(first), n=str(last)))
        world.reply(_numbered(first, last))
        return
    number = rng.choice((rng.randint(1, 20), rng.randint(1, 12), rng.randint(2, 7)))
    world.user(world.say(_COUNT, n=str(number) if rng.random() < 0.75 else _DIGITS[number - 1]))
    world.reply(_numbered(1, number))
