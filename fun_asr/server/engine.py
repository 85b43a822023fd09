"""What all protocols share: one model, its queue, and the threads in which recordings and streams wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import BinaryIO

import numpy.typing as npt

from fun_asr.audio.spool import Spool
from fun_asr.options import TranscriptionOptions
from fun_asr.server.errors import Refused
from fun_asr.server.limits import ServerLimits
from fun_asr.server.metrics import Metrics
from fun_asr.server.scheduler import Client, ClientGoneError, Scheduler, SharedRecogniser
from fun_asr.streaming.events import StreamEvent
from fun_asr.streaming.live import StreamOptions
from fun_asr.streaming.stream import Stream
from fun_asr.transcriber import Transcriber
from fun_asr.transcript import Segment, Transcript

__all__ = ["Engine", "LiveSlot"]

SaySegments = Callable[[Sequence[Segment]], object]


class Engine:
    """The server without its protocols.

    Arguments:
        transcriber: with the model.
        options: of recordings and streams, where a client says nothing.
        limits: of the server.
    """

    def __init__(self, transcriber: Transcriber, options: TranscriptionOptions, limits: ServerLimits) -> None:
        self.transcriber = transcriber
        self.options = options
        self.limits = limits
        self.metrics = Metrics()
        self.draining = False
        self._stopping: asyncio.Future[None] | None = None
        self.requests = 0
        self.streams = 0
        self.sockets = 0
        self._scheduler = Scheduler(transcriber.recogniser, self.metrics.batch)
        self._reading = ThreadPoolExecutor(limits.recordings, "fun-asr-recording")
        self._speaking = ThreadPoolExecutor(limits.streams, "fun-asr-stream")

    @property
    def stopping(self) -> asyncio.Future[None]:
        """Done once WebSockets are to come to their end; of the event loop that asks first."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_future()
        return self._stopping

    @contextlib.contextmanager
    def socket(self) -> Iterator[None]:
        """Count an open WebSocket, for as long as the block lasts."""
        self.sockets += 1
        try:
            yield
        finally:
            self.sockets -= 1

    async def end_sockets(self) -> None:
        """Let WebSockets say what is still to be said, and end; waits `ServerLimits.drain` seconds at most."""
        self.draining = True
        if not self.stopping.done():
            self.stopping.set_result(None)
        until = time.monotonic() + self.limits.drain
        while self.sockets and time.monotonic() < until:
            await asyncio.sleep(0.02)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """A place for a recording, from its first byte to its answer.

        Raises:
            Refused: when there is none.
        """
        if self.draining:
            raise Refused(503, "the server is stopping", headers={"retry-after": "10"})
        if self.requests >= self.limits.requests:
            raise Refused(429, "too many requests at once", headers={"retry-after": str(self.retry_after)})
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @property
    def retry_after(self) -> int:
        """Whole seconds after which there may be a place."""
        return max(1, min(600, math.ceil(self._scheduler.seconds_to_wait)))

    def checked(self, options: TranscriptionOptions) -> TranscriptionOptions:
        """The options, found to be such that the model can follow them.

        Raises:
            ConfigError: when it cannot.
        """
        return self.transcriber.check(options)

    async def transcribe(
        self, file: BinaryIO, options: TranscriptionOptions, on_segments: SaySegments | None = None
    ) -> Transcript:
        """Transcribe a recording, beside others. When the task is cancelled, so is the work.

        Arguments:
            file: the recording; nothing of its name counts.
            options: how.
            on_segments: called in the event loop with sentences as soon as they are known.

        Raises:
            FunASRError: when it cannot be read.
            TimeoutError: after `ServerLimits.request` seconds.
        """
        client = Client()
        loop = asyncio.get_running_loop()

        def say(_: str | None, segments: Sequence[Segment]) -> None:
            if on_segments is not None and not client.cancelled:
                loop.call_soon_threadsafe(on_segments, segments)

        def work() -> Transcript:
            with self._scheduler.reading(client):
                return transcribed()

        def transcribed() -> Transcript:
            transcriber = self.transcriber.with_recogniser(SharedRecogniser(self._scheduler, client))
            with Spool() as spool:
                results = transcriber.run(spool.paths([file]), options, on_segments=say)
                with closing(results):
                    return next(results).unwrap()

        future = loop.run_in_executor(self._reading, work)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.limits.request)
        except (asyncio.CancelledError, TimeoutError):
            self._scheduler.cancel(client)
            future.cancel()
            # The thread may still read the file: it is closed when the thread has ended, whatever that says.
            with contextlib.suppress(ClientGoneError, Exception, asyncio.CancelledError):
                await asyncio.wait({asyncio.ensure_future(future)})
            raise

    @contextlib.contextmanager
    def live(self) -> Iterator[LiveSlot]:
        """A place for a client that speaks, for as long as the block lasts.

        Raises:
            Refused: when there is none.
        """
        if self.draining or self.streams >= self.limits.streams:
            raise Refused(503 if self.draining else 429, "too many streams at once")
        client = Client(live=True)
        self.streams += 1
        self._scheduler.stream_opened()
        try:
            yield LiveSlot(self.transcriber.with_recogniser(SharedRecogniser(self._scheduler, client)), self._speaking)
        finally:
            self.streams -= 1
            self._scheduler.stream_opened(-1)
            self._scheduler.cancel(client)

    def gauges(self) -> dict[str, float]:
        """What is going on."""
        return {
            "fun_asr_requests_active": self.requests,
            "fun_asr_streams_active": self.streams,
            "fun_asr_queue_segments": self._scheduler.waiting,
            "fun_asr_draining": float(self.draining),
        }

    def close(self) -> None:
        """End the threads."""
        self._scheduler.stop()
        self._reading.shutdown(cancel_futures=True)
        self._speaking.shutdown(cancel_futures=True)


class LiveSlot:
    """Runs the streams of one client, one after the other, in a thread.

    Arguments:
        transcriber: that waits its turn as this client.
        executor: with a thread for it.
    """

    def __init__(self, transcriber: Transcriber, executor: ThreadPoolExecutor) -> None:
        self._transcriber, self._executor = transcriber, executor

    def open(self, options: TranscriptionOptions, sampling_rate: int, stream: StreamOptions) -> Stream:
        """A new stream.

        Raises:
            ConfigError: for options that the model cannot follow, or a rate that no sound has.
        """
        return self._transcriber.run_stream(options, sampling_rate, stream)

    async def feed(self, stream: Stream, samples: npt.ArrayLike) -> list[StreamEvent]:
        """As `Stream.feed`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, stream.feed, samples)

    async def finish(self, stream: Stream) -> list[StreamEvent]:
        """As `Stream.finish`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, stream.finish)
