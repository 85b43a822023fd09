"""Streams that recognise by themselves: one for callers that wait, one for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType

import numpy.typing as npt

from fun_asr.audio.arrays import Resampler, checked_samples
from fun_asr.audio.vad import SpeechDetector
from fun_asr.errors import ConfigError
from fun_asr.memory import return_free_memory
from fun_asr.models.protocol import SegmentRecogniser
from fun_asr.options import TranscriptionOptions
from fun_asr.streaming.events import StreamEvent
from fun_asr.streaming.live import DEFAULT_STREAM, LiveStream, Request, StreamOptions, quick_options
from fun_asr.transcript import Transcript

__all__ = ["AsyncStream", "Stream"]


class Stream:
    """Speech as it is spoken; `Transcriber.stream` makes one.

    Several streams may share a model, each used by one thread at a time. As a context manager it stops taking samples
    at the end of the block; what was not finished by then is not recognised.

    Arguments:
        recogniser: the model.
        detector: tells speech.
        options: how utterances are recognised once they have ended.
        sampling_rate: of the samples, Hz.
        stream: how the stream is cut, and how often it says something.

    Raises:
        ConfigError: for options that the model cannot follow, or a sampling rate that no recording has.
    """

    def __init__(
        self,
        recogniser: SegmentRecogniser,
        detector: SpeechDetector,
        options: TranscriptionOptions,
        sampling_rate: int = 16_000,
        stream: StreamOptions = DEFAULT_STREAM,
    ) -> None:
        recogniser.prepare(options)
        self._recogniser = recogniser
        self._resampler = Resampler(sampling_rate)
        by_ctc = options.task == "transcribe" and _can(recogniser, quick_options(options))
        self._live = LiveStream(detector, options, recogniser.segment_seconds, stream, by_ctc=by_ctc)
        self._open = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False

    @property
    def seconds(self) -> float:
        """Of sound that was taken."""
        return self._live.seconds

    @property
    def transcript(self) -> Transcript:
        """All that has become final."""
        return self._live.transcript(self._recogniser.info)

    def feed(self, samples: npt.ArrayLike) -> list[StreamEvent]:
        """Take more sound, and say what has become known by it.

        Arguments:
            samples: mono `[samples]`, floating point in [-1, 1] or int16; any number. The final texts do not depend on
                how the sound is cut.

        Returns:
            the events, in order; often none.

        Raises:
            ConfigError: for samples of another shape or type.
            ValueError: when the stream has ended.
        """
        if not self._open:
            raise ValueError("the stream has ended")
        return list(self._answered(self._live.feed(self._resampler.feed(checked_samples(samples)))))

    def finish(self) -> list[StreamEvent]:
        """The sound is over: what is being said is recognised as it is.

        Raises:
            ValueError: when the stream has ended.
        """
        if not self._open:
            raise ValueError("the stream has ended")
        self._open = False
        events = list(self._answered(self._live.feed(self._resampler.finish())))
        return [*events, *self._answered(self._live.finish())]

    def events(self, chunks: Iterable[npt.ArrayLike]) -> Iterator[StreamEvent]:
        """The events of a stream, from its first piece of sound to its last.

        Arguments:
            chunks: as `feed` takes them.
        """
        for chunk in chunks:
            yield from self.feed(chunk)
        yield from self.finish()

    def _answered(self, requests: Iterator[Request]) -> Iterator[StreamEvent]:
        for request in requests:
            found = request.found
            if found is None:
                (found,) = self._recogniser.recognise(
                    [request.segment], [request.language], request.options, [request.prior]
                )
                if request.final:
                    return_free_memory()
            yield from self._live.answer(request, found)


def _can(recogniser: SegmentRecogniser, options: TranscriptionOptions) -> bool:
    try:
        recogniser.prepare(options)
    except ConfigError:
        return False
    return True


class AsyncStream:
    """A `Stream` for asyncio: it recognises in a thread, while the event loop goes on.

    Arguments:
        stream: what to run.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, trace)

    @property
    def transcript(self) -> Transcript:
        """All that has become final."""
        return self._stream.transcript

    async def feed(self, samples: npt.ArrayLike) -> list[StreamEvent]:
        """As `Stream.feed`; calls follow each other in their order."""
        async with self._turn:
            return await asyncio.to_thread(self._stream.feed, samples)

    async def finish(self) -> list[StreamEvent]:
        """As `Stream.finish`."""
        async with self._turn:
            return await asyncio.to_thread(self._stream.finish)

    async def events(self, chunks: AsyncIterable[npt.ArrayLike]) -> AsyncIterator[StreamEvent]:
        """As `Stream.events`."""
        async for chunk in chunks:
            for event in await self.feed(chunk):
                yield event
        for event in await self.finish():
            yield event
