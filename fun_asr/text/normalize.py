"""Normalisers for scoring: what two writings of the same words are reduced to before they are compared.

`basic` and `english` behave as Whisper's (Radford et al., 2022, appendix C), so that error rates compare with published
ones, but that a typographic apostrophe is an apostrophe; `basic_marks` is `basic` with combining marks. The rules are
the library whisper-normalizer's, which takes about 0.2 ms for a sentence. Test sets repeat their words, so here a word
that its neighbours cannot change is given to the library once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Literal, get_args

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

__all__ = ["NORMALIZERS", "BasicNormalizer", "EnglishNormalizer", "Normalizer", "NormalizerName", "get_normalizer"]

Normalizer = Callable[[str], str]
NormalizerName = Literal["none", "basic", "basic_marks", "english"]
NORMALIZERS: tuple[NormalizerName, ...] = get_args(NormalizerName)

# Both normalisers remove what stands in brackets, across words.
_OPENS_BRACKET = re.compile(r"[<\[(]")
_APOSTROPHES = str.maketrans(dict.fromkeys("‘’‛ʼ＇", "'"))
_ACCENT_AS_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[´`′](?=[^\W\d_])")
# Zero-width joiners, which choose among the shapes of a letter.
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))


def get_normalizer(name: NormalizerName) -> Normalizer:
    """The normaliser of that name; `none` changes the spaces alone. All leave one space between words, none around."""
    if name in ("basic", "basic_marks"):
        return BasicNormalizer(keep_marks=name == "basic_marks")
    if name == "english":
        return EnglishNormalizer()
    return _single_spaces


def _plain_apostrophes(text: str) -> str:
    """With the apostrophe of typewriters in the place of those of print, which the library takes for spaces."""
    return text if text.isascii() and "`" not in text else _ACCENT_AS_APOSTROPHE.sub("'", text.translate(_APOSTROPHES))


def _single_spaces(text: str) -> str:
    return " ".join(text.split())


def _without_symbols(text: str) -> str:
    composed = unicodedata.normalize("NFKC", text).translate(_JOINERS)
    kinds = map(unicodedata.category, composed)
    return "".join(
        " " if kind[0] in "SP" or kind == "Me" else letter for letter, kind in zip(composed, kinds, strict=True)
    )


class BasicNormalizer:
    """Whisper's normaliser for any language: lower case, no punctuation, symbols or brackets.

    As Whisper's does, it breaks words at combining marks, which Hindi and Thai cannot do without.

    Arguments:
        keep_marks: keep them, but for those that enclose a letter; error rates are then others than Whisper's.
    """

    def __init__(self, *, keep_marks: bool = False) -> None:
        self._library = BasicTextNormalizer()
        if keep_marks:
            self._library.clean = _without_symbols
        self._words: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        text = _plain_apostrophes(text)
        if _OPENS_BRACKET.search(text):
            return _single_spaces(self._library(text))
        words = []
        for word in text.split():
            normal = self._words.get(word)
            if normal is None:
                normal = self._words[word] = self._library(word).strip()
            if normal:
                words.append(normal)
        return " ".join(words)


class EnglishNormalizer:
    """Whisper's normaliser for English: also contractions, titles, numbers, currencies and British spellings.

    A word of letters that no rule knows is *plain*: it stays what it is, but for its spelling and a punctuation mark at
    its end, and a rule that looks at neighbours sees any plain word as the same. So a text is cut between each plain
    word and the next, and each run of other words is given to the library once, beside a plain word where it has one.
    """

    _PLAIN = re.compile(r"([a-z]+)[.,?!;:]?")
    _NEIGHBOUR = "q"
    # In the place of what becomes of a run: it depends on the plain words beside it.
    _DEPENDS = "\0"
    # The library removes the space before an apostrophe, and so joins a word of any kind with what follows.
    _JOINS_WORD_BEFORE = re.compile(r"(?:^|\s)'")
    # In rules that span words and are written out in the library's code: "and a half", "5 th".
    _IN_RULES = frozenset({"a", "half", "s", "st", "nd", "rd", "th"})

    def __init__(self) -> None:
        self._library = EnglishTextNormalizer()
        self._in_rules = {
            *self._IN_RULES,
            *self._library.standardize_numbers.words,
            *re.findall("[a-z]+", " ".join(self._library.replacers).replace(r"\b", " ")),
        }
        self._fillers = re.compile(self._library.ignore_patterns)
        self._plain: dict[str, str | None] = {}
        self._runs: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        text = _plain_apostrophes(text)
        lower = text.lower()
        if _OPENS_BRACKET.search(lower):
            return self._whole(text)
        words = lower.split()
        parts: list[str] = []
        run_start: int | None = None
        for position, word in enumerate(words):
            try:
                plain = self._plain[word]
            except KeyError:
                plain = self._plain[word] = self._if_plain(word)
            if plain is None:
                run_start = position if run_start is None else run_start
                continue
            if run_start is not None:
                parts.append(self._run(words, run_start, position))
                run_start = None
            parts.append(plain)
        if run_start is not None:
            parts.append(self._run(words, run_start, len(words)))
        if self._DEPENDS in parts:
            return self._whole(text)
        return " ".join(filter(None, parts))

    def _whole(self, text: str) -> str:
        return _single_spaces(self._library(text))

    def _if_plain(self, word: str) -> str | None:
        match = self._PLAIN.fullmatch(word)
        if not match or match[1] in self._in_rules or self._fillers.fullmatch(match[1]):
            return None
        return str(self._library.standardize_spellings(match[1]))

    def _run(self, words: list[str], start: int, end: int) -> str:
        """What becomes of words[start:end], which stand between plain words or at an end of the text."""
        before = [self._NEIGHBOUR] * (start > 0)
        after = [self._NEIGHBOUR] * (end < len(words))
        run = " ".join([*before, *words[start:end], *after])
        normal = self._runs.get(run)
        if normal is None:
            normal = self._runs[run] = self._normal_run(run, len(before), len(after))
        return normal

    def _normal_run(self, run: str, before: int, after: int) -> str:
        if self._JOINS_WORD_BEFORE.search(self._fillers.sub("", run)):
            return self._DEPENDS
        words = self._whole(run).split(" ")
        neighbours = [*words[:before], *words[len(words) - after :]]
        if len(words) < before + after or neighbours != [self._NEIGHBOUR] * (before + after):
            return self._DEPENDS
        return " ".join(words[before : len(words) - after])
