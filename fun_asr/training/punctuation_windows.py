"""Windows of labelled text as batches of the punctuation model. Shapes: B rows, T words, A affixes of a word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.model.punctuation import WordFeatures, pause_classes
from fun_asr.training.punctuation_data import UNKNOWN_CASE, LabelledText, simulate_pauses

IGNORED = -100
"""Label of padding and of words whose case is unknown."""
PADDING = -1
"""Index of no word."""

_NUMBER_WORDS = [
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty"),
    *("sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million"),
]


@dataclass(frozen=True)
class PunctuationBatch:
    """B windows ready for the network; see `PunctuationNet.forward`."""

    numbers_BT: Tensor
    affixes_BTA: Tensor
    pauses_BT: Tensor
    mask_BT: Tensor
    marks_BT: Tensor
    cases_BT: Tensor


class Windows:
    """Draws batches: windows that begin anywhere in connected text, and windows of a few short texts each.

    Arguments:
        text: all training text.
        features: of the model.
        rows, window: B and T of a batch.
        gap: masked positions between two texts in one window.
        short_rows: part of the windows that hold short texts: one to three sentences of connected text, or a line.
        known_pauses: part of the windows with simulated pauses.
        digits: part of the number words that are shown as digits.
        seed: the same seed and step give the same batch.
    """

    def __init__(
        self,
        text: LabelledText,
        features: WordFeatures,
        *,
        rows: int,
        window: int,
        gap: int,
        short_rows: float,
        known_pauses: float,
        digits: float,
        seed: int,
    ) -> None:
        self._text, self._connected = text, text.connected
        self._rows, self._window, self._gap = rows, window, gap
        self._short_rows, self._known_pauses, self._digits, self._seed = short_rows, known_pauses, digits, seed
        # The last type is a number in digits.
        self._numbers, self._affixes = features([*text.types, "0"])
        self._is_number_word = np.isin(np.array([*text.types, "0"]), _NUMBER_WORDS)
        self._starts = np.append(text.starts, len(text.words_N))
        self._first_alone = int(np.searchsorted(self._starts, text.connected))

    def batch(self, step: int) -> PunctuationBatch:
        """The batch of a training step."""
        rng = np.random.default_rng([self._seed, step])
        short = rng.random(self._rows) < self._short_rows
        whole = self._connected > self._window
        indices_BT = np.stack([self._long(rng) if whole and not s else self._short(rng) for s in short])
        words = indices_BT != PADDING
        types_BT = np.where(words, self._text.words_N[indices_BT], 0)
        shown = self._is_number_word[types_BT] & (rng.random(types_BT.shape) < self._digits)
        types_BT = np.where(shown, len(self._text.types), types_BT)
        marks_BT, cases_BT = self._text.marks_N[indices_BT], self._text.cases_N[indices_BT]
        known = words & (rng.random((self._rows, 1)) < self._known_pauses)
        pauses_BT = np.where(known, simulate_pauses(marks_BT, rng), np.float32(-1))
        types = torch.from_numpy(types_BT)
        return PunctuationBatch(
            numbers_BT=self._numbers[types],
            affixes_BTA=self._affixes[types],
            pauses_BT=pause_classes(torch.from_numpy(pauses_BT)),
            mask_BT=torch.from_numpy(words.astype(np.float32)),
            marks_BT=torch.from_numpy(np.where(words, marks_BT, IGNORED)),
            cases_BT=torch.from_numpy(np.where(words & (cases_BT != UNKNOWN_CASE), cases_BT, IGNORED)),
        )

    def _long(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(0, self._connected - self._window + 1) + np.arange(self._window)

    def _short(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        row = np.full(self._window, PADDING, dtype=np.int64)
        place = 0
        while place < self._window:
            line = int(rng.integers(0, len(self._starts) - 1))
            lines = int(rng.integers(1, 4)) if line < self._first_alone else 1
            last = min(line + lines, self._first_alone) if line < self._first_alone else line + 1
            part = np.arange(self._starts[line], self._starts[last])[: self._window - place]
            row[place : place + len(part)] = part
            place += len(part) + self._gap
        return row
