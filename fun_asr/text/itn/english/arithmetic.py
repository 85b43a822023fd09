"""Sums said aloud, in which "minus" takes away and is no sign."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import FUNCTION_WORDS, NUMBER_WORDS, word_set
from fun_asr.text.itn.english.numerals import Number, number
from fun_asr.text.itn.english.sentence import Match, Piece, Sentence
from fun_asr.text.itn.english.units import CENTS, CURRENCIES, DIGIT_UNITS, SYMBOLS, TIME_UNITS

__all__ = ["arithmetic", "subtracts"]

_UNITS = frozenset((*CENTS, *CURRENCIES, *DIGIT_UNITS, *SYMBOLS, *TIME_UNITS, "percent", "percentage", "per"))
_AMOUNTS = word_set(
    """price cost costs total sum salary salaries income revenue revenues pay wage wages rent fee fees profit amount
    balance deposit budget bill assets sales gross"""
)
"""Nouns from which something is taken away; after others ("temperature", "outside") "minus" is a sign."""
_SIGNS = frozenset(("minus", "plus"))
_OPERATORS = (("minus",), ("plus",), ("times",), ("divided", "by"), ("multiplied", "by"))
_RESULTS = (("is", "equal", "to"), ("is",), ("equals",), ("makes",), ("leaves",), ("gives",))
_WORDS_FOR_LETTERS = ("a", "i", "o")


def arithmetic(sentence: Sentence, i: int) -> Match | None:
    """10 minus 6: digits for all numbers of a sum if one of them has two digits, else words for all."""
    first = _operand(sentence, i) if _SIGNS & sentence.lowers else None
    if first is None:
        return None
    operands = [first]
    links: list[tuple[str, ...]] = []
    while (link := _link(sentence, operands[-1][1].end, _OPERATORS)) is not None:
        following = _next(sentence, operands[-1][1].end + len(link))
        if following is None:
            break
        operands.append(following)
        links.append(link)
    if ("minus",) not in links and ("plus",) not in links:
        return None
    link = _link(sentence, operands[-1][1].end, _RESULTS)
    result = _next(sentence, operands[-1][1].end + len(link)) if link is not None else None
    if link is not None and result is not None and _ends(sentence, result[1].end):
        operands.append(result)
        links.append(link)
    end = operands[-1][1].end
    if all(amount.small and not sign for sign, amount in operands):
        return Match(end, tuple((sentence.tokens[k].core, 1) for k in range(i, end)))
    pieces: list[Piece] = []
    position = i
    for sign, amount in operands:
        pieces += [(sentence.tokens[k].core, 1) for k in range(position, amount.start - bool(sign))]
        (text, count), *rest = amount.pieces(sign)
        pieces += [(text, count + bool(sign)), *rest]
        position = amount.end
    return Match(end, tuple(pieces))


def subtracts(sentence: Sentence, i: int) -> bool:
    """Whether "minus" stands between what is reduced and what is taken away."""
    before = sentence.before(i)
    if sentence.word(i) != "minus" or not before:
        return False
    if before == "or":
        return sentence.before(i - 1) == "plus"
    letter = len(before) == 1 and before.isalpha() and before not in _WORDS_FOR_LETTERS
    written = before[0].isdigit() or before[-1].isdigit() or before[-1] == "%"
    return letter or written or before in NUMBER_WORDS or before in _UNITS or before in _AMOUNTS


def _operand(sentence: Sentence, i: int) -> tuple[str, Number] | None:
    signed = sentence.word(i) in ("minus", "negative")
    if signed and not sentence.linked(i + 1):
        return None
    amount = number(sentence, i + signed, exact=False)
    return ("-" if signed else "", amount) if amount is not None else None


def _next(sentence: Sentence, i: int) -> tuple[str, Number] | None:
    """The operand at a token, if it is a plain number: "ten percent" and "six of them" are read by other rules."""
    operand = _operand(sentence, i) if sentence.linked(i) else None
    if operand is None:
        return None
    following = sentence.at(operand[1].end)
    return None if following in _UNITS or following in ("of", "hundred") else operand


def _link(sentence: Sentence, i: int, links: tuple[tuple[str, ...], ...]) -> tuple[str, ...] | None:
    for link in links:
        if all(sentence.at(i + k) == word for k, word in enumerate(link)):
            return link
    return None


def _ends(sentence: Sentence, i: int) -> bool:
    following = sentence.at(i)
    return not following or following in FUNCTION_WORDS
