"""The segments that wait to be recognised, and which of them go into a batch together."""

from __future__ import annotations

from collections.abc import Container

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment

LIKE_SAMPLES = 2 * SAMPLE_RATE  # lengths that differ by less go together
LIKE_RATIO = 1 / 3  # of the longer one, likewise


class SegmentPool:
    """A bounded pool, out of which each batch is the oldest segment with those nearest to it in length.

    Arguments:
        max_seconds: audio after which the pool is full, seconds.
        max_segments: segments after which the pool is full.
        batch_size: most segments of a batch.
        padded_seconds: most audio of a batch, padding included, seconds; a single segment may be longer.
    """

    def __init__(self, *, max_seconds: float, max_segments: int, batch_size: int, padded_seconds: float) -> None:
        self._max_samples = max_seconds * SAMPLE_RATE
        self._max_segments = max_segments
        self._batch_size = batch_size
        self._padded_samples = padded_seconds * SAMPLE_RATE
        self._segments: list[AudioSegment] = []
        self._samples = 0

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def full(self) -> bool:
        """Whether a batch should be taken before more is added."""
        return len(self._segments) >= self._max_segments or self._samples >= self._max_samples

    def add(self, segment: AudioSegment) -> None:
        """Put a segment behind those that wait."""
        self._segments.append(segment)
        self._samples += len(segment.span)

    def drop(self, recording: int) -> None:
        """Forget the segments of a recording."""
        self._keep([segment for segment in self._segments if segment.recording != recording])

    def take(self, one_at_a_time: Container[int] = ()) -> list[AudioSegment]:
        """Remove and return a batch, longest first; the pool must not be empty.

        Arguments:
            one_at_a_time: recordings of which only the first segment may be taken now.
        """
        eligible = []
        represented: set[int] = set()
        for place, segment in enumerate(self._segments):
            if segment.recording not in one_at_a_time or segment.recording not in represented:
                eligible.append((len(segment.span), -place))
                represented.add(segment.recording)
        eligible.sort(reverse=True)
        # eligible[low:high] is the batch; it grows from the oldest segment, whose turn must come.
        low = next(i for i, (_, place) in enumerate(eligible) if place == 0)
        high = low + 1
        while high - low < self._batch_size:
            longest, shortest = eligible[low][0], eligible[high - 1][0]
            longer = eligible[low - 1][0] if low > 0 else None
            shorter = eligible[high][0] if high < len(eligible) else None
            if longer is not None and not self._fit(longer, shortest, high - low + 1):
                longer = None
            if shorter is not None and not self._fit(longest, shorter, high - low + 1):
                shorter = None
            if longer is None and shorter is None:
                break
            if shorter is None or (longer is not None and longer - longest < shortest - shorter):
                low -= 1
            else:
                high += 1
        places = [-place for _, place in eligible[low:high]]
        batch = [self._segments[place] for place in places]
        taken = set(places)
        self._keep([segment for place, segment in enumerate(self._segments) if place not in taken])
        return batch

    def _fit(self, longest: int, shortest: int, segments: int) -> bool:
        """Whether lengths in samples go together: little padding, and not too much audio."""
        alike = longest - shortest <= max(LIKE_SAMPLES, LIKE_RATIO * longest)
        return alike and segments * longest <= self._padded_samples

    def _keep(self, segments: list[AudioSegment]) -> None:
        self._segments = segments
        self._samples = sum(len(segment.span) for segment in segments)
