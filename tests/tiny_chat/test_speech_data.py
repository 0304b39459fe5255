"""The speech model's training data: the same for the same seed, and honest about what it holds out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from tools.training.speech import clips, espeak, features, lexicon, samples, sentences, tokenizer, windows
from tools.training.speech.clips import Clip

needs_espeak = pytest.mark.skipif(not espeak.available(), reason="libespeak-ng is not installed")


@pytest.fixture(scope="module")
def vocabulary() -> tokenizer.Vocabulary:
    return tokenizer.Vocabulary(tokenizer.train())


def test_the_same_seed_says_the_same() -> None:
    def said(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [sentences.sentence(rng, "train", 0.3) for _ in range(50)]

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_held_out_sentences_are_never_trained_on() -> None:
    rng = random.Random(3)
    trained = {sentences.sentence(rng, "train", 0.3).lower() for _ in range(3000)}
    held_out = {sentences.sentence(rng, "held_out").lower() for _ in range(500)}
    assert not trained & held_out
    assert all(lexicon.is_held_out(sentence) for sentence in held_out)


def test_a_sentence_is_held_out_whatever_its_case_and_stops() -> None:
    assert lexicon.is_held_out("Yes, the red car.") == lexicon.is_held_out("yes the red car")


def test_every_word_that_is_said_is_in_the_lexicon() -> None:
    rng = random.Random(4)
    known = {word.lower() for word in lexicon.vocabulary()}
    for _ in range(3000):
        said = sentences.sentence(rng, "train", 0.2).lower().replace(",", "").rstrip(".?").split()
        assert set(said) <= known
        assert len(said) <= sentences.LIMIT


def test_every_word_is_one_token(vocabulary: tokenizer.Vocabulary) -> None:
    for word in lexicon.vocabulary():
        assert [len(ids) for ids in vocabulary.words(f"{word} {word[0].upper()}{word[1:]} {word}.")] == [1, 1, 2]


def test_control_tokens_follow_the_text_and_timestamps_follow_them(vocabulary: tokenizer.Vocabulary) -> None:
    assert "" not in vocabulary.tokenizer.get_vocab()
    assert vocabulary.tokenizer.get_vocab_size() == vocabulary.first_time
    assert [vocabulary.tokenizer.token_to_id(token) for token in tokenizer.CONTROL] == list(
        range(vocabulary.end, vocabulary.first_time)
    )
    assert vocabulary.size - vocabulary.first_time == 1501


def test_text_survives_the_tokenizer(vocabulary: tokenizer.Vocabulary) -> None:
    text = " Where is Anna's zebra? Näher, ♪ 42"
    assert vocabulary.tokenizer.decode(vocabulary.tokenizer.encode(text).ids) == text


def test_features_equal_those_of_faster_whisper() -> None:
    extractor = FeatureExtractor()
    rng = np.random.default_rng(5)
    samples = (0.1 * rng.standard_normal(48000)).astype(np.float32)
    # It reflects the samples at the ends, where silence stands here.
    expected = extractor(samples)[:, 3:-3]
    made = features.scaled(features.powers(samples)).T[:, 3:]
    np.testing.assert_allclose(made[:, : expected.shape[1]], expected, atol=1e-4)


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    stock = made_up_clips(5)
    clips.save(tmp_path / "000.npz", stock)
    for one, other in zip(stock, clips.load(tmp_path / "000.npz"), strict=True):
        assert one.text == other.text
        np.testing.assert_array_equal(one.power, other.power)
        np.testing.assert_array_equal(one.words, other.words)
        np.testing.assert_array_equal(one.phonemes, other.phonemes)


def made_up_clips(count: int) -> list[Clip]:
    """Clips of noise, with words of 20 frames each."""
    rng, numbers = random.Random(6), np.random.default_rng(6)
    stock = []
    for _ in range(count):
        text = sentences.sentence(rng, "train")
        size = len(text.split())
        times = np.array([(20 * i, 20 * i + 18) for i in range(size)], np.float32)
        power = numbers.uniform(-4, 1, (20 * size + 6, 80)).astype(np.float16)
        stock.append(Clip(text, power, times, np.ones(20 * size + 6, np.uint8)))
    return stock


def window(vocabulary: tokenizer.Vocabulary, seed: int, **shape: Any) -> Any:
    maker = windows.Maker(vocabulary, made_up_clips(20), f"window-{seed}")
    return maker.window(windows.Shape(**{"frames": 3000, "packed": 1.0, **shape}), 0)


@pytest.mark.parametrize("seed", range(8))
def test_words_are_heard_in_order_between_their_timestamps(vocabulary: tokenizer.Vocabulary, seed: int) -> None:
    _, script, labels = window(vocabulary, seed, prompted=0.0, timeless=0.0, silent=0.0)
    assert script.ids[0] == vocabulary.start
    assert script.ids[-1] == vocabulary.end
    previous = 0
    for token, (begin, end) in zip(script.ids, script.heard, strict=True):
        word = vocabulary.tokenizer.decode([token]).strip()
        if word.isalpha():
            assert previous <= begin < end
            assert set(labels[1][begin + 1 : end - 1]) == {clips.word_label(word)}
            previous = begin


def test_a_timestamp_may_miss_by_little_and_sums_to_one(vocabulary: tokenizer.Vocabulary) -> None:
    maker = windows.Maker(vocabulary, made_up_clips(20), "goals")
    batch = maker.batch(windows.Shape(frames=800, packed=1.0, prompted=0.0, timeless=0.0, silent=0.0), 2)
    times = batch.targets >= vocabulary.first_time
    assert times.any()
    for place in set(batch.where[times].tolist()):
        shares = batch.weights[batch.where == place]
        assert shares.sum().item() == pytest.approx(1.0)


def test_a_prompt_is_read_and_not_learned(vocabulary: tokenizer.Vocabulary) -> None:
    maker = windows.Maker(vocabulary, made_up_clips(20), "prompt")
    batch = maker.batch(windows.Shape(frames=3000, packed=1.0, prompted=1.0, silent=0.0), 2)
    for row in range(2):
        ids = batch.ids[row].tolist()
        begin = ids.index(vocabulary.start)
        assert ids[0] == vocabulary.previous
        assert 1 <= begin <= 224
        learned = [place - row * len(ids) for place in batch.where.tolist() if place // len(ids) == row]
        assert min(learned) >= begin


@needs_espeak
def test_espeak_says_every_word_at_its_time() -> None:
    text = "There are seven birds on the old bridge, and Maria has a fish."
    speech = espeak.speaker().say(text, espeak.Voice("en-us+f2", rate=150))
    assert [word.name for word in speech.words] == text.split()
    for before, after in zip(speech.words, speech.words[1:], strict=False):
        assert before.start < before.end <= after.start + 1e-3
    assert speech.words[-1].end <= len(speech.samples) / speech.rate
    loud = np.abs(speech.samples[: int(speech.words[-1].end * speech.rate)].astype(float)).mean()
    assert loud > 100


@needs_espeak
def test_an_unknown_voice_is_refused() -> None:
    with pytest.raises(ValueError, match="no voice"):
        espeak.speaker().say("Hello.", espeak.Voice("nobody"))


@needs_espeak
def test_a_clip_has_a_label_for_each_frame_and_ends_after_its_last_word() -> None:
    clip = clips.make("The red car.", espeak.Voice())
    assert len(clip.phonemes) == len(clip.power)
    assert len(clip.words) == 3
    assert 0 < len(clip.power) - clip.words[-1, 1] < 12


def test_the_recordings_of_the_tests_hold_no_other_words() -> None:
    known = {word.lower() for word in lexicon.vocabulary()}
    said = {word.strip(".,?").lower() for text in samples.TALK + samples.STORY for word in text.split()}
    assert said <= known
