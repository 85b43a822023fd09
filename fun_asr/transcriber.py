"""The one path from audio to text: decode, segment, batch, encode, guard, decode tokens, assemble transcripts."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.features import log_mel
from fun_asr.audio.prefetch import AudioSegment, EndOfRecording, cut_stream, default_workers, read_segments
from fun_asr.audio.segment import Span
from fun_asr.audio.vad import SpeechDetector, load_speech_detector
from fun_asr.bundled import BUNDLED_MODEL
from fun_asr.decoding import ctc
from fun_asr.decoding.drafts import Draft, find_words
from fun_asr.decoding.generate import GenerateOptions, Hypothesis, detect_languages, generate
from fun_asr.decoding.guard import BLOCKED_NGRAM, has_speech, is_silent, without_loops
from fun_asr.decoding.hotwords import Hotwords, HotwordTree
from fun_asr.decoding.language_model import NGramModel
from fun_asr.decoding.pool import SegmentPool
from fun_asr.decoding.rescore import best_hypothesis
from fun_asr.decoding.words import WrittenWord, written_words
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.model.checkpoint import CTC_LANGUAGE_MODEL_FILE, CTC_TOKENIZER_FILE, TOKENIZER_FILE, VAD_FILE
from fun_asr.model.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.model.fun_asr import FunASR
from fun_asr.model.precision import resolve_compute_type, resolve_device
from fun_asr.model.quantize import load_network
from fun_asr.model.routing_stats import LayerRouting, collect_routing
from fun_asr.recording import FinishedSegment, RecordingState
from fun_asr.text.hotwords import Hotword, checked_hotwords
from fun_asr.text.punctuation import Punctuator
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer, language_code
from fun_asr.transcript import Transcript, TranscriptionFailure, Word

__all__ = ["Result", "Transcriber", "load_model"]

SEGMENT_SECONDS = 30.0
POOL_SECONDS = 600.0  # of audio that waits for a batch: 38 MB
POOL_BATCHES = 16
KEPT_PRIMITIVES = 16  # compiled oneDNN operations: the layers of one batch share theirs
PADDED_SECONDS_ON_CPU = 240.0  # of a batch: more makes the caches miss, not the products faster

DEFAULT_BEAM = 3  # by bin/benchmark: a sixth fewer errors than greedy search on Common Voice, little slower
BEAM_MARGIN = 2.0  # nats: a third fewer hypotheses, the words of the dev sets unchanged
CTC_LANGUAGE = "en"  # of the CTC head's vocabulary: only its words have times

Decoding = Literal["generate", "ctc"]
Result = Transcript | TranscriptionFailure
Progress = Callable[[float], object]
Phrases = Iterable[str | tuple[str, float]]


def load_model(
    directory: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    compute_type: str = "auto",
    threads: int = 0,
) -> Transcriber:
    """Load a model for transcription.

    Arguments:
        directory: a model directory; None is the model inside the package.
        device: "auto", "cpu", "cuda" or "cuda:N".
        compute_type: "auto", "float32", "bfloat16" or "int8" (CPU only).
        threads: CPU threads of the network, for the whole process; 0 leaves torch's own number.

    Raises:
        CheckpointError: when the directory holds no model, or a damaged one.
        ConfigError: when the device or compute type is unknown or not available.
    """
    model_directory = BUNDLED_MODEL if directory is None else Path(directory)
    if threads < 0:
        raise ConfigError(f"threads must not be negative, got {threads}")
    where = resolve_device(device)
    kind = resolve_compute_type(compute_type, where)
    if threads:
        torch.set_num_threads(threads)
    # By default oneDNN keeps 1,024 with their memory, one for every shape met: an hour's recording took 0.7 GB more.
    # It reads this before its first operation in the process.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_PRIMITIVES))
    network = load_network(model_directory, where, kind)
    tokenizer = Tokenizer(model_directory / TOKENIZER_FILE)
    ctc_tokenizer = CTCTokenizer(model_directory / CTC_TOKENIZER_FILE)
    language_model_file = model_directory / CTC_LANGUAGE_MODEL_FILE
    language_model = NGramModel.load(language_model_file) if language_model_file.exists() else None
    config = network.config
    if tokenizer.no_timestamps >= config.decoder.vocab_size or ctc_tokenizer.vocab_size != config.ctc.vocab_size:
        raise CheckpointError(f"{model_directory}: the tokenizers do not belong to this model")
    detector = load_speech_detector(model_directory / VAD_FILE)
    return Transcriber(network, tokenizer, ctc_tokenizer, where, detector, language_model)


@dataclass(frozen=True, kw_only=True)
class _Options:
    decoding: Decoding
    beam_size: int | None
    batch_size: int
    word_times: bool
    punctuation: bool
    itn: bool
    hotwords: Hotwords | None
    on_progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.decoding not in get_args(Decoding):
            raise ConfigError(f"decoding {self.decoding!r} is unknown; use {' or '.join(get_args(Decoding))}")
        if self.decoding == "ctc" and self.beam_size is not None:
            raise ConfigError("beam_size belongs to decoding 'generate'")
        if self.width < 1 or self.batch_size < 1:
            raise ConfigError(f"beam_size and batch_size must be at least 1, got {self.width} and {self.batch_size}")

    @property
    def width(self) -> int:
        """Of the beam."""
        return DEFAULT_BEAM if self.beam_size is None else self.beam_size


class Transcriber:
    """A loaded model; `load_model` makes one.

    The same input, batch size and device give the same output.
    """

    def __init__(
        self,
        network: FunASR,
        tokenizer: Tokenizer,
        ctc_tokenizer: CTCTokenizer,
        device: torch.device,
        detector: SpeechDetector | None = None,
        language_model: NGramModel | None = None,
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._ctc_tokenizer = ctc_tokenizer
        self._device = device
        self._detector = detector
        self._language_model = language_model
        # Of the last call: a list of thousands takes a second to spell, and most callers have one list.
        self._known_hotwords: tuple[tuple[Hotword, ...], Hotwords] | None = None
        self._segment_seconds = min(SEGMENT_SECONDS, network.config.encoder.max_frames / ENCODER_FRAMES_PER_SECOND)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model's vocabulary has."""
        return tuple(self._tokenizer.languages)

    def collect_routing(self) -> AbstractContextManager[list[LayerRouting]]:
        """Count where the decoder's experts are used by what is transcribed inside a `with` block.

        Returns:
            a context manager that gives one `LayerRouting` a decoder layer, none for a model without routed experts;
            `fun_asr.model.routing_stats.collect_routing` says which tokens count.
        """
        return collect_routing(self._network.decoder)

    def transcribe(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        language: str | None = None,
        decoding: Decoding = "generate",
        beam_size: int | None = None,
        batch_size: int = 16,
        word_times: bool = True,
        punctuation: bool = True,
        itn: bool = True,
        hotwords: Phrases = (),
        on_progress: Progress | None = None,
    ) -> Generator[Result, None, None]:
        """Transcribe recordings of any number and length, in memory that depends on neither.

        Arguments:
            paths: audio or video files; taken one by one, shortly before they are opened.
            language: code or English name; None detects it on each recording's first segment with speech. Detection
                needs the decoder: with `ctc`, a language that is not given stays None.
            decoding: "generate", or "ctc", which is faster, less accurate and knows English only; it uses the model's
                n-gram language model if it has one.
            beam_size: hypotheses kept in "generate", by default 3; 1 is greedy search.
            batch_size: most segments (of at most 30 s) recognised at once.
            word_times: give English words times and confidence; the CTC head knows no other language.
            punctuation: make sentences of the bare words of "ctc".
            itn: write numbers, dates, amounts and the like in digits and symbols (inverse text normalization).
            hotwords: phrases to prefer where the model finds them plausible, such as names; or pairs of a phrase and
                its weight, 1 being that of the others. They change which words are written, never their probabilities.
            on_progress: called with the seconds of audio finished since the last call.

        Returns:
            an iterator over a `Transcript`, or a `TranscriptionFailure`, for each path in the order of the paths, each
            as soon as it and those before it are done. One recording's failure leaves the others as they were.

        Raises:
            ConfigError: for a language that the model lacks, a hotword that cannot be used, or another option out of
                range.
        """
        code = self._known_language(language)
        options = _Options(
            decoding=decoding,
            beam_size=beam_size,
            batch_size=batch_size,
            word_times=word_times,
            punctuation=punctuation,
            itn=itn,
            hotwords=self._hotwords(hotwords),
            on_progress=on_progress,
        )
        return self._transcribe(paths, code, options)

    def transcribe_samples(
        self,
        samples: npt.NDArray[np.float32],
        *,
        language: str | None = None,
        decoding: Decoding = "generate",
        beam_size: int | None = None,
        batch_size: int = 16,
        word_times: bool = True,
        punctuation: bool = True,
        itn: bool = True,
        hotwords: Phrases = (),
    ) -> Transcript:
        """Transcribe a waveform in memory.

        Arguments:
            samples: floating-point `[samples]`, mono at 16 kHz, in [-1, 1].
            language, decoding, beam_size, batch_size, word_times, punctuation, itn, hotwords: as for `transcribe`.

        Raises:
            ConfigError: as for `transcribe`.
            ValueError: when the samples are not one row of finite floating-point numbers.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
            raise ValueError(
                f"need finite floating-point mono samples of shape [samples], got {samples.dtype} {list(samples.shape)}"
            )
        code = self._known_language(language)
        options = _Options(
            decoding=decoding,
            beam_size=beam_size,
            batch_size=batch_size,
            word_times=word_times,
            punctuation=punctuation,
            itn=itn,
            hotwords=self._hotwords(hotwords),
        )
        samples = samples.astype(np.float32, copy=False)

        def events() -> Iterator[AudioSegment | EndOfRecording]:
            yield from cut_stream(0, [samples], self._segment_seconds, self._detector)
            yield EndOfRecording(0, None)

        result = next(self._results(events(), {0: RecordingState(None, code)}, options))
        assert isinstance(result, Transcript)
        return result

    def _known_language(self, language: str | None) -> str | None:
        code = None if language is None else language_code(language)
        if language is not None and code not in self._tokenizer.languages:
            raise ConfigError(f"language {language!r} is unknown to the model; it has {', '.join(self.languages)}")
        return code

    def _hotwords(self, phrases: Phrases) -> Hotwords | None:
        checked = checked_hotwords(phrases)
        if not checked:
            return None
        if self._known_hotwords is None or self._known_hotwords[0] != checked:
            self._known_hotwords = (checked, Hotwords(checked, self._tokenizer, self._ctc_tokenizer))
        return self._known_hotwords[1]

    def _transcribe(
        self, paths: Iterable[str | os.PathLike[str]], code: str | None, options: _Options
    ) -> Generator[Result, None, None]:
        recordings: dict[int, RecordingState] = {}

        def opened() -> Iterator[str]:
            for index, path in enumerate(paths):
                name = os.fsdecode(path)
                recordings[index] = RecordingState(name, code)
                yield name

        # Closed with this iterator, so that the readers end when the caller stops early.
        segments = read_segments(opened(), self._segment_seconds, default_workers(), self._detector)
        with closing(segments) as events:
            yield from self._results(events, recordings, options)

    def _results(
        self,
        events: Iterator[AudioSegment | EndOfRecording],
        recordings: dict[int, RecordingState],
        options: _Options,
    ) -> Iterator[Result]:
        """Fill the pool, take a batch of like lengths from it, recognise it; `recordings` loses what is yielded."""
        on_cpu = self._device.type == "cpu"
        pool = SegmentPool(
            # Deep enough that a batch finds segments of its length; an accelerator is fed by its batch size alone.
            max_seconds=POOL_SECONDS if on_cpu else max(POOL_SECONDS, options.batch_size * SEGMENT_SECONDS),
            max_segments=POOL_BATCHES * options.batch_size,
            batch_size=options.batch_size,
            padded_seconds=PADDED_SECONDS_ON_CPU if on_cpu else options.batch_size * SEGMENT_SECONDS,
        )
        first = 0  # recording not yielded yet

        def ready() -> Iterator[Result]:
            nonlocal first
            while first in recordings and (result := recordings[first].result()) is not None:
                del recordings[first]
                first += 1
                yield result

        exhausted = False
        while not exhausted or pool:
            # Only what is read, never how fast, decides on a batch: the output must not depend on timing.
            while not exhausted and not pool.full:
                event = next(events, None)
                if event is None:
                    exhausted = True
                else:
                    self._receive(event, recordings[event.recording], pool, options)
                    yield from ready()
            if pool:
                undetected = self._undetected(recordings) if options.decoding == "generate" else frozenset()
                batch = pool.take(undetected)
                self._recognise(batch, recordings, options)
                _return_free_memory()
                _report(options, sum(segment.span.seconds for segment in batch))
            yield from ready()

    @staticmethod
    def _undetected(recordings: dict[int, RecordingState]) -> frozenset[int]:
        return frozenset(index for index, recording in recordings.items() if recording.language is None)

    @staticmethod
    def _receive(
        event: AudioSegment | EndOfRecording, recording: RecordingState, pool: SegmentPool, options: _Options
    ) -> None:
        if isinstance(event, EndOfRecording):
            recording.ended, recording.error = True, event.error
            if event.error is not None:
                pool.drop(event.recording)
            return
        recording.samples = event.span.end
        if not event.speech or is_silent(event.samples):
            recording.finished.append(FinishedSegment(event.span))
            recording.silent_segments += 1
            _report(options, event.span.seconds)
        else:
            recording.pending += 1
            pool.add(event)

    @torch.inference_mode()
    def _recognise(self, batch: list[AudioSegment], recordings: dict[int, RecordingState], options: _Options) -> None:
        """Recognise a batch in one run of the encoder and note the texts in their recordings."""
        config = self._network.config
        features, lengths_B = log_mel(
            [segment.samples for segment in batch], n_mels=config.encoder.n_mels, device=self._device
        )
        encoded, lengths_B = self._network.encode(features, lengths_B)
        log_probs, ctc_lengths_B = self._network.ctc(encoded, lengths_B)
        blank = self._ctc_tokenizer.blank
        heard = [b for b, speech in enumerate(has_speech(log_probs, ctc_lengths_B, blank)) if speech]
        frames = [row[:length] for row, length in zip(log_probs, ctc_lengths_B.tolist(), strict=True)]
        drafts: dict[int, Draft] = {}
        if options.decoding == "ctc":
            hypotheses = self._search_ctc(log_probs, ctc_lengths_B, frames, options.hotwords)
            best_BJ = log_probs.amax(dim=-1).cpu()
            for b in heard:
                score = best_BJ[b, : int(ctc_lengths_B[b])].mean()
                words = self._ctc_tokenizer.decode(hypotheses[b]).split()
                drafts[b] = Draft([WrittenWord(word) for word in words], float(score))
        elif heard:
            drafts = self._generate(encoded, lengths_B, frames, heard, batch, recordings, options)
        self._find_words(drafts, log_probs, ctc_lengths_B, batch, recordings, options)
        for b, segment in enumerate(batch):
            recording = recordings[segment.recording]
            recording.pending -= 1
            recording.finished.append(self._finished(segment.span, drafts.get(b), recording, options))

    def _find_words(
        self,
        drafts: dict[int, Draft],
        log_probs: Tensor,
        ctc_lengths_B: Tensor,
        batch: list[AudioSegment],
        recordings: dict[int, RecordingState],
        options: _Options,
    ) -> None:
        """Find the words of the drafts in CTC's language."""
        if options.decoding == "ctc":
            known = [b for b, draft in drafts.items() if draft.words and options.word_times]
        else:
            # Also where no times are asked for: the guard needs them.
            languages = {b: recordings[batch[b].recording].language for b in drafts}
            known = [b for b, draft in drafts.items() if draft.words and languages[b] == CTC_LANGUAGE]
        find_words(
            [drafts[b] for b in known],
            [log_probs[b, : int(ctc_lengths_B[b])].cpu().numpy() for b in known],
            [batch[b].samples for b in known],
            self._ctc_tokenizer,
        )

    def _finished(
        self, span: Span, draft: Draft | None, recording: RecordingState, options: _Options
    ) -> FinishedSegment:
        """The segment's result; the recording counts what the guard did."""
        if draft is None or not draft.words:
            recording.silent_segments += 1
        if draft is None:
            return FinishedSegment(span)
        recording.loops += draft.looped
        recording.cut_words += draft.cut_words
        by_ctc = options.decoding == "ctc"
        punctuator = self._punctuator if by_ctc and options.punctuation else None
        written = draft.formatted(CTC_LANGUAGE if by_ctc else recording.language, punctuator, itn=options.itn)
        words: tuple[Word, ...] = ()
        if written.timed is not None and options.word_times:
            recording.word_times = True
            words = written.words_from(span.start, SAMPLE_RATE)
        score = draft.score if draft.words else None
        return FinishedSegment(span, written.text, draft.text, score, words)

    @cached_property
    def _punctuator(self) -> Punctuator:
        return Punctuator.load()

    def _search_ctc(
        self, log_probs: Tensor, lengths_B: Tensor, frames: list[Tensor], hotwords: Hotwords | None
    ) -> list[list[int]]:
        """The CTC head's own tokens of each segment."""
        blank, model = self._ctc_tokenizer.blank, self._language_model
        if model is None and hotwords is None:
            return ctc.greedy(log_probs, lengths_B, blank)
        trees = [None if hotwords is None else hotwords.ctc_tree(row.cpu().numpy()) for row in frames]
        return [ctc.prefix_search(row, blank, model, hotwords=tree) for row, tree in zip(frames, trees, strict=True)]

    def _generate(
        self,
        encoded: Tensor,
        lengths_B: Tensor,
        frames: list[Tensor],
        heard: list[int],
        batch: list[AudioSegment],
        recordings: dict[int, RecordingState],
        options: _Options,
    ) -> dict[int, Draft]:
        """Drafts of the segments `heard` of a batch; their recordings learn their language."""
        if len(heard) < len(batch):
            rows = torch.tensor(heard, device=self._device)
            lengths_B = lengths_B[rows]
            encoded = encoded[rows, : int(lengths_B.max())]
        owners = [recordings[batch[b].recording] for b in heard]
        generate_options = GenerateOptions(
            beam_size=options.width, margin=BEAM_MARGIN, suppress=self._tokenizer.captions
        )
        if options.hotwords is not None:
            trees = self._trees(options.hotwords, encoded, lengths_B, [frames[b] for b in heard], owners)
            generate_options = replace(generate_options, hotwords=trees)

        def decode(places: list[int], generate_options: GenerateOptions) -> list[Hypothesis]:
            languages = [owners[place].language for place in places]
            rows = torch.tensor(places, device=self._device)
            memory = encoded[rows] if len(places) < len(heard) else encoded
            return generate(
                self._network.decoder, memory, lengths_B[rows], self._tokenizer, languages, generate_options
            )

        hypotheses = decode(list(range(len(heard))), generate_options)
        chosen = []
        for owner, hypothesis in zip(owners, hypotheses, strict=True):
            if owner.language is None:
                owner.language = hypothesis.language
                owner.language_probability = hypothesis.language_probability
            if self._language_model is not None and owner.language == CTC_LANGUAGE:
                hypothesis = best_hypothesis(hypothesis, self._language_model, self._tokenizer, self._ctc_tokenizer)
            chosen.append(hypothesis)
        # Without hotwords: one may be what was repeated.
        again = replace(generate_options, beam_size=1, no_repeat_ngram=BLOCKED_NGRAM, hotwords=None)
        hypotheses, looped = without_loops(chosen, lambda places: decode(places, again))
        return {
            b: Draft(written_words(self._tokenizer, found.tokens, found.log_probs), found.score, had_loop)
            for b, found, had_loop in zip(heard, hypotheses, looped, strict=True)
        }

    def _trees(
        self,
        hotwords: Hotwords,
        encoded: Tensor,
        lengths_B: Tensor,
        frames: list[Tensor],
        owners: list[RecordingState],
    ) -> list[HotwordTree | None]:
        """The hotwords for each segment; its recording's language is found first, as not all have the same phrases."""
        unknown = [place for place, owner in enumerate(owners) if owner.language is None]
        if unknown:
            rows = torch.tensor(unknown, device=self._device)
            ranked = detect_languages(self._network.decoder, encoded[rows], lengths_B[rows], self._tokenizer)
            for place, probabilities in zip(unknown, ranked, strict=True):
                if owners[place].language is None:
                    owners[place].language, owners[place].language_probability = next(iter(probabilities.items()))
        return [
            hotwords.decoder_tree(row.cpu().numpy() if owner.language == CTC_LANGUAGE else None)
            for row, owner in zip(frames, owners, strict=True)
        ]


def _return_free_memory() -> None:
    """Give freed memory back to the system: batches of many sizes leave glibc's heap ever larger, 3 GB in an hour."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _report(options: _Options, seconds: float) -> None:
    if options.on_progress is not None:
        options.on_progress(seconds)
