"""What a family of models offers to whoever transcribes recordings: segments in, what was said in them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from fun_asr.audio.prefetch import AudioSegment
from fun_asr.options import Task, TranscriptionOptions
from fun_asr.transcript import ModelInfo, Word

__all__ = [
    "LanguageDetector",
    "QueueingRecogniser",
    "RecognisedSegment",
    "SegmentQueue",
    "SegmentRecogniser",
    "TextAligner",
]


@dataclass(frozen=True, kw_only=True)
class RecognisedSegment:
    """What was recognised of one segment."""

    language: str | None = None
    """Code, given or detected; None where it was neither."""
    language_probability: float | None = None
    """None where the language was given or not detected."""
    language_evidence: Mapping[str, float] | None = None
    """What this segment alone says of its language: the probability of each; None where none was detected."""
    text: str = ""
    """As it is written; empty where nobody speaks."""
    spoken: str = ""
    """The same before punctuation and inverse text normalization."""
    score: float | None = None
    """Mean log-probability of the hypothesis; None without text."""
    words: tuple[Word, ...] = ()
    """Their times count from the start of the recording."""
    word_times: bool = False
    """Whether its words have times."""
    looped: bool = False
    """Whether the decoder got caught in a loop."""
    cut_words: int = 0
    """Words left out because CTC does not hear them."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What else the model says of it, such as the speaker's emotion, by the name of the question."""


class SegmentRecogniser(Protocol):
    """A loaded model; it keeps nothing of the segments."""

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it computes with on this machine."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it knows."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can write of them."""

    @property
    def detects_languages(self) -> bool:
        """Whether it finds out the language of a segment that comes without one, where its decoder is asked."""

    @property
    def segment_seconds(self) -> float:
        """The longest segment that it takes."""

    def prepare(self, options: TranscriptionOptions) -> None:
        """Find out before the first segment whether the options can be used with this model.

        The language and the task are checked where the options come from: `languages` and `tasks` say what there is.

        Raises:
            ConfigError: when one cannot.
        """

    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        """Recognise segments, at least one, each with samples and none longer than `segment_seconds`.

        Arguments:
            segments: what to recognise.
            languages: the code of each; None detects it where the model can.
            options: how; their language does not count.
            priors: what is known of the language of each before it is heard: the probability of each language in
                another segment of its recording; None where nothing is.

        Returns:
            what was recognised of each segment, in their order.
        """


class SegmentQueue(Protocol):
    """The place that one user of a recogniser has among others."""

    def submit(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        priors: Sequence[Mapping[str, float] | None],
    ) -> None:
        """Put segments behind those that wait.

        Arguments:
            segments, languages, priors: as for `SegmentRecogniser.recognise`.
        """

    def take(self) -> list[tuple[AudioSegment, RecognisedSegment]]:
        """What has been recognised since the last time, in any order; waits until that is at least one segment."""


@runtime_checkable
class QueueingRecogniser(Protocol):
    """A recogniser that makes its batches itself, of the segments of all who use it."""

    def queue(self, options: TranscriptionOptions) -> AbstractContextManager[SegmentQueue]:
        """A place for segments, given up at the end of the block.

        Arguments:
            options: how they are recognised.
        """


@runtime_checkable
class LanguageDetector(Protocol):
    """A recogniser that can be asked for languages alone."""

    def language_probabilities(self, segments: Sequence[AudioSegment]) -> list[dict[str, float]]:
        """The probability of each language for each segment, at least one, by code, most likely first."""


@runtime_checkable
class TextAligner(Protocol):
    """A recogniser that finds when the words of a given text are said."""

    def align(self, segment: AudioSegment, text: str, language: str) -> tuple[Word, ...]:
        """The words of a text in their places, characters where the language puts no spaces.

        Arguments:
            segment: in which the text is said, with samples and no longer than `segment_seconds`.
            text: at least one word.
            language: its code.
        """
