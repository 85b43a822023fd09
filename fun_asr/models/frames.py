"""The recogniser of models that write a token at a frame, with a CTC head, a transducer or both.

Shapes: B segments, L encoder frames, D width, C the CTC head's vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.decoding import ctc
from fun_asr.decoding.frames import Emission, aligned_emissions, emitted_words, greedy_emissions, placed_words
from fun_asr.decoding.piece_hotwords import PieceHotwords
from fun_asr.decoding.windows import join, window_starts
from fun_asr.decoding.words import WrittenWord
from fun_asr.drafts import Draft
from fun_asr.errors import ConfigError
from fun_asr.models.plain import PlainRecogniser
from fun_asr.models.protocol import RecognisedSegment
from fun_asr.models.runs import encoder_runs
from fun_asr.options import TranscriptionOptions
from fun_asr.punctuation import Punctuator
from fun_asr.text.pieces import Pieces
from fun_asr.transcript import ModelInfo

__all__ = ["FrameRecogniser"]

SEGMENT_SECONDS = 30.0
WINDOW_SECONDS = 120  # of a segment that is longer than that
OVERLAP_SECONDS = 10

Samples = npt.NDArray[np.float32]


class FrameRecogniser(PlainRecogniser, ABC):
    """Recognises the segments of one batch at a time, and keeps nothing of them.

    Arguments:
        pieces: the model's vocabulary.
        blank: the blank's index.
        frame: samples of an encoder frame.
        device: the network's.
        info: what the network is.
        languages: codes of those that it knows.
        has_ctc, has_transducer: what reads the encoder.
    """

    def __init__(
        self,
        pieces: Pieces,
        blank: int,
        frame: int,
        device: torch.device,
        info: ModelInfo,
        languages: tuple[str, ...],
        *,
        has_ctc: bool,
        has_transducer: bool,
    ) -> None:
        self._pieces, self._blank, self._frame, self._device = pieces, blank, frame, device
        self._info, self._languages = info, languages
        self._has_ctc, self._has_transducer = has_ctc, has_transducer
        self._spelled_hotwords = lru_cache(maxsize=1)(lambda hotwords: PieceHotwords(hotwords, pieces, blank))

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it knows."""
        return self._languages

    @property
    def segment_seconds(self) -> float:
        """The longest segment that is asked of it; longer ones are recognised in windows."""
        return SEGMENT_SECONDS

    @abstractmethod
    def encode(self, waves: Sequence[Samples]) -> tuple[Tensor, Tensor]:
        """The encoder's frames of some waves, `[B, L, D]`, and how many count of each."""

    @abstractmethod
    def ctc_logits(self, encoded: Tensor) -> Tensor:
        """Of the CTC head, `[B, L, C]`."""

    @abstractmethod
    def transduce(self, encoded: Tensor, lengths_B: Tensor) -> list[list[Emission]]:
        """What the transducer writes of encoder frames."""

    def prepare(self, options: TranscriptionOptions) -> None:
        """Find out before the first segment whether the options can be used with this model.

        Raises:
            ConfigError: for CTC decoding or hotwords without a CTC head, a hotword that the model cannot write,
                and for what only a decoder that is told the text before can do.
        """
        if options.initial_prompt:
            raise ConfigError("initial_prompt: this model takes no text before a segment; hotwords name what to prefer")
        if options.temperature_fallback:
            raise ConfigError("temperature_fallback: this model's search draws nothing at random")
        if options.decoding == "ctc" and not self._has_ctc:
            raise ConfigError("this model has no CTC head; use decoding generate")
        if options.hotwords and not self._by_ctc(options):
            needed = "use decoding ctc with them" if self._has_ctc else "it has only a transducer"
            raise ConfigError(f"this model prefers hotwords in CTC's search alone; {needed}")
        self._hotwords(options)

    @torch.inference_mode()
    def recognise(
        self,
        segments: Sequence[AudioSegment],
        languages: Sequence[str | None],
        options: TranscriptionOptions,
        priors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[RecognisedSegment]:
        """Recognise segments, at least one, each with samples.

        Arguments:
            segments: what to recognise.
            languages: the code of each; None leaves it open where the model knows several.
            options: how; their language does not count.
            priors: not asked, since it detects no languages.

        Returns:
            what was recognised of each segment, in their order.
        """
        found = self.emissions([segment.samples for segment in segments], options)
        only = self._languages[0] if len(self._languages) == 1 else None
        return [
            self._finished(segment, emissions, score, language or only, options)
            for segment, (emissions, score), language in zip(segments, found, languages, strict=True)
        ]

    @torch.inference_mode()
    def emissions(self, waves: Sequence[Samples], options: TranscriptionOptions) -> list[tuple[list[Emission], float]]:
        """The tokens of each wave, and the mean log-probability of its tokens, or of its frames where CTC read them."""
        # Whole frames, so that the tokens of windows can be compared.
        window = WINDOW_SECONDS * SAMPLE_RATE // self._frame
        overlap = OVERLAP_SECONDS * SAMPLE_RATE // self._frame
        starts = [window_starts(-(-len(wave) // self._frame), window, overlap) for wave in waves]
        pieces = [
            wave if len(places) == 1 else wave[place * self._frame : (place + window) * self._frame]
            for wave, places in zip(waves, starts, strict=True)
            for place in places
        ]
        heard: dict[int, tuple[list[Emission], float]] = {}
        # What is shorter than a frame says nothing.
        lengths = {i: len(piece) for i, piece in enumerate(pieces) if len(piece) >= self._frame}
        for run in encoder_runs(lengths, self._device):
            encoded, lengths_B = self.encode([pieces[i] for i in run])
            heard.update(zip(run, self._search(encoded, lengths_B, options), strict=True))
        results, first = [], 0
        for places in starts:
            parts = [heard.get(i, ([], 0.0)) for i in range(first, first + len(places))]
            first += len(places)
            joined = parts[0][0] if len(places) == 1 else join([part for part, _ in parts], places, window)
            results.append((joined, sum(score for _, score in parts) / len(parts)))
        return results

    def _by_ctc(self, options: TranscriptionOptions) -> bool:
        return self._has_ctc and (options.decoding == "ctc" or not self._has_transducer)

    def _search(
        self, encoded: Tensor, lengths_B: Tensor, options: TranscriptionOptions
    ) -> list[tuple[list[Emission], float]]:
        if not self._by_ctc(options):
            found = self.transduce(encoded, lengths_B)
            return [(row, sum(token.log_prob for token in row) / max(1, len(row))) for row in found]
        logits = self.ctc_logits(encoded)
        rows, scores = greedy_emissions(logits, lengths_B, self._blank)
        hotwords = self._hotwords(options)
        if hotwords is not None:
            for b, length in enumerate(lengths_B.tolist()):
                log_probs = logits[b, :length].float().log_softmax(dim=-1).cpu()
                tree = hotwords.tree(log_probs.numpy())
                if tree is not None:
                    tokens = ctc.prefix_search(log_probs, self._blank, None, hotwords=tree)
                    rows[b] = aligned_emissions(log_probs, tokens, self._blank)
        return list(zip(rows, scores, strict=True))

    def _hotwords(self, options: TranscriptionOptions) -> PieceHotwords | None:
        return self._spelled_hotwords(options.hotwords) if options.hotwords else None

    def _finished(
        self,
        segment: AudioSegment,
        emissions: Sequence[Emission],
        score: float,
        language: str | None,
        options: TranscriptionOptions,
    ) -> RecognisedSegment:
        timed = emitted_words(emissions, self._pieces, self._frame, len(segment.samples))
        if not timed:
            return RecognisedSegment(language=language)
        draft = Draft([WrittenWord(word.text) for word in timed], score=score, language=language, timed=timed)
        # A vocabulary without capitals writes bare words.
        bare = not self._pieces.has_capitals and language == "en"
        written = draft.formatted(language, self._punctuator if bare and options.punctuation else None, itn=options.itn)
        start = segment.span.start
        words = placed_words(written.timed or (), start)
        return RecognisedSegment(
            language=language,
            text=written.text,
            spoken=draft.text,
            score=score,
            words=words if options.word_times else (),
            word_times=options.word_times,
        )

    @cached_property
    def _punctuator(self) -> Punctuator:
        return Punctuator.load()
