"""Set phrases whose numbers count nothing: they stay words, or have a form of their own."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import NUMBER_WORDS
from fun_asr.text.itn.english.sentence import Match, Piece, Sentence

__all__ = ["STARTS", "idiom"]

_OWNERS = ("my", "your", "his", "her", "our", "their")
_KEPT = frozenset(
    tuple(phrase.split())
    for phrase in (
        "six of one half a dozen",
        "six of one half dozen",
        "six of one",
        "one half a dozen",
        *(f"{owner} two cents" for owner in _OWNERS),
        "two cents worth",
        "like a million dollars",
        "whole nine yards",
        "full nine yards",
        "six feet under",
        "six degrees of separation",
        "ten foot pole",
        "forty winks",
        "hang ten",
        "ten a penny",
        "ten commandments",
        "thirty years war",
        "thirty years' war",
        "nineteen to the dozen",
        "nine times out of ten",
        "nine cases out of ten",
        "five o'clock shadow",
        "easy as one two three",
        "one two three go",
        "three two one go",
        "three two one action",
        "three two one liftoff",
        "7 eleven",
    )
)
_WRITTEN: dict[tuple[str, ...], tuple[Piece, ...]] = {
    ("hindsight", "is", "twenty", "twenty"): (("hindsight", 1), ("is", 1), ("20/20", 2)),
    ("twenty", "twenty", "hindsight"): (("20/20", 2), ("hindsight", 1)),
    ("twenty", "twenty", "vision"): (("20/20", 2), ("vision", 1)),
    ("ten", "four"): (("10-4", 2),),
    ("forty", "niners"): (("49ers", 2),),
    ("forty", "niner"): (("49er", 2),),
}
_SHOP = ("seven", "eleven")
_BEFORE_SHOP = ("a", "the", "to", "local", "nearest")
"""Elsewhere "seven eleven" is a time or a house number."""
_LONGEST = max(map(len, _KEPT))
_AFTER_NUMBER = frozenset((*NUMBER_WORDS, "a", "p", "am", "pm"))
STARTS = frozenset(words[0] for words in (*_KEPT, *_WRITTEN, _SHOP))
"""First words of what is matched here."""


def idiom(sentence: Sentence, i: int) -> Match | None:
    """Six of one, half a dozen of the other; forty winks; 20/20 vision."""
    word = sentence.word(i)
    if word not in STARTS:
        return None
    if word in NUMBER_WORDS and sentence.before(i) in NUMBER_WORDS:
        return None
    for size in range(_LONGEST, 1, -1):
        words = (word, *(sentence.after_comma(i + k) for k in range(1, size)))
        if sentence.at(i + size) in NUMBER_WORDS:
            continue
        if words in _KEPT:
            return Match(i + size, _verbatim(sentence, i, size))
        if words in _WRITTEN:
            return Match(i + size, _with_capital(sentence, i, _WRITTEN[words]))
    if (word, sentence.at(i + 1)) != _SHOP or sentence.before(i) not in _BEFORE_SHOP:
        return None
    return None if sentence.at(i + 2) in _AFTER_NUMBER else Match(i + 2, (("7-Eleven", 2),))


def _verbatim(sentence: Sentence, i: int, size: int) -> tuple[Piece, ...]:
    last = size - 1
    return tuple(
        (token.core + ("" if k == last or token.word == sentence.tokens[i + k + 1].word else token.trail), 1)
        for k, token in enumerate(sentence.tokens[i : i + size])
    )


def _with_capital(sentence: Sentence, i: int, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    written: list[Piece] = []
    for text, count in pieces:
        written.append((sentence.tokens[i].core if count == 1 else text, count))
        i += count
    return tuple(written)
