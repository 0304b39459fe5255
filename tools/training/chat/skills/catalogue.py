"""The tools the model is trained with, beside any number of made-up ones."""

from tools.training.chat.skills.actions import ADDITION, CURRENCY, EMAIL, MUSIC, TIMER, TRANSLATION
from tools.training.chat.skills.lookups import ORDER, SEARCH, TIME, USER, WEATHER
from tools.training.chat.skills.tool import Tool

CATALOGUE: tuple[Tool, ...] = (
    WEATHER,
    TIME,
    SEARCH,
    EMAIL,
    TIMER,
    TRANSLATION,
    ORDER,
    CURRENCY,
    MUSIC,
    ADDITION,
    USER,
)
