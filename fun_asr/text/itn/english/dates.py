"""Dates, years and decades."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import DECADES, FUNCTION_WORDS, MONTHS, TEENS, TENS, UNITS, WEEKDAYS, word_set
from fun_asr.text.itn.english.numerals import cardinal, ordinal, suffixed, tens
from fun_asr.text.itn.english.sentence import Match, Piece, Sentence
from fun_asr.text.itn.english.units import DIGIT_UNITS, TIME_UNITS

__all__ = ["day_of_month", "decade", "era", "month_day", "weekday_date", "year", "year_range"]

_BEFORE_YEAR = word_set(
    """in since by of year from until till during after before around circa early late mid to through spring summer
    autumn fall winter and between"""
)
_BEFORE_RANGE = word_set("from between in since during years of")
_NO_YEAR_BEFORE = word_set(
    """exactly about over under almost nearly roughly approximately than total only least most some all number another
    them these those my your his her its our their no"""
)
_SPELLED = frozenset(("hundred", "thousand"))
_MODELS = ("the", "a", "this", "that", "early", "late")
"""Words after which "two thousand and eight" and a noun are a year and what happened in it."""
_BEFORE_DATE = word_set("on by since until till of from to through before after in this next last late early")
_PRONOUNS = word_set("i you he she it we they who one people everyone anyone nobody that")
_BEFORE_DECADE = word_set("the his her their our my your its early late mid roaring swinging in since through")
_CENTURIES = {**TEENS, "twenty": 20}


def month_day(sentence: Sentence, i: int) -> Match | None:
    """May 2nd, 2021; June 6; August 1945; June of 2012."""
    month = sentence.word(i)
    if month not in MONTHS or not sentence.linked(i + 1):
        return None
    name = month.capitalize()
    ambiguous = month in ("may", "march")
    if ambiguous and sentence.before(i) in _PRONOUNS:
        return None
    day = ordinal(sentence, i + 1)
    if day is not None and 1 <= day[0] <= 31:
        return _with_year(sentence, ((name, 1), (suffixed(day[0]), day[1] - i - 1)), day[1], ", ")
    skip = 2 if sentence.at(i + 1) == "of" else 1
    in_year = read_year(sentence, i + skip, certain=True)
    if in_year is not None:
        gap: tuple[Piece, ...] = (("of", 1),) if skip == 2 else ()
        return Match(in_year[1], ((name, 1), *gap, (str(in_year[0]), in_year[1] - i - skip)))
    number = tens(sentence.reader(i + 1), i + 1)
    if number is None or number[0] > 31 or sentence.at(number[1]) in ("hundred", "thousand", "million", "point"):
        return None
    match = _with_year(sentence, ((name, 1), (str(number[0]), number[1] - i - 1)), number[1], ", ")
    dated = sentence.before(i) in _BEFORE_DATE | WEEKDAYS or len(match.pieces) > 2
    return match if dated or not ambiguous else None


def day_of_month(sentence: Sentence, i: int) -> Match | None:
    """2nd of May 2021."""
    day = ordinal(sentence, i)
    if day is None or day[0] > 31 or sentence.at(day[1]) != "of" or sentence.at(day[1] + 1) not in MONTHS:
        return None
    number, end = day
    pieces: tuple[Piece, ...] = (
        (suffixed(number), end - i),
        (sentence.tokens[end].core, 1),
        (sentence.word(end + 1).capitalize(), 1),
    )
    return _with_year(sentence, pieces, end + 2, " ")


def weekday_date(sentence: Sentence, i: int) -> Match | None:
    """Monday the 5th."""
    if sentence.word(i) not in WEEKDAYS or sentence.after_comma(i + 1) != "the":
        return None
    day = ordinal(sentence, i + 2) if sentence.linked(i + 2) else None
    following = "" if day is None else sentence.at(day[1])
    if day is None or day[0] > 31 or following in MONTHS or (following and following not in FUNCTION_WORDS):
        return None
    weekday = sentence.tokens[i]
    pieces = ((weekday.core + weekday.trail, 1), (sentence.tokens[i + 1].core, 1), (suffixed(day[0]), day[1] - i - 2))
    return Match(day[1], pieces)


def year(sentence: Sentence, i: int) -> Match | None:
    """1984; 2008 where the words around it make it a year."""
    found = read_year(sentence, i, certain=False)
    return Match(found[1], ((str(found[0]), found[1] - i),)) if found is not None else None


def year_range(sentence: Sentence, i: int) -> Match | None:
    """From 2008 to 2012, said as "two thousand and eight" or "nineteen hundred and five" on one side at least."""
    first = read_year(sentence, i, certain=True) if _SPELLED & sentence.lowers else None
    if first is None or not sentence.linked(first[1] + 1):
        return None
    value, end = first
    link, before = sentence.at(end), sentence.before(i)
    last = read_year(sentence, end + 1, certain=True)
    if last is None or not 0 < last[0] - value < 200:
        return None
    spelled = {sentence.at(i + 1), sentence.at(end + 2)} & _SPELLED
    if not spelled or (sentence.word(i) in ("one", "two") and value % 1000 > 99) or last[0] % 1000 > 99 > value % 1000:
        return None
    if _measured(sentence, last[1]):
        return None
    if link in ("and", "or"):
        stands = before in _BEFORE_RANGE
    else:
        stands = link in ("to", "until", "till", "through") and (before in _BEFORE_RANGE or value >= 1900)
    if not stands:
        return None
    pieces = ((str(value), end - i), (sentence.tokens[end].core, 1), (str(last[0]), last[1] - end - 1))
    return Match(last[1], pieces)


def decade(sentence: Sentence, i: int) -> Match | None:
    """1960s, 80s, 1800s."""
    word, following = sentence.word(i), sentence.at(i + 1)
    if word in DECADES:
        second = sentence.before(i) in ("and", "or", "to") and sentence.before(i - 1) in DECADES
        decades = second or sentence.before(i) in _BEFORE_DECADE
        return Match(i + 1, ((f"{DECADES[word]}s", 1),)) if decades else None
    if word == "two" and following == "thousands" and sentence.before(i) in _BEFORE_DECADE:
        return Match(i + 2, (("2000s", 2),))
    if word not in _CENTURIES:
        return None
    if following in DECADES:
        return Match(i + 2, ((f"{_CENTURIES[word]}{DECADES[following]}s", 2),))
    if following == "hundreds":
        return Match(i + 2, ((f"{_CENTURIES[word]}00s", 2),))
    return None


def era(sentence: Sentence, i: int) -> Match | None:
    """400 BC, 79 AD."""
    found = read_year(sentence, i, certain=True) or cardinal(sentence.reader(i), i)
    if found is None or sentence.word(i) == "a":
        return None
    value, end = found
    letters = sentence.at(end) + sentence.at(end + 1)
    if letters not in ("bc", "ad", "ce"):
        return None
    if letters == "bc" and sentence.at(end + 2) == "e":
        return Match(end + 3, ((str(value), end - i), ("BCE", 3)))
    return Match(end + 2, ((str(value), end - i), (letters.upper(), 2)))


def read_year(sentence: Sentence, i: int, certain: bool) -> tuple[int, int] | None:
    """A year and the index after it.

    Arguments:
        i: where the year starts.
        certain: whether what stands before it leaves no doubt that a year follows, as a month does.
    """
    read = sentence.reader(i)
    dated = certain or sentence.before(i) in _BEFORE_YEAR
    century = _CENTURIES.get(read(i))
    if century is not None:
        return _by_century(sentence, i, century, dated)
    if read(i) == "two" and read(i + 1) == "thousand" and not dated:
        return _undated(sentence, i)
    if read(i) in ("one", "two") and read(i + 1) == "thousand" and dated:
        whole = cardinal(read, i)
        assert whole is not None, "one and two thousand are numbers"
        value, end = whole
        following = read(end)
        if value in (1000, 2000) and not certain and following and following not in FUNCTION_WORDS:
            return None
        return (value, end) if value < 2100 and following != "point" and not _measured(sentence, end) else None
    return None


def _undated(sentence: Sentence, i: int) -> tuple[int, int] | None:
    """2001 to 2099 before a verb, at the end, or as "the 2008 crisis": elsewhere it counts."""
    found = cardinal(sentence.reader(i), i)
    if found is None or not 2000 < found[0] < 2100 or _measured(sentence, found[1]):
        return None
    before, following = sentence.before(i), sentence.at(found[1])
    if before in _NO_YEAR_BEFORE or following in ("point", "of", "in", "more"):
        return None
    ends = not following or following in FUNCTION_WORDS
    return found if ends or before in _MODELS else None


def _by_century(sentence: Sentence, i: int, century: int, dated: bool) -> tuple[int, int] | None:
    read = sentence.reader(i)
    second = read(i + 1)
    if second == "hundred":
        following = read(i + 2)
        rest = tens(read, i + 3) if following == "and" else tens(read, i + 2)
        if rest is None:
            ends = not following or following in FUNCTION_WORDS
            return (century * 100, i + 2) if dated and ends and following not in ("and", "to", "or") else None
        return (century * 100 + rest[0], rest[1]) if dated and not _measured(sentence, rest[1]) else None
    if second in ("oh", "o") and read(i + 2) in UNITS:
        value, end = UNITS[read(i + 2)], i + 3
    elif second in TENS or second in TEENS:
        found = tens(read, i + 1)
        assert found is not None, "tens and teens are numbers"
        value, end = found
    else:
        return None
    if not dated and (read(end) in TEENS or read(end) in TENS):
        # "Fourteen fifteen eighteen" counts.
        return None
    if (century < 13 and not dated) or _measured(sentence, end) or read(end) in ("hundred", "thousand", "point"):
        return None
    return century * 100 + value, end


def _measured(sentence: Sentence, i: int) -> bool:
    """Whether a unit follows, which makes "fifteen twenty minutes" two numbers."""
    following = sentence.at(i)
    return following in TIME_UNITS or following in DIGIT_UNITS or following in ("people", "percent", "times", "dollars")


def _with_year(sentence: Sentence, pieces: tuple[Piece, ...], end: int, separator: str) -> Match:
    """The day with the year after it, where one follows with or without a comma."""
    found = read_year(sentence, end, certain=True) if sentence.after_comma(end) else None
    if found is None:
        return Match(end, pieces)
    text, count = pieces[-1]
    value, after = found
    return Match(after, (*pieces[:-1], (text + separator.rstrip(), count), (str(value), after - end)))
