"""The way of segments through a queue that others share: all that may be recognised is in it, nothing comes twice."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.options import TranscriptionOptions
from fun_asr.recognition import recognition
from fun_asr.recording import RecordingState
from tests.streaming.conftest import ToneRecogniser

OPTIONS = TranscriptionOptions(batch_size=2)


class OneByOne(ToneRecogniser):
    """A queue that gives back the last segment that came, and hears German."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[AudioSegment] = []
        self.priors: list[Mapping[str, float] | None] = []

    @contextmanager
    def queue(self, options: TranscriptionOptions) -> Iterator["OneByOne"]:
        yield self

    def submit(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        priors: Sequence[Mapping[str, float] | None],
    ) -> None:
        self.waiting += segments
        self.priors += priors

    def take(self) -> list[tuple[AudioSegment, RecognisedSegment]]:
        return [(self.waiting.pop(), RecognisedSegment(language_evidence={"de": 1.0}))]


def segment(recording: int, start: int) -> AudioSegment:
    return AudioSegment(recording, Span(start * SAMPLE_RATE, (start + 20) * SAMPLE_RATE), np.zeros(0, np.float32))


def test_everything_waits_in_the_queue_at_once() -> None:
    model = OneByOne()
    segments = [segment(recording, start) for recording in (0, 1) for start in (0, 20)]
    states = {number: RecordingState(None, "en") for number in (0, 1)}
    with recognition(model, OPTIONS) as pool:
        for one in segments:
            pool.add(one)
        found = pool.recognised(states, frozenset())
        assert [one for one, _ in found] == segments[-1:]
        assert (model.waiting, len(pool)) == (segments[:3], 3)
        while pool:
            found += pool.recognised(states, frozenset())
    assert sorted(id(one) for one, _ in found) == sorted(map(id, segments))


def test_a_language_is_found_out_before_the_rest_of_its_recording_is_recognised() -> None:
    model = OneByOne()
    states = {0: RecordingState(None, None), 1: RecordingState(None, "en")}
    with recognition(model, OPTIONS) as pool:
        for one in (segment(0, 0), segment(0, 20), segment(1, 0)):
            pool.add(one)
        assert [one.recording for one, _ in pool.recognised(states, {0})] == [1]
        assert model.priors == [None, None]
        pool.add(segment(0, 40))
        ((first, found),) = pool.recognised(states, {0})
        assert (first.recording, first.span.start) == (0, 0)
        states[0].add(first, found)
        pool.recognised(states, frozenset())
    assert model.priors == [None, None, {"de": 1.0}, {"de": 1.0}]


def test_a_recording_that_is_over_gives_nothing_more() -> None:
    model = OneByOne()
    states = {0: RecordingState(None, "en"), 1: RecordingState(None, "en")}
    with recognition(model, OPTIONS) as pool:
        for one in (segment(0, 0), segment(1, 0), segment(1, 20)):
            pool.add(one)
        pool.recognised(states, frozenset())
        pool.drop(1)
        del states[1]
        assert [one.recording for one, _ in pool.recognised(states, frozenset())] == [0]
        assert not pool


def test_what_waits_is_bounded_in_the_queue_too() -> None:
    model = OneByOne()
    states = {0: RecordingState(None, "en")}
    with recognition(model, OPTIONS) as pool:
        for start in range(0, 620, 20):
            assert not pool.full
            pool.add(segment(0, start))
            if start == 580:
                break
        assert pool.full  # 600 s
        pool.recognised(states, frozenset())
        assert not pool.full
        pool.add(segment(0, 600))
        assert pool.full
