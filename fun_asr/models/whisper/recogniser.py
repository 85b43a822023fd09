"""From a batch of segments to what is written of each, by Whisper: encode, decode, guard, find word times, format.

Without a CTC head, what keeps invented text out is the probability that nobody speaks, the text itself where it repeats
itself, and the cross-attention, which tells whether a sentence that is written twice was said twice.

Shapes: B segments, L encoder frames (20 ms), D width.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.decoding.attention_times import TokenFrames
from fun_asr.decoding.generate import GenerateOptions, Hypothesis, detect_languages, generate, start_decoding
from fun_asr.decoding.guard import BLOCKED_NGRAM, cut_loops, is_repetitive, without_loops
from fun_asr.decoding.hotwords import Hotwords
from fun_asr.decoding.spoken_language import SpokenLanguage, spoken_languages
from fun_asr.decoding.words import written_words
from fun_asr.drafts import Draft
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.layers.cache import DecoderCache
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.models.cost import Cost, count_cost
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.models.text_times import (
    AlignmentHeads,
    EncodedSegments,
    TextTimes,
    attended_words,
    later_heads,
    timed_words,
    unrepeated,
)
from fun_asr.models.whisper.checkpoint import CTRANSLATE2_FILE, open_checkpoint
from fun_asr.models.whisper.config import Generation
from fun_asr.models.whisper.features import padded_log_mel
from fun_asr.models.whisper.load import load_network
from fun_asr.models.whisper.network import Whisper
from fun_asr.models.whisper.tokenizer import WhisperTokenizer
from fun_asr.options import ModelOptions, Task, TranscriptionOptions
from fun_asr.text.tokenizer import TaskPrompts
from fun_asr.transcript import ModelInfo, Word
from fun_asr.weights.ctranslate2 import read_spec
from fun_asr.weights.load import describe_network, only_shapes
from fun_asr.weights.precision import resolve_compute_type, resolve_device

__all__ = ["WhisperRecogniser", "describe", "is_own", "load"]

FAMILY = "whisper"
BEAM_MARGIN = 2.0  # nats, as for the bundled model
LEAD = 3  # frames that attention is ahead of the sound: by 214 words of 14 development clips, beside CTC's times
LARGEST_PICKLE = 16 * 2**20  # bytes: of the names of tensors alone
CTRANSLATE2_SPEC = "WhisperSpec"
# As in Whisper: nobody speaks where both the model says so and its text is unlikely.
NO_SPEECH = 0.6
UNLIKELY = -1.0
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)


def is_own(path: Path) -> bool:
    """Whether a path is OpenAI's `.pt` file, a folder with one such, or one with a CTranslate2 file of Whisper's."""
    file = path
    if path.is_dir():
        weights = path / CTRANSLATE2_FILE
        if weights.exists() and not any(path.glob("*.safetensors*")):
            with contextlib.suppress(CheckpointError):
                return read_spec(weights) == CTRANSLATE2_SPEC
        (file, *others) = [*path.glob("*.pt"), path]
        if others != [path]:
            return False
    try:
        with zipfile.ZipFile(file) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as pickle:
                names = pickle.read(LARGEST_PICKLE)
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False
    return b"model_state_dict" in names and b"n_audio_ctx" in names


def load(options: ModelOptions) -> WhisperRecogniser:
    """Load a published Whisper model.

    Arguments:
        options: whose directory is what `fun_asr.models.whisper.checkpoint.open_checkpoint` takes.

    Raises:
        CheckpointError: when a file is missing or damaged.
        ConfigError: for a device or compute type that is not available.
    """
    assert options.directory is not None
    device = resolve_device(options.device)
    compute_type = resolve_compute_type(options.compute_type, device)
    checkpoint = open_checkpoint(Path(options.directory))
    config, generation = checkpoint.config, checkpoint.generation
    tokenizer = WhisperTokenizer(
        checkpoint.folder,
        vocab_size=config.vocab_size,
        multilingual=config.multilingual if generation.multilingual is None else generation.multilingual,
    )
    return WhisperRecogniser(load_network(checkpoint, device, compute_type), tokenizer, generation, device)


def describe(path: Path, tokens_per_second: float) -> Cost:
    """What a published model costs.

    Arguments:
        path: what `load` takes.
        tokens_per_second: that the decoder reads, prompt included.

    Raises:
        CheckpointError: when a file is missing or damaged.
        ConfigError: when a segment's tokens are none, or do not fit the decoder.
    """
    config = open_checkpoint(path).config
    with only_shapes():
        network = Whisper(config)
    network.to("meta")
    seconds = config.max_frames / ENCODER_FRAMES_PER_SECOND
    tokens = round(tokens_per_second * seconds)
    if not 1 <= tokens <= config.max_tokens:
        raise ConfigError(
            f"{tokens_per_second:g} tokens a second in a segment of {seconds:g} s: the decoder takes 1 to "
            f"{config.max_tokens}"
        )
    frames = torch.empty(1, config.n_mels, 2 * config.max_frames, device="meta")
    encoded = torch.empty(1, config.max_frames, config.dim, device="meta")

    def decode() -> None:
        cache = network.decoder.start(encoded, None)
        for _ in range(tokens):
            network.decoder.step(torch.zeros(1, 1, dtype=torch.int64, device="meta"), cache)

    return count_cost(
        network,
        FAMILY,
        {"encoder": lambda: network.encode(frames, torch.tensor([frames.shape[-1]])), "decoder": decode},
        segment_seconds=seconds,
        tokens_per_second=tokens_per_second,
    )


class WhisperRecogniser:
    """Recognises the segments of one batch at a time, and keeps nothing of them.

    Arguments:
        network: the model.
        tokenizer: its.
        generation: what is published of its search.
        device: the network's.
    """

    def __init__(
        self, network: Whisper, tokenizer: WhisperTokenizer, generation: Generation, device: torch.device
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._device = device
        self._heads = AlignmentHeads(generation.alignment_heads or later_heads(network.config.decoder), LEAD)
        suppress, first = generation.suppress, generation.suppress_first
        self._search = GenerateOptions(
            suppress=tokenizer.no_speech_signs if suppress is None else suppress,
            suppress_first=tokenizer.blanks if first is None else first,
            no_speech=tokenizer.no_speech,
        )
        # Of the last call: a list of thousands takes a second to spell, and most callers have one list.
        self._spelled_hotwords = lru_cache(maxsize=1)(lambda hotwords: Hotwords(hotwords, tokenizer, None))

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it computes with on this machine."""
        return describe_network(self._network, FAMILY)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it knows."""
        return tuple(self._tokenizer.languages) if self._tokenizer.multilingual else ("en",)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can write of them."""
        translates = self._tokenizer.multilingual and self._tokenizer.translate is not None
        return ("transcribe", "translate") if translates else ("transcribe",)

    @property
    def detects_languages(self) -> bool:
        """Only multilingual models do."""
        return self._tokenizer.multilingual

    @property
    def segment_seconds(self) -> float:
        """The window that every segment is padded to."""
        return self._network.config.max_frames / ENCODER_FRAMES_PER_SECOND

    def prepare(self, options: TranscriptionOptions) -> None:
        """Find out before the first segment whether the options can be used with this model.

        Raises:
            ConfigError: for a way of decoding that it does not have, or a hotword that it cannot write.
        """
        if options.decoding != "generate":
            raise ConfigError(f"decoding {options.decoding}: a Whisper model has no CTC head")
        if options.initial_prompt and self._tokenizer.previous is None:
            raise ConfigError("initial_prompt: the model's vocabulary has no token for what came before")
        self._hotwords(options)

    @torch.inference_mode()
    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        """Recognise segments, in one run of the decoder.

        Arguments:
            segments: at least one, each with samples and none longer than `segment_seconds`.
            languages: the code of each; None detects it.
            options: how; their language does not count.
            priors: what another segment of the recording of each says of its language; None where there is none.

        Returns:
            what was recognised of each segment, in their order; no text where nobody seems to speak.
        """
        prompts = self._tokenizer.prompts(
            options.initial_prompt, self._network.config.max_tokens, translate=options.task == "translate"
        )
        if not self._tokenizer.multilingual:
            languages = ["en"] * len(segments)
        encoded = self._encode(segments)
        cache = self._start(encoded)
        spoken = spoken_languages(self._network.decoder, cache, prompts, languages, options.languages, priors)
        codes = [known.code for known in spoken]
        search = replace(self._search, beam_size=options.beam_size, margin=BEAM_MARGIN)
        hotwords = self._hotwords(options)
        if hotwords is not None:
            search = replace(search, hotwords=[hotwords.decoder_tree(None)] * len(segments))
        hypotheses = self._decode(encoded, range(len(segments)), prompts, codes, search, cache)
        if options.temperature_fallback:
            self._try_again(hypotheses, encoded, prompts, codes, search)
        written_in = ["en" if options.task == "translate" else code for code in codes]
        times = TextTimes(self._network.decoder, self._tokenizer, encoded, self._heads, prompts, codes, written_in)
        looped = self._without_loops(hypotheses, encoded, prompts, codes, search, times, options)
        heard = [bool(found.tokens) and not (options.guard and self._nobody_speaks(found)) for found in hypotheses]
        wanted = [b for b in range(len(segments)) if heard[b] and options.word_times]
        placed = dict(zip(wanted, times.of(wanted, [hypotheses[b].tokens for b in wanted]), strict=True))
        return [
            self._finished(segment, hypotheses[b], spoken[b], placed.get(b), looped=looped[b], options=options)
            if heard[b]
            else RecognisedSegment(language=languages[b], looped=looped[b])
            for b, segment in enumerate(segments)
        ]

    @torch.inference_mode()
    def language_probabilities(self, segments: Sequence[AudioSegment]) -> list[dict[str, float]]:
        """The probability of each language for each segment, at least one, by code, most likely first."""
        if not self._tokenizer.multilingual:
            return [{"en": 1.0} for _ in segments]
        prompts = self._tokenizer.prompts("", self._network.config.max_tokens, translate=False)
        return detect_languages(self._network.decoder, self._start(self._encode(segments)), prompts)

    @torch.inference_mode()
    def align(self, segment: AudioSegment, text: str, language: str) -> tuple[Word, ...]:
        """The words of a text in their places, by cross-attention.

        Arguments:
            segment: in which the text is said, with samples and no longer than `segment_seconds`.
            text: at least one word.
            language: its code.

        Returns:
            the words without confidence, characters where the language puts no spaces.
        """
        prompts = self._tokenizer.prompts("", self._network.config.max_tokens, translate=False)
        encoded = self._encode([segment])
        times = TextTimes(self._network.decoder, self._tokenizer, encoded, self._heads, prompts, [language])
        return attended_words(times, text, segment, segment.span, language)

    def _encode(self, segments: Sequence[AudioSegment]) -> EncodedSegments:
        # On the CPU one by one: they are all of the full length, and the caches hold no more.
        at_once = 1 if self._device.type == "cpu" else len(segments)
        config = self._network.config
        rows = []
        for start in range(0, len(segments), at_once):
            samples = [segment.samples for segment in segments[start : start + at_once]]
            features = padded_log_mel(samples, n_mels=config.n_mels, frames=2 * config.max_frames, device=self._device)
            lengths_B = torch.full((len(samples),), features.shape[-1], device=self._device)
            rows.append(self._network.encode(features, lengths_B))
        return EncodedSegments.of(segments, torch.cat(rows))

    @staticmethod
    def _lengths(frames: Tensor) -> Tensor:
        """Valid frames of each row of `[B, L, D]`: all, as in training."""
        return torch.full((len(frames),), frames.shape[1], device=frames.device)

    def _start(self, encoded: EncodedSegments) -> DecoderCache:
        return start_decoding(self._network.decoder, encoded.encoded, self._lengths(encoded.encoded))

    def _decode(
        self,
        encoded: EncodedSegments,
        places: Sequence[int],
        prompts: TaskPrompts,
        languages: Sequence[str | None],
        search: GenerateOptions,
        cache: DecoderCache | None = None,
    ) -> list[Hypothesis]:
        """Hypotheses of the segments in `places`; the cache is `_start`'s for them."""
        frames = encoded.rows(places)
        lengths_B = self._lengths(frames)
        return generate(
            self._network.decoder,
            frames,
            lengths_B,
            prompts,
            [languages[place] for place in places],
            search,
            seconds=[encoded.samples[place] / SAMPLE_RATE for place in places],
            cache=cache,
        )

    def _nobody_speaks(self, found: Hypothesis) -> bool:
        return found.no_speech is not None and found.no_speech > NO_SPEECH and found.score < UNLIKELY

    def _is_repetitive(self, tokens: Sequence[int]) -> bool:
        return is_repetitive(self._tokenizer.decode(tokens))

    def _try_again(
        self,
        hypotheses: list[Hypothesis],
        encoded: EncodedSegments,
        prompts: TaskPrompts,
        spoken: Sequence[str],
        search: GenerateOptions,
    ) -> None:
        """Replace unlikely and repetitive hypotheses by ones drawn at random, as Whisper does."""
        failed = list(range(len(hypotheses)))
        for temperature in TEMPERATURES:
            failed = [
                b
                for b in failed
                if (hypotheses[b].score < UNLIKELY or self._is_repetitive(hypotheses[b].tokens))
                and not self._nobody_speaks(hypotheses[b])
            ]
            if not failed:
                return
            drawn = replace(search, beam_size=1, temperature=temperature, hotwords=None)
            for b, again in zip(failed, self._decode(encoded, failed, prompts, spoken, drawn), strict=True):
                hypotheses[b] = again

    def _without_loops(
        self,
        hypotheses: list[Hypothesis],
        encoded: EncodedSegments,
        prompts: TaskPrompts,
        spoken: Sequence[str],
        search: GenerateOptions,
        times: TextTimes,
        options: TranscriptionOptions,
    ) -> list[bool]:
        """Replace hypotheses that repeat what was said once; returns which did."""
        if not options.guard:
            return [cut_loops(found.tokens)[1] for found in hypotheses]
        again = replace(search, beam_size=1, no_repeat_ngram=BLOCKED_NGRAM, hotwords=None)
        found, looped = without_loops(
            hypotheses, lambda places: self._decode(encoded, places, prompts, spoken, again), self._is_repetitive
        )
        for b, tokens in enumerate(unrepeated(found, times)):
            looped[b] = looped[b] or tokens is not None
            hypotheses[b] = found[b] if tokens is None else found[b].first(tokens)
        return looped

    def _finished(
        self,
        segment: AudioSegment,
        found: Hypothesis,
        spoken: SpokenLanguage,
        placed: TokenFrames | None,
        *,
        looped: bool,
        options: TranscriptionOptions,
    ) -> RecognisedSegment:
        words = written_words(self._tokenizer, found.tokens, found.log_probs)
        written_in = "en" if options.task == "translate" else spoken.code
        draft = Draft(words, score=found.score, language=spoken.code, looped=looped)
        if placed is not None:
            timed = timed_words(self._tokenizer, found, placed, segment, written_in)
            draft = replace(draft, timed=timed)
        written = draft.formatted(written_in, None, itn=options.itn)
        return RecognisedSegment(
            language=spoken.code,
            language_probability=spoken.probability,
            language_evidence=spoken.evidence,
            text=written.text,
            spoken=draft.text,
            score=found.score,
            words=written.words_from(segment.span.start, segment.span, SAMPLE_RATE),
            word_times=placed is not None,
            looped=looped,
        )

    def _hotwords(self, options: TranscriptionOptions) -> Hotwords | None:
        return self._spelled_hotwords(options.hotwords) if options.hotwords else None
