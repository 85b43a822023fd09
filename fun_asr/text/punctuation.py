"""Restores punctuation and case: bare words become sentences, text that has them already passes unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.model.punctuation import (
    Case,
    Mark,
    PunctuationModel,
    WordFeatures,
    load_punctuation,
    merge_marks,
    pause_classes,
    plain,
)

__all__ = ["Prediction", "Punctuator"]

BUNDLED = Path(__file__).parent.parent / "assets" / "punctuation"

WINDOW = 512
"""Words that one row of the network's input gives results for."""
ROWS = 16
"""Most rows computed at once."""

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


class Punctuator:
    """Puts , . ? ! and capitals into bare English words.

    Arguments:
        model: of `fun_asr.model.punctuation.load_punctuation`; it runs on the CPU.
    """

    def __init__(self, model: PunctuationModel) -> None:
        self._net, self._forms = model.net, model.forms
        self._features = WordFeatures(model.words, model.net.config.num_affixes)

    @classmethod
    def load(cls, directory: Path | None = None) -> Punctuator:
        """The punctuator of a model directory, or the bundled one.

        Raises:
            CheckpointError: when the model is missing or damaged.
        """
        return cls(load_punctuation(directory or BUNDLED))

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
        parts = [_Part(**match.groupdict()) for word in words if (match := _WORD.fullmatch(word))]
        has_marks = any(_ANY_SIGN.search(part.after) for part in parts)
        upper = any(c.isupper() for part in parts for c in part.core)
        lower = any(c.islower() for part in parts for c in part.core)
        has_case = upper and (has_marks or any(_shows_case(part.core) for part in parts))
        if not any(c.isalnum() for part in parts for c in part.core) or (has_marks and has_case):
            return list(words)
        prediction = self.predict([part.core for part in parts], pauses)
        signs = ["" for _ in parts] if has_marks else [_SIGNS.get(_OUTSIDE.get(m, m), "") for m in prediction.marks]
        starts = _starts_by_signs(parts) if has_marks else _starts_by_marks(prediction.marks)
        punctuated = []
        for part, sign, start, case in zip(parts, signs, starts, prediction.cases, strict=True):
            core = part.core.lower() if upper and not lower else part.core
            if not has_case or start:
                core = self._cased(core, case, start=start)
            dotted = (part.after + sign).startswith(".") and core.endswith(".")
            punctuated.append(part.before + core.removesuffix("." if dotted else "") + part.after + sign)
        return punctuated

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
        for place, mark in enumerate(restored[:-1]):
            if mark in (Mark.QUESTION, Mark.EXCLAMATION) and inside[place][mark - Mark.QUESTION]:
                restored[place] = Mark(mark + Mark.QUESTION_INSIDE - Mark.QUESTION)
        return Prediction(restored, [Case(case) for case in cases.argmax(dim=-1).tolist()])

    @torch.inference_mode()
    def log_odds(self, words: Sequence[str], pauses: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
        """Log-odds of `Mark`, `[N, 7]`, and of `Case`, `[N, 4]`, computed in windows that overlap by the model's reach.

        Arguments: as `punctuate`.
        """
        numbers: dict[str, int] = {}
        types_N = torch.tensor([numbers.setdefault(plain(word), len(numbers)) for word in words])
        numbers_U, affixes_UA = self._features(list(numbers))
        pauses_N = pause_classes(torch.full((len(words),), -1.0) if pauses is None else torch.tensor(pauses))
        marks, cases = [], []
        for places_BT, mask_BT, results_BT in self._windows(len(words)):
            types_BT = types_N[places_BT]
            marks_BTM, cases_BTC = self._net(
                numbers_U[types_BT], affixes_UA[types_BT], pauses_N[places_BT], mask_BT.float()
            )
            marks.append(marks_BTM[results_BT])
            cases.append(cases_BTC[results_BT])
        return torch.cat(marks), torch.cat(cases)

    def _windows(self, length: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of windows: places of words, which of them are in the text, and which give results."""
        reach = self._net.config.reach if length > WINDOW else 0
        offsets_T = torch.arange(-reach, min(length, WINDOW) + reach)
        for first in range(0, length, ROWS * WINDOW):
            starts_B = torch.arange(first, min(length, first + ROWS * WINDOW), WINDOW)
            places_BT = starts_B[:, None] + offsets_T
            mask_BT = (places_BT >= 0) & (places_BT < length)
            yield places_BT.clamp(0, length - 1), mask_BT, mask_BT & (offsets_T >= 0) & (offsets_T < WINDOW)

    def _cased(self, word: str, case: Case, *, start: bool) -> str:
        if any(c.isupper() for c in word) or (case is Case.LOWER and not start):
            return word
        form = self._forms.get(word.replace("’", "'"))
        if form is not None and (case is Case.MIXED or (case is Case.CAPITALISED and form[0].isupper())):
            return form
        return word.upper() if case is Case.UPPER else word[:1].upper() + word[1:]


def _shows_case(word: str) -> bool:
    """Whether a word tells that its text is written with capitals; "I" stands in many a text without."""
    return any(c.isupper() for c in word) and any(c.islower() for c in word) and not _PRONOUN_I.fullmatch(word)


def _starts_by_marks(marks: Sequence[Mark]) -> list[bool]:
    ends = [mark in (Mark.PERIOD, Mark.QUESTION, Mark.EXCLAMATION) for mark in marks]
    return [True, *ends[:-1]]


def _starts_by_signs(parts: Sequence[_Part]) -> list[bool]:
    return [True, *(bool(_END_SIGN.search(part.after)) for part in parts[:-1])]
