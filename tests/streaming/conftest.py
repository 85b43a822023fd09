"""A recogniser that hears tones, each a word, and streams of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.vad import SpeechDetector
from fun_asr.errors import ConfigError
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.options import Task, TranscriptionOptions
from fun_asr.transcript import ModelInfo, Word
from tests.conftest import loudness_detector

HOP = SAMPLE_RATE // 100
NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight")
TONES = {name: 300 + 100 * number for number, name in enumerate(NAMES)}

Samples = npt.NDArray[np.float32]


def spoken(words: str, *, word: float = 0.3, gap: float = 0.1) -> Samples:
    """Tones of `word` seconds with `gap` seconds between them; a dot is half a second of silence."""
    parts = [np.zeros(round(0.5 * SAMPLE_RATE), np.float32)]
    for name in words.split():
        if name == ".":
            parts.append(np.zeros(SAMPLE_RATE // 2, np.float32))
            continue
        time = np.arange(round(word * SAMPLE_RATE)) / SAMPLE_RATE
        parts.append((0.3 * np.sin(2 * np.pi * TONES[name] * time)).astype(np.float32))
        parts.append(np.zeros(round(gap * SAMPLE_RATE), np.float32))
    return np.concatenate(parts)


class ToneRecogniser:
    """Writes the name of each tone; of one that the segment's end cuts off, its upper case."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []
        """Seconds of each segment, and the beam's width."""

    info = ModelInfo(family="tones", device="cpu", arithmetic={}, kernels={})
    languages: tuple[str, ...] = ("en", "de")
    tasks: tuple[Task, ...] = ("transcribe",)
    detects_languages = False
    segment_seconds = 30.0

    def prepare(self, options: TranscriptionOptions) -> None:
        if options.decoding == "ctc":
            raise ConfigError("tones have no CTC head")

    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        found = []
        for segment, language in zip(segments, languages, strict=True):
            self.asked.append((segment.span.seconds, options.beam_size))
            words = heard(segment)
            found.append(
                RecognisedSegment(
                    language=language or "en",
                    text=" ".join(word.text for word in words),
                    spoken=" ".join(word.text for word in words),
                    words=tuple(words),
                    word_times=True,
                )
            )
        return found


def heard(segment: AudioSegment) -> list[Word]:
    samples = segment.samples
    hops = len(samples) // HOP
    loud = np.abs(samples[: hops * HOP]).reshape(hops, HOP).max(axis=1) > 0.05
    edges = np.flatnonzero(np.diff(loud, prepend=False, append=False)).reshape(-1, 2)
    words = []
    for start, end in edges.tolist():
        tone = samples[start * HOP : end * HOP]
        rate = int(np.abs(np.fft.rfft(tone)).argmax()) * SAMPLE_RATE / len(tone)
        name = min(TONES, key=lambda word: abs(TONES[word] - rate))
        first = segment.span.start / SAMPLE_RATE
        cut = end == hops and end - start < 28
        words.append(
            Word(
                text=name.upper() if cut else name,
                start=first + start * HOP / SAMPLE_RATE,
                end=first + end * HOP / SAMPLE_RATE,
                confidence=0.9,
            )
        )
    return words


@pytest.fixture(scope="session")
def detector() -> SpeechDetector:
    found = SpeechDetector()
    found.load_state_dict(loudness_detector())
    return found.eval()
