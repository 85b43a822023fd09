"""A recording on its way to a transcript: segments finish in any order, the transcript has them in theirs."""

from __future__ import annotations

from dataclasses import dataclass, field

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.segment import Span
from fun_asr.errors import AudioDecodeError
from fun_asr.transcript import Cut, Segment, Transcript, TranscriptionFailure, Word

__all__ = ["FinishedSegment", "RecordingState"]


@dataclass(frozen=True)
class FinishedSegment:
    """A segment that has been recognised, or that has no speech."""

    span: Span
    text: str = ""
    spoken: str = ""
    score: float | None = None
    words: tuple[Word, ...] = ()


@dataclass
class RecordingState:
    """What is known of a recording that is being transcribed."""

    path: str | None
    language: str | None
    language_probability: float | None = None
    samples: int = 0
    pending: int = 0
    """Segments that wait in the pool."""
    ended: bool = False
    error: AudioDecodeError | None = None
    word_times: bool = False
    """Whether words have times."""
    silent_segments: int = 0
    loops: int = 0
    cut_words: int = 0
    finished: list[FinishedSegment] = field(default_factory=list)
    """In the order in which they finished."""

    def result(self) -> Transcript | TranscriptionFailure | None:
        """What came of the recording; None before it is finished."""
        if not self.ended or (self.pending and self.error is None):
            return None
        if self.error is not None:
            return TranscriptionFailure(path=self.path or self.error.path, error=self.error)
        segments = tuple(
            Segment(
                start=done.span.start / SAMPLE_RATE,
                end=done.span.end / SAMPLE_RATE,
                text=done.text,
                language=self.language,
                language_probability=self.language_probability,
                score=done.score,
                words=done.words,
                spoken=done.spoken,
            )
            for done in sorted(self.finished, key=lambda done: done.span.start)
        )
        return Transcript(
            path=self.path,
            duration=self.samples / SAMPLE_RATE,
            language=self.language,
            language_probability=self.language_probability,
            segments=segments,
            word_times=self.word_times,
            cut=Cut(silent_segments=self.silent_segments, loops=self.loops, words=self.cut_words),
        )
