"""An utterance's way from sound to words, without the recogniser: what it is to be asked, and what its answers mean.

Whoever has a recogniser, alone or shared with other streams, asks it and hands the answers back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.audio.vad import WINDOW, WINDOWS_PER_SECOND, SpeechDetector
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.options import DEFAULT_BEAM_SIZE, TranscriptionOptions
from fun_asr.recording import RecordingState
from fun_asr.streaming.agreement import Agreement
from fun_asr.streaming.endpoint import Endpointer, Samples, Utterance
from fun_asr.streaming.events import Committed, Final, Partial, StreamEvent
from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, ModelInfo, Transcript, Word

__all__ = ["DEFAULT_STREAM", "LiveStream", "Request", "StreamOptions", "quick_options"]

CTC_LANGUAGE = "en"
PAUSE = round(0.1 * WINDOWS_PER_SECOND)  # windows without speech: longer than most stops within a word


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream is cut and how often it says something; seconds."""

    silence: float = 0.6
    """Without speech, that ends an utterance."""
    interval: float = 0.4
    """Of sound between two partial results; 0 gives none."""
    window: float = 9.0
    """Longest sound that a partial result is made of."""
    kept: float = 4.0
    """Of it, what is heard again after the window has moved on."""
    tail: float = 0.2
    """Of the silence after an utterance, what is recognised with it."""
    ahead: bool = True
    """Whether the final search begins as soon as there is that silence; where speech goes on it was in vain."""


DEFAULT_STREAM = StreamOptions()


@dataclass(frozen=True, kw_only=True)
class Request:
    """Sound to recognise."""

    segment: AudioSegment
    language: str | None
    options: TranscriptionOptions
    prior: Mapping[str, float] | None
    """What an utterance before says of the stream's language."""
    final: bool
    """Whether it is the whole utterance."""
    ahead: bool = False
    """Whether the utterance may go on."""
    found: RecognisedSegment | None = None
    """Its answer, where it has been recognised ahead."""


def quick_options(options: TranscriptionOptions) -> TranscriptionOptions:
    """Those of a first impression by CTC alone."""
    return replace(
        options,
        decoding="ctc",
        beam_size=DEFAULT_BEAM_SIZE,
        task="transcribe",
        initial_prompt="",
        itn=False,
        punctuation=False,
        word_times=True,
        temperature_fallback=False,
    )


class LiveStream:
    """The state of one stream.

    Arguments:
        detector: tells speech.
        options: of the final results; their language does not count once it is known.
        longest: seconds, the longest segment that the recogniser takes.
        stream: how the stream is cut.
        by_ctc: whether the model has a CTC head, which gives the first impression where it knows the language: sooner
            than the decoder, and without what a decoder invents that has come to the end of the sound.
    """

    def __init__(
        self,
        detector: SpeechDetector,
        options: TranscriptionOptions,
        longest: float,
        stream: StreamOptions = DEFAULT_STREAM,
        *,
        by_ctc: bool = False,
    ) -> None:
        self._options = options
        # The first impression: quick, and unchanged by what only whole sentences allow.
        self._partial_options = replace(
            options,
            beam_size=1 if options.decoding == "generate" else options.beam_size,
            itn=False,
            punctuation=False,
            word_times=True,
            temperature_fallback=False,
        )
        self._quick_options = quick_options(options) if by_ctc else None
        self._stream = stream
        self._endpointer = Endpointer(detector, silence=stream.silence, longest=longest)
        self._tail = round(stream.tail * WINDOWS_PER_SECOND)
        self._end = round(stream.silence * WINDOWS_PER_SECOND)
        self._recording = RecordingState(None, options.language)
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._agreement = Agreement()
        self._window_start: int | None = None
        self._next_partial = 0
        self._shown = False
        self._guess: str | None = None
        self._early: tuple[Span, RecognisedSegment] | None = None

    @property
    def seconds(self) -> float:
        """Of the stream so far."""
        return self._endpointer.seconds

    def feed(self, samples: Samples) -> Iterator[Request]:
        """Take more of the stream.

        Each request has to be answered, by `answer`, before the next one is taken.

        Arguments:
            samples: mono 16 kHz, any number.
        """
        end = self._endpointer.seconds * SAMPLE_RATE + len(samples)
        yield from self._requests(self._endpointer.feed(samples), end)

    def finish(self) -> Iterator[Request]:
        """The stream is over; as for `feed`."""
        yield from self._requests(self._endpointer.finish(), self._endpointer.seconds * SAMPLE_RATE)

    def _requests(self, states: Iterator[Utterance], end: float) -> Iterator[Request]:
        interval = round(self._stream.interval * SAMPLE_RATE)
        for utterance in states:
            here = utterance.span.end
            if utterance.ended:
                yield self._final_request(utterance)
            elif self._stream.ahead and utterance.quiet == self._tail:
                # Not where the sound that has come says already whether this is the end.
                if here + (self._end - self._tail) * WINDOW > end:
                    yield replace(self._final_request(utterance), ahead=True)
            elif interval:
                if self._window_start is None:
                    self._window_start = utterance.start
                    self._next_partial = here + interval // 2
                # One that is late is left out, for the next one says more; and in what may be the end, of which the
                # final search is to begin in time.
                if here >= self._next_partial and end - here < interval and utterance.quiet < PAUSE:
                    self._next_partial = here + interval
                    yield self._partial_request(utterance, self._window_start)

    def _partial_request(self, utterance: Utterance, start: int) -> Request:
        language = self._recording.language or self._guess
        options = self._partial_options
        if self._quick_options is not None and language == CTC_LANGUAGE:
            options = self._quick_options
        return self._request(utterance, Span(start, utterance.span.end), language, options)

    def _final_request(self, utterance: Utterance) -> Request:
        # The same sound whether it is recognised ahead or not.
        span = utterance.spoken(self._tail)
        request = self._request(utterance, span, self._recording.language, self._options)
        known, found = self._early or (None, None)
        return replace(request, final=True, found=found if known == span else None)

    def _request(
        self, utterance: Utterance, span: Span, language: str | None, options: TranscriptionOptions
    ) -> Request:
        samples = utterance.samples[span.start - utterance.start : span.end - utterance.start]
        self._asked = AudioSegment(0, span, samples, certainty=utterance.certainty)
        return Request(
            segment=self._asked,
            language=language,
            options=options,
            prior=self._recording.language_evidence,
            final=False,
        )

    def answer(self, request: Request, found: RecognisedSegment) -> list[StreamEvent]:
        """What the stream says after a request was recognised."""
        if request.ahead:
            self._early = request.segment.span, found
            return []
        if request.final:
            return self._final(request, found)
        self._guess = found.language
        span = request.segment.span
        if not found.word_times:
            return self._tentative([], found.text, found.language)
        new, likely = self._agreement.take(found.words, span.start / SAMPLE_RATE, span.end / SAMPLE_RATE)
        self._move_window(span)
        return self._tentative(new, _joined(likely, found.language), found.language)

    def _tentative(self, new: list[Word], tentative: str, language: str | None) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if new:
            events.append(Committed(utterance=self._number, words=tuple(new), language=language))
        committed = _joined(self._agreement.committed, language)
        if committed or tentative or self._shown:
            self._shown = True
            start = self._asked.span.start / SAMPLE_RATE
            events.append(
                Partial(
                    utterance=self._number, start=start, committed=committed, tentative=tentative, language=language
                )
            )
        return events

    def _move_window(self, span: Span) -> None:
        """Let the next partial result begin at a committed word, where the window has become too long."""
        if span.seconds <= self._stream.window:
            return
        latest = span.end / SAMPLE_RATE - self._stream.kept
        starts = [word.start for word in self._agreement.committed if word.start <= latest]
        if starts and starts[-1] * SAMPLE_RATE > span.start:
            self._window_start = round(starts[-1] * SAMPLE_RATE)

    def _final(self, request: Request, found: RecognisedSegment) -> list[StreamEvent]:
        self._recording.expect(request.segment)
        self._recording.add(request.segment, found)
        segments = tuple(segment for segment in self._recording.fresh() if segment.text)
        events: list[StreamEvent] = []
        if segments or self._shown:
            start, end = (place / SAMPLE_RATE for place in (request.segment.span.start, request.segment.span.end))
            events.append(Final(utterance=self._number, start=start, end=end, segments=segments))
            self._number += 1
        self._begin()
        return events

    def transcript(self, model: ModelInfo) -> Transcript:
        """All that has become final."""
        self._recording.samples = round(self._endpointer.seconds * SAMPLE_RATE)
        self._recording.ended = True
        result = self._recording.result(model)
        self._recording.ended = False
        assert isinstance(result, Transcript)
        return result


def _joined(words: list[Word], language: str | None) -> str:
    return ("" if language in WRITTEN_WITHOUT_SPACES else " ").join(word.text for word in words)
