"""One queue for one model: the segments of all clients, recognised in batches that they share.

A segment that comes while a batch is being recognised joins the next one, whoever it is of; live streams go first.
A batch waits a moment for the segments of recordings that are being read, which would else make one of their own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.memory import return_free_memory
from fun_asr.models.protocol import RecognisedSegment, SegmentRecogniser
from fun_asr.options import Task, TranscriptionOptions
from fun_asr.pool import like_lengths
from fun_asr.transcript import ModelInfo

__all__ = ["Client", "ClientGoneError", "Scheduler", "SharedRecogniser"]

PADDED_SECONDS = 240.0  # of a batch of recordings
BESIDE_LIVE_SECONDS = 30.0  # likewise while somebody speaks, who would have to wait for it
PATIENCE = 0.1  # seconds that a batch waits for recordings that are being read


class ClientGoneError(Exception):
    """The client has gone, or the server is going."""


class Client:
    """Somebody whose segments wait.

    Arguments:
        live: whether sound comes while it is recognised.
    """

    def __init__(self, *, live: bool = False) -> None:
        self.live = live
        self.cancelled = False


@dataclass
class _Call:
    """Segments that one client waits for at once."""

    client: Client
    left: int
    found: list[RecognisedSegment | None]
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self.done.set()


@dataclass(frozen=True, eq=False)
class _Job:
    call: _Call
    place: int
    segment: AudioSegment
    language: str | None
    options: TranscriptionOptions
    prior: Mapping[str, float] | None

    @property
    def seconds(self) -> float:
        return len(self.segment.span) / SAMPLE_RATE


class Scheduler:
    """Runs the model, in one thread.

    Arguments:
        recogniser: the model.
        on_batch: told of each batch: segments, seconds of sound, seconds of computing.
    """

    def __init__(
        self, recogniser: SegmentRecogniser, on_batch: Callable[[int, float, float], object] | None = None
    ) -> None:
        self.recogniser = recogniser
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._open: dict[int, _Call] = {}
        self._reading: set[Client] = set()
        self._streams = 0
        self._stopped = False
        self._sound = self._computing = 0.0
        self._thread = threading.Thread(target=self._run, name="fun-asr-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Segments in the queue."""
        return len(self._waiting)

    @property
    def seconds_to_wait(self) -> float:
        """Of computing for what is in the queue, at the speed until now."""
        with self._changed:
            sound = sum(job.seconds for job in self._waiting)
        return sound * (self._computing / self._sound if self._sound else 0.1)

    def submit(
        self,
        client: Client,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None,
    ) -> list[RecognisedSegment]:
        """Recognise segments, in any batches; waits.

        Raises:
            ClientGoneError: when the client is cancelled before.
        """
        call = _Call(client, len(segments), [None] * len(segments))
        given = priors or [None] * len(segments)
        jobs = [
            _Job(call, place, segment, language, options, prior)
            for place, (segment, language, prior) in enumerate(zip(segments, languages, given, strict=True))
        ]
        with self._changed:
            if self._stopped or client.cancelled:
                raise ClientGoneError
            self._waiting += jobs
            self._open[id(call)] = call
            self._changed.notify()
        call.done.wait()
        with self._changed:
            del self._open[id(call)]
        if call.error is not None:
            raise call.error
        return [found for found in call.found if found is not None]

    def cancel(self, client: Client) -> None:
        """Forget what a client waits for; its calls end with `ClientGoneError`."""
        with self._changed:
            client.cancelled = True
            self._waiting = [job for job in self._waiting if job.call.client is not client]
            calls = [call for call in self._open.values() if call.client is client]
        for call in calls:
            call.fail(ClientGoneError())

    @contextlib.contextmanager
    def reading(self, client: Client) -> Iterator[None]:
        """A client that reads a recording, and submits its segments, for as long as the block lasts."""
        with self._changed:
            self._reading.add(client)
        try:
            yield
        finally:
            with self._changed:
                self._reading.discard(client)
                self._changed.notify()

    def stream_opened(self, change: int = 1) -> None:
        """Batches of recordings are small while there are live streams.

        Arguments:
            change: 1 for one more, -1 for one less.
        """
        with self._changed:
            self._streams += change

    def stop(self) -> None:
        """End the thread; every call that waits ends with `ClientGoneError`."""
        with self._changed:
            self._stopped = True
            calls = list(self._open.values())
            self._waiting.clear()
            self._changed.notify()
        for call in calls:
            call.fail(ClientGoneError())
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or bool(self._waiting))
                self._changed.wait_for(self._is_worth_a_batch, PATIENCE)
                if self._stopped:
                    return
                if not self._waiting:
                    continue
                batch = self._take()
            began = time.perf_counter()
            self._recognise(batch)
            seconds = time.perf_counter() - began
            sound = sum(job.seconds for job in batch)
            self._sound += sound
            self._computing += seconds
            if self._on_batch is not None:
                self._on_batch(len(batch), sound, seconds)
            return_free_memory()

    def _is_worth_a_batch(self) -> bool:
        """Whether somebody speaks, or a batch is full, or everybody who reads a recording waits for its segments."""
        if self._stopped or not self._waiting or self._streams:
            return True
        sound = sum(job.seconds for job in self._waiting)
        full = len(self._waiting) >= self._waiting[0].options.batch_size or sound >= PADDED_SECONDS
        return full or self._reading <= {call.client for call in self._open.values()}

    def _take(self) -> list[_Job]:
        """The oldest job, of a live stream where one waits, with those that can share a batch with it."""
        first = next((job for job in self._waiting if job.call.client.live), self._waiting[0])
        live = first.call.client.live
        # A recording's segments would make a stream wait.
        alike = [job for job in self._waiting if job.call.client.live == live and job.options == first.options]
        seconds = BESIDE_LIVE_SECONDS if self._streams and not live else PADDED_SECONDS
        chosen = like_lengths(
            [len(job.segment.span) for job in alike],
            alike.index(first),
            most=first.options.batch_size,
            padded=seconds * SAMPLE_RATE,
        )
        batch = [alike[place] for place in chosen]
        taken = set(batch)
        self._waiting = [job for job in self._waiting if job not in taken]
        return batch

    def _recognise(self, batch: list[_Job]) -> None:
        try:
            found = self._ask(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].call.fail(error)
                return
            # One client's segment must not cost the others theirs.
            for job in batch:
                self._recognise([job])
            return
        for job, one in zip(batch, found, strict=True):
            job.call.found[job.place] = one
            job.call.left -= 1
            if not job.call.left:
                job.call.done.set()

    def _ask(self, batch: list[_Job]) -> list[RecognisedSegment]:
        return self.recogniser.recognise(
            [job.segment for job in batch],
            [job.language for job in batch],
            batch[0].options,
            [job.prior for job in batch],
        )


class SharedRecogniser:
    """A model that others use too, as a `SegmentRecogniser` of one client.

    Arguments:
        scheduler: whose turn it is.
        client: who asks.
    """

    def __init__(self, scheduler: Scheduler, client: Client) -> None:
        self._scheduler = scheduler
        self._client = client

    @property
    def info(self) -> ModelInfo:
        """As `SegmentRecogniser.info`."""
        return self._scheduler.recogniser.info

    @property
    def languages(self) -> tuple[str, ...]:
        """As `SegmentRecogniser.languages`."""
        return self._scheduler.recogniser.languages

    @property
    def tasks(self) -> tuple[Task, ...]:
        """As `SegmentRecogniser.tasks`."""
        return self._scheduler.recogniser.tasks

    @property
    def detects_languages(self) -> bool:
        """As `SegmentRecogniser.detects_languages`."""
        return self._scheduler.recogniser.detects_languages

    @property
    def segment_seconds(self) -> float:
        """As `SegmentRecogniser.segment_seconds`."""
        return self._scheduler.recogniser.segment_seconds

    def prepare(self, options: TranscriptionOptions) -> None:
        """As `SegmentRecogniser.prepare`."""
        self._scheduler.recogniser.prepare(options)

    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        """As `SegmentRecogniser.recognise`.

        Raises:
            ClientGoneError: when the client is cancelled before they are recognised.
        """
        return self._scheduler.submit(self._client, segments, languages, options, priors)
