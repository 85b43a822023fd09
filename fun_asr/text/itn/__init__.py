"""Inverse text normalization: spoken forms written as people write them ("twenty five dollars" as "$25").

Rules in plain Python, one module a class of expressions. Text that is already written passes unchanged, so each
function may run on its own output. Languages without rules pass unchanged too.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fun_asr.text.itn.spans import Written

__all__ = ["LANGUAGES", "inverse_normalize", "inverse_normalize_words"]

LANGUAGES = ("en", "ja", "yue", "zh")
"""Codes of the languages that have rules."""

_MODULES = {"en": "english", "ja": "japanese", "yue": "chinese", "zh": "chinese"}


def inverse_normalize(text: str, language: str | None = "en") -> str:
    """Write numbers, dates, times, amounts and the like in digits and symbols.

    Arguments:
        text: spoken or written text; lines are taken one by one, and white space between words stays as it is.
        language: code of the language; anything outside `LANGUAGES` leaves the text as it is.
    """
    rewrite = _rewriter(language)
    if rewrite is None:
        return text
    return "".join(_normalize_line(line, rewrite) for line in text.splitlines(keepends=True))


def inverse_normalize_words(words: Sequence[str], language: str | None = "en") -> list[tuple[str, tuple[int, int]]]:
    """Write a sequence of words as `inverse_normalize` does, telling which words each written token stands for.

    Arguments:
        words: words with their punctuation, without white space; in Chinese and Japanese characters or longer pieces.
        language: code of the language; anything outside `LANGUAGES` leaves the words as they are.

    Returns:
        Written tokens in order, each with the start and end (exclusive) of its words in `words`. The spans are not
        empty, do not overlap and leave nothing out: "twenty", "five", "dollars" become [("$25", (0, 3))].
    """
    rewrite = _rewriter(language)
    if rewrite is None:
        return [(word, (index, index + 1)) for index, word in enumerate(words)]
    return rewrite(words)


def _rewriter(language: str | None) -> Callable[[Sequence[str]], list[Written]] | None:
    if language not in _MODULES:
        return None
    # Imported on first use, so that a command that never normalizes does not compile a language's tables.
    rewrite: Callable[[Sequence[str]], list[Written]] = import_module(f"{__name__}.{_MODULES[language]}").rewrite
    return rewrite


def _normalize_line(line: str, rewrite: Callable[[Sequence[str]], list[Written]]) -> str:
    words = line.split()
    written: list[str] = []
    position = 0
    gaps: list[str] = []
    for word in words:
        start = line.index(word, position)
        gaps.append(line[position:start])
        position = start + len(word)
    for text, (start, _) in rewrite(words):
        written.append(gaps[start] + text)
    return "".join(written) + line[position:]
