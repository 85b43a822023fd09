"""From a batch of segments to what is written of each: encode, guard, decode tokens, find word times, format.

Shapes: B segments, M log-mel bands, T frames of them (10 ms), L encoder frames (20 ms), D width, J CTC frames,
C the CTC head's vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch

from fun_asr.audio.context import with_context
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.decoding import ctc
from fun_asr.decoding.generate import GenerateOptions, Hypothesis, detect_languages, generate, start_decoding
from fun_asr.decoding.guard import (
    BLOCKED_NGRAM,
    cut_loops,
    has_speech,
    is_sure,
    may_be_speech,
    supported_words,
    without_loops,
)
from fun_asr.decoding.hotwords import Hotwords, HotwordTree
from fun_asr.decoding.language_model import NGramModel
from fun_asr.decoding.rescore import best_hypothesis
from fun_asr.decoding.spoken_language import SpokenLanguage, spoken_languages
from fun_asr.decoding.words import AlignedWord, WrittenWord, time_words, written_words
from fun_asr.drafts import Draft
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.layers.cache import DecoderCache
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.models.fun_asr.encoding import Encoded, FrontEnd, SegmentEncoder
from fun_asr.models.fun_asr.load import load_network
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.models.text_times import (
    AlignmentHeads,
    EncodedSegments,
    TextTimes,
    attended_words,
    later_heads,
    timed_words,
)
from fun_asr.options import ModelOptions, Task, TranscriptionOptions
from fun_asr.punctuation import Punctuator
from fun_asr.text.tokenizer import CTCTokenizer, TaskPrompts, Tokenizer
from fun_asr.transcript import ModelInfo, Word
from fun_asr.weights.directory import CONFIG_FILE, CTC_LANGUAGE_MODEL_FILE, CTC_TOKENIZER_FILE, TOKENIZER_FILE
from fun_asr.weights.load import describe_network
from fun_asr.weights.precision import resolve_compute_type, resolve_device
from fun_asr.weights.sources import read_json

__all__ = ["FunASRRecogniser", "is_own", "load"]

FAMILY = "fun_asr"

BEAM_MARGIN = 2.0  # nats: a third fewer hypotheses, the words of the dev sets unchanged
SEGMENT_SECONDS = 30.0


def is_own(path: Path) -> bool:
    """Whether a path is a folder whose configuration has the parts of this family."""
    try:
        return path.is_dir() and {"encoder", "ctc", "decoder"} <= read_json(path / CONFIG_FILE).keys()
    except CheckpointError:
        return False


def load(options: ModelOptions) -> FunASRRecogniser:
    """Load a model directory of this family.

    Arguments:
        options: whose directory is one that `fun_asr.weights.directory.save_model` wrote.

    Raises:
        CheckpointError: when a file is missing or damaged.
        ConfigError: for a device or compute type that is not available.
    """
    assert options.directory is not None
    directory, device = options.directory, resolve_device(options.device)
    network = load_network(directory, device, resolve_compute_type(options.compute_type, device))
    tokenizer = Tokenizer(directory / TOKENIZER_FILE)
    ctc_tokenizer = CTCTokenizer(directory / CTC_TOKENIZER_FILE)
    config = network.config
    if tokenizer.no_timestamps >= config.decoder.vocab_size or ctc_tokenizer.vocab_size != config.ctc.vocab_size:
        raise CheckpointError(f"{directory}: the tokenizers do not belong to this model")
    language_model_file = directory / CTC_LANGUAGE_MODEL_FILE
    language_model = NGramModel.load(language_model_file) if language_model_file.exists() else None
    return FunASRRecogniser(network, tokenizer, ctc_tokenizer, device, language_model)


class FunASRRecogniser:
    """Recognises the segments of one batch at a time, and keeps nothing of them.

    Arguments:
        network: the model.
        tokenizer, ctc_tokenizer: the decoder's and the CTC head's.
        device: the network's.
        language_model: over the CTC head's pieces; searches with CTC and chooses among the decoder's hypotheses.
        search: what the family's decoder must not write, and how long its texts may be.
        front_end: computes what the encoder reads of a batch of waveforms: features `[B, M, T]` and the frames of each,
            int64 `[B]`; None is `log_mel`.
    """

    def __init__(
        self,
        network: FunASR,
        tokenizer: Tokenizer,
        ctc_tokenizer: CTCTokenizer,
        device: torch.device,
        language_model: NGramModel | None = None,
        search: GenerateOptions | None = None,
        front_end: FrontEnd | None = None,
    ) -> None:
        self.network = network
        """The model itself, for those who measure or train its parts."""
        self._info = describe_network(network, FAMILY)
        self._tokenizer = tokenizer
        self._ctc_tokenizer = ctc_tokenizer
        self._device = device
        self._language_model = language_model
        self._search = search or GenerateOptions(suppress=tokenizer.captions)
        self.encode = SegmentEncoder(network, device, front_end)
        """What runs the encoder and the CTC head over segments, at least one."""
        self._ctc_languages = network.config.ctc.languages
        heads = network.config.alignment.heads or later_heads(network.config.decoder)
        self._heads = AlignmentHeads(heads, network.config.alignment.lead)
        # Of the last call: a list of thousands takes a second to spell, and most callers have one list.
        self._spelled_hotwords = lru_cache(maxsize=1)(lambda hotwords: Hotwords(hotwords, tokenizer, ctc_tokenizer))

    @property
    def ctc_tokenizer(self) -> CTCTokenizer:
        """The CTC head's."""
        return self._ctc_tokenizer

    @property
    def ctc_frame(self) -> int:
        """Samples of a CTC frame."""
        return SAMPLE_RATE // self.network.config.ctc_frames_per_second

    @property
    def info(self) -> ModelInfo:
        """What the model is and what it computes with on this machine."""
        return self._info

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the decoder's vocabulary has."""
        return tuple(self._tokenizer.languages)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can write of them."""
        return ("transcribe",) if self._tokenizer.translate is None else ("transcribe", "translate")

    @property
    def detects_languages(self) -> bool:
        """The decoder does."""
        return True

    @property
    def segment_seconds(self) -> float:
        """The longest segment that it takes."""
        return min(SEGMENT_SECONDS, self.network.config.encoder.max_frames / ENCODER_FRAMES_PER_SECOND)

    def prepare(self, options: TranscriptionOptions) -> None:
        """Find out before the first segment whether the options can be used with this model.

        Raises:
            ConfigError: for what CTC's search cannot do, a second attempt at random, or a hotword that the model cannot
                write.
        """
        if options.temperature_fallback:
            raise ConfigError("temperature_fallback: this model has a CTC head, which tells what was not said")
        if options.decoding == "ctc" and options.task != "transcribe":
            raise ConfigError(f"task {options.task} belongs to decoding generate")
        if options.decoding == "ctc" and options.initial_prompt:
            raise ConfigError("initial_prompt belongs to decoding generate")
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
            segments: at least one, each with samples.
            languages: the code of each; None detects it where the decoder is asked.
            options: how; their language does not count.
            priors: what is known of the language of each before it is heard: the probability of each language in
                another segment of its recording; None where nothing is.

        Returns:
            what was recognised of each segment, in their order; no text where nobody is heard.
        """
        padded = [with_context(segment) for segment in segments]
        encoded = self.encode(padded)
        heard = list(range(len(segments)))
        speech = [True] * len(segments)
        if options.guard:
            speech = has_speech(encoded.log_probs, encoded.ctc_lengths_B, self._ctc_tokenizer.blank)
            maybe = self._may_be_speech(encoded, options)
            heard = [b for b in heard if speech[b] or maybe[b]]
        drafts: dict[int, Draft] = {}
        if heard:
            known = priors or [None] * len(segments)
            found = self.draft(encoded.only(heard), [languages[b] for b in heard], options, [known[b] for b in heard])
            drafts = {
                b: draft
                for b, draft in zip(heard, found, strict=True)
                if speech[b] or is_sure(draft.score, draft.looped)
            }
        return [
            self._finished(segment, drafts[b], padded[b].span.start, options)
            if b in drafts
            else RecognisedSegment(language=languages[b])
            for b, segment in enumerate(segments)
        ]

    @torch.inference_mode()
    def language_probabilities(self, segments: Sequence[AudioSegment]) -> list[dict[str, float]]:
        """The probability of each language for each segment, at least one, by code, most likely first."""
        encoded = self.encode([with_context(segment) for segment in segments])
        prompts = self._tokenizer.prompts("", self.network.config.decoder.max_tokens, translate=False)
        return detect_languages(self.network.decoder, self._start(encoded), prompts)

    @torch.inference_mode()
    def align(self, segment: AudioSegment, text: str, language: str) -> tuple[Word, ...]:
        """The words of a text in their places: by CTC where it knows the language, else by cross-attention.

        Arguments:
            segment: in which the text is said, with samples and no longer than `segment_seconds`.
            text: at least one word.
            language: its code.

        Returns:
            the words, characters where the language puts no spaces; with CTC's confidence where it was asked.
        """
        padded = with_context(segment)
        encoded = self.encode([padded])
        if language not in self._ctc_languages:
            segments = EncodedSegments.of([padded], encoded.encoded, encoded.lengths_B)
            prompts = self._tokenizer.prompts("", self.network.config.decoder.max_tokens, translate=False)
            times = TextTimes(self.network.decoder, self._tokenizer, segments, self._heads, prompts, [language])
            return attended_words(times, text, padded, segment.span, language)
        words = [WrittenWord(word) for word in text.split()]
        frames = [encoded.ctc_frames[0].cpu().numpy()]
        (timed,) = time_words([words], frames, [padded.samples], self._ctc_tokenizer, self.ctc_frame)
        return Draft(words, score=0.0, timed=timed).words_from(padded.span.start, segment.span, SAMPLE_RATE)

    def _may_be_speech(self, encoded: Encoded, options: TranscriptionOptions) -> list[bool]:
        """Of which segments the decoder is believed where it is sure, though CTC hears next to nothing."""
        if options.decoding == "ctc":
            return [False] * len(encoded)
        certainties = [segment.certainty for segment in encoded.segments]
        return may_be_speech(encoded.log_probs, encoded.ctc_lengths_B, self._ctc_tokenizer.blank, certainties)

    @torch.inference_mode()
    def draft(
        self,
        encoded: Encoded,
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[Draft]:
        """What is written of each segment before it is formatted; words in a language that CTC knows have their times.

        Arguments:
            encoded: the segments.
            languages: the code of each; None detects it where the decoder is asked.
            options: how.
            priors: as for `recognise`.
        """
        if options.decoding == "ctc":
            drafts = self._search_ctc(encoded, languages, self._hotwords(options))
            known = [b for b, draft in enumerate(drafts) if draft.words and options.word_times]
        else:
            drafts = self._generate(encoded, languages, options, priors or [None] * len(encoded))
            # Also where no times are asked for: the guard needs them.
            known = [b for b, draft in enumerate(drafts) if draft.words and draft.language in self._ctc_languages]
        frames = encoded.ctc_frames
        log_probs = [frames[b].cpu().numpy() for b in known]
        timed = time_words(
            [drafts[b].words for b in known],
            log_probs,
            [encoded.segments[b].samples for b in known],
            self._ctc_tokenizer,
            self.ctc_frame,
        )
        certain = self._may_be_speech(encoded, options)
        for b, words, row in zip(known, timed, log_probs, strict=True):
            kept = len(words)
            if options.guard:
                kept = supported_words(words, row, self._ctc_tokenizer.blank, self.ctc_frame)
            if kept == 0 and certain[b] and is_sure(drafts[b].score, drafts[b].looped):
                kept = len(words)  # a lone word: its tokens need not be CTC's
            drafts[b] = drafts[b].with_times(words, kept)
        return drafts

    def _search_ctc(self, encoded: Encoded, languages: Sequence[str | None], hotwords: Hotwords | None) -> list[Draft]:
        """Drafts of segments from the CTC head's own tokens."""
        blank, model = self._ctc_tokenizer.blank, self._language_model
        if model is None and hotwords is None:
            found = ctc.greedy(encoded.log_probs, encoded.ctc_lengths_B, blank)
        else:
            frames = encoded.ctc_frames
            trees = [None if hotwords is None else hotwords.ctc_tree(row.cpu().numpy()) for row in frames]
            found = [
                ctc.prefix_search(row, blank, model, hotwords=tree) for row, tree in zip(frames, trees, strict=True)
            ]
        best_BJ = encoded.log_probs.amax(dim=-1).cpu()
        drafts = []
        for tokens, best_J, length, language in zip(
            found, best_BJ, encoded.ctc_lengths_B.tolist(), languages, strict=True
        ):
            words = [WrittenWord(word) for word in self._ctc_tokenizer.decode(tokens).split()]
            drafts.append(Draft(words, score=float(best_J[:length].mean()), language=language))
        return drafts

    def _generate(
        self,
        encoded: Encoded,
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None],
    ) -> list[Draft]:
        """Drafts of segments from the decoder."""
        search = replace(self._search, beam_size=options.beam_size, margin=BEAM_MARGIN)
        prompts = self._tokenizer.prompts(
            options.initial_prompt, self.network.config.decoder.max_tokens, translate=options.task == "translate"
        )
        cache = self._start(encoded)
        spoken = spoken_languages(self.network.decoder, cache, prompts, languages, options.languages, priors)
        hotwords = self._hotwords(options)
        if hotwords is not None:
            search = replace(search, hotwords=self._trees(hotwords, encoded, spoken))
        hypotheses = self._decode(encoded, range(len(encoded)), prompts, spoken, search, cache)
        if self._language_model is not None:
            hypotheses = [
                best_hypothesis(hypothesis, self._language_model, self._tokenizer, self._ctc_tokenizer)
                if known.code in self._ctc_languages
                else hypothesis
                for known, hypothesis in zip(spoken, hypotheses, strict=True)
            ]
        if options.guard:
            # Without hotwords: one may be what was repeated.
            again = replace(search, beam_size=1, no_repeat_ngram=BLOCKED_NGRAM, hotwords=None)
            hypotheses, looped = without_loops(
                hypotheses, lambda places: self._decode(encoded, places, prompts, spoken, again)
            )
        else:
            looped = [cut_loops(hypothesis.tokens)[1] for hypothesis in hypotheses]
        timed = self._timed_by_attention(encoded, hypotheses, prompts, spoken, options)
        return [
            Draft(
                written_words(self._tokenizer, found.tokens, found.log_probs),
                score=found.score,
                language=known.code,
                language_probability=known.probability,
                language_evidence=known.evidence,
                looped=had_loop,
                timed=timed.get(b),
            )
            for b, (found, known, had_loop) in enumerate(zip(hypotheses, spoken, looped, strict=True))
        ]

    def _timed_by_attention(
        self,
        encoded: Encoded,
        hypotheses: Sequence[Hypothesis],
        prompts: TaskPrompts,
        spoken: Sequence[SpokenLanguage],
        options: TranscriptionOptions,
    ) -> dict[int, list[AlignedWord]]:
        """The words, in time, of the segments whose language CTC does not know."""
        codes = [known.code for known in spoken]
        wanted = [b for b, found in enumerate(hypotheses) if found.tokens and codes[b] not in self._ctc_languages]
        if not wanted or not options.word_times:
            return {}
        written_in = ["en" if options.task == "translate" else code for code in codes]
        return self._by_attention(encoded, hypotheses, prompts, codes, wanted, written_in)

    @torch.inference_mode()
    def timed_texts(self, encoded: Encoded, texts: Sequence[str], language: str) -> list[list[AlignedWord]]:
        """Where the cross-attention finds the words of known texts.

        Arguments:
            encoded: the segments.
            texts: of each.
            language: code of all of them.
        """
        prompts = self._tokenizer.prompts("", self.network.config.decoder.max_tokens, translate=False)
        tokens = [self._tokenizer.encode(text) for text in texts]
        hypotheses = [Hypothesis(row, 0.0, language, None, [0.0] * len(row)) for row in tokens]
        wanted = [b for b, row in enumerate(tokens) if row]
        codes = [language] * len(texts)
        found = self._by_attention(encoded, hypotheses, prompts, codes, wanted, codes) if wanted else {}
        return [found.get(b, []) for b in range(len(texts))]

    def _by_attention(
        self,
        encoded: Encoded,
        hypotheses: Sequence[Hypothesis],
        prompts: TaskPrompts,
        codes: Sequence[str],
        wanted: Sequence[int],
        written_in: Sequence[str],
    ) -> dict[int, list[AlignedWord]]:
        """The words, in time, of the segments in `wanted`, which are spoken and written in some languages."""
        segments = EncodedSegments.of(encoded.segments, encoded.encoded, encoded.lengths_B)
        times = TextTimes(self.network.decoder, self._tokenizer, segments, self._heads, prompts, codes, written_in)
        placed = times.of(wanted, [hypotheses[b].tokens for b in wanted])
        return {
            b: timed_words(self._tokenizer, hypotheses[b], frames, encoded.segments[b], written_in[b])
            for b, frames in zip(wanted, placed, strict=True)
        }

    def _start(self, encoded: Encoded) -> DecoderCache:
        return start_decoding(self.network.decoder, encoded.encoded, encoded.lengths_B)

    def _decode(
        self,
        encoded: Encoded,
        places: Sequence[int],
        prompts: TaskPrompts,
        spoken: Sequence[SpokenLanguage],
        search: GenerateOptions,
        cache: DecoderCache | None = None,
    ) -> list[Hypothesis]:
        """Hypotheses of the segments in `places`; the cache is `_start`'s for them."""
        rows = torch.tensor(places, device=self._device)
        frames = encoded.encoded[rows] if len(places) < len(encoded) else encoded.encoded
        languages = [spoken[place].code for place in places]
        return generate(self.network.decoder, frames, encoded.lengths_B[rows], prompts, languages, search, cache=cache)

    def _trees(
        self, hotwords: Hotwords, encoded: Encoded, spoken: Sequence[SpokenLanguage]
    ) -> list[HotwordTree | None]:
        """The hotwords for each segment: where CTC knows the language, those that it may have heard."""
        return [
            hotwords.decoder_tree(row.cpu().numpy() if known.code in self._ctc_languages else None)
            for row, known in zip(encoded.ctc_frames, spoken, strict=True)
        ]

    def _hotwords(self, options: TranscriptionOptions) -> Hotwords | None:
        return self._spelled_hotwords(options.hotwords) if options.hotwords else None

    def _finished(
        self, segment: AudioSegment, draft: Draft, start: int, options: TranscriptionOptions
    ) -> RecognisedSegment:
        """What is written of a segment, whose samples were recognised from `start` on: before its own first one."""
        by_ctc = options.decoding == "ctc"
        punctuator = self._punctuator if by_ctc and options.punctuation else None
        language = self._ctc_languages[0] if by_ctc or options.task == "translate" else draft.language
        written = draft.formatted(language, punctuator, itn=options.itn)
        has_times = written.timed is not None and options.word_times
        return RecognisedSegment(
            language=draft.language,
            language_probability=draft.language_probability,
            language_evidence=draft.language_evidence,
            text=written.text,
            spoken=draft.text,
            score=draft.score if draft.words else None,
            words=written.words_from(start, segment.span, SAMPLE_RATE) if has_times else (),
            word_times=has_times,
            looped=draft.looped,
            cut_words=draft.cut_words,
        )

    @cached_property
    def _punctuator(self) -> Punctuator:
        return Punctuator.load()
