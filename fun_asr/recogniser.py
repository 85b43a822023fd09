"""From a batch of segments to what is written of each: encode, guard, decode tokens, find word times, format.

Shapes: B segments, M log-mel bands, T frames of them (10 ms), L encoder frames (20 ms), D width, J CTC frames (40 ms),
C the CTC head's vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.features import log_mel
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.decoding import ctc
from fun_asr.decoding.generate import GenerateOptions, Hypothesis, detect_languages, generate
from fun_asr.decoding.guard import BLOCKED_NGRAM, has_speech, without_loops
from fun_asr.decoding.hotwords import Hotwords, HotwordTree
from fun_asr.decoding.language_model import NGramModel
from fun_asr.decoding.rescore import best_hypothesis
from fun_asr.decoding.words import WrittenWord, written_words
from fun_asr.drafts import Draft, find_words
from fun_asr.model.fun_asr import FunASR
from fun_asr.punctuation.punctuator import Punctuator
from fun_asr.recording import FinishedSegment, RecordingState
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.transcript import Word

__all__ = ["Decoding", "RecogniserOptions", "SegmentRecogniser"]

DEFAULT_BEAM = 3  # by bin/benchmark: a sixth fewer errors than greedy search on Common Voice, little slower
BEAM_MARGIN = 2.0  # nats: a third fewer hypotheses, the words of the dev sets unchanged
CTC_LANGUAGE = "en"  # of the CTC head's vocabulary: only its words have times

SAMPLES_AT_ONCE_ON_CPU = 30 * SAMPLE_RATE  # padded, in a run of the encoder: as fast as a whole batch, in less memory

Decoding = Literal["generate", "ctc"]


@dataclass(frozen=True, kw_only=True)
class RecogniserOptions:
    """How segments are recognised; `Transcriber.transcribe` says more of each."""

    decoding: Decoding
    beam_size: int | None
    """None for the default."""
    word_times: bool
    punctuation: bool
    itn: bool
    hotwords: Hotwords | None

    @property
    def width(self) -> int:
        """Of the beam."""
        return DEFAULT_BEAM if self.beam_size is None else self.beam_size


@dataclass(frozen=True)
class _Batch:
    """Segments after the encoder and the CTC head."""

    segments: Sequence[AudioSegment]
    recordings: Sequence[RecordingState]
    """Each segment's."""
    encoded: Tensor
    """`[B, L, D]`."""
    lengths_B: Tensor
    """Encoder frames of each segment, int64."""
    log_probs: Tensor
    """The CTC head's, `[B, J, C]`."""
    ctc_lengths_B: Tensor
    """CTC frames of each segment, int64."""

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def ctc_frames(self) -> list[Tensor]:
        """The log-probabilities of each segment without padding, `[J, C]`."""
        return [row[:length] for row, length in zip(self.log_probs, self.ctc_lengths_B.tolist(), strict=True)]

    def only(self, places: Sequence[int]) -> _Batch:
        """The segments in `places`, at least one, padded to the longest of them."""
        if len(places) == len(self):
            return self
        rows = torch.tensor(places, device=self.encoded.device)
        lengths_B = self.lengths_B[rows]
        return _Batch(
            segments=[self.segments[b] for b in places],
            recordings=[self.recordings[b] for b in places],
            encoded=self.encoded[rows, : int(lengths_B.max())],
            lengths_B=lengths_B,
            log_probs=self.log_probs[rows],
            ctc_lengths_B=self.ctc_lengths_B[rows],
        )


class SegmentRecogniser:
    """Recognises the segments of one batch at a time.

    Arguments:
        network: the model.
        tokenizer, ctc_tokenizer: the decoder's and the CTC head's.
        device: the network's.
        language_model: over the CTC head's pieces; searches with CTC and chooses among the decoder's hypotheses.
    """

    def __init__(
        self,
        network: FunASR,
        tokenizer: Tokenizer,
        ctc_tokenizer: CTCTokenizer,
        device: torch.device,
        language_model: NGramModel | None = None,
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._ctc_tokenizer = ctc_tokenizer
        self._device = device
        self._language_model = language_model

    @torch.inference_mode()
    def recognise(
        self, segments: Sequence[AudioSegment], recordings: Sequence[RecordingState], options: RecogniserOptions
    ) -> list[FinishedSegment]:
        """Recognise segments, in one run of the decoder.

        Arguments:
            segments: at least one, each with samples.
            recordings: that of each segment; they learn their language, where they have none and "generate" finds
                one, and count what the guard did.
            options: how.

        Returns:
            what is written of each segment, in their order; nothing where CTC hears nothing.
        """
        batch = self._encode(segments, recordings)
        speech = has_speech(batch.log_probs, batch.ctc_lengths_B, self._ctc_tokenizer.blank)
        heard = [b for b, has in enumerate(speech) if has]
        drafts: dict[int, Draft] = {}
        if heard:
            drafts = dict(zip(heard, self._drafts(batch.only(heard), options), strict=True))
        return [
            self._finished(segment.span, drafts.get(b), recording, options)
            for b, (segment, recording) in enumerate(zip(segments, recordings, strict=True))
        ]

    def _encode(self, segments: Sequence[AudioSegment], recordings: Sequence[RecordingState]) -> _Batch:
        heard: dict[int, tuple[Tensor, Tensor]] = {}  # [L, D] and [J, C] of each segment
        for places in self._runs([len(segment.samples) for segment in segments]):
            features, lengths_B = log_mel(
                [segments[b].samples for b in places],
                n_mels=self._network.config.encoder.n_mels,
                device=self._device,
            )  # [B, M, T]
            encoded, lengths_B = self._network.encode(features, lengths_B)
            log_probs, ctc_lengths_B = self._network.ctc(encoded, lengths_B)
            lengths = zip(lengths_B.tolist(), ctc_lengths_B.tolist(), strict=True)
            for row, (b, (length, ctc_length)) in enumerate(zip(places, lengths, strict=True)):
                heard[b] = encoded[row, :length], log_probs[row, :ctc_length]
        encoded_B, log_probs_B = ([heard[b][part] for b in range(len(segments))] for part in (0, 1))
        return _Batch(
            segments,
            recordings,
            pad_sequence(encoded_B, batch_first=True),
            torch.tensor([len(frames) for frames in encoded_B], device=self._device),
            pad_sequence(log_probs_B, batch_first=True),
            torch.tensor([len(frames) for frames in log_probs_B], device=self._device),
        )

    def _runs(self, samples: Sequence[int]) -> list[list[int]]:
        """Which segments the encoder takes together: all, but on the CPU few of like lengths."""
        if self._device.type != "cpu":
            return [list(range(len(samples)))]
        runs: list[list[int]] = []
        for b in sorted(range(len(samples)), key=lambda b: samples[b]):
            if runs and (len(runs[-1]) + 1) * samples[b] <= SAMPLES_AT_ONCE_ON_CPU:
                runs[-1].append(b)
            else:
                runs.append([b])
        return runs

    def _drafts(self, batch: _Batch, options: RecogniserOptions) -> list[Draft]:
        """What is written of each segment of a batch; words in CTC's language have their times."""
        by_ctc = options.decoding == "ctc"
        drafts = self._search_ctc(batch, options.hotwords) if by_ctc else self._generate(batch, options)
        if by_ctc:
            known = [b for b, draft in enumerate(drafts) if draft.words and options.word_times]
        else:
            # Also where no times are asked for: the guard needs them.
            languages = [recording.language for recording in batch.recordings]
            known = [b for b, draft in enumerate(drafts) if draft.words and languages[b] == CTC_LANGUAGE]
        frames = batch.ctc_frames
        find_words(
            [drafts[b] for b in known],
            [frames[b].cpu().numpy() for b in known],
            [batch.segments[b].samples for b in known],
            self._ctc_tokenizer,
        )
        return drafts

    def _search_ctc(self, batch: _Batch, hotwords: Hotwords | None) -> list[Draft]:
        """Drafts of a batch from the CTC head's own tokens."""
        blank, model = self._ctc_tokenizer.blank, self._language_model
        if model is None and hotwords is None:
            found = ctc.greedy(batch.log_probs, batch.ctc_lengths_B, blank)
        else:
            frames = batch.ctc_frames
            trees = [None if hotwords is None else hotwords.ctc_tree(row.cpu().numpy()) for row in frames]
            found = [
                ctc.prefix_search(row, blank, model, hotwords=tree) for row, tree in zip(frames, trees, strict=True)
            ]
        best_BJ = batch.log_probs.amax(dim=-1).cpu()
        drafts = []
        for tokens, best_J, length in zip(found, best_BJ, batch.ctc_lengths_B.tolist(), strict=True):
            words = self._ctc_tokenizer.decode(tokens).split()
            drafts.append(Draft([WrittenWord(word) for word in words], float(best_J[:length].mean())))
        return drafts

    def _generate(self, batch: _Batch, options: RecogniserOptions) -> list[Draft]:
        """Drafts of a batch from the decoder; the recordings learn their language."""
        search = GenerateOptions(beam_size=options.width, margin=BEAM_MARGIN, suppress=self._tokenizer.captions)
        if options.hotwords is not None:
            search = replace(search, hotwords=self._trees(options.hotwords, batch))
        hypotheses = self._decode(batch, range(len(batch)), search)
        chosen = []
        for recording, hypothesis in zip(batch.recordings, hypotheses, strict=True):
            if recording.language is None:
                recording.language = hypothesis.language
                recording.language_probability = hypothesis.language_probability
            if self._language_model is not None and recording.language == CTC_LANGUAGE:
                hypothesis = best_hypothesis(hypothesis, self._language_model, self._tokenizer, self._ctc_tokenizer)
            chosen.append(hypothesis)
        # Without hotwords: one may be what was repeated.
        again = replace(search, beam_size=1, no_repeat_ngram=BLOCKED_NGRAM, hotwords=None)
        hypotheses, looped = without_loops(chosen, lambda places: self._decode(batch, places, again))
        return [
            Draft(written_words(self._tokenizer, found.tokens, found.log_probs), found.score, had_loop)
            for found, had_loop in zip(hypotheses, looped, strict=True)
        ]

    def _decode(self, batch: _Batch, places: Sequence[int], search: GenerateOptions) -> list[Hypothesis]:
        """Hypotheses of the segments in `places` of a batch."""
        rows = torch.tensor(places, device=self._device)
        memory = batch.encoded[rows] if len(places) < len(batch) else batch.encoded
        languages = [batch.recordings[place].language for place in places]
        return generate(self._network.decoder, memory, batch.lengths_B[rows], self._tokenizer, languages, search)

    def _trees(self, hotwords: Hotwords, batch: _Batch) -> list[HotwordTree | None]:
        """The hotwords for each segment; its recording's language is found first, as not all have the same phrases."""
        recordings = batch.recordings
        unknown = [place for place, recording in enumerate(recordings) if recording.language is None]
        if unknown:
            rows = torch.tensor(unknown, device=self._device)
            encoded, lengths_B = batch.encoded[rows], batch.lengths_B[rows]
            ranked = detect_languages(self._network.decoder, encoded, lengths_B, self._tokenizer)
            for place, probabilities in zip(unknown, ranked, strict=True):
                recording = recordings[place]
                if recording.language is None:
                    recording.language, recording.language_probability = next(iter(probabilities.items()))
        return [
            hotwords.decoder_tree(row.cpu().numpy() if recording.language == CTC_LANGUAGE else None)
            for row, recording in zip(batch.ctc_frames, recordings, strict=True)
        ]

    def _finished(
        self, span: Span, draft: Draft | None, recording: RecordingState, options: RecogniserOptions
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
