"""A recording on its way to a transcript: segments finish in any order, the transcript has them in theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.report import AudioReport, Loss
from fun_asr.audio.segment import Span
from fun_asr.errors import AudioDecodeError
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.transcript import Cut, Lost, ModelInfo, Result, Segment, Transcript, TranscriptionFailure

__all__ = ["RecordingState"]


@dataclass(frozen=True)
class _Finished:
    """A segment without its samples, and what was recognised of it."""

    span: Span
    channel: int | None
    track: int | None
    found: RecognisedSegment

    @property
    def order(self) -> tuple[int, int, int]:
        return self.span.start, self.track or 0, self.channel or 0


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
    report: AudioReport = field(default_factory=AudioReport)
    """What was found while it was decoded."""
    finished: list[_Finished] = field(default_factory=list)
    """In the order in which they finished."""

    def add(self, segment: AudioSegment, found: RecognisedSegment) -> None:
        """Take up what was recognised of a segment."""
        if self.language_evidence is None:
            self.language_evidence = found.language_evidence
        self.finished.append(_Finished(segment.span, segment.channel, segment.track, found))

    def result(self, model: ModelInfo) -> Result | None:
        """What came of the recording; None before it is finished.

        Arguments:
            model: what recognised it.
        """
        if not self.ended or (self.pending and self.error is None):
            return None
        if self.error is not None:
            return TranscriptionFailure(path=self.path or self.error.path, error=self.error)
        ordered = sorted(self.finished, key=lambda done: done.order)
        language, probability = self._main_language(ordered)
        segments = tuple(
            Segment(
                start=done.span.start / SAMPLE_RATE,
                end=done.span.end / SAMPLE_RATE,
                text=done.found.text,
                language=done.found.language or language,
                language_probability=done.found.language_probability if done.found.language else probability,
                score=done.found.score,
                words=done.found.words,
                spoken=done.found.spoken,
                channel=done.channel,
                track=done.track,
                tags=done.found.tags,
            )
            for done in ordered
        )
        return Transcript(
            path=self.path,
            duration=self.samples / SAMPLE_RATE,
            language=language,
            language_probability=probability,
            segments=segments,
            word_times=any(done.found.word_times for done in ordered),
            cut=Cut(
                silent_segments=sum(not done.found.spoken for done in ordered),
                loops=sum(done.found.looped for done in ordered),
                words=sum(done.found.cut_words for done in ordered),
            ),
            lost=tuple(_lost(loss) for loss in self.report.lost),
            warnings=tuple(self.report.lines()),
            model=model,
        )

    def _main_language(self, ordered: Sequence[_Finished]) -> tuple[str | None, float | None]:
        """The language of most speech, the first of several, and its probability where it comes first."""
        if self.language is not None:
            return self.language, None
        spoken: Counter[str] = Counter()
        probabilities: dict[str, float | None] = {}
        for done in ordered:
            if done.found.language is not None:
                spoken[done.found.language] += len(done.span)
                probabilities.setdefault(done.found.language, done.found.language_probability)
        if not spoken:
            return None, None
        ((language, _),) = spoken.most_common(1)
        return language, probabilities[language]


def _lost(loss: Loss) -> Lost:
    start, duration = loss.seconds
    return Lost(start=start, duration=duration, cause=loss.cause)
