"""The one path from audio to text: decode, segment, pool, recognise in batches, assemble transcripts in order."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from itertools import count
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, overload

import numpy.typing as npt
import torch

from fun_asr.audio.arrays import checked_samples, resampled
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.excerpt import Excerpt
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.prefetch import AudioSegment, EndOfRecording, cut_stream, default_workers, read_segments
from fun_asr.audio.spool import Source, Spool, is_source
from fun_asr.audio.vad import SpeechDetector, load_speech_detector
from fun_asr.bundled import BUNDLED_MODEL
from fun_asr.callbacks import iterate
from fun_asr.clips import checked_clips, cut_into, joined
from fun_asr.decoding.guard import is_silent
from fun_asr.errors import AudioDecodeError, ConfigError
from fun_asr.layers.routing_stats import LayerRouting, collect_routing
from fun_asr.memory import return_free_memory, set_up_memory
from fun_asr.models.protocol import RecognisedSegment, SegmentRecogniser
from fun_asr.models.registry import load_recogniser
from fun_asr.options import Decoding, ModelOptions, Task, TranscriptionOptions
from fun_asr.probing import Audio, DetectedLanguage, align_text, detect_language, samples_of
from fun_asr.progress import OnProgress, Progress
from fun_asr.recognition import Recognition, recognition
from fun_asr.recording import RecordingState
from fun_asr.streaming.live import DEFAULT_STREAM, StreamOptions
from fun_asr.streaming.stream import Stream
from fun_asr.text.hotwords import checked_hotwords
from fun_asr.text.languages import language_code, language_in, unknown_language
from fun_asr.transcript import ModelInfo, Result, Segment, Transcript, TranscriptionFailure, Word
from fun_asr.weights.directory import VAD_FILE

__all__ = ["Transcriber", "load", "load_model"]

AudioDone = Callable[[float], object]
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


class TranscriptionKeywords(TypedDict, total=False):
    """Options of `Transcriber.transcribe` and its like; all may be left out.

    Arguments:
        language: code, tag such as pt-BR, or name; several are those that are looked for. None and several detect
            it in every segment, which keeps its recording's language unless it is clearly in another one.
            Detection needs the decoder: with `ctc`, a language that is not given stays None.
        decoding: "generate", or "ctc", which is faster, less accurate and knows English only; it uses the model's
            n-gram language model if it has one.
        beam_size: hypotheses kept in "generate"; 1 is greedy search.
        batch_size: most segments (of at most 30 s) recognised at once.
        word_times: give words times and confidence: by CTC where it knows the language, else by cross-attention.
        punctuation: make sentences of the bare words of "ctc".
        itn: write numbers, dates, amounts and the like in digits and symbols (inverse text normalization).
        hotwords: phrases to prefer where the model finds them plausible, such as names; or pairs of a phrase and
            its weight, 1 being that of the others. They change which words are written, never their probabilities.
        task: "translate" writes English whatever is spoken, with a model that can.
        initial_prompt: text that the model takes for what was said before each segment: names and spelling to
            follow. It needs a decoder that writes words one after another.
        temperature_fallback: try a segment with a loop or an unlikely text again at random, ever more freely, as
            Whisper does; for models without a CTC head, which tells what was not said.
        clip_timestamps: seconds of each recording between which it is transcribed: start, end, start, end, ...; without
            the last end up to its end. Times stay those of the recording.
        channels: "mix" (one channel alone where they cancel each other), "left", "right", a number from 1, or
            "each": every channel by itself, its number in `Segment.channel`.
        track: of a file with several audio tracks: a number from 1, a language, or "all"; None is the one that a
            player would choose.
        strict: refuse a recording of which a part cannot be decoded, instead of transcribing the rest and saying
            what is lost (`Transcript.lost`).
    """

    language: str | Sequence[str] | None
    decoding: Decoding
    beam_size: int
    batch_size: int
    word_times: bool
    punctuation: bool
    itn: bool
    hotwords: Phrases
    task: Task
    initial_prompt: str
    temperature_fallback: bool
    clip_timestamps: Sequence[float]
    channels: str
    track: str | int | None
    strict: bool


class Transcriber:
    """A loaded model; `load_model` makes one.

    The same input, batch size and device give the same output. Several threads may use one at the same time, each gets
    what it would get alone; they share torch's threads, so that one call with all recordings is faster.

    Arguments:
        recogniser: the model.
        detector: finds speech; None takes everything for it that is not silent.
    """

    def __init__(self, recogniser: SegmentRecogniser, detector: SpeechDetector | None = None) -> None:
        self.recogniser = recogniser
        """What recognises segments, for those who measure its parts."""
        self._detector = detector

    def with_recogniser(self, recogniser: SegmentRecogniser) -> Transcriber:
        """The same, with the model behind something else, such as a queue that several share."""
        return Transcriber(recogniser, self._detector)

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

    @overload
    def transcribe(  # type: ignore[overload-overlap]  # a string is one path, not several of one letter
        self,
        sources: Source,
        *,
        raise_on_error: bool = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[TranscriptionKeywords],
    ) -> Transcript: ...
    @overload
    def transcribe(
        self,
        sources: Iterable[Source],
        *,
        raise_on_error: bool = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[TranscriptionKeywords],
    ) -> Generator[Result, None, None]: ...
    def transcribe(
        self,
        sources: Source | Iterable[Source],
        *,
        raise_on_error: bool = False,
        on_progress: OnProgress | None = None,
        **options: Unpack[TranscriptionKeywords],
    ) -> Transcript | Generator[Result, None, None]:
        """Transcribe one recording, or recordings of any number and length, in memory that depends on neither.

        Arguments:
            sources: audio or video files: their paths, or their content as bytes or as files open for reading in
                binary. Several are taken one by one, shortly before they are opened. Parts of a file are
                `fun_asr.audio.excerpt.Excerpt`s; those that follow each other in time are decoded once.
            raise_on_error: raise the error of a recording that fails, at its place, instead of giving a
                `TranscriptionFailure`.
            on_progress: called with the seconds of audio that are done and the seconds of all recordings together,
                which are None while the length of one is not known: of an iterator until its end.
            options: see `TranscriptionKeywords`.

        Returns:
            of one recording its transcript; of several an iterator over a `Transcript`, or a `TranscriptionFailure`,
            for each in their order, each as soon as it and those before it are done. One recording's failure leaves the
            others as they were.

        Raises:
            ConfigError: for a language that the model lacks, a hotword that cannot be used, or another option out of
                range.
            AudioDecodeError: when one recording was given and cannot be read.
        """
        chosen = self.check(transcription_options(options))
        if is_source(sources):
            (result,) = self._of_sources([cast(Source, sources)], chosen, on_progress)
            return result.unwrap()
        results = self._of_sources(cast("Iterable[Source]", sources), chosen, on_progress)
        return _unwrapped(results) if raise_on_error else results

    def stream_segments(
        self, source: Source, *, on_progress: OnProgress | None = None, **options: Unpack[TranscriptionKeywords]
    ) -> Iterator[Segment]:
        """The sentences of one recording, each as soon as it is known; in a long one that is long before the end.

        Arguments:
            source, on_progress, options: as for `transcribe`.

        Raises:
            ConfigError: as for `transcribe`.
            AudioDecodeError: when the recording cannot be read; what was understood before comes first.
        """
        chosen = self.check(transcription_options(options))

        def recognise(call: Callable[[Segment], None]) -> None:
            def say(_: str | None, segments: Sequence[Segment]) -> None:
                for segment in segments:
                    if segment.text:
                        call(segment)

            for result in self._of_sources([source], chosen, on_progress, say):
                result.unwrap()

        return iterate(recognise)

    def _of_sources(
        self,
        sources: Iterable[Source],
        options: TranscriptionOptions,
        on_progress: OnProgress | None,
        on_segments: NewSegments | None = None,
    ) -> Generator[Result, None, None]:
        """`run` with recordings that need not be files, and progress with totals."""
        with contextlib.ExitStack() as stack:
            spool = stack.enter_context(Spool())
            paths = spool.paths(sources)
            progress = None
            if on_progress is not None:
                progress = stack.enter_context(Progress(on_progress, sources, options))
                paths = progress.taken(paths)
            results = stack.enter_context(
                closing(self.run(paths, options, None if progress is None else progress.add, on_segments))
            )
            for number, result in enumerate(results):
                if progress is not None:
                    progress.finish(number, result)
                path = result.path
                if spool.is_spooled(path):
                    result = _renamed(result, spool.name_of(path))
                    spool.drop(path)
                yield result
            if progress is not None:
                progress.end()

    def run(
        self,
        paths: Iterable[str | os.PathLike[str]],
        options: TranscriptionOptions,
        on_audio: AudioDone | None = None,
        on_segments: NewSegments | None = None,
    ) -> Generator[Result, None, None]:
        """`transcribe` with its options in one object.

        Arguments:
            on_audio: called with the seconds of audio that are done since the last call.
            on_segments: called with a path and the segments that are known since the last call, in the order in which
                each recording was read, long before the transcript is whole.
        """
        options = self.check(options)
        return self._transcribe(paths, options, on_audio, on_segments)

    def stream(
        self,
        *,
        sampling_rate: int = SAMPLE_RATE,
        silence: float = DEFAULT_STREAM.silence,
        interval: float = DEFAULT_STREAM.interval,
        **options: Unpack[TranscriptionKeywords],
    ) -> Stream:
        """Recognise speech while it is spoken.

        Arguments:
            sampling_rate: of the samples that will be fed, Hz.
            silence: seconds without speech that end an utterance.
            interval: seconds of sound between two partial results; 0 gives none.
            options: see `TranscriptionKeywords`; how what is final is recognised.

        Raises:
            ConfigError: as for `transcribe`.
        """
        stream = StreamOptions(silence=silence, interval=interval)
        return self.run_stream(transcription_options(options), sampling_rate, stream)

    def run_stream(
        self, options: TranscriptionOptions, sampling_rate: int = SAMPLE_RATE, stream: StreamOptions = DEFAULT_STREAM
    ) -> Stream:
        """`stream` with its options in objects."""
        options = self.check(options)
        if self._detector is None:
            raise ConfigError("a stream needs a speech detector")
        return Stream(self.recogniser, self._detector, options, sampling_rate, stream)

    def transcribe_samples(
        self, samples: npt.ArrayLike, *, sampling_rate: int = SAMPLE_RATE, **options: Unpack[TranscriptionKeywords]
    ) -> Transcript:
        """Transcribe a waveform in memory.

        Arguments:
            samples: mono `[samples]`, floating point in [-1, 1] or int16.
            sampling_rate: of the samples, Hz.
            options: see `TranscriptionKeywords`; those of files do not count.

        Raises:
            ConfigError: as for `transcribe`, and when the samples are not one row of such numbers.
        """
        return self.run_samples(samples, transcription_options(options), sampling_rate)

    def run_samples(
        self, samples: npt.ArrayLike, options: TranscriptionOptions, sampling_rate: int = SAMPLE_RATE
    ) -> Transcript:
        """`transcribe_samples` with its options in one object."""
        options = self.check(options)
        blocks = [resampled(checked_samples(samples), sampling_rate)]

        def events() -> Iterator[AudioSegment | EndOfRecording]:
            yield from cut_stream(0, blocks, self.recogniser.segment_seconds, self._detector)
            yield EndOfRecording(0, None)

        recordings = {0: RecordingState(None, options.language)}
        with recognition(self.recogniser, options) as pool:
            result = next(self._results(events(), pool, recordings, options, None))
        assert isinstance(result, Transcript)
        return result

    def detect_language(
        self, audio: Audio, *, sampling_rate: int = SAMPLE_RATE, among: Sequence[str] = ()
    ) -> DetectedLanguage | None:
        """The language that is spoken first in a recording.

        Arguments:
            audio: a recording, as for `transcribe`, or mono samples, as for `transcribe_samples`.
            sampling_rate: of samples, Hz.
            among: codes, tags or names of the languages that are looked for; none for all that the model knows.

        Returns:
            the language of the first segment, of at most 30 s, in which somebody speaks; None where nobody does.

        Raises:
            ConfigError: when the model does not tell languages, or does not know one of `among`.
            AudioDecodeError: when the recording cannot be read.
        """
        one, several = known_codes(among)
        codes = several if one is None else (one,)
        checked = self.check(TranscriptionOptions(languages=codes))
        return detect_language(self.recogniser, self._detector, samples_of(audio, sampling_rate), checked.languages)

    def align(
        self, text: str, audio: Audio, *, language: str | None = None, sampling_rate: int = SAMPLE_RATE
    ) -> tuple[Word, ...]:
        """Find when the words of a text are said, by CTC where the model has it for the language, else by attention.

        Arguments:
            text: what is said, as it is written.
            audio: a recording, as for `transcribe`, or mono samples, as for `transcribe_samples`; of at most a segment
                of the model, most have 30 s.
            language: code, tag or name of the text's; None detects it.
            sampling_rate: of samples, Hz.

        Returns:
            the words with times in seconds, characters in a language without spaces; with confidence where CTC was
            asked.

        Raises:
            ConfigError: when the model cannot do it or does not know the language, or the sound is too long.
            AudioDecodeError: when the recording cannot be read.
        """
        samples = samples_of(audio, sampling_rate)
        code, _ = known_codes(language)
        if code is None:
            found = detect_language(self.recogniser, self._detector, samples)
            if found is None:
                raise ConfigError("nobody is heard in the sound, so that its language is not known: give one")
            code = found.code
        known = self.check(TranscriptionOptions(language=code)).language
        assert known is not None
        return align_text(self.recogniser, text, samples, known)

    def check(self, options: TranscriptionOptions) -> TranscriptionOptions:
        """Find out whether this model can follow options; returns them with its own codes of languages.

        Raises:
            ConfigError: when it cannot.
        """
        language = None if options.language is None else language_in(self.languages, options.language)
        among = tuple(language_in(self.languages, code) for code in options.languages)
        options = dataclasses.replace(options, language=language, languages=among)
        for code in (language, *among):
            if code is not None and code not in self.languages:
                raise ConfigError(f"language {code!r} is unknown to the model; it has {', '.join(self.languages)}")
        if options.task not in self.tasks:
            raise ConfigError(f"task {options.task}: this model can only {' and '.join(self.tasks)}")
        self.recogniser.prepare(options)
        return options

    def _transcribe(
        self,
        paths: Iterable[str | os.PathLike[str]],
        options: TranscriptionOptions,
        on_audio: AudioDone | None,
        on_segments: NewSegments | None,
    ) -> Generator[Result, None, None]:
        recordings: dict[int, RecordingState] = {}
        numbers = count()

        def opened() -> Iterator[str | Excerpt]:
            for path in paths:
                offset = path.offset if isinstance(path, Excerpt) else 0.0
                for part, start in cut_into(path, options.clip_timestamps):
                    state = RecordingState(os.fsdecode(path), options.language, offset=offset, start=start)
                    recordings[next(numbers)] = state
                    yield part

        # Closed with this iterator, so that the readers end when the caller stops early.
        segments = read_segments(
            opened(), self.recogniser.segment_seconds, default_workers(), self._detector, options.audio
        )
        with closing(segments) as events, recognition(self.recogniser, options) as pool:
            results = self._results(events, pool, recordings, options, on_audio, on_segments)
            yield from joined(results, options.clip_timestamps)

    def _results(
        self,
        events: Iterator[AudioSegment | EndOfRecording],
        pool: Recognition,
        recordings: dict[int, RecordingState],
        options: TranscriptionOptions,
        on_audio: AudioDone | None,
        on_segments: NewSegments | None = None,
    ) -> Iterator[Result]:
        """Fill the pool, have some of it recognised; `recordings` loses what is yielded."""
        detects = options.decoding == "generate" and self.recogniser.detects_languages
        first = 0  # recording not yielded yet

        def ready() -> Iterator[Result]:
            nonlocal first
            while first in recordings and (result := recordings[first].result(self.info)) is not None:
                del recordings[first]
                first += 1
                yield result

        def report(seconds: float) -> None:
            if on_audio is not None and seconds:
                on_audio(seconds)

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
                batch = pool.recognised(recordings, undetected)
                for segment, recognised in batch:
                    owner = recordings[segment.recording]
                    owner.pending -= 1
                    owner.add(segment, recognised)
                announce(recordings[index] for index in sorted({segment.recording for segment, _ in batch}))
                report(sum(segment.span.seconds for segment, _ in batch))
            yield from ready()

    @staticmethod
    def _undetected(recordings: dict[int, RecordingState]) -> frozenset[int]:
        return frozenset(
            index
            for index, recording in recordings.items()
            if recording.language is None and recording.language_evidence is None
        )

    @staticmethod
    def _receive(event: AudioSegment | EndOfRecording, recording: RecordingState, pool: Recognition) -> float:
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


def transcription_options(keywords: TranscriptionKeywords) -> TranscriptionOptions:
    """The options that a caller names, in one object.

    Raises:
        ConfigError: for a value out of range, or a name that is no option.
    """
    values: dict[str, Any] = {**keywords}
    unknown = next((name for name in values if name not in TranscriptionKeywords.__annotations__), None)
    if unknown is not None:
        raise TypeError(f"unexpected keyword argument {unknown!r}")
    values["language"], values["languages"] = known_codes(values.pop("language", None))
    values["clip_timestamps"] = checked_clips(values.pop("clip_timestamps", ()))
    values["hotwords"] = checked_hotwords(values.pop("hotwords", ()))
    audio = {name: values.pop(name) for name in ("channels", "track", "strict") if name in values}
    if audio.get("track") is not None:
        audio["track"] = str(audio["track"])
    return TranscriptionOptions(audio=AudioOptions(**audio), **values)


def _unwrapped(results: Generator[Result, None, None]) -> Generator[Result, None, None]:
    with closing(results):
        for result in results:
            yield result.unwrap()


def _renamed(result: Result, name: str | None) -> Result:
    if isinstance(result, Transcript):
        return dataclasses.replace(result, path=name)
    name = name or "a recording in memory"
    error = result.error
    return TranscriptionFailure(
        path=name, error=AudioDecodeError(name, error.cause) if isinstance(error, AudioDecodeError) else error
    )


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
