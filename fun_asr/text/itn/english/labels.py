"""Numbers that name something: version 2.1, chapter 5, room 101, flight 207."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import DIGITS, FUNCTION_WORDS, word_set
from fun_asr.text.itn.english.numerals import POINTS, cardinal, digit_decimal, digit_words, group, tens
from fun_asr.text.itn.english.sentence import Match, Piece, Reader, Sentence
from fun_asr.text.itn.english.telephone import read_compound

__all__ = ["STARTS", "label", "version"]

_PRODUCTS = word_set(
    """version release python java android windows ubuntu kernel bluetooth firefox chrome pytorch cuda gpt iphone
    ios html usb node debian fedora wifi opus claude llama"""
)
_PLACES = word_set(
    """chapter page section room gate flight route highway interstate channel figure table step season episode
    verse extension area apartment building exit terminal phase grade lesson unit question exercise volume
    article platform appendix level box pier suite"""
)
_PLURALS = word_set("chapters pages sections rooms gates figures tables steps seasons episodes grades verses ages")
STARTS = _PRODUCTS | _PLACES | _PLURALS
"""Words whose numbers are written in digits."""
_AFTER_COUNT = word_set("of another after by day thing")


def label(sentence: Sentence, i: int) -> Match | None:
    """The word and its number, whatever the number's size."""
    word = sentence.word(i)
    if not sentence.linked(i + 1):
        return None
    name = sentence.tokens[i].core
    if word in _PLURALS:
        return _range(sentence, i, name)
    if word not in _PLACES and word not in _PRODUCTS:
        return None
    found = _decimal(sentence, i + 1) if word not in _PRODUCTS else None
    found = found or _version(sentence, i + 1) or _code(sentence, i + 1, "." if word in _PRODUCTS - {"version"} else "")
    if found is None:
        return None
    text, end = found
    following = sentence.at(end)
    if text == "1" and (
        following in _AFTER_COUNT or (following in FUNCTION_WORDS and following not in ("is", "and", "was"))
    ):
        return None
    return Match(end, ((name, 1), (text, end - i - 1)))


def version(sentence: Sentence, i: int) -> Match | None:
    """3.10.2, with two points or more."""
    found = _version(sentence, i)
    if found is None or found[0].count(".") < 2:
        return None
    return Match(found[1], ((found[0], found[1] - i),))


def _range(sentence: Sentence, i: int, name: str) -> Match | None:
    first = cardinal(sentence.reader(i + 1), i + 1)
    if first is None or sentence.at(first[1]) not in ("to", "through", "and") or not sentence.linked(first[1] + 1):
        return None
    value, end = first
    last = cardinal(sentence.reader(end + 1), end + 1)
    if last is None:
        return None
    pieces: tuple[Piece, ...] = (
        (name, 1),
        (group(value), end - i - 1),
        (sentence.tokens[end].core, 1),
        (group(last[0]), last[1] - end - 1),
    )
    return Match(last[1], pieces)


def _code(sentence: Sentence, i: int, separator: str) -> tuple[str, int] | None:
    spoken = digit_words(sentence, i)
    compound = read_compound(sentence, i)
    number = cardinal(sentence.reader(i), i) if sentence.at(i) != "a" else None
    if compound is not None and (len(spoken) < 2 or compound[1] >= spoken[-1][1]):
        text, end = compound
        return (text[0] + separator + str(int(text[1:])) if separator else text), end
    if number is not None and (not spoken or number[1] >= spoken[-1][1]):
        return str(number[0]), number[1]
    if not spoken or sentence.at(i) in ("oh", "o"):
        return None
    return separator.join(digit for digit, _ in spoken), spoken[-1][1]


def _decimal(sentence: Sentence, i: int) -> tuple[str, int] | None:
    return digit_decimal(sentence.reader(i), i) if POINTS & sentence.lowers else None


def _version(sentence: Sentence, i: int) -> tuple[str, int] | None:
    """Numbers with "point" or "dot" between them."""
    read = sentence.reader(i)
    first = cardinal(read, i) if read(i) not in ("zero", "a") else None
    if first is None and read(i) != "zero":
        return None
    text, end = ("0", i + 1) if first is None else (str(first[0]), first[1])
    parts = 0
    while read(end) in ("point", "dot") and (part := _part(read, end + 1)) is not None:
        text, end = f"{text}.{part[0]}", part[1]
        parts += 1
    return (text, end) if parts else None


def _part(read: Reader, i: int) -> tuple[str, int] | None:
    figures = ""
    while read(i) in DIGITS:
        figures += str(DIGITS[read(i)])
        i += 1
    if figures:
        return figures, i
    found = tens(read, i)
    return (str(found[0]), found[1]) if found is not None else None
