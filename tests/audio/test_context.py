"""Silence around short segments: how much, and that places in the recording stay right."""

import numpy as np

from fun_asr.audio.context import CONTEXT, SHORT, with_context
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span


def test_a_short_segment_gets_silence_and_its_samples_keep_their_places() -> None:
    samples = np.arange(1, 6401, dtype=np.float32)
    segment = with_context(AudioSegment(3, Span(4000, 10_400), samples, certainty=0.9))
    assert (segment.recording, segment.certainty) == (3, 0.9)
    assert len(segment.samples) == len(segment.span) == 6400 + 2 * CONTEXT
    np.testing.assert_array_equal(segment.samples[4000 - segment.span.start :][:6400], samples)
    assert not segment.samples[:CONTEXT].any() and not segment.samples[-CONTEXT:].any()


def test_a_longer_segment_stays_as_it_is() -> None:
    segment = AudioSegment(0, Span(0, SHORT), np.ones(SHORT, np.float32))
    assert with_context(segment) is segment
