"""The speech model in training equals the Whisper that engines load, and its parts compute what they claim."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from ctranslate2.converters import TransformersConverter
from faster_whisper import WhisperModel

from tools.training.optimizer import Muon, orthogonal
from tools.training.speech import evaluate, examination, export, tokenizer, train
from tools.training.speech.model import SpeechConfig, SpeechModel, listen_around, sinusoids


@pytest.fixture(scope="module")
def vocabulary() -> tokenizer.Vocabulary:
    return tokenizer.Vocabulary(tokenizer.train())


@pytest.fixture(scope="module")
def model(vocabulary: tokenizer.Vocabulary) -> SpeechModel:
    torch.manual_seed(1)
    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_heads": 2, "decoder_layers": 2, "decoder_heads": 2, "ffn": 64}
    model = SpeechModel(SpeechConfig(vocab_size=vocabulary.size, **sizes))
    for parameter in model.parameters():
        # Norms and biases start at one and zero, which would hide a lost one.
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def exported(model: SpeechModel, vocabulary: tokenizer.Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech")
    export.as_transformers(model, vocabulary, path)
    return path


def test_transformers_computes_what_was_trained(model: SpeechModel, exported: Path) -> None:
    whisper = transformers.WhisperForConditionalGeneration.from_pretrained(exported).eval()
    generator = torch.Generator().manual_seed(2)
    mel = torch.randn(1, 80, 3000, generator=generator)
    ids = torch.randint(0, model.config.vocab_size, (1, 12), generator=generator)
    with torch.inference_mode():
        expected = model.decoder(ids, model.encoder(mel, 0)[0])[0]
        computed = whisper(input_features=mel, decoder_input_ids=ids).logits
    torch.testing.assert_close(computed, expected, rtol=1e-3, atol=1e-3)


def test_what_generation_needs_survives_the_file(exported: Path, vocabulary: tokenizer.Vocabulary) -> None:
    loaded = transformers.WhisperForConditionalGeneration.from_pretrained(exported).generation_config
    assert loaded.alignment_heads == [[1, 0]]
    assert loaded.lang_to_id == {}
    assert loaded.no_timestamps_token_id == vocabulary.no_times


def test_faster_whisper_loads_the_conversion(exported: Path, vocabulary: tokenizer.Vocabulary, tmp_path: Path) -> None:
    TransformersConverter(str(exported), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(
        str(tmp_path / "converted"), quantization="int8"
    )
    loaded = WhisperModel(str(tmp_path / "converted"), device="cpu", compute_type="int8", cpu_threads=1)
    assert not loaded.model.is_multilingual
    assert loaded.hf_tokenizer.token_to_id("<|notimestamps|>") == vocabulary.no_times
    list(loaded.transcribe(np.zeros(16000, np.float32), beam_size=1, temperature=0.0, max_new_tokens=4)[0])


def test_a_short_window_is_a_part_of_the_long_one(model: SpeechModel) -> None:
    """Its positions are those of where it stands, and the stem reads no more than it is given."""
    mel = torch.randn(1, 80, 200, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        here, there = model.encoder(mel, 0)[0], model.encoder(mel, 700)[0]
        again = model.encoder(mel, 700)[0]
    torch.testing.assert_close(there, again)
    assert (here - there).abs().max() > 1e-3


def test_an_untrained_encoder_listens_around() -> None:
    size, heads = 192, 3
    query, key = torch.nn.Linear(size, size, bias=False), torch.nn.Linear(size, size, bias=False)
    for weight in (query.weight, key.weight):
        torch.nn.init.zeros_(weight)
    listen_around(query, key, 1, heads, shift=6, first=0)
    positions = sinusoids(1500, size)
    with torch.inference_mode():
        scores = (query(positions) @ key(positions).T)[100:1400]
    assert (scores.argmax(-1) - torch.arange(100, 1400)).unique().tolist() == [6]


def test_muon_makes_updates_of_one_size_in_every_direction() -> None:
    torch.manual_seed(4)
    matrices = torch.randn(3, 64, 24) @ torch.diag(torch.logspace(0, -1, 24))
    for values in torch.linalg.svdvals(orthogonal(matrices)):
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_muon_takes_up_where_it_was_stopped() -> None:
    def run(stop: bool) -> torch.Tensor:
        torch.manual_seed(5)
        weight = torch.randn(8, 8, requires_grad=True)
        optimizer = Muon([weight])
        for step in range(6):
            if stop and step == 3:
                state = optimizer.state_dict()
                optimizer = Muon([weight])
                optimizer.load_state_dict(state)
            (weight.sin() * weight).sum().backward()
            optimizer.step(0.02)
        return weight.detach()

    torch.testing.assert_close(run(stop=False), run(stop=True))


def test_the_rate_rises_stays_and_falls() -> None:
    plan = train.Plan(Path(), Path())
    rates = [train.rate(share / 100, plan) for share in range(101)]
    assert rates[0] < 0.2
    assert rates[10] == rates[50] == 1.0
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert 0 < rates[100] < 0.05


def test_windows_grow_to_their_full_length() -> None:
    rng = random.Random(6)
    early = {train.shape(0.05, rng)[0].frames for _ in range(50)}
    late = [train.shape(0.95, rng)[0].frames for _ in range(200)]
    assert 3000 not in early
    assert late.count(3000) > 100


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [("a b c", "a b c", 0), ("a b c", "a c", 1), ("a b", "a x b", 1), ("a b", "", 2), ("", "a", 1), ("a b", "b a", 2)],
)
def test_word_errors_are_counted(said: str, heard: str, errors: int) -> None:
    assert evaluate.distance(said.split(), heard.split()) == errors


def test_case_and_punctuation_are_no_errors() -> None:
    assert evaluate.plain(" The red, horse. Where?") == ["the", "red", "horse", "where"]


def test_sounds_without_words_repeat() -> None:
    first, second = (list(examination.wordless(7, 5)) for _ in range(2))
    for (kind, samples), (other, again) in zip(first, second, strict=True):
        assert kind == other
        np.testing.assert_array_equal(samples, again)
