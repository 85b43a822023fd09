"""Restores punctuation and case: bare words become sentences, text that has them already passes unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.bundled import BUNDLED_PUNCTUATION
from fun_asr.punctuation.network import (
    Case,
    Mark,
    PunctuationModel,
    load_punctuation,
    merge_marks,
    pause_classes,
    plain,
)
from fun_asr.punctuation.wordpiece import MAX_WORD_PIECES, WordPieceTokenizer, WordTypes
from fun_asr.text.itn import inverse_normalize_words
from fun_asr.weights.precision import resolve_compute_type

__all__ = ["Prediction", "Punctuator"]

MARGIN = 24
"""Pieces that a window of a longer text shows the network on either side of the words that it gives results for."""
ROWS = 16
"""Most windows computed at once."""
NEW_NUMBER_PAUSE = 0.3
"""Seconds after which a sentence may end between words that make one number."""

_SIGNS = {Mark.COMMA: ",", Mark.PERIOD: ".", Mark.QUESTION: "?", Mark.EXCLAMATION: "!"}
_OUTSIDE = {Mark.QUESTION_INSIDE: Mark.QUESTION, Mark.EXCLAMATION_INSIDE: Mark.EXCLAMATION}
_WORD = re.compile(r"(?P<before>[\"'“‘(\[{¿¡]*)(?P<core>.*?)(?P<after>[.,!?;:…。，？！、；：\"'”’)\]}]*)", re.DOTALL)
_ANY_SIGN = re.compile(r"[.,!?;:…。，？！、；：]")
_END_SIGN = re.compile(r"[.!?…。？！]")
_PRONOUN_I = re.compile(r"I(['’]\w+)?")


@dataclass(frozen=True)
class Prediction:
    """What the model makes of N words."""

    marks: list[Mark]
    """After each word; the last one ends a sentence."""
    cases: list[Case]
    """Of each word inside a sentence: that the first one is capitalised, the marks tell."""


@dataclass(frozen=True)
class _Part:
    before: str
    core: str
    after: str


class _Text:
    """Words taken apart, and what is there of marks and case."""

    def __init__(self, words: Sequence[str]) -> None:
        self.parts = [_Part(**match.groupdict()) for word in words if (match := _WORD.fullmatch(word))]
        self.has_marks = any(_ANY_SIGN.search(part.after) for part in self.parts)
        upper = any(c.isupper() for part in self.parts for c in part.core)
        self.is_upper = upper and not any(c.islower() for part in self.parts for c in part.core)
        self.has_case = upper and (self.has_marks or any(_shows_case(part.core) for part in self.parts))

    @property
    def is_formatted(self) -> bool:
        """Whether there is nothing to restore."""
        has_letters = any(c.isalnum() for part in self.parts for c in part.core)
        return not has_letters or (self.has_marks and self.has_case)


@dataclass(frozen=True)
class Window:
    """Words `start` to `stop` of a text, of which those from `first` to `end` get results."""

    start: int
    first: int
    end: int
    stop: int


def cut_windows(counts_N: npt.NDArray[np.int64], capacity: int, margin: int) -> list[Window]:
    """Windows whose results join to those of the whole text.

    Arguments:
        counts_N: pieces of each word.
        capacity: most pieces of a window.
        margin: pieces wanted on either side of the results, but for the ends of the text; fewer where they, and the
            longest word, do not fit.
    """
    margin = max(0, min(margin, (capacity - MAX_WORD_PIECES) // 2))
    ends_N = np.concatenate([[0], np.cumsum(counts_N)])
    length = len(counts_N)
    windows: list[Window] = []
    first = 0
    while first < length:
        # The last window has room left over: it looks back as far as it can.
        whole = int(np.searchsorted(ends_N, ends_N[length] - capacity))
        before = int(np.searchsorted(ends_N, ends_N[first] - margin))
        if whole <= before:
            windows.append(Window(whole, first, length, length))
            break
        stop = int(np.searchsorted(ends_N, ends_N[before] + capacity, side="right")) - 1
        end = max(first + 1, int(np.searchsorted(ends_N, ends_N[stop] - margin, side="right")) - 1)
        windows.append(Window(before, first, end, max(stop, end)))
        first = end
    return windows


class Punctuator:
    """Puts , . ? ! and capitals into bare English words.

    Arguments:
        model: of `fun_asr.punctuation.network.load_punctuation`; it runs on the CPU.
    """

    def __init__(self, model: PunctuationModel) -> None:
        self._net, self._forms = model.net, model.forms
        self._tokenizer = WordPieceTokenizer(model.pieces)

    @classmethod
    def load(cls, directory: Path | None = None) -> Punctuator:
        """The punctuator of a model directory, or the bundled one.

        Raises:
            CheckpointError: when the model is missing or damaged.
        """
        compute_type = resolve_compute_type("auto", torch.device("cpu"))
        return cls(load_punctuation(directory or BUNDLED_PUNCTUATION, compute_type))

    def punctuate_text(self, text: str) -> str:
        """One text; its white space becomes single spaces where anything is restored.

        >>> Punctuator.load().punctuate_text("where is mr smith i have not seen him")
        'Where is Mr. Smith? I have not seen him.'
        """
        words = text.split()
        punctuated = self.punctuate(words)
        return text if punctuated == words else " ".join(punctuated)

    def punctuate(self, words: Sequence[str], pauses: Sequence[float] | None = None) -> list[str]:
        """The words of one text, each with its mark and case, so that what belongs to a word (its times) still does.

        Marks are restored where the text has none, case where it is all in lower or all in upper case; so a second
        time changes nothing.

        Arguments:
            words: N words.
            pauses: seconds of silence after each word, negative where unknown; N of them, or None when none is known.

        Raises:
            ValueError: when there are not as many pauses as words.
        """
        text = _Text(words)
        if text.is_formatted:
            return list(words)
        return self.write(words, self.predict([part.core for part in text.parts], pauses))

    def write(self, words: Sequence[str], prediction: Prediction) -> list[str]:
        """Words with what a prediction says of them and they do not have yet."""
        text = _Text(words)
        marks = [_OUTSIDE.get(mark, mark) for mark in prediction.marks]
        signs = ["" if text.has_marks else _SIGNS.get(mark, "") for mark in marks]
        starts = _starts_by_signs(text.parts) if text.has_marks else _starts_by_marks(prediction.marks)
        written = []
        for part, sign, start, case in zip(text.parts, signs, starts, prediction.cases, strict=True):
            core = part.core.lower() if text.is_upper else part.core
            if not text.has_case or start:
                core = self._cased(core, case, start=start)
            dotted = (part.after + sign).startswith(".") and core.endswith(".")
            written.append(part.before + core.removesuffix("." if dotted else "") + part.after + sign)
        return written

    def predict(self, words: Sequence[str], pauses: Sequence[float] | None = None) -> Prediction:
        """Marks and case of bare words.

        Arguments, Raises: as `punctuate`.
        """
        if pauses is not None and len(pauses) != len(words):
            raise ValueError(f"{len(words)} words, but {len(pauses)} pauses")
        if not words:
            return Prediction([], [])
        marks, cases = self.log_odds(words, pauses)
        merged = merge_marks(marks) + torch.tensor(self._net.config.mark_bias)
        chosen = merged.argmax(dim=-1)
        chosen[-1] = Mark.PERIOD + merged[-1, Mark.PERIOD :].argmax()
        inside = (marks[:, Mark.QUESTION_INSIDE :] > marks[:, Mark.QUESTION : Mark.QUESTION_INSIDE]).tolist()
        restored = [Mark(mark) for mark in chosen.tolist()]
        for place in _inside_numbers(words):
            # "twenty, five dollars" would be written "20, $5"; a speaker who pauses may mean two numbers.
            if restored[place] is Mark.COMMA or pauses is None or pauses[place] < NEW_NUMBER_PAUSE:
                restored[place] = Mark.NONE
        for place, mark in enumerate(restored[:-1]):
            if mark in (Mark.QUESTION, Mark.EXCLAMATION) and inside[place][mark - Mark.QUESTION]:
                restored[place] = Mark(mark + Mark.QUESTION_INSIDE - Mark.QUESTION)
        return Prediction(restored, [Case(case) for case in cases.argmax(dim=-1).tolist()])

    @torch.inference_mode()
    def log_odds(self, words: Sequence[str], pauses: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
        """Log-odds of `Mark`, `[N, 7]`, and of `Case`, `[N, 4]`, computed in windows that overlap.

        Arguments: as `punctuate`.
        """
        numbers: dict[str, int] = {}
        types_N = np.array([numbers.setdefault(plain(word), len(numbers)) for word in words], dtype=np.int64)
        types = WordTypes(self._tokenizer, list(numbers))
        pauses_N = pause_classes(torch.full((len(words),), -1.0) if pauses is None else torch.tensor(pauses)).numpy()
        windows = cut_windows(types.counts_U[types_N], self._net.config.encoder.max_positions - 2, MARGIN)
        marks, cases = [], []
        for first in range(0, len(windows), ROWS):
            rows = windows[first : first + ROWS]
            laid = [types.lay_out(types_N[window.start : window.stop]) for window in rows]
            shape = (len(rows), max(len(pieces) for pieces, _ in laid) + 2)
            pieces_BT = np.full(shape, self._tokenizer.pad)
            pauses_BT, texts_BT = np.zeros(shape, dtype=np.int64), np.ones(shape, dtype=np.int64)
            places_B = []
            for row, (window, (pieces, last)) in enumerate(zip(rows, laid, strict=True)):
                pieces_BT[row, : len(pieces) + 2] = [self._tokenizer.cls, *pieces, self._tokenizer.sep]
                pauses_BT[row, last + 1] = pauses_N[window.start : window.stop]
                texts_BT[row, : len(pieces) + 2] = 0
                places_B.append(last[window.first - window.start : window.end - window.start] + 1)
            positions_BT = np.broadcast_to(np.arange(shape[1]), shape)
            arrays = (pieces_BT, positions_BT, texts_BT, pauses_BT)
            marks_BTM, cases_BTC = self._net(*(torch.from_numpy(array.copy()) for array in arrays))
            for row, places in enumerate(places_B):
                marks.append(marks_BTM[row, places])
                cases.append(cases_BTC[row, places])
        return torch.cat(marks), torch.cat(cases)

    def _cased(self, word: str, case: Case, *, start: bool) -> str:
        if any(c.isupper() for c in word) or (case is Case.LOWER and not start):
            return word
        form = self._forms.get(word.replace("’", "'"))
        if form is not None and (case is Case.MIXED or (case is Case.CAPITALISED and form[0].isupper())):
            return form
        return word.upper() if case is Case.UPPER else word[:1].upper() + word[1:]


def _inside_numbers(words: Sequence[str]) -> Iterator[int]:
    """Places of words that are written as one with the next: numbers, dates, times, e-mail addresses and the like."""
    for _, (start, end) in inverse_normalize_words(words):
        yield from range(start, end - 1)


def _shows_case(word: str) -> bool:
    """Whether a word tells that its text is written with capitals; "I" stands in many a text without."""
    return any(c.isupper() for c in word) and any(c.islower() for c in word) and not _PRONOUN_I.fullmatch(word)


def _starts_by_marks(marks: Sequence[Mark]) -> list[bool]:
    ends = [mark in (Mark.PERIOD, Mark.QUESTION, Mark.EXCLAMATION) for mark in marks]
    return [True, *ends[:-1]]


def _starts_by_signs(parts: Sequence[_Part]) -> list[bool]:
    return [True, *(bool(_END_SIGN.search(part.after)) for part in parts[:-1])]
