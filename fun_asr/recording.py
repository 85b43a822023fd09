"""A recording on its way to a transcript: segments finish in any order, the transcript has them in theirs."""

from __future__ import annotations

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
    """Code; None until it is given or detected."""
    language_probability: float | None = None
    samples: int = 0
    pending: int = 0
    """Segments that wait in the pool."""
    ended: bool = False
    error: AudioDecodeError | None = None
    finished: list[tuple[Span, RecognisedSegment]] = field(default_factory=list)
    """In the order in which they finished."""

    def add(self, span: Span, found: RecognisedSegment) -> None:
        """Take up what was recognised of a segment; the recording's language is the first one found."""
        if self.language is None and found.language is not None:
            self.language, self.language_probability = found.language, found.language_probability
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
        segments = tuple(
            Segment(
                start=span.start / SAMPLE_RATE,
                end=span.end / SAMPLE_RATE,
                text=found.text,
                language=self.language,
                language_probability=self.language_probability,
                score=found.score,
                words=found.words,
                spoken=found.spoken,
            )
            for span, found in ordered
        )
        return Transcript(
            path=self.path,
            duration=self.samples / SAMPLE_RATE,
            language=self.language,
            language_probability=self.language_probability,
            segments=segments,
            word_times=any(found.word_times for _, found in ordered),
            cut=Cut(
                silent_segments=sum(not found.spoken for _, found in ordered),
                loops=sum(found.looped for _, found in ordered),
                words=sum(found.cut_words for _, found in ordered),
            ),
            model=model,
        )
