"""The one path from audio to text: decode, segment, pool, recognise in batches, assemble transcripts in order."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy.typing as npt
import torch

from fun_asr.audio.arrays import checked_samples, resampled
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.prefetch import AudioSegment, EndOfRecording, cut_stream, default_workers, read_segments
from fun_asr.audio.vad import SpeechDetector, load_speech_detector
from fun_asr.bundled import BUNDLED_MODEL
from fun_asr.decoding.guard import is_silent
from fun_asr.errors import ConfigError
from fun_asr.layers.routing_stats import LayerRouting, collect_routing
from fun_asr.memory import return_free_memory, set_up_memory
from fun_asr.models.protocol import RecognisedSegment, SegmentRecogniser
from fun_asr.models.registry import load_recogniser
from fun_asr.options import DEFAULT_BEAM_SIZE, Decoding, ModelOptions, Task, TranscriptionOptions
from fun_asr.pool import SegmentPool
from fun_asr.recording import RecordingState
from fun_asr.streaming.live import DEFAULT_STREAM, StreamOptions
from fun_asr.streaming.stream import Stream
from fun_asr.text.hotwords import checked_hotwords
from fun_asr.text.languages import language_code, unknown_language
from fun_asr.transcript import ModelInfo, Result, Segment, Transcript
from fun_asr.weights.directory import VAD_FILE

__all__ = ["Transcriber", "load", "load_model"]

BATCH_SEGMENT_SECONDS = 30.0  # by which batches are sized, whatever the longest segment of the model
POOL_SECONDS = 600.0  # of audio that waits for a batch: 38 MB
POOL_BATCHES = 16
PADDED_SECONDS_ON_CPU = 240.0  # of a batch: more makes the caches miss, not the products faster

Progress = Callable[[float], object]
NewSegments = Callable[[str | None, Sequence[Segment]], object]
Phrases = Iterable[str | tuple[str, float]]


def load_model(
    directory: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    compute_type: str = "auto",
    threads: int = 0,
    aligner: str | os.PathLike[str] | None = None,
) -> Transcriber:
    """Load a model for transcription.

    Sets how glibc's malloc keeps and returns memory, for the whole process (`fun_asr.memory`).

    Arguments:
        directory: a model directory as it is published, or a `.nemo` or `.pt` file; None is the model inside the
            package.
        device: "auto", "cpu", "cuda" or "cuda:N".
        compute_type: "auto", "float32", "bfloat16", "float16" (GPU only), "int8" (CPU only) or "int4" (CPU only, of
            models with a language model).
        threads: CPU threads of the network, for the whole process; 0 leaves torch's own number.
        aligner: the folder of a forced aligner, which finds when the words of Qwen's models are said; None leaves them
            without times.

    Raises:
        CheckpointError: when the directory holds no model, or a damaged one.
        ConfigError: when the device or compute type is unknown or not available.
    """
    return load(
        ModelOptions(
            directory=None if directory is None else Path(directory),
            device=device,
            compute_type=compute_type,
            threads=threads,
            aligner=None if aligner is None else Path(aligner),
        )
    )


def load(options: ModelOptions) -> Transcriber:
    """`load_model` with its arguments in one object."""
    if options.directory is None:
        options = dataclasses.replace(options, directory=BUNDLED_MODEL)
    if options.threads:
        torch.set_num_threads(options.threads)
    set_up_memory()
    recogniser = load_recogniser(options)
    # A model without a detector of its own takes the bundled one's.
    own = Path(options.directory or BUNDLED_MODEL) / VAD_FILE
    detector = load_speech_detector(own if own.exists() else BUNDLED_MODEL / VAD_FILE)
    return_free_memory()
    return Transcriber(recogniser, detector)


class Transcriber:
    """A loaded model; `load_model` makes one.

    The same input, batch size and device give the same output.

    Arguments:
        recogniser: the model.
        detector: finds speech; None takes everything for it that is not silent.
    """

    def __init__(self, recogniser: SegmentRecogniser, detector: SpeechDetector | None = None) -> None:
        self.recogniser = recogniser
        """What recognises segments, for those who measure its parts."""
        self._detector = detector
        self._on_cpu = recogniser.info.device.startswith("cpu")

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model knows."""
        return self.recogniser.languages

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the model can write of speech."""
        return self.recogniser.tasks

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it computes with on this machine."""
        return self.recogniser.info

    def collect_routing(self) -> AbstractContextManager[list[LayerRouting]]:
        """Count where the decoder's experts are used by what is transcribed inside a `with` block.

        Returns:
            a context manager that gives one `LayerRouting` a decoder layer, none for a model without routed experts;
            `fun_asr.layers.routing_stats.collect_routing` says which tokens count.
        """
        decoder = getattr(getattr(self.recogniser, "network", None), "decoder", None)
        return contextlib.nullcontext([]) if decoder is None else collect_routing(decoder)

    def transcribe(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        language: str | Sequence[str] | None = None,
        decoding: Decoding = "generate",
        beam_size: int = DEFAULT_BEAM_SIZE,
        batch_size: int = 16,
        word_times: bool = True,
        punctuation: bool = True,
        itn: bool = True,
        hotwords: Phrases = (),
        task: Task = "transcribe",
        initial_prompt: str = "",
        temperature_fallback: bool = False,
        channels: str = "mix",
        track: str | int | None = None,
        strict: bool = False,
        on_progress: Progress | None = None,
    ) -> Generator[Result, None, None]:
        """Transcribe recordings of any number and length, in memory that depends on neither.

        Arguments:
            paths: audio or video files; taken one by one, shortly before they are opened.
            language: code, tag such as pt-BR, or name; several are those that are looked for. None and several detect
                it in every segment, which keeps its recording's language unless it is clearly in another one.
                Detection needs the decoder: with `ctc`, a language that is not given stays None.
            decoding: "generate", or "ctc", which is faster, less accurate and knows English only; it uses the model's
                n-gram language model if it has one.
            beam_size: hypotheses kept in "generate"; 1 is greedy search.
            batch_size: most segments (of at most 30 s) recognised at once.
            word_times: give English words times and confidence; the CTC head knows no other language.
            punctuation: make sentences of the bare words of "ctc".
            itn: write numbers, dates, amounts and the like in digits and symbols (inverse text normalization).
            hotwords: phrases to prefer where the model finds them plausible, such as names; or pairs of a phrase and
                its weight, 1 being that of the others. They change which words are written, never their probabilities.
            task: "translate" writes English whatever is spoken, with a model that can.
            initial_prompt: text that the model takes for what was said before each segment: names and spelling to
                follow. It needs a decoder that writes words one after another.
            temperature_fallback: try a segment with a loop or an unlikely text again at random, ever more freely, as
                Whisper does; for models without a CTC head, which tells what was not said.
            channels: "mix" (one channel alone where they cancel each other), "left", "right", a number from 1, or
                "each": every channel by itself, its number in `Segment.channel`.
            track: of a file with several audio tracks: a number from 1, a language, or "all"; None is the one that a
                player would choose.
            strict: refuse a recording of which a part cannot be decoded, instead of transcribing the rest and saying
                what is lost (`Transcript.lost`).
            on_progress: called with the seconds of audio finished since the last call.

        Returns:
            an iterator over a `Transcript`, or a `TranscriptionFailure`, for each path in the order of the paths, each
            as soon as it and those before it are done. One recording's failure leaves the others as they were.

        Raises:
            ConfigError: for a language that the model lacks, a hotword that cannot be used, or another option out of
                range.
        """
        given, among = known_codes(language)
        options = TranscriptionOptions(
            language=given,
            languages=among,
            decoding=decoding,
            beam_size=beam_size,
            batch_size=batch_size,
            word_times=word_times,
            punctuation=punctuation,
            itn=itn,
            hotwords=checked_hotwords(hotwords),
            task=task,
            initial_prompt=initial_prompt,
            temperature_fallback=temperature_fallback,
            audio=AudioOptions(channels=channels, track=None if track is None else str(track), strict=strict),
        )
        return self.run(paths, options, on_progress)

    def run(
        self,
        paths: Iterable[str | os.PathLike[str]],
        options: TranscriptionOptions,
        on_progress: Progress | None = None,
        on_segments: NewSegments | None = None,
    ) -> Generator[Result, None, None]:
        """`transcribe` with its options in one object.

        Arguments:
            on_segments: called with a path and the segments that are known since the last call, in the order in which
                each recording was read, long before the transcript is whole.
        """
        self._check(options)
        return self._transcribe(paths, options, on_progress, on_segments)

    def stream(
        self,
        *,
        sampling_rate: int = SAMPLE_RATE,
        language: str | Sequence[str] | None = None,
        beam_size: int = DEFAULT_BEAM_SIZE,
        word_times: bool = True,
        itn: bool = True,
        hotwords: Phrases = (),
        silence: float = 0.6,
        interval: float = 0.4,
    ) -> Stream:
        """Recognise speech while it is spoken.

        Arguments:
            sampling_rate: of the samples that will be fed, Hz.
            language, beam_size, word_times, itn, hotwords: as for `transcribe`, of what is final.
            silence: seconds without speech that end an utterance.
            interval: seconds of sound between two partial results; 0 gives none.

        Raises:
            ConfigError: as for `transcribe`.
        """
        given, among = known_codes(language)
        options = TranscriptionOptions(
            language=given,
            languages=among,
            beam_size=beam_size,
            word_times=word_times,
            itn=itn,
            hotwords=checked_hotwords(hotwords),
        )
        return self.run_stream(options, sampling_rate, StreamOptions(silence=silence, interval=interval))

    def run_stream(
        self, options: TranscriptionOptions, sampling_rate: int = SAMPLE_RATE, stream: StreamOptions = DEFAULT_STREAM
    ) -> Stream:
        """`stream` with its options in objects."""
        self._check(options)
        if self._detector is None:
            raise ConfigError("a stream needs a speech detector")
        return Stream(self.recogniser, self._detector, options, sampling_rate, stream)

    def transcribe_samples(
        self,
        samples: npt.ArrayLike,
        *,
        sampling_rate: int = SAMPLE_RATE,
        language: str | Sequence[str] | None = None,
        decoding: Decoding = "generate",
        beam_size: int = DEFAULT_BEAM_SIZE,
        batch_size: int = 16,
        word_times: bool = True,
        punctuation: bool = True,
        itn: bool = True,
        hotwords: Phrases = (),
        task: Task = "transcribe",
        initial_prompt: str = "",
        temperature_fallback: bool = False,
    ) -> Transcript:
        """Transcribe a waveform in memory.

        Arguments:
            samples: mono `[samples]`, floating point in [-1, 1] or int16.
            sampling_rate: of the samples, Hz.
            language, decoding, beam_size, batch_size, word_times, punctuation, itn, hotwords, task, initial_prompt,
                temperature_fallback: as for `transcribe`.

        Raises:
            ConfigError: as for `transcribe`, and when the samples are not one row of such numbers.
        """
        given, among = known_codes(language)
        options = TranscriptionOptions(
            language=given,
            languages=among,
            decoding=decoding,
            beam_size=beam_size,
            batch_size=batch_size,
            word_times=word_times,
            punctuation=punctuation,
            itn=itn,
            hotwords=checked_hotwords(hotwords),
            task=task,
            initial_prompt=initial_prompt,
            temperature_fallback=temperature_fallback,
        )
        return self.run_samples(samples, options, sampling_rate)

    def run_samples(
        self, samples: npt.ArrayLike, options: TranscriptionOptions, sampling_rate: int = SAMPLE_RATE
    ) -> Transcript:
        """`transcribe_samples` with its options in one object."""
        self._check(options)
        blocks = [resampled(checked_samples(samples), sampling_rate)]

        def events() -> Iterator[AudioSegment | EndOfRecording]:
            yield from cut_stream(0, blocks, self.recogniser.segment_seconds, self._detector)
            yield EndOfRecording(0, None)

        result = next(self._results(events(), {0: RecordingState(None, options.language)}, options, None))
        assert isinstance(result, Transcript)
        return result

    def _check(self, options: TranscriptionOptions) -> None:
        """Raises ConfigError for what this model cannot do."""
        for code in (options.language, *options.languages):
            if code is not None and code not in self.languages:
                raise ConfigError(f"language {code!r} is unknown to the model; it has {', '.join(self.languages)}")
        if options.task not in self.tasks:
            raise ConfigError(f"task {options.task}: this model can only {' and '.join(self.tasks)}")
        self.recogniser.prepare(options)

    def _transcribe(
        self,
        paths: Iterable[str | os.PathLike[str]],
        options: TranscriptionOptions,
        on_progress: Progress | None,
        on_segments: NewSegments | None,
    ) -> Generator[Result, None, None]:
        recordings: dict[int, RecordingState] = {}

        def opened() -> Iterator[str]:
            for index, path in enumerate(paths):
                name = os.fsdecode(path)
                recordings[index] = RecordingState(name, options.language)
                yield name

        # Closed with this iterator, so that the readers end when the caller stops early.
        segments = read_segments(
            opened(), self.recogniser.segment_seconds, default_workers(), self._detector, options.audio
        )
        with closing(segments) as events:
            yield from self._results(events, recordings, options, on_progress, on_segments)

    def _results(
        self,
        events: Iterator[AudioSegment | EndOfRecording],
        recordings: dict[int, RecordingState],
        options: TranscriptionOptions,
        on_progress: Progress | None,
        on_segments: NewSegments | None = None,
    ) -> Iterator[Result]:
        """Fill the pool, take a batch of like lengths from it, recognise it; `recordings` loses what is yielded."""
        on_cpu = self._on_cpu
        pool = SegmentPool(
            # Deep enough that a batch finds segments of its length; an accelerator is fed by its batch size alone.
            max_seconds=POOL_SECONDS if on_cpu else max(POOL_SECONDS, options.batch_size * BATCH_SEGMENT_SECONDS),
            max_segments=POOL_BATCHES * options.batch_size,
            batch_size=options.batch_size,
            padded_seconds=PADDED_SECONDS_ON_CPU if on_cpu else options.batch_size * BATCH_SEGMENT_SECONDS,
        )
        detects = options.decoding == "generate" and self.recogniser.detects_languages
        first = 0  # recording not yielded yet

        def ready() -> Iterator[Result]:
            nonlocal first
            while first in recordings and (result := recordings[first].result(self.info)) is not None:
                del recordings[first]
                first += 1
                yield result

        def report(seconds: float) -> None:
            if on_progress is not None and seconds:
                on_progress(seconds)

        def announce(owners: Iterable[RecordingState]) -> None:
            if on_segments is not None:
                for owner in owners:
                    if fresh := owner.fresh():
                        on_segments(owner.path, fresh)

        exhausted = False
        while not exhausted or pool:
            # Only what is read, never how fast, decides on a batch: the output must not depend on timing.
            while not exhausted and not pool.full:
                event = next(events, None)
                if event is None:
                    exhausted = True
                else:
                    done = self._receive(event, recordings[event.recording], pool)
                    report(done)
                    if done:
                        announce([recordings[event.recording]])
                    yield from ready()
            if pool:
                undetected = self._undetected(recordings) if detects else frozenset()
                batch = pool.take(undetected)
                owners = [recordings[segment.recording] for segment in batch]
                found = self.recogniser.recognise(
                    batch,
                    [owner.language for owner in owners],
                    options,
                    [owner.language_evidence for owner in owners],
                )
                for owner, segment, recognised in zip(owners, batch, found, strict=True):
                    owner.pending -= 1
                    owner.add(segment, recognised)
                return_free_memory()
                announce(recordings[index] for index in sorted({segment.recording for segment in batch}))
                report(sum(segment.span.seconds for segment in batch))
            yield from ready()

    @staticmethod
    def _undetected(recordings: dict[int, RecordingState]) -> frozenset[int]:
        return frozenset(
            index
            for index, recording in recordings.items()
            if recording.language is None and recording.language_evidence is None
        )

    @staticmethod
    def _receive(event: AudioSegment | EndOfRecording, recording: RecordingState, pool: SegmentPool) -> float:
        """Take what was read; returns the seconds of it that are done with."""
        if isinstance(event, EndOfRecording):
            recording.ended, recording.error, recording.report = True, event.error, event.report
            if event.error is not None:
                pool.drop(event.recording)
            return 0.0
        recording.expect(event)
        if event.speech and not is_silent(event.samples):
            recording.pending += 1
            pool.add(event)
            return 0.0
        recording.add(event, RecognisedSegment())
        return event.span.seconds


def known_codes(language: str | Sequence[str] | None) -> tuple[str | None, tuple[str, ...]]:
    """The code of the one language that a caller gives, or those of several to look for.

    Raises:
        ConfigError: for what is no language.
    """
    named = [] if language is None else [language] if isinstance(language, str) else list(language)
    codes: dict[str, None] = {}
    for name in named:
        code = language_code(name)
        if code is None:
            raise ConfigError(unknown_language(name))
        codes[code] = None
    return (next(iter(codes)), ()) if len(codes) == 1 else (None, tuple(codes))
