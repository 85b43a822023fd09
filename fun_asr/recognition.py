"""The segments of recordings on their way through the model: in batches made here, or in a queue that others share."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Mapping
from typing import Protocol

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.memory import return_free_memory
from fun_asr.models.protocol import QueueingRecogniser, RecognisedSegment, SegmentQueue, SegmentRecogniser
from fun_asr.options import TranscriptionOptions
from fun_asr.pool import SegmentPool
from fun_asr.recording import RecordingState

__all__ = ["Recognition", "padded_seconds", "recognition"]

BATCH_SEGMENT_SECONDS = 30.0  # by which batches are sized, whatever the longest segment of the model
POOL_SECONDS = 600.0  # of audio that waits for a batch: 38 MB
POOL_BATCHES = 16
PADDED_SECONDS_ON_CPU = 240.0  # of a batch: more makes the caches miss, not the products faster

Recognised = list[tuple[AudioSegment, RecognisedSegment]]


class Recognition(Protocol):
    """Takes segments as they are read and gives them back recognised, in another order."""

    @property
    def full(self) -> bool:
        """Whether something should be recognised before more is added."""

    def __len__(self) -> int:
        """Segments that have not been given back."""

    def add(self, segment: AudioSegment) -> None:
        """Put a segment behind those that wait."""

    def drop(self, recording: int) -> None:
        """Forget the segments of a recording, as far as they are not being recognised."""

    def recognised(self, recordings: Mapping[int, RecordingState], one_at_a_time: Container[int]) -> Recognised:
        """The next segments that are done, at least one; there must be some that wait.

        Arguments:
            recordings: by their numbers, with what is known of their languages.
            one_at_a_time: those of which one segment at a time may be recognised.
        """


def padded_seconds(device: str, batch_size: int) -> float:
    """The most audio of a batch on a device, padding included, seconds."""
    return PADDED_SECONDS_ON_CPU if device.startswith("cpu") else batch_size * BATCH_SEGMENT_SECONDS


@contextlib.contextmanager
def recognition(recogniser: SegmentRecogniser, options: TranscriptionOptions) -> Iterator[Recognition]:
    """The way through a model, for as long as the block lasts.

    Arguments:
        recogniser: the model; batches are made here unless it makes them itself.
        options: how.
    """
    device = recogniser.info.device
    # Deep enough that a batch finds segments of its length; an accelerator is fed by its batch size alone.
    seconds = (
        POOL_SECONDS if device.startswith("cpu") else max(POOL_SECONDS, padded_seconds(device, options.batch_size))
    )
    segments = POOL_BATCHES * options.batch_size
    if isinstance(recogniser, QueueingRecogniser):
        with recogniser.queue(options) as queue:
            yield _Queued(queue, max_seconds=seconds, max_segments=segments)
    else:
        pool = SegmentPool(
            max_seconds=seconds,
            max_segments=segments,
            batch_size=options.batch_size,
            padded_seconds=padded_seconds(device, options.batch_size),
        )
        yield _Batched(recogniser, options, pool)


class _Batched:
    """Recognises a batch of like lengths whenever it is asked."""

    def __init__(self, recogniser: SegmentRecogniser, options: TranscriptionOptions, pool: SegmentPool) -> None:
        self._recogniser, self._options, self._pool = recogniser, options, pool
        self.add = pool.add
        self.drop = pool.drop

    @property
    def full(self) -> bool:
        return self._pool.full

    def __len__(self) -> int:
        return len(self._pool)

    def recognised(self, recordings: Mapping[int, RecordingState], one_at_a_time: Container[int]) -> Recognised:
        batch = self._pool.take(one_at_a_time)
        owners = [recordings[segment.recording] for segment in batch]
        languages = [owner.language for owner in owners]
        evidence = [owner.language_evidence for owner in owners]
        found = self._recogniser.recognise(batch, languages, self._options, evidence)
        return_free_memory()
        return list(zip(batch, found, strict=True))


class _Queued:
    """Has all segments in the queue, so that a batch finds those of its length, whoever they are of."""

    def __init__(self, queue: SegmentQueue, *, max_seconds: float, max_segments: int) -> None:
        self._queue = queue
        self._max_samples = max_seconds * SAMPLE_RATE
        self._max_segments = max_segments
        self._kept: list[AudioSegment] = []  # not yet in the queue
        self._queued: list[AudioSegment] = []

    @property
    def full(self) -> bool:
        samples = sum(len(segment.span) for segment in (*self._kept, *self._queued))
        return len(self) >= self._max_segments or samples >= self._max_samples

    def __len__(self) -> int:
        return len(self._kept) + len(self._queued)

    def add(self, segment: AudioSegment) -> None:
        self._kept.append(segment)

    def drop(self, recording: int) -> None:
        self._kept = [segment for segment in self._kept if segment.recording != recording]

    def recognised(self, recordings: Mapping[int, RecordingState], one_at_a_time: Container[int]) -> Recognised:
        self._submit(recordings, one_at_a_time)
        found: Recognised = []
        while self and not found:
            taken = self._queue.take()
            done = {id(segment) for segment, _ in taken}
            self._queued = [segment for segment in self._queued if id(segment) not in done]
            # A recording that could not be read to its end may be over by now.
            found = [(segment, one) for segment, one in taken if segment.recording in recordings]
        return found

    def _submit(self, recordings: Mapping[int, RecordingState], one_at_a_time: Container[int]) -> None:
        begun = {segment.recording for segment in self._queued}
        ready: list[AudioSegment] = []
        kept: list[AudioSegment] = []
        for segment in self._kept:
            waits = segment.recording in one_at_a_time and segment.recording in begun
            begun.add(segment.recording)
            (kept if waits else ready).append(segment)
        if not ready:
            return
        owners = [recordings[segment.recording] for segment in ready]
        self._queue.submit(ready, [owner.language for owner in owners], [owner.language_evidence for owner in owners])
        self._kept = kept
        self._queued += ready
