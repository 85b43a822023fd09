"""The segments that wait to be recognised, and which of them go into a batch together."""

from __future__ import annotations

from collections.abc import Container, Sequence

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment

LIKE_SAMPLES = 2 * SAMPLE_RATE  # lengths that differ by less go together
LIKE_RATIO = 1 / 3  # of the longer one, likewise


def like_lengths(lengths: Sequence[int], first: int, *, most: int, padded: float) -> list[int]:
    """Which segments make a batch with one of them: those nearest to it in length.

    Arguments:
        lengths: of all, samples; of equal ones those that come first are preferred.
        first: the place of the one whose turn it is.
        most: segments of a batch.
        padded: most samples of a batch, padding included; a single segment may be longer.

    Returns:
        their places, longest first.
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    # order[low:high] is the batch; it grows from the first one, whose turn must come.
    low = order.index(first)
    high = low + 1

    def fit(longest: int, shortest: int) -> bool:
        """Whether lengths go together: little padding, and not too much audio."""
        alike = longest - shortest <= max(LIKE_SAMPLES, LIKE_RATIO * longest)
        return alike and (high - low + 1) * longest <= padded

    while high - low < most:
        longest, shortest = lengths[order[low]], lengths[order[high - 1]]
        longer = lengths[order[low - 1]] if low > 0 else None
        shorter = lengths[order[high]] if high < len(order) else None
        if longer is not None and not fit(longer, shortest):
            longer = None
        if shorter is not None and not fit(longest, shorter):
            shorter = None
        if longer is None and shorter is None:
            break
        if shorter is None or (longer is not None and longer - longest < shortest - shorter):
            low -= 1
        else:
            high += 1
    return order[low:high]


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
        eligible: list[int] = []
        represented: set[int] = set()
        for place, segment in enumerate(self._segments):
            if segment.recording not in one_at_a_time or segment.recording not in represented:
                eligible.append(place)
                represented.add(segment.recording)
        lengths = [len(self._segments[place].span) for place in eligible]
        chosen = like_lengths(lengths, 0, most=self._batch_size, padded=self._padded_samples)
        places = [eligible[i] for i in chosen]
        batch = [self._segments[place] for place in places]
        taken = set(places)
        self._keep([segment for place, segment in enumerate(self._segments) if place not in taken])
        return batch

    def _keep(self, segments: list[AudioSegment]) -> None:
        self._segments = segments
        self._samples = sum(len(segment.span) for segment in segments)
