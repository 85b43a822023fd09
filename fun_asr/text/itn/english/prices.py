"""Prices without a currency: 9.99."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import FUNCTION_WORDS, NUMBER_WORDS, TEENS, TENS, UNITS, word_set
from fun_asr.text.itn.english.numerals import tens
from fun_asr.text.itn.english.sentence import Match, Sentence
from fun_asr.text.itn.english.units import CENTS, CURRENCIES, DIGIT_UNITS, SYMBOLS, TIME_UNITS

__all__ = ["price"]

_VERBS = word_set("cost costs costing paid pay pays paying charge charges charged charging")
_PAYERS = word_set("me you us him her them")
_PRICES = word_set("price fare fee ticket bill total")
_AFTER = ("plus", "each", "apiece", "including", "excluding", "extra")
_LATE = ("sixty", "seventy", "eighty", "ninety")
_BEFORE_FOR = word_set("sell sells sold selling sale retails goes going go went available yours")
_PER = word_set(
    """pound kilo gallon liter litre month week night piece pack packet bottle box can ticket head dozen pair unit
    person seat copy share slice bag loaf yard foot"""
)
_DATED = ("in", "since", "of", "by", "from", "until", "year", "at")
_NO_PRICE = frozenset(
    (*NUMBER_WORDS, *CURRENCIES, *CENTS, *DIGIT_UNITS, *SYMBOLS, *TIME_UNITS, "percent", "a.m", "p.m")
)


def price(sentence: Sentence, i: int) -> Match | None:
    """9.99, 24.95 where the words around say that something is paid.

    The currency is not said, so none is written. Only cents that end in 9 or 5, or 50, make a price: "it cost one
    twenty" may as well be 120.
    """
    found = _read(sentence, i)
    if found is None:
        return None
    text, end = found
    if sentence.at(end) in _NO_PRICE:
        return None
    return Match(end, ((text, end - i),)) if _paid_before(sentence, i, end) or _paid_after(sentence, i, end) else None


def _read(sentence: Sentence, i: int) -> tuple[str, int] | None:
    read = sentence.reader(i)
    first = tens(read, i)
    second = _pair(sentence, first[1]) if first is not None else None
    if first is None or second is None:
        return None
    third = _pair(sentence, second[1])
    whole, (cents, end) = (str(first[0]), second) if third is None else (f"{first[0]}{second[0]}", third)
    if third is not None and first[0] > 9:
        return None
    return (f"{whole}.{cents}", end) if cents % 10 in (5, 9) or cents == 50 else None


def _pair(sentence: Sentence, i: int) -> tuple[int, int] | None:
    word = sentence.at(i)
    return tens(sentence.at, i) if word in TEENS or word in TENS else None


def _paid_before(sentence: Sentence, i: int, end: int) -> bool:
    following = sentence.at(end)
    if following and following not in FUNCTION_WORDS and following not in _AFTER:
        return False
    word = sentence.before(i)
    k = i - 1
    only = word in ("only", "just")
    if only or word in ("about", "around"):
        k -= 1
        word = sentence.before(k + 1)
    if word in _PAYERS:
        return sentence.before(k) in _VERBS
    if word == "at":
        return sentence.before(k) in ("priced", "starting", "starts")
    if word == "for":
        return sentence.before(k) in _BEFORE_FOR or k < i - 1
    if word in ("is", "was") and sentence.before(k) in _PRICES:
        return True
    # "Only six ninety nine" is no time.
    return word in _VERBS or (only and sentence.word(end - 1) in UNITS and sentence.word(end - 2) in _LATE)


def _paid_after(sentence: Sentence, i: int, end: int) -> bool:
    word, following = sentence.at(end), sentence.at(end + 1)
    if sentence.before(i) in _DATED:
        return False
    if word in ("a", "per") and following in _PER:
        return True
    return word in ("each", "apiece") or (word == "plus" and following in ("tax", "shipping", "postage", "tip"))
