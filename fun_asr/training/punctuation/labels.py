"""Training data of the punctuation model: formatted sentences taken apart into bare words, marks and case.

Marks are mapped as by Tilk and Alumäe (2016, "Bidirectional recurrent neural network with attention mechanism for
punctuation restoration"): colons and dashes become commas, ellipses full stops. A semicolon becomes a full stop, but a
comma before a conjunction or a relative ("; and", "; which"), where a new sentence would sound broken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fun_asr.punctuation.network import Case, Mark, case_of, plain
from fun_asr.training.sentences import read_lines

UNKNOWN_CASE = -1
"""Label of words whose own case cannot be seen: the first of a sentence or of a quotation."""

TITLES = {"mr": "Mr.", "mrs": "Mrs.", "dr": "Dr.", "messrs": "Messrs."}
"""Abbreviations that are spoken as words, and how they are written before a name."""

_DASHES = re.compile(r"(?:[—–⸺⸻‒]|(?<=\w)--(?=\w))+")
_OPENING = "“‘\"'([{*_"
_CLOSING = "”’\"')]}*_"
_SIGNS = "—,:;….!?"
_CONTINUES = {
    *("and", "but", "or", "nor", "for", "yet", "so", "which", "who", "whom", "whose", "that", "where", "when", "while"),
    *("as", "though", "although", "because", "if", "than", "then"),
}


class LabelledWord(NamedTuple):
    """One word of formatted text, taken apart."""

    word: str
    """As a recogniser without formatting writes it: mcdonald."""
    form: str
    """As written, without its mark: McDonald."""
    mark: Mark
    case: int
    """A `Case`, or `UNKNOWN_CASE`."""
    signs: str
    """What stood after it: ”; for one."""


def label_sentence(sentence: str) -> list[LabelledWord]:
    """Take one formatted sentence apart.

    >>> [(w.word, w.mark.name) for w in label_sentence("“Yes,” said Mr. Fox; “are you ill?”")][:4]
    [('yes', 'COMMA'), ('said', 'NONE'), ('mr', 'NONE'), ('fox', 'PERIOD')]
    """
    forms: list[str] = []
    signs: list[str] = []
    quoted: list[bool] = []
    opens = False
    for token in _DASHES.sub("— ", sentence).split():
        opens = opens or token[0] in _OPENING
        bare = token.lstrip(_OPENING)
        form = bare.rstrip(_CLOSING + _SIGNS)
        if form[:1].isalnum() or any(c.isalnum() for c in form):
            forms.append(form.replace("’", "'"))
            signs.append(bare[len(form) :])
            quoted.append(opens)
            opens = False
        elif signs:
            signs[-1] += bare
    labelled = []
    starts = True
    for i, form in enumerate(forms):
        mark = _mark(signs[i], forms[i + 1] if i + 1 < len(forms) else None)
        title = TITLES.get(form.lower()) if form[0].isupper() else None
        case = UNKNOWN_CASE if starts or quoted[i] else Case.MIXED if title else case_of(form)
        labelled.append(LabelledWord(plain(form), title or form, mark, case, signs[i]))
        # After a semicolon the next word has kept the case that it has inside a sentence.
        starts = mark in (Mark.PERIOD, Mark.QUESTION, Mark.EXCLAMATION) and ";" not in signs[i]
    return labelled


def _mark(signs: str, following: str | None) -> Mark:
    if following is None:
        return Mark.QUESTION if "?" in signs else Mark.EXCLAMATION if "!" in signs else Mark.PERIOD
    if not signs:
        return Mark.NONE
    inside = following[0].islower()
    if "?" in signs:
        return Mark.QUESTION_INSIDE if inside else Mark.QUESTION
    if "!" in signs:
        return Mark.EXCLAMATION_INSIDE if inside else Mark.EXCLAMATION
    if ";" in signs:
        return Mark.COMMA if following.lower() in _CONTINUES else Mark.PERIOD
    if "…" in signs:
        return Mark.COMMA if inside else Mark.PERIOD
    # One sentence a line: a full stop inside one ends an abbreviation or an initial.
    return Mark.COMMA if any(sign in signs for sign in ",:—") else Mark.NONE


def read_sentences(path: Path) -> Iterator[str]:
    """The sentences of a text file, one a line (`.xz` is unpacked), or the `written` ones of a JSONL manifest.

    Raises:
        ManifestError: when the file cannot be read.
    """
    return read_lines(path, lambda row: row.get("written") or "")


@dataclass(frozen=True)
class LabelledText:
    """N words in the order of the text."""

    types: list[str]
    """The different words."""
    words_N: npt.NDArray[np.int64]
    """Index into `types`."""
    marks_N: npt.NDArray[np.int64]
    cases_N: npt.NDArray[np.int64]
    """`Case`s and `UNKNOWN_CASE`."""
    starts: npt.NDArray[np.int64]
    """Places of the first words of the sentences."""
    connected: int
    """So many words from the start follow each other; the sentences after them are a text each."""
    forms: dict[str, str]
    """How words of mixed case are written: mcdonald -> McDonald."""


def label_text(connected: Iterable[str], alone: Iterable[str] = ()) -> LabelledText:
    """Take sentences apart: first those that follow each other, then those that are a text each."""
    numbers: dict[str, int] = {}
    words: list[int] = []
    marks: list[int] = []
    cases: list[int] = []
    starts: list[int] = []
    mixed: dict[str, Counter[str]] = {}
    ends = []
    for sentences in (connected, alone):
        for sentence in sentences:
            starts.append(len(words))
            for word, form, mark, case, _ in label_sentence(sentence):
                words.append(numbers.setdefault(word, len(numbers)))
                marks.append(mark)
                cases.append(case)
                if case == Case.MIXED:
                    mixed.setdefault(word, Counter())[form] += 1
        ends.append(len(words))
    return LabelledText(
        types=list(numbers),
        words_N=np.array(words, dtype=np.int64),
        marks_N=np.array(marks, dtype=np.int64),
        cases_N=np.array(cases, dtype=np.int64),
        starts=np.array(starts, dtype=np.int64),
        connected=ends[0],
        forms={word: forms.most_common(1)[0][0] for word, forms in mixed.items()},
    )


def simulate_pauses(marks: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Pauses that a speaker might make after words, in seconds.

    There is no speech to these texts. Pauses of readers and talkers are log-normal, with one mode below 0.2 s and one
    between 0.2 and 1 s (Campione and Véronis 2002, "A large-scale multilingual study of silent pause duration"). Here
    95 % of the sentences end in one of about 0.55 s, 60 % of the commas in one of about 0.22 s, and 5 to 20 % of the
    other words in one of about 0.18 s. All are blurred by 0.04 s, as a recogniser's word times are.

    Arguments:
        marks: `Mark`s of the words, of any shape.
    """
    ends = np.isin(marks, (Mark.PERIOD, Mark.QUESTION, Mark.EXCLAMATION))
    commas = (marks != Mark.NONE) & ~ends
    probability = np.where(ends, 0.95, np.where(commas, 0.6, rng.uniform(0.05, 0.2)))
    median = np.where(ends, 0.55, np.where(commas, 0.22, 0.18))
    pauses = median * np.exp(0.6 * rng.standard_normal(marks.shape)) * (rng.random(marks.shape) < probability)
    blurred = pauses + rng.uniform(-0.04, 0.04, marks.shape)
    return np.maximum(blurred, 0.0).astype(np.float32)
