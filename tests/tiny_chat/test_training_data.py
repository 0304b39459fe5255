"""The generator of dialogues: the same for the same seed, and honest about what it holds out."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from tools.training.chat import batches, examination, generate, render
from tools.training.chat.dialogue import Message, World
from tools.training.chat.lexicon import Lexicon, is_held_out
from tools.training.chat.phrasing import Phrases
from tools.training.chat.skills import count, echo, fallback, kinds, secrets, story, structured, talk, tools
from tools.training.chat.skills.catalogue import CATALOGUE

CATEGORIES = ("name", "colour", "city", "animal", "food", "word", "codeword", "code", "language")


def _dialogues(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    lexicon = Lexicon("train")
    return [render.text(generate.dialogue(rng, lexicon, generate.Shape(60, 800)), rng) for _ in range(count)]


def test_the_same_seed_makes_the_same_dialogues() -> None:
    assert _dialogues(5, 50) == _dialogues(5, 50)
    assert _dialogues(5, 50) != _dialogues(6, 50)


def test_every_dialogue_has_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first skill finds nothing to do, as a secret does that is called like a known fact."""
    rng = random.Random(8)
    lexicon = Lexicon("train")

    def world_with_a_code_word(*_: Any) -> World:
        return World(
            rng,
            lexicon,
            messages=[Message("system", "The code word is x.")],
            facts={kinds.owned("the", "word", "word"): "x"},
        )

    monkeypatch.setattr(generate, "open_world", world_with_a_code_word)
    monkeypatch.setattr(secrets, "_KINDS", {"code word": "codeword", "word": "word"})
    monkeypatch.setattr(generate, "MIX", {**dict.fromkeys(generate.MIX, 1.0), secrets.keep: 100.0})
    for _ in range(20):
        dialogue = generate.dialogue(rng, lexicon, generate.Shape(0, 1))
        assert any(message.role == "user" for message in dialogue.messages)


def test_the_same_seed_makes_the_same_batches(tokenizer: Any) -> None:
    def ids(seed: str) -> list[list[list[int]]]:
        made = batches.round_of(
            tokenizer.backend_tokenizer, batches.CURRICULUM[1], seed, count=2, tokens=1500, context=4096
        )
        return [batch.ids.tolist() for batch in made]

    assert ids("1-0-0") == ids("1-0-0")
    assert ids("1-0-0") != ids("1-0-1")


@pytest.mark.parametrize("category", CATEGORIES)
def test_held_out_values_are_never_trained_on(category: str) -> None:
    rng = random.Random(category)
    trained = {Lexicon("train").draw(rng, category).lower() for _ in range(3000)}
    held_out = {Lexicon("held_out").draw(rng, category).lower() for _ in range(300)}
    assert not trained & held_out
    assert all(is_held_out(value) for value in held_out)


PHRASES: dict[str, Phrases] = {
    "name told": kinds.NAME.tell,
    "name asked": kinds.NAME.ask,
    "fact told": kinds.owned("my", "cat", "name").tell,
    "fact asked": kinds.owned("my", "cat", "name").ask,
    "home asked": kinds.CITY.ask,
    "secret kept": secrets.KEEP,
    "secret told": secrets.TELL,
    "echo": echo._ECHO,
    "who": talk.WHO,
    "can": talk.CAN,
    "count": count._COUNT,
    "range": count._RANGE,
    "story": story._STORY,
    "JSON": structured._JSON,
    "fallback": fallback._PLAIN,
    **{f"small talk {i}": phrases for i, (phrases, _) in enumerate(talk._SMALL_TALK)},
    **{tool.name: tool.ask for tool in CATALOGUE},
}


@pytest.mark.parametrize("phrases", PHRASES.values(), ids=PHRASES)
def test_held_out_phrasings_are_never_trained_on(phrases: Phrases) -> None:
    """Not even as a part of what is trained: a short one may not stand alone in it, a longer one nowhere."""
    rng = random.Random(1)

    def spoken(split: Any) -> set[str]:
        return {phrases.pattern(rng, split).lower().strip(".!?") for _ in range(3000)}

    assert phrases.held_out
    trained = "\n".join(spoken("train"))
    clauses = {clause.strip() for clause in re.split(r"[.,:!?\n]", trained)}
    for text in spoken("held_out"):
        assert text not in (trained if len(text.split()) > 2 else clauses)


def test_a_stripped_dialogue_never_holds_a_past_secret() -> None:
    rng = random.Random(2)
    seen = 0
    for _ in range(600):
        dialogue = generate.dialogue(rng, Lexicon("train"), generate.Shape(300, 900))
        lost = [m for m in dialogue.messages if m.content == secrets.LOST]
        told = [m for m in dialogue.messages if m.role == "assistant" and " was " in m.content[:25]]
        if dialogue.thinking == "stripped":
            assert not [m for m in told if m.content.startswith("The ")]
            seen += len(lost)
        else:
            assert not lost
    assert seen > 5


def test_a_tool_at_hand_under_another_name_is_never_missing() -> None:
    """What a request means does not depend on what the tool for it is called."""
    rng = random.Random(4)
    renamed = next(tool for tool in (CATALOGUE[0].variant(rng) for _ in range(100)) if tool.name != CATALOGUE[0].name)
    weather = re.compile("weather|temperature|forecast", re.IGNORECASE)

    def asked(at_hand: list[Any]) -> list[str]:
        worlds = [World(rng, Lexicon("train"), tools=at_hand) for _ in range(200)]
        for world in worlds:
            tools.missing(world)
            assert world.messages[-1].content == fallback.SORRY
        return [world.messages[0].content for world in worlds if weather.search(world.messages[0].content)]

    assert not asked([renamed])
    assert asked([CATALOGUE[1]])


@pytest.mark.parametrize("topic", examination.TOPICS, ids=lambda topic: topic.name)
def test_examination_cases_repeat(topic: examination.Topic) -> None:
    first = list(examination.cases(topic, 4, 9, False))
    assert first == list(examination.cases(topic, 4, 9, False))
    assert all(case.expected.endswith("<|im_end|>") and "<|im_start|>assistant" in case.prompt for case in first)


def test_every_answer_to_a_question_is_in_its_prompt() -> None:
    """What has to be recalled was said: an examination with impossible questions measures nothing."""
    by_name = {topic.name: topic for topic in examination.TOPICS}
    for case in examination.cases(by_name["recall, 300-700 tokens"], 40, 4, False):
        value = case.expected.removesuffix(".<|im_end|>").split()[-1]
        assert value in case.prompt
