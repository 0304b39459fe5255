"""faster-whisper's model, mended where it is wrong and interrupted between windows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES
from faster_whisper.transcribe import Segment, restore_speech_timestamps
from numpy.typing import NDArray

from ark.engines.transcription import TranscriptionInfo, TranscriptionJob, TranscriptionSegment, Word
from ark_backends.kit.text import valid_text
from ark_backends.whisper.features import Prepared
from ark_backends.whisper.options import VadConfig, WhisperOptions
from ark_backends.whisper.protocol import SAMPLE_RATE
from ark_backends.whisper.recording import Recording, Stretch

LADDER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures, each tried where the one before came out badly."""

CONTROLS = ("<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>", "<|notimestamps|>")

PROMPT_LENGTH = 16 * 1024
"""Characters of a prompt of which its last tokens are taken: more than 223 tokens ever are in real text."""


class Recogniser(WhisperModel):  # type: ignore[misc]
    """A Whisper model. Used by many threads at once, each with a `view` of its own."""

    check: Callable[[], None] = staticmethod(lambda: None)
    """Called before each window."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.hf_tokenizer.no_truncation()
        self.hf_tokenizer.no_padding()
        # What a prompt says is text, whatever it looks like.
        self.hf_tokenizer.encode_special_tokens = True

    def view(self, check: Callable[[], None]) -> Recogniser:
        """The same model, which calls `check` before each window."""
        view = copy.copy(self)
        view.check = check
        return view

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it has tokens for."""
        if not self.model.is_multilingual:
            return ("en",)
        return tuple(code for code in _LANGUAGE_CODES if self.hf_tokenizer.token_to_id(f"<|{code}|>") is not None)

    def missing_tokens(self) -> list[str]:
        """Control tokens that its tokenizer lacks: without one of them faster-whisper fails in the middle of a job."""
        return [name for name in CONTROLS if self.hf_tokenizer.token_to_id(name) is None]

    def unload(self) -> None:
        """Free the weights."""
        self.model.unload_model()

    def encode(self, features: NDArray[numpy.float32]) -> Any:
        """The encoder on one window, (mels, frames), or on several; the first thing done with each."""
        self.check()
        return super().encode(features)

    def _split_segments_by_timestamps(
        self, tokenizer: Any, tokens: list[int], time_offset: float, *rest: Any, **more: Any
    ) -> Any:
        """A window's segments, where to go on, and whether nothing is said behind the last of them.

        faster-whisper, as Whisper itself, takes the beginning of the window for the start of a segment that is alone
        in it, although the model has said when it starts.
        """
        segments, seek, ending = super()._split_segments_by_timestamps(tokenizer, tokens, time_offset, *rest, **more)
        if len(segments) == 1 and tokens and tokens[0] > tokenizer.timestamp_begin:
            start = time_offset + (tokens[0] - tokenizer.timestamp_begin) * self.time_precision
            if start < segments[0]["end"]:
                segments[0]["start"] = start
        return segments, seek, ending


def transcribe(
    model: Recogniser, job: TranscriptionJob, recording: Recording, options: WhisperOptions
) -> tuple[TranscriptionInfo, Iterator[TranscriptionSegment]]:
    """What is spoken in a recording; segments are computed as they are read. `model` is a view for this job alone."""
    given: dict[str, Any] = {
        "language": job.language,
        "task": job.task,
        "initial_prompt": _prompt(job.prompt),
        "temperature": LADDER if job.temperature is None else (job.temperature,),
        "word_timestamps": job.words,
        "beam_size": options.beam_size,
        "max_new_tokens": options.max_new_tokens,
    }
    if recording.features is None:
        if isinstance(options.vad, VadConfig):
            vad = options.vad
            given["vad_parameters"] = {name: getattr(vad, name) for name in vad.__struct_fields__}
        found, info = _together(model, recording.stretches, batch_size=options.batch, **given)
    else:
        model.feature_extractor = Prepared(model.feature_extractor, recording.features)
        found, info = model.transcribe(
            numpy.empty(0, numpy.float32),
            condition_on_previous_text=options.condition_on_previous_text,
            max_initial_timestamp=options.max_initial_timestamp,
            **given,
        )
    if recording.speech:
        found = restore_speech_timestamps(found, [vars(speech) for speech in recording.speech], SAMPLE_RATE)
    duration = recording.duration
    return TranscriptionInfo(language=info.language, duration=duration), _segments(found, duration)


def _together(model: Recogniser, stretches: Sequence[Stretch], **given: Any) -> tuple[Iterator[Segment], Any]:
    """Windows of each stretch, so many at once; what is known of the first one holds for all."""

    def of(stretch: Stretch) -> tuple[Iterable[Segment], Any]:
        pipeline = BatchedInferencePipeline(model)
        # It takes something out of the table of the detector.
        more = given | {"vad_parameters": dict(given["vad_parameters"])} if "vad_parameters" in given else given
        return pipeline.transcribe(stretch.read(), vad_filter=True, without_timestamps=False, **more)  # type: ignore[no-any-return]

    def following(first: Iterable[Segment]) -> Iterator[Segment]:
        yield from first
        for stretch in stretches[1:]:
            seconds = stretch.start / SAMPLE_RATE
            for segment in of(stretch)[0]:
                words = segment.words and [
                    replace(word, start=word.start + seconds, end=word.end + seconds) for word in segment.words
                ]
                yield replace(
                    segment,
                    start=segment.start + seconds,
                    end=segment.end + seconds,
                    seek=segment.seek + int(seconds * 100),
                    words=words,
                )

    first, info = of(stretches[0])
    given["language"] = info.language
    return following(first), info


def _segments(found: Iterable[Segment], duration: float) -> Iterator[TranscriptionSegment]:
    count = 0
    for segment in found:
        # Batched, faster-whisper hands out windows in which nothing was said as well.
        if not segment.text.strip():
            continue
        # Windows are filled up to 30 s, and a model may hear something in what is not there.
        start = min(float(segment.start), duration)
        yield TranscriptionSegment(
            id=count,
            seek=int(segment.seek),
            start=start,
            end=min(max(float(segment.end), start), duration),
            text=segment.text,
            tokens=[int(token) for token in segment.tokens],
            temperature=float(segment.temperature or 0.0),
            avg_logprob=float(segment.avg_logprob),
            compression_ratio=float(segment.compression_ratio),
            no_speech_prob=float(segment.no_speech_prob),
            words=tuple(_word(word, duration) for word in segment.words or ()),
        )
        count += 1


def _word(word: Any, duration: float) -> Word:
    start = min(float(word.start), duration)
    return Word(word=word.word.strip(), start=start, end=min(max(float(word.end), start), duration))


def _prompt(text: str) -> str | None:
    return valid_text(text[-PROMPT_LENGTH:].strip()) or None
