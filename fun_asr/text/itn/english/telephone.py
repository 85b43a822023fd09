"""Telephone numbers and other strings of digits."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import DIGITS, FUNCTION_WORDS, NUMBER_WORDS, TEENS, TENS, UNITS, word_set
from fun_asr.text.itn.english.numerals import REPEATS, digit_words, tens
from fun_asr.text.itn.english.sentence import Match, Piece, Sentence
from fun_asr.text.itn.english.units import CURRENCIES, DIGIT_UNITS, SYMBOLS, TIME_UNITS

__all__ = ["compound", "digits", "international", "star", "telephone", "toll_free"]

_BEFORE_CODE = word_set("pin code zip serial account id password order")
_BEFORE_PRONOUN = word_set("this that the no any every each which other another")
_NOT_DIALLED = frozenset((*FUNCTION_WORDS, *NUMBER_WORDS, *DIGIT_UNITS, *SYMBOLS, *TIME_UNITS, *CURRENCIES, "people"))
_SERVICES = ("0800", "0808", "0300", "0345", "0845", "0870")
"""Beginnings of British numbers that are written as a group of four."""
_GROUPS = {
    7: (3, 4),
    10: (3, 3, 4),
    11: (1, 3, 3, 4),
}
"""Digits in the groups of a North American number, by its length."""


def telephone(sentence: Sentence, i: int) -> Match | None:
    """555-1234, 1-800-555-1212, 020 7946 0958, 07700 900123."""
    matches = [_written(sentence, i, spoken) for spoken in (_spoken(sentence, i), _mixed(sentence, i))]
    return max(matches, key=lambda match: match.end if match is not None else 0)


def _written(sentence: Sentence, i: int, spoken: list[tuple[str, int]]) -> Match | None:
    text = "".join(digit for digit, _ in spoken)
    if text.startswith(_SERVICES) and len(text) in (10, 11):
        return _grouped(spoken, i, (4, 6) if len(text) == 10 else (4, 3, 4))
    if len(text) == 11 and text.startswith("0"):
        return _grouped(spoken, i, (3, 4, 4) if text.startswith("02") else (5, 6))
    if len(text) == 16:
        return _grouped(spoken, i, (4, 4, 4, 4))
    sizes = _GROUPS.get(len(text), ())
    if not sizes or (len(text) == 11 and not text.startswith("1")) or sentence.before(i) in _BEFORE_CODE:
        return None
    if len(text) == 10 and text[0] in "01":
        return None
    end = spoken[-1][1]
    return Match(end, (("-".join(_cut(text, sizes)), end - i),))


def international(sentence: Sentence, i: int) -> Match | None:
    """+44 20 7946 0958, +1-415-555-0132."""
    if sentence.word(i) != "plus" or not sentence.linked(i + 1):
        return None
    mixed = _mixed(sentence, i + 1, least=2)
    country = tens(sentence.reader(i + 1), i + 1)
    spoken = [(str(country[0]), country[1])] if country is not None and country[0] > 9 else []
    start = spoken[-1][1] if spoken else i + 1
    spoken += digit_words(sentence, start) if sentence.linked(start) else []
    if mixed and (not spoken or mixed[-1][1] > spoken[-1][1]):
        spoken = mixed
    text = "".join(digit for digit, _ in spoken)
    if not 8 <= len(text) <= 15:
        return None
    end = spoken[-1][1]
    if len(text) == 11 and text.startswith("1"):
        return Match(end, (("+" + "-".join(_cut(text, _GROUPS[11])), end - i),))
    if len(text) == 12 and text.startswith("44"):
        sizes = (2, 2, 4, 4) if text[2] == "2" else (2, 4, 6)
        match = _grouped(spoken, i + 1, sizes)
        (first, count), *rest = match.pieces
        return Match(match.end, (("+" + first, count + 1), *rest))
    return Match(end, (("+" + text, end - i),))


def toll_free(sentence: Sentence, i: int) -> Match | None:
    """1-800 before a word that is dialled."""
    if sentence.word(i) != "one" or sentence.before(i) in _BEFORE_PRONOUN:
        return None
    following = sentence.at(i + 3)
    if sentence.at(i + 1) not in ("eight", "nine") or sentence.at(i + 2) != "hundred" or not following:
        return None
    if following in _NOT_DIALLED:
        return None
    return Match(i + 3, ((f"1-{UNITS[sentence.at(i + 1)]}00", 3),))


def digits(sentence: Sentence, i: int) -> Match | None:
    """Three digits or more: 911, 94103."""
    spoken = digit_words(sentence, i)
    text = "".join(digit for digit, _ in spoken)
    if len(text) < 3:
        return None
    return Match(spoken[-1][1], ((text, spoken[-1][1] - i),))


def compound(sentence: Sentence, i: int) -> Match | None:
    """Numbers said by their parts: a 747, 123 Main Street, 405."""
    found = read_compound(sentence, i)
    return Match(found[1], ((found[0], found[1] - i),)) if found is not None else None


def read_compound(sentence: Sentence, i: int, pointed: bool = False) -> tuple[str, int] | None:
    """Digits of "seven forty seven" or "four oh five", and the index after them; `pointed`, "point" may follow."""
    read = sentence.reader(i)
    if read(i) not in UNITS:
        return None
    if read(i + 1) in ("oh", "o") and read(i + 2) in UNITS:
        value, end = UNITS[read(i + 2)], i + 3
    elif read(i + 1) in TENS or read(i + 1) in TEENS:
        found = tens(read, i + 1)
        assert found is not None, "tens and teens are numbers"
        value, end = found
    else:
        return None
    if read(end) in ("hundred", "thousand", "million") or (read(end) == "point" and not pointed):
        return None
    return f"{UNITS[read(i)]}{value:02}", end


def star(sentence: Sentence, i: int) -> Match | None:
    """*69."""
    if sentence.word(i) != "star" or not sentence.linked(i + 1):
        return None
    spoken = digit_words(sentence, i + 1)
    if len(spoken) < 2:
        return None
    end = spoken[-1][1]
    return Match(end, (("*" + "".join(digit for digit, _ in spoken), end - i),))


def _spoken(sentence: Sentence, i: int) -> list[tuple[str, int]]:
    """Digits of a telephone number: one by one, "eight hundred" at the start, pairs like "twelve" at the end."""
    found: list[tuple[str, int]] = []
    end = i
    one = sentence.word(i) == "one"
    hundred = i + 1 if one else i
    code = sentence.word(hundred)
    if code in UNITS and sentence.at(hundred + 1) == "hundred" and sentence.after_comma(hundred + 2) in DIGITS:
        found = [("1", i + 1)] if one else []
        found.append((f"{UNITS[code]}00", hundred + 2))
        end = hundred + 2
    single = digit_words(sentence, end, commas=True) if end == i or sentence.after_comma(end) else []
    found += single
    if len(single) < 3:
        return found if len(single) > 2 else []
    end = single[-1][1]
    while (word := sentence.after_comma(end)) in TEENS or word in TENS:
        pair = tens(sentence.after_comma, end)
        assert pair is not None, "tens and teens are numbers"
        found.append((str(pair[0]), pair[1]))
        end = pair[1]
    return found


def _mixed(sentence: Sentence, i: int, least: int = 3) -> list[tuple[str, int]]:
    """Digits of a number said in every way at once: "double oh", "nine hundred", "twenty seven", "five thousand".

    Without `least` words for single digits it is a list of numbers, not a telephone number.
    """
    found: list[tuple[str, int]] = []
    single, end = 0, i

    def read(index: int) -> str:
        return sentence.word(index) if index == i else sentence.after_comma(index)

    while (word := read(end)) in DIGITS or word in REPEATS or word in TEENS or word in TENS:
        following = read(end + 1)
        pair = tens(read, end)
        if word in REPEATS:
            if following not in DIGITS:
                break
            found.append((str(DIGITS[following]) * REPEATS[word], end + 2))
            single += 1
        elif pair is not None and read(pair[1]) == "hundred" and pair[0] != 10:
            found.append((f"{pair[0]}00", pair[1] + 1))
        elif word in UNITS and following == "thousand":
            found.append((f"{UNITS[word]}000", end + 2))
        elif word in DIGITS:
            found.append((str(DIGITS[word]), end + 1))
            single += 1
        else:
            assert pair is not None, "tens and teens are numbers"
            found.append((str(pair[0]), pair[1]))
        end = found[-1][1]
    return found if single >= least else []


def _grouped(spoken: list[tuple[str, int]], start: int, sizes: tuple[int, ...]) -> Match:
    """Groups parted by a space, each with the tokens of its own digits where a group begins with a token."""
    ends: dict[int, int] = {}
    count = 0
    for text, end in spoken:
        count += len(text)
        ends[count] = end
    whole = "".join(text for text, _ in spoken)
    pieces: list[Piece] = []
    pending, position, done = "", start, 0
    for text in _cut(whole, sizes):
        done += len(text)
        pending = f"{pending} {text}" if pending else text
        if done in ends:
            pieces.append((pending, ends[done] - position))
            pending, position = "", ends[done]
    return Match(spoken[-1][1], tuple(pieces))


def _cut(text: str, sizes: tuple[int, ...]) -> list[str]:
    parts = []
    for size in sizes:
        parts.append(text[:size])
        text = text[size:]
    return parts
