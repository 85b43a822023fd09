"""Windows of labelled text as batches of the punctuation model. Shapes: B rows, T pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.errors import ConfigError
from fun_asr.punctuation.network import pause_classes
from fun_asr.punctuation.wordpiece import MAX_WORD_PIECES, WordPieceTokenizer, WordTypes
from fun_asr.training.punctuation.labels import UNKNOWN_CASE, LabelledText, simulate_pauses

IGNORED = -100
"""Label of padding and of words whose case is unknown."""
PADDING = -1
"""Number of the text that padding is in."""

_NUMBER_WORDS = [
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty"),
    *("sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million"),
]


@dataclass(frozen=True)
class PunctuationBatch:
    """B windows ready for the network; see `PunctuationNet.forward`."""

    pieces_BT: Tensor
    positions_BT: Tensor
    texts_BT: Tensor
    pauses_BT: Tensor
    marks_BT: Tensor
    """`Mark`s at the words' last pieces, else `IGNORED`."""
    cases_BT: Tensor


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """How text becomes windows."""

    rows: int = 21
    """Windows in a batch."""
    window: int = 192
    """Pieces in a window."""
    short_rows: float = 0.3
    """Part of the windows that hold a few short texts: one to three sentences that follow each other, or lines."""
    lines: float = 0.3
    """Part of the short texts that are of lines, where there are any."""
    known_pauses: float = 0.25
    """Part of the windows that come with simulated pauses; the others learn to do without."""
    digits: float = 0.1
    """Part of the number words that are shown as digits."""
    wrong_words: float = 0.02
    """Part of the words that are shown as any other word of the text, as a recogniser may mishear them."""
    masked_words: float = 0.04
    """Part of the words that are not shown."""

    def __post_init__(self) -> None:
        if self.rows < 1 or self.window < MAX_WORD_PIECES + 2:
            raise ConfigError(f"rows must be positive, a window at least {MAX_WORD_PIECES + 2} pieces")


class Windows:
    """Draws batches: windows that begin anywhere in connected text, and windows of a few short texts each.

    Arguments:
        text: all training text.
        tokenizer: of the model.
        options: how text becomes windows.
        seed: the same seed and step give the same batch.
    """

    def __init__(self, text: LabelledText, tokenizer: WordPieceTokenizer, options: WindowOptions, seed: int) -> None:
        self._text, self._tokenizer, self._options, self._seed = text, tokenizer, options, seed
        # The last type is a number in digits.
        types = [*text.types, "0"]
        self._types = WordTypes(tokenizer, types)
        self._is_number_word = np.isin(np.array(types), _NUMBER_WORDS)
        self._starts = np.append(text.starts, len(text.words_N))
        self._first_alone = int(np.searchsorted(self._starts, text.connected))

    def batch(self, step: int) -> PunctuationBatch:
        """The batch of a training step."""
        rng = np.random.default_rng([self._seed, step])
        shape = (self._options.rows, self._options.window)
        batch = _Arrays(
            pieces=np.full(shape, self._tokenizer.pad),
            positions=np.zeros(shape, dtype=np.int64),
            texts=np.full(shape, PADDING),
            pauses=np.zeros(shape, dtype=np.int64),
            marks=np.full(shape, IGNORED),
            cases=np.full(shape, IGNORED),
        )
        for row in range(self._options.rows):
            known = rng.random() < self._options.known_pauses
            if self._text.connected > self._options.window and rng.random() >= self._options.short_rows:
                start = int(rng.integers(0, self._text.connected - self._options.window + 1))
                self._add(batch, row, 0, np.arange(start, start + self._options.window), known, rng)
                continue
            place = 0
            while place + MAX_WORD_PIECES + 2 <= self._options.window:
                place = self._add(batch, row, place, self._short(rng), known, rng)
        return PunctuationBatch(
            pieces_BT=torch.from_numpy(batch.pieces),
            positions_BT=torch.from_numpy(batch.positions),
            texts_BT=torch.from_numpy(batch.texts),
            pauses_BT=torch.from_numpy(batch.pauses),
            marks_BT=torch.from_numpy(batch.marks),
            cases_BT=torch.from_numpy(batch.cases),
        )

    def _short(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Words of one to three sentences: neighbours in connected text, lines drawn at random from the others."""
        count, all_lines = int(rng.integers(1, 4)), len(self._starts) - 1
        has_lines = self._first_alone < all_lines
        if self._first_alone and not (has_lines and rng.random() < self._options.lines):
            line = int(rng.integers(0, self._first_alone))
            return np.arange(self._starts[line], self._starts[min(line + count, self._first_alone)])
        lines = rng.integers(self._first_alone, all_lines, count)
        return np.concatenate([np.arange(self._starts[line], self._starts[line + 1]) for line in lines])

    def _add(
        self, batch: _Arrays, row: int, place: int, words: npt.NDArray[np.int64], known: bool, rng: np.random.Generator
    ) -> int:
        """Lay a text out from a place of a row on, cut where the row ends; returns the place after it."""
        types, wrong = self._shown(words, rng)
        room = self._options.window - place - 2
        fitting = int(np.searchsorted(np.cumsum(self._types.counts_U[types]), room, side="right"))
        words, types, wrong = words[:fitting], types[:fitting], wrong[:fitting]
        pieces, last = self._types.lay_out(types)
        masked = rng.random(len(words)) < self._options.masked_words
        pieces = np.where(np.repeat(masked, self._types.counts_U[types]), self._tokenizer.mask, pieces)
        end = place + len(pieces) + 2
        batch.pieces[row, place:end] = [self._tokenizer.cls, *pieces, self._tokenizer.sep]
        batch.positions[row, place:end] = np.arange(end - place)
        batch.texts[row, place:end] = place
        last = last + place + 1
        marks, cases = self._text.marks_N[words], self._text.cases_N[words]
        if known:
            batch.pauses[row, last] = pause_classes(torch.from_numpy(simulate_pauses(marks, rng))).numpy()
        batch.marks[row, last] = marks
        batch.cases[row, last] = np.where((cases == UNKNOWN_CASE) | wrong, IGNORED, cases)
        return end

    def _shown(
        self, words: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Types that are shown of words, and which of them are wrong."""
        types = self._text.words_N[words]
        digits = self._is_number_word[types] & (rng.random(len(words)) < self._options.digits)
        types = np.where(digits, len(self._text.types), types)
        wrong = rng.random(len(words)) < self._options.wrong_words
        others = self._text.words_N[rng.integers(0, len(self._text.words_N), len(words))]
        return np.where(wrong, others, types), wrong


@dataclass(frozen=True)
class _Arrays:
    pieces: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    texts: npt.NDArray[np.int64]
    pauses: npt.NDArray[np.int64]
    marks: npt.NDArray[np.int64]
    cases: npt.NDArray[np.int64]
