"""A recording on its way to a transcript: segments finish in any order, the transcript has them in theirs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.report import AudioReport, Loss
from fun_asr.audio.segment import Span
from fun_asr.clips import moved
from fun_asr.errors import AudioDecodeError
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.transcript import Cut, Lost, ModelInfo, Result, Segment, Transcript, TranscriptionFailure
from fun_asr.transcript.sentences import sentences

__all__ = ["RecordingState"]


_Order = tuple[int, int, int]


@dataclass(frozen=True)
class _Finished:
    """A segment without its samples, and what was recognised of it."""

    span: Span
    channel: int | None
    track: int | None
    pauses: tuple[tuple[int, int], ...]
    found: RecognisedSegment

    @property
    def order(self) -> _Order:
        return self.span.start, self.track or 0, self.channel or 0

    def segment(self, language: str | None, probability: float | None) -> Segment:
        """It as a block of the transcript; language and probability are those where nothing was said."""
        return Segment(
            start=self.span.start / SAMPLE_RATE,
            end=self.span.end / SAMPLE_RATE,
            text=self.found.text,
            language=self.found.language or language,
            language_probability=self.found.language_probability if self.found.language else probability,
            score=self.found.score,
            words=self.found.words,
            spoken=self.found.spoken,
            channel=self.channel,
            track=self.track,
            tags=self.found.tags,
            pauses=tuple((start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in self.pauses),
        )


@dataclass
class RecordingState:
    """What is known of a recording that is being transcribed; the one owner of its language and counts."""

    path: str | None
    language: str | None
    """Code; None where it is detected."""
    offset: float = 0.0
    """Seconds into the file at which it begins, where it is a part of one."""
    start: float = 0.0
    """Seconds of the transcript at which it begins, where that has several parts of a recording."""
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
    expected: deque[_Order] = field(default_factory=deque)
    """The segments that have been read, in that order, without those that `fresh` has given out."""
    unsaid: dict[_Order, _Finished] = field(default_factory=dict)
    """Those of them that are finished."""

    def expect(self, segment: AudioSegment) -> None:
        """Take up that a segment has been read."""
        self.samples = max(self.samples, segment.span.end)
        self.expected.append((segment.span.start, segment.track or 0, segment.channel or 0))

    def fresh(self) -> list[Segment]:
        """The sentences that are known now and were not before, in the order in which they were read.

        A language that is not yet known is None.
        """
        found: list[Segment] = []
        while self.expected and self.expected[0] in self.unsaid:
            found += self._sentences(self.unsaid.pop(self.expected.popleft()).segment(self.language, None))
        return found

    def _sentences(self, chunk: Segment) -> list[Segment]:
        return [moved(sentence, self.start) for sentence in sentences(chunk)]

    def add(self, segment: AudioSegment, found: RecognisedSegment) -> None:
        """Take up what was recognised of a segment."""
        if self.language_evidence is None:
            self.language_evidence = found.language_evidence
        done = _Finished(segment.span, segment.channel, segment.track, segment.pauses, found)
        self.finished.append(done)
        self.unsaid[done.order] = done

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
        chunks = tuple(done.segment(language, probability) for done in ordered)
        segments = [sentence for chunk in chunks for sentence in self._sentences(chunk)]
        return Transcript(
            path=self.path,
            offset=self.offset,
            duration=self.start + self.samples / SAMPLE_RATE,
            language=language,
            language_probability=probability,
            segments=tuple(sorted(segments, key=lambda segment: segment.start)),
            chunks=tuple(moved(chunk, self.start) for chunk in chunks),
            word_times=any(done.found.word_times for done in ordered),
            cut=Cut(
                silent_segments=sum(not done.found.spoken for done in ordered),
                loops=sum(done.found.looped for done in ordered),
                words=sum(done.found.cut_words for done in ordered),
            ),
            lost=tuple(_lost(loss, self.start) for loss in self.report.lost),
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


def _lost(loss: Loss, moved_by: float) -> Lost:
    start, duration = loss.seconds
    return Lost(start=moved_by + start, duration=duration, cause=loss.cause)
