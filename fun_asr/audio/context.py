"""Silence around short segments: the network was taught on sentences, and a bare word begins and ends too abruptly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span

__all__ = ["SHORT", "with_context"]

SHORT = round(1.5 * SAMPLE_RATE)  # samples; of words of 0.3 to 0.6 s without context, 44 % come out empty, with it none
CONTEXT = SAMPLE_RATE // 2  # samples on either side; 0.25 s and 1 s leave as many words right


def with_context(segment: AudioSegment) -> AudioSegment:
    """A segment shorter than 1.5 s with half a second of silence on either side; a longer one as it is.

    The span grows with the samples, so that places in them stay right in the recording. It may begin before the
    recording does.
    """
    if len(segment.samples) >= SHORT:
        return segment
    span = Span(segment.span.start - CONTEXT, segment.span.end + CONTEXT)
    return replace(segment, span=span, samples=np.pad(segment.samples, CONTEXT))
