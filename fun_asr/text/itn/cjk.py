"""Chinese and Japanese numerals, and replacements within text that has no spaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeAlias

from fun_asr.text.itn.spans import Written

__all__ = ["Pattern", "amount", "decimal", "replace", "spelled"]

_FIGURES = {
    **{c: n for n, c in enumerate("零一二三四五六七八九")},
    "〇": 0,
    "○": 0,
    "幺": 1,
    "两": 2,
    "兩": 2,
}
_STEPS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "兆": 10**12}

Pattern: TypeAlias = tuple[re.Pattern[str], Callable[[re.Match[str]], str | None]]
"""What to look for, and what to write for it; None leaves it to later patterns, the same text keeps it from them."""


def spelled(numeral: str) -> str:
    """Digits spoken one by one: 二〇二四 as 2024."""
    return "".join(str(_FIGURES[c]) for c in numeral)


def decimal(number: Callable[[str], str | None], end: str = "") -> Callable[[re.Match[str]], str | None]:
    """Writes the numeral of group 1, with the digits of group 2 after a point where there are any, and `end`.

    Arguments:
        number: writes a numeral in a language's own way.
        end: such as a percent sign.
    """

    def write(match: re.Match[str]) -> str | None:
        whole = number(match[1])
        return None if whole is None else f"{whole}{'.' + spelled(match[2]) if match[2] else ''}{end}"

    return write


def amount(numeral: str) -> int | None:
    """The value of a numeral with 十, 百, 千, 万 and 億; None where the characters do not make one."""
    total = below = figure = 0
    step, myriad = 10**4, 10**16
    pending = False
    for c in numeral:
        if c in _FIGURES:
            if pending:
                return None
            figure, pending = _FIGURES[c], c not in "零〇○"
        elif c in _STEPS:
            if _STEPS[c] >= step:
                return None
            step = _STEPS[c]
            below += (figure if pending else 1) * step
            figure, pending = 0, False
        else:
            value = _MYRIADS[c]
            if value >= myriad or not below + figure:
                return None
            total, myriad = total + (below + figure) * value, value
            below = figure = 0
            step, pending = 10**4, False
    return total + below + figure


def replace(words: Sequence[str], patterns: Sequence[Pattern]) -> list[Written]:
    """Rewrite a text that is cut into words at arbitrary places; words that share a replacement become one token."""
    text = "".join(words)
    ends = list(accumulate(len(word) for word in words))
    edits = _edits(text, patterns)
    written: list[Written] = []
    first = 0
    while first < len(words):
        start, last = (ends[first - 1] if first else 0), first + 1
        while any(start <= edit[0] < ends[last - 1] < edit[1] for edit in edits):
            last += 1
        inside = [edit for edit in edits if start <= edit[0] and edit[1] <= ends[last - 1] and edit[0] < edit[1]]
        pieces, position = [], start
        for begin, end, replacement in inside:
            pieces += [text[position:begin], replacement]
            position = end
        written.append(("".join(pieces) + text[position : ends[last - 1]], (first, last)))
        first = last
    return written


def _edits(text: str, patterns: Sequence[Pattern]) -> list[tuple[int, int, str]]:
    """Replacements in order of place; an earlier pattern has precedence where two overlap."""
    edits: list[tuple[int, int, str]] = []
    for pattern, write in patterns:
        for match in pattern.finditer(text):
            replacement = write(match)
            free = all(match.end() <= begin or match.start() >= end for begin, end, _ in edits)
            if replacement is not None and free:
                edits.append((*match.span(), replacement))
    return sorted(edit for edit in edits if text[edit[0] : edit[1]] != edit[2])
