"""A recording on its way to a transcript: segments finish in any order, the transcript has them in theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.segment import Span
from fun_asr.errors import AudioDecodeError
from fun_asr.recogniser import RecognisedSegment
from fun_asr.transcript import Cut, ModelInfo, Result, Segment, Transcript, TranscriptionFailure

__all__ = ["RecordingState"]


@dataclass
class RecordingState:
    """What is known of a recording that is being transcribed; the one owner of its language and counts."""

    path: str | None
    language: str | None
    """Code; None where it is detected."""
    language_evidence: Mapping[str, float] | None = None
    """What the first segment whose language was detected says of it: the prior of the others."""
    samples: int = 0
    pending: int = 0
    """Segments that wait in the pool."""
    ended: bool = False
    error: AudioDecodeError | None = None
    finished: list[tuple[Span, RecognisedSegment]] = field(default_factory=list)
    """In the order in which they finished."""

    def add(self, span: Span, found: RecognisedSegment) -> None:
        """Take up what was recognised of a segment."""
        if self.language_evidence is None:
            self.language_evidence = found.language_evidence
        self.finished.append((span, found))

    def result(self, model: ModelInfo) -> Result | None:
        """What came of the recording; None before it is finished.

        Arguments:
            model: what recognised it.
        """
        if not self.ended or (self.pending and self.error is None):
            return None
        if self.error is not None:
            return TranscriptionFailure(path=self.path or self.error.path, error=self.error)
        ordered = sorted(self.finished, key=lambda done: done[0].start)
        language, probability = self._main_language(ordered)
        segments = tuple(
            Segment(
                start=span.start / SAMPLE_RATE,
                end=span.end / SAMPLE_RATE,
                text=found.text,
                language=found.language or language,
                language_probability=found.language_probability if found.language else probability,
                score=found.score,
                words=found.words,
                spoken=found.spoken,
            )
            for span, found in ordered
        )
        return Transcript(
            path=self.path,
            duration=self.samples / SAMPLE_RATE,
            language=language,
            language_probability=probability,
            segments=segments,
            word_times=any(found.word_times for _, found in ordered),
            cut=Cut(
                silent_segments=sum(not found.spoken for _, found in ordered),
                loops=sum(found.looped for _, found in ordered),
                words=sum(found.cut_words for _, found in ordered),
            ),
            model=model,
        )

    def _main_language(self, ordered: Sequence[tuple[Span, RecognisedSegment]]) -> tuple[str | None, float | None]:
        """The language of most speech, the first of several, and its probability where it comes first."""
        if self.language is not None:
            return self.language, None
        spoken: Counter[str] = Counter()
        probabilities: dict[str, float | None] = {}
        for span, found in ordered:
            if found.language is not None:
                spoken[found.language] += len(span)
                probabilities.setdefault(found.language, found.language_probability)
        if not spoken:
            return None, None
        ((language, _),) = spoken.most_common(1)
        return language, probabilities[language]
