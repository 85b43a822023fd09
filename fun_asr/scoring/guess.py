"""Formats found out from what files hold: ids in front of lines, behind them, or none."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fun_asr.scoring.lines import TRN_LINE, read_lines

__all__ = ["Guess", "guess_format", "guess_formats"]

_LOOKS_LIKE_ID = re.compile(r"\S*[\d_-]\S*")
# Words and numbers with which a sentence may begin: twenty-five, 5-year-old, 1990s, 3rd, 10:30, $5.50, 1,000.
_LOOKS_LIKE_WORD = re.compile(
    r"[^\W\d_]+(?:[-'’][^\W\d_]+)+|\d+(?:-[^\W\d_]+)+|\d+(?:st|nd|rd|th|s|am|pm|k|m|%)|[$€£¥+-]?\d{1,4}(?:[.,:/]\d+)*\W*",
    re.IGNORECASE,
)
_FEWEST_ASCENDING = 4
"""Lines whose first numbers ascend by chance once in 24 times."""


class Guess(NamedTuple):
    """What formats two files are taken to have."""

    formats: tuple[str, str]
    doubt: str | None = None
    """What else might be meant, and how to say so."""


def guess_format(path: Path) -> str:
    """`trn`, `kaldi` or `text`, from what a file of another name holds: ids at the end, in front, or none.

    What stands in front are ids only if each has a digit, a dash or an underscore and comes once.
    """
    return _guess(path, _lines(path))


def guess_formats(reference: Path, hypothesis: Path) -> Guess:
    """The formats of two files that are compared.

    What stands in front of the lines may be words: `5 people came`, `well-known names`. So where both files have as
    many lines, they are ids only if they look like no word, are the same in another order, or count the lines.
    """
    sides = (_lines(reference), _lines(hypothesis))
    guessed = (_guess(reference, sides[0]), _guess(hypothesis, sides[1]))
    with_ids = [index for index in (0, 1) if guessed[index] == "kaldi"]
    if not with_ids or not {"kaldi", "text"}.issuperset(guessed) or "text" in (reference.name, hypothesis.name):
        return Guess(guessed)
    first, second = map(_names, sides)
    shared = set(first) & set(second)
    as_many = len(sides[0]) == len(sides[1])
    worded = any(_LOOKS_LIKE_WORD.fullmatch(name) for index in with_ids for name in (first, second)[index])
    if len(with_ids) == 1:
        # The other side has no ids: either these are words, or the files do not belong together.
        is_text = as_many and worded
    elif first == second:
        is_text = worded and not _counts(first)
    else:
        is_text = worded and (not shared or (as_many and set(first) != set(second)))
    if is_text:
        return Guess(("text", "text"), f"took {first[0]} and the like for words; --format kaldi takes them for ids")
    if first == second:
        return Guess(guessed, f"took {first[0]} and the like for ids; --format text takes them for words")
    return Guess(guessed)


def _lines(path: Path) -> list[str]:
    return [line for _, line in read_lines(path, []) if line.strip()]


def _names(lines: Sequence[str]) -> list[str]:
    return [line.split(None, 1)[0] for line in lines]


def _guess(path: Path, lines: Sequence[str]) -> str:
    ends = [match[2] for match in map(TRN_LINE.fullmatch, lines) if match]
    # A remark such as (laughs) is no id.
    ids = len(set(ends)) == len(ends) > 1 or all(map(_LOOKS_LIKE_ID.fullmatch, ends))
    if len(ends) * 2 > len(lines) and ids:
        return "trn"
    names = _names(lines)
    if path.name == "text" or (
        names and len(set(names)) == len(names) and all(_LOOKS_LIKE_ID.fullmatch(name) for name in names)
    ):
        return "kaldi"
    return "text"


def _counts(names: Sequence[str]) -> bool:
    """Whether names are numbers that ascend, from 0 or 1 by 1 in a short file, or have zeros in front."""
    if not all(name.isdecimal() for name in names):
        return False
    numbers = [int(name) for name in names]
    if any(len(name) > 1 and name.startswith("0") for name in names):
        return True
    if len(numbers) < _FEWEST_ASCENDING:
        return numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    return all(left < right for left, right in itertools.pairwise(numbers))
