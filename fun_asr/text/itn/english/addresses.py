"""House numbers, which a street's name tells from a time: 123 Main Street."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import (
    DIGITS,
    FUNCTION_WORDS,
    MONTHS,
    NUMBER_WORDS,
    ORDINALS,
    TEENS,
    TENS,
    WEEKDAYS,
    word_set,
)
from fun_asr.text.itn.english.numerals import cardinal, ordinal, tens
from fun_asr.text.itn.english.sentence import Match, Sentence

__all__ = ["house_number"]

_STREETS = word_set("street avenue road lane boulevard drive parkway terrace crescent highway alley")
_NO_NAMES = FUNCTION_WORDS | MONTHS | WEEKDAYS | NUMBER_WORDS | word_set("more other new people cars a.m p.m am pm")
_STAIRS = tuple("bcdefgh")
"""Letters after a house number ("221B"); "a" may be an article, and "o" belongs to "o'clock"."""
_LONGEST_NAME = 3
"""Words between the number and "street"."""
_BEFORE_SMALL = ("at", "number")
"""Words after which a number below ten is a house's."""


def house_number(sentence: Sentence, i: int) -> Match | None:
    """The number before a street's name, said by its parts: "ten twenty two park road", "two twenty one b"."""
    if not _STREETS & sentence.lowers:
        return None
    for text, end in _numbers(sentence, i):
        letter = sentence.at(end)
        if letter in _STAIRS and _named(sentence, end + 1):
            return Match(end + 1, ((text + letter.upper(), end + 1 - i),))
        if _named(sentence, end) and (len(text) > 1 or sentence.before(i) in _BEFORE_SMALL):
            return Match(end, ((text, end - i),))
    return None


def _numbers(sentence: Sentence, i: int) -> list[tuple[str, int]]:
    """What the number can be, each with the index after it, the longest first: "725 fifth" before "720 fifth"."""
    read = sentence.reader(i)
    found: list[tuple[str, int]] = []
    first = tens(read, i)
    if first is not None:
        value, end = first
        if read(end) in ("oh", "o") and DIGITS.get(read(end + 1)):
            found.append((f"{value}{DIGITS[read(end + 1)]:02}", end + 2))
        elif (read(end) in TEENS or read(end) in TENS) and (second := tens(read, end)) is not None:
            found.append((f"{value}{second[0]}", second[1]))
    whole = cardinal(read, i) if read(i) != "a" else None
    if whole is not None:
        found.append((str(whole[0]), whole[1]))
    return sorted(found, key=lambda item: -item[1])


def _named(sentence: Sentence, i: int) -> bool:
    """Whether a street's name follows: one to three words, then "street" or the like; an ordinal counts as one."""
    end = i
    for _ in range(_LONGEST_NAME):
        word = sentence.at(end)
        numbered = ordinal(sentence, end) if word and (word in NUMBER_WORDS or word in ORDINALS) else None
        if numbered is not None:
            end = numbered[1]
        elif not word or word in _NO_NAMES or not word[0].isalnum():
            return False
        else:
            end += 1
        if sentence.at(end) in _STREETS:
            return True
    return False
