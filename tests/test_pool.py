"""Batches of waiting segments: like lengths together, the oldest never left behind."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.pool import SegmentPool

NO_AUDIO = np.zeros(0, np.float32)


def segment(recording: int, seconds: float) -> AudioSegment:
    return AudioSegment(recording, Span(0, round(seconds * SAMPLE_RATE)), NO_AUDIO)


def pool_of(segments: list[AudioSegment], batch_size: int = 4, padded_seconds: float = 100.0) -> SegmentPool:
    pool = SegmentPool(max_seconds=600, max_segments=1000, batch_size=batch_size, padded_seconds=padded_seconds)
    for one in segments:
        pool.add(one)
    return pool


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=40), st.integers(1, 8))
def test_every_segment_is_taken_once_within_the_limits(lengths: list[float], batch_size: int) -> None:
    pool = pool_of([segment(i, seconds) for i, seconds in enumerate(lengths)], batch_size)
    waiting = list(range(len(lengths)))
    while pool:
        batch = pool.take()
        taken = [one.recording for one in batch]
        assert waiting[0] in taken
        waiting = [recording for recording in waiting if recording not in taken]
        seconds = [one.span.seconds for one in batch]
        assert len(batch) <= batch_size
        assert len(batch) * max(seconds) <= 100 or len(batch) == 1
        assert max(seconds) - min(seconds) <= max(2, max(seconds) / 3)
    assert not waiting


def test_short_and_long_do_not_mix() -> None:
    pool = pool_of([segment(0, 3), segment(1, 25), segment(2, 4), segment(3, 24)])
    assert {one.recording for one in pool.take()} == {0, 2}
    assert {one.recording for one in pool.take()} == {1, 3}


def test_a_segment_over_the_limit_goes_alone() -> None:
    assert len(pool_of([segment(0, 30), segment(1, 30)], padded_seconds=20).take()) == 1


def test_only_the_first_segment_of_an_undetected_recording() -> None:
    pool = pool_of([segment(0, 9), segment(0, 9), segment(1, 9), segment(1, 9)])
    assert [one.recording for one in pool.take(frozenset({0}))] == [0, 1, 1]
    assert [one.recording for one in pool.take()] == [0]


def test_a_dropped_recording_leaves_room() -> None:
    pool = SegmentPool(max_seconds=20, max_segments=10, batch_size=4, padded_seconds=100)
    pool.add(segment(0, 15))
    pool.add(segment(1, 15))
    assert pool.full
    pool.drop(0)
    assert not pool.full
    assert [one.recording for one in pool.take()] == [1]
