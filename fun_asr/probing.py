"""What a model can be asked beside a transcript: which language is spoken, and when the words of a text are said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from fun_asr.audio.arrays import checked_samples, resampled
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.load import decode_audio
from fun_asr.audio.prefetch import AudioSegment, cut_stream
from fun_asr.audio.segment import Span
from fun_asr.audio.spool import Source, is_source
from fun_asr.audio.vad import SpeechDetector
from fun_asr.decoding.guard import is_silent
from fun_asr.decoding.spoken_language import likeliest_language
from fun_asr.errors import ConfigError
from fun_asr.models.protocol import LanguageDetector, SegmentRecogniser, TextAligner
from fun_asr.transcript import Word

__all__ = ["Audio", "DetectedLanguage", "align_text", "detect_language", "samples_of"]

Audio = Source | npt.NDArray[np.floating] | npt.NDArray[np.int16]
"""A recording, or mono samples `[samples]`."""


@dataclass(frozen=True, kw_only=True)
class DetectedLanguage:
    """The language that a model hears."""

    code: str
    probability: float
    """In [0, 1], of `code`."""
    probabilities: Mapping[str, float]
    """Of each language that was looked for, by code, most likely first; their sum is 1."""


def samples_of(audio: Audio, sampling_rate: int) -> npt.NDArray[np.float32]:
    """Mono samples at 16 kHz.

    Arguments:
        audio: a recording, or samples.
        sampling_rate: of samples, Hz.

    Raises:
        AudioDecodeError: when the recording cannot be read.
        ConfigError: when the samples are none.
    """
    if is_source(audio):
        return decode_audio(cast(Source, audio))
    return resampled(checked_samples(audio), sampling_rate)  # type: ignore[arg-type]


def detect_language(
    recogniser: SegmentRecogniser,
    detector: SpeechDetector | None,
    samples: npt.NDArray[np.float32],
    among: Sequence[str] = (),
) -> DetectedLanguage | None:
    """The language of the first segment in which somebody speaks; None where nobody does.

    Arguments:
        recogniser: the model.
        detector: finds speech; None takes everything for it that is not silent.
        samples: mono at 16 kHz `[samples]`.
        among: codes of the languages that are looked for; none for all.

    Raises:
        ConfigError: when the model does not tell languages.
    """
    if not (recogniser.detects_languages and isinstance(recogniser, LanguageDetector)):
        raise ConfigError("this model does not tell languages by themselves")
    for segment in cut_stream(0, [samples], recogniser.segment_seconds, detector):
        if segment.speech and not is_silent(segment.samples):
            (found,) = recogniser.language_probabilities([segment])
            looked_for = {code: p for code, p in found.items() if not among or code in among}
            total = sum(looked_for.values())
            probabilities = {code: p / total if total else 0.0 for code, p in looked_for.items()}
            code, probability = likeliest_language(probabilities)
            return DetectedLanguage(code=code, probability=probability, probabilities=probabilities)
    return None


def align_text(
    recogniser: SegmentRecogniser, text: str, samples: npt.NDArray[np.float32], language: str
) -> tuple[Word, ...]:
    """The words of a text in their places in a recording.

    Arguments:
        recogniser: the model.
        text: what is said.
        samples: mono at 16 kHz `[samples]`, no longer than a segment of the model.
        language: code of the text's.

    Raises:
        ConfigError: when the model cannot, the recording is too long or empty.
    """
    if not isinstance(recogniser, TextAligner):
        raise ConfigError("this model does not find the times of a given text")
    seconds = len(samples) / SAMPLE_RATE
    if not 0 < seconds <= recogniser.segment_seconds:
        raise ConfigError(
            f"a text is aligned with up to {recogniser.segment_seconds:g} s of sound, got {seconds:.1f}; "
            "cut the recording (fun_asr.audio.excerpt.Excerpt) and give each part its text"
        )
    if not text.split():
        return ()
    return recogniser.align(AudioSegment(0, Span(0, len(samples)), samples), text, language)
