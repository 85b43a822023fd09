"""Words cut into tokens that rules can read, and rules' matches put back among the words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fun_asr.text.itn.spans import Written

__all__ = ["Match", "Piece", "Reader", "Rule", "Sentence", "Token", "apply"]

_WORD = re.compile(r"^([^\w$€£¥₹+@#°]*)(.*?)([^\w$€£¥₹+%°]*)$", re.DOTALL)
_INNER = re.compile(r"(-|[‐‑–—]+)")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, or a part of a word with hyphens, without the punctuation around it."""

    core: str
    lower: str
    lead: str
    """Punctuation before it."""
    trail: str
    """Punctuation after it; within a word, the hyphen or dash that joins the next part."""
    word: int
    """Index of the word it belongs to."""


Piece: TypeAlias = tuple[str, int]
"""What is written, and how many tokens it stands for."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule writes for the tokens from where it was asked up to `end` (exclusive)."""

    end: int
    pieces: tuple[Piece, ...]


Reader: TypeAlias = Callable[[int], str]
"""The lower-case token at an index, or "" where a number cannot go on because punctuation or the end intervenes."""


class Sentence:
    """The tokens of a line, with what rules ask about them.

    Arguments:
        words: words with their punctuation.
        splits: whether a lower-case part of a word with hyphens makes it worth splitting.
        thousands: words after which a comma does not end a number ("two thousand, five hundred").
    """

    def __init__(self, words: Sequence[str], splits: Callable[[str], bool], thousands: frozenset[str]) -> None:
        self.words = words
        self.tokens = [token for index, word in enumerate(words) for token in _cut(word, index, splits)]
        self.bare = not any(
            token.core != token.lower or token.trail.strip("-") or any(map(str.isdigit, token.core))
            for token in self.tokens
        )
        """Neither capitals nor digits nor punctuation: nobody has formatted it yet."""
        self.lowers = frozenset(token.lower for token in self.tokens)
        self._thousands = thousands

    def __len__(self) -> int:
        return len(self.tokens)

    def word(self, index: int) -> str:
        """The token in lower case, whatever stands around it; "" outside the sentence."""
        return self.tokens[index].lower if 0 <= index < len(self.tokens) else ""

    def at(self, index: int) -> str:
        """The token in lower case if only a space or hyphen parts it from the one before it."""
        return self.word(index) if self.linked(index) else ""

    def before(self, index: int) -> str:
        """The token before `index` if only a space or hyphen parts the two."""
        return self.word(index - 1) if index > 0 and self.linked(index) else ""

    def linked(self, index: int) -> bool:
        """Whether only a space or hyphen parts a token from the one before it."""
        if not 0 < index < len(self.tokens):
            return False
        before, token = self.tokens[index - 1], self.tokens[index]
        return not token.lead and before.trail in ("", "-")

    def after_comma(self, index: int) -> str:
        """The token in lower case if at most one comma parts it from the one before it."""
        if not 0 < index < len(self.tokens):
            return ""
        before, token = self.tokens[index - 1], self.tokens[index]
        return token.lower if not token.lead and before.trail in ("", "-", ",") else ""

    def reader(self, start: int) -> Reader:
        """Read tokens from `start` on; what lies behind punctuation reads as ""."""

        def read(index: int) -> str:
            if index == start:
                return self.word(index)
            if self.word(index - 1) in self._thousands:
                return self.after_comma(index)
            return self.at(index)

        return read


Rule: TypeAlias = Callable[[Sentence, int], Match | None]


def apply(sentence: Sentence, rules: Sequence[Rule], starts: Callable[[Sentence, int], bool]) -> list[Written]:
    """Rewrite a sentence from left to right; of several matches the longest wins, then the earlier rule's."""
    pieces: list[tuple[str, int, int]] = []
    index = 0
    while index < len(sentence):
        matches = [match for rule in rules if (match := rule(sentence, index))] if starts(sentence, index) else []
        if not matches:
            token = sentence.tokens[index]
            pieces.append((token.lead + token.core + token.trail, index, index + 1))
            index += 1
            continue
        best = max(matches, key=lambda match: match.end)
        pieces += _placed(sentence, index, best)
        index = best.end
    return _joined(sentence, pieces)


def _placed(sentence: Sentence, start: int, match: Match) -> list[tuple[str, int, int]]:
    placed: list[tuple[str, int, int]] = []
    lead, trail = sentence.tokens[start].lead, sentence.tokens[match.end - 1].trail
    position = start
    for order, (text, count) in enumerate(match.pieces):
        if order == 0:
            text = lead + text
        if position + count == match.end:
            text += trail.removeprefix(".") if text.endswith(".") else trail
        elif sentence.tokens[position + count].word == sentence.tokens[position + count - 1].word:
            text += sentence.tokens[position + count - 1].trail
        placed.append((text, position, position + count))
        position += count
    return placed


def _joined(sentence: Sentence, pieces: list[tuple[str, int, int]]) -> list[Written]:
    """Pieces as written tokens: pieces that share a word become one."""
    written: list[Written] = []
    for text, start, end in pieces:
        first, last = sentence.tokens[start].word, sentence.tokens[end - 1].word + 1
        if written and written[-1][1][1] > first:
            before, (begin, _) = written[-1]
            written[-1] = (before + text, (begin, last))
        else:
            written.append((text, (first, last)))
    return written


def _cut(word: str, index: int, splits: Callable[[str], bool]) -> list[Token]:
    found = _WORD.match(word)
    assert found is not None, "the pattern matches every string"
    lead, core, trail = found.groups()
    if not core:
        lead, core, trail = "", word, ""
    parts = _INNER.split(core)
    if len(parts) == 1 or not all(parts) or not any(splits(part.lower()) for part in parts[::2]):
        return [Token(core, _lower(core), lead, trail, index)]
    tokens = []
    for order in range(0, len(parts), 2):
        after = parts[order + 1] if order + 1 < len(parts) else trail
        tokens.append(Token(parts[order], _lower(parts[order]), lead if order == 0 else "", after, index))
    return tokens


def _lower(core: str) -> str:
    return core.lower().replace("’", "'")
