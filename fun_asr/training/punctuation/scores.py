"""How well a punctuation model restores the marks and the case of formatted text, and the bias that suits it best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from fun_asr.punctuation.network import Mark, merge_marks
from fun_asr.punctuation.punctuator import Punctuator
from fun_asr.training.punctuation.labels import UNKNOWN_CASE, LabelledWord, label_sentence, simulate_pauses

SCORED_MARKS = (Mark.COMMA, Mark.PERIOD, Mark.QUESTION, Mark.EXCLAMATION)

_BENCHMARK_MARKS = (Mark.COMMA, Mark.PERIOD, Mark.QUESTION)

# Exclamation marks are a matter of taste, and a bias that finds more of them costs full stops.
_TUNED_MARKS = (Mark.COMMA, Mark.PERIOD, Mark.QUESTION)
_BIASES = np.arange(-0.6, 1.21, 0.15)


@dataclass(frozen=True)
class MarkScore:
    """Of one mark; numbers in [0, 1]."""

    precision: float
    recall: float
    f1: float
    count: int
    """In the reference."""


@dataclass(frozen=True)
class PunctuationScores:
    """Of a model on a set of texts."""

    words: int
    marks: dict[str, MarkScore]
    benchmark: dict[str, MarkScore]
    """Comma, full stop and question mark as Tilk and Alumäe (2016) count them: every semicolon of the reference and
    every exclamation mark is a full stop."""
    case_accuracy: float
    """Part of the words with the reference's letters; words that a quotation begins are left out."""
    lower_accuracy: float
    """The same of a text left in lower case, the majority baseline. Without marks all F1 are 0."""

    def lines(self) -> list[str]:
        """A table for people."""
        rows = [f"{'mark':<20}{'precision':>10}{'recall':>10}{'F1':>10}{'count':>10}"]
        named = [*self.marks.items(), *((f"{name}, benchmark", score) for name, score in self.benchmark.items())]
        rows += [
            f"{name:<20}{score.precision:>10.3f}{score.recall:>10.3f}{score.f1:>10.3f}{score.count:>10}"
            for name, score in named
        ]
        return [*rows, f"case {100 * self.case_accuracy:.2f} % (all lower: {100 * self.lower_accuracy:.2f} %)"]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def score(
    punctuator: Punctuator, texts: Iterable[Sequence[str]], pauses: np.random.Generator | None = None
) -> PunctuationScores:
    """Take texts apart, restore them and compare.

    Arguments:
        texts: formatted sentences that follow each other, one sequence a text.
        pauses: gives the words pauses of `simulate_pauses`; None gives none.
    """
    expected: list[npt.NDArray[np.int64]] = []
    benchmark: list[npt.NDArray[np.int64]] = []
    found: list[npt.NDArray[np.int64]] = []
    words = right = lower = cased = 0
    for sentences in texts:
        labelled = [word for sentence in sentences for word in label_sentence(sentence)]
        bare = [word.word for word in labelled]
        marks = np.array([word.mark for word in labelled], dtype=np.int64)
        seconds = None if pauses is None else simulate_pauses(marks, pauses).tolist()
        prediction = punctuator.predict(bare, seconds)
        expected.append(without_inside(marks))
        benchmark.append(_benchmark_marks(labelled))
        found.append(without_inside(np.array(prediction.marks, dtype=np.int64)))
        words += len(bare)
        for reference, written in zip(_expected_forms(labelled), punctuator.write(bare, prediction), strict=True):
            if reference is not None:
                cased += 1
                right += written.rstrip(",.?!") == reference
                lower += reference == reference.lower()
    expected_N, found_N = np.concatenate(expected), np.concatenate(found)
    benchmark_N, merged_N = np.concatenate(benchmark), np.where(found_N == Mark.EXCLAMATION, Mark.PERIOD, found_N)
    return PunctuationScores(
        words=words,
        marks={mark.name.lower(): _mark_score(expected_N, found_N, mark) for mark in SCORED_MARKS},
        benchmark={mark.name.lower(): _mark_score(benchmark_N, merged_N, mark) for mark in _BENCHMARK_MARKS},
        case_accuracy=right / max(1, cased),
        lower_accuracy=lower / max(1, cased),
    )


def _expected_forms(labelled: Sequence[LabelledWord]) -> list[str | None]:
    """The words as they should be written; None where a quotation began that has left no trace."""
    forms: list[str | None] = []
    starts = True
    for word in labelled:
        form = word.form.rstrip(".")
        if starts:
            form = form[:1].upper() + form[1:]
        forms.append(form if starts or word.case != UNKNOWN_CASE else None)
        starts = word.mark in (Mark.PERIOD, Mark.QUESTION, Mark.EXCLAMATION)
    return forms


def _benchmark_marks(labelled: Sequence[LabelledWord]) -> npt.NDArray[np.int64]:
    marks_N = without_inside(np.array([word.mark for word in labelled], dtype=np.int64))
    semicolons_N = np.array([";" in word.signs for word in labelled], dtype=np.bool_) & (marks_N == Mark.COMMA)
    return np.where((marks_N == Mark.EXCLAMATION) | semicolons_N, Mark.PERIOD, marks_N)


def without_inside(marks_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Marks inside a sentence as the same marks at its end."""
    return np.where(marks_N >= Mark.QUESTION_INSIDE, marks_N - (Mark.QUESTION_INSIDE - Mark.QUESTION), marks_N)


def _mark_score(expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64], mark: Mark) -> MarkScore:
    hits = int(np.sum((expected == mark) & (found == mark)))
    wanted, given = int(np.sum(expected == mark)), int(np.sum(found == mark))
    return MarkScore(
        precision=hits / max(1, given),
        recall=hits / max(1, wanted),
        f1=2 * hits / max(1, wanted + given),
        count=wanted,
    )


def best_bias(punctuator: Punctuator, texts: Iterable[Sequence[str]]) -> tuple[float, ...]:
    """The `mark_bias` with the highest sum of F1 over comma, full stop and question mark, found one mark at a time."""
    logs, expected = [], []
    for sentences in texts:
        labelled = [word for sentence in sentences for word in label_sentence(sentence)]
        marks, _ = punctuator.log_odds([word.word for word in labelled])
        logs.append(merge_marks(marks))
        expected.append(without_inside(np.array([word.mark for word in labelled], dtype=np.int64)))
    logs_N5, expected_N = torch.cat(logs).numpy(), np.concatenate(expected)
    bias = np.zeros(len(SCORED_MARKS) + 1)

    def total(bias: npt.NDArray[np.float64]) -> float:
        found = (logs_N5 + bias).argmax(axis=1)
        return sum(_mark_score(expected_N, found, mark).f1 for mark in _TUNED_MARKS)

    for _ in range(3):
        for mark in _TUNED_MARKS:
            trials = []
            for value in _BIASES:
                bias[mark] = value
                trials.append(total(bias))
            bias[mark] = _BIASES[int(np.argmax(trials))]
    return tuple(round(float(value), 2) for value in bias)
