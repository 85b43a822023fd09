"""One queue for one model: the segments of all clients, recognised in batches that they share.

A segment that comes while a batch is being recognised joins the next one, whoever it is of; live streams go first.
A batch waits a moment for the segments of recordings that are being read, which would else make one of their own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.memory import return_free_memory
from fun_asr.models.protocol import RecognisedSegment, SegmentQueue, SegmentRecogniser
from fun_asr.options import Task, TranscriptionOptions
from fun_asr.pool import like_lengths
from fun_asr.recognition import padded_seconds
from fun_asr.transcript import ModelInfo

__all__ = ["Client", "ClientGoneError", "Scheduler", "SharedRecogniser"]

BESIDE_LIVE_SECONDS = 30.0  # of a batch, padding included, while somebody speaks, who would have to wait for it
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
        self.turn = -1
        """Those with a lower one go first."""


class _Call:
    """Segments that one client has in the queue, and what has come of them.

    Arguments:
        scheduler: whose queue it is.
        client: who asks.
        options: how.
    """

    def __init__(self, scheduler: Scheduler, client: Client, options: TranscriptionOptions) -> None:
        self.client = client
        self.options = options
        self.found: list[tuple[AudioSegment, RecognisedSegment]] = []
        self.error: BaseException | None = None
        self.waits = False
        """Whether its client does nothing before there is a result."""
        self.changed = threading.Condition(scheduler.lock)
        self._scheduler = scheduler

    def submit(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        priors: Sequence[Mapping[str, float] | None],
    ) -> None:
        """As `SegmentQueue.submit`.

        Raises:
            ClientGoneError: when the client is cancelled.
        """
        self._scheduler.put(self, [_Job(self, *given) for given in zip(segments, languages, priors, strict=True)])

    def take(self) -> list[tuple[AudioSegment, RecognisedSegment]]:
        """As `SegmentQueue.take`.

        Raises:
            ClientGoneError: when the client is cancelled before.
        """
        return self._scheduler.wait(self)

    def fail(self, error: BaseException) -> None:
        """Let whoever waits have an error; the scheduler's lock must be held."""
        self.error = self.error or error
        self.changed.notify_all()


@dataclass(frozen=True, eq=False)
class _Job:
    call: _Call
    segment: AudioSegment
    language: str | None
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
        self.lock = threading.RLock()
        self._on_batch = on_batch
        self._changed = threading.Condition(self.lock)
        self._waiting: list[_Job] = []
        self._calls: set[_Call] = set()
        self._reading: set[Client] = set()
        self._streams = 0
        self._batches = 0
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
        with self.lock:
            sound = sum(job.seconds for job in self._waiting)
        return sound * (self._computing / self._sound if self._sound else 0.1)

    @contextlib.contextmanager
    def call(self, client: Client, options: TranscriptionOptions) -> Iterator[_Call]:
        """A place for a client's segments; those that are in it at the end of the block are forgotten.

        Arguments:
            client: whose.
            options: how they are recognised.
        """
        call = _Call(self, client, options)
        with self.lock:
            self._calls.add(call)
        try:
            yield call
        finally:
            with self.lock:
                self._calls.discard(call)
                self._waiting = [job for job in self._waiting if job.call is not call]

    def put(self, call: _Call, jobs: Sequence[_Job]) -> None:
        """Let jobs of a call wait for their batches.

        Raises:
            ClientGoneError: when the client is cancelled.
        """
        with self.lock:
            if self._stopped or call.client.cancelled:
                raise ClientGoneError
            if call.client.turn < 0:
                call.client.turn = self._batches
            self._waiting += jobs
            self._changed.notify()

    def wait(self, call: _Call) -> list[tuple[AudioSegment, RecognisedSegment]]:
        """The results of a call since the last time; waits for one.

        Raises:
            ClientGoneError: when the client is cancelled before.
        """
        with self.lock:
            call.waits = True
            self._changed.notify()
            call.changed.wait_for(lambda: bool(call.found or call.error))
            call.waits = False
            if call.error is not None:
                raise call.error
            found, call.found = call.found, []
            return found

    def cancel(self, client: Client) -> None:
        """Forget what a client waits for; its calls end with `ClientGoneError`."""
        with self.lock:
            client.cancelled = True
            self._waiting = [job for job in self._waiting if job.call.client is not client]
            for call in self._calls:
                if call.client is client:
                    call.fail(ClientGoneError())

    @contextlib.contextmanager
    def reading(self, client: Client) -> Iterator[None]:
        """A client that reads a recording, and submits its segments, for as long as the block lasts."""
        with self.lock:
            self._reading.add(client)
        try:
            yield
        finally:
            with self.lock:
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
        with self.lock:
            self._stopped = True
            self._waiting.clear()
            for call in self._calls:
                call.fail(ClientGoneError())
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self.lock:
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
        most = self._waiting[0].call.options.batch_size
        full = len(self._waiting) >= most or sound >= self._padded_seconds(most)
        return full or self._reading <= {call.client for call in self._calls if call.waits}

    def _padded_seconds(self, batch_size: int) -> float:
        return padded_seconds(self.recogniser.info.device, batch_size)

    def _take(self) -> list[_Job]:
        """A job with those that can share a batch with it.

        It is the oldest of a live stream where one waits, else of the client whose turn is the longest ago: somebody
        with a long recording, of which much waits, is one of many.
        """
        first = next((job for job in self._waiting if job.call.client.live), None)
        first = first or min(self._waiting, key=lambda job: job.call.client.turn)
        live, options = first.call.client.live, first.call.options
        self._batches += 1
        # After those who come while it is recognised.
        first.call.client.turn = self._batches + 1
        # A recording's segments would make a stream wait.
        alike = [job for job in self._waiting if job.call.client.live == live and job.call.options == options]
        seconds = BESIDE_LIVE_SECONDS if self._streams and not live else self._padded_seconds(options.batch_size)
        chosen = like_lengths(
            [len(job.segment.span) for job in alike],
            alike.index(first),
            most=options.batch_size,
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
                with self.lock:
                    batch[0].call.fail(error)
                return
            # One client's segment must not cost the others theirs.
            for job in batch:
                self._recognise([job])
            return
        with self.lock:
            for job, one in zip(batch, found, strict=True):
                job.call.found.append((job.segment, one))
                job.call.changed.notify_all()

    def _ask(self, batch: list[_Job]) -> list[RecognisedSegment]:
        return self.recogniser.recognise(
            [job.segment for job in batch],
            [job.language for job in batch],
            batch[0].call.options,
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

    def queue(self, options: TranscriptionOptions) -> AbstractContextManager[SegmentQueue]:
        """As `QueueingRecogniser.queue`; its methods raise `ClientGoneError` when the client is cancelled."""
        return self._scheduler.call(self._client, options)

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
        found: dict[int, RecognisedSegment] = {}
        with self._scheduler.call(self._client, options) as call:
            call.submit(segments, languages, priors or [None] * len(segments))
            while len(found) < len(segments):
                found |= {id(segment): one for segment, one in call.take()}
        return [found[id(segment)] for segment in segments]
