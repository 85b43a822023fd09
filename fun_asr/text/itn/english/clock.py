"""Times of day."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import DIGITS, FUNCTION_WORDS, TEENS, TENS, UNITS, word_set
from fun_asr.text.itn.english.numerals import tens
from fun_asr.text.itn.english.sentence import Match, Piece, Sentence

__all__ = ["clock", "clock_range", "military", "relative"]

_HOURS = {**UNITS, **{word: value for word, value in TEENS.items() if value <= 12}}
_BEFORE_TIME = word_set("at by until till before after around since it's its past")
_AFTER_TIME = word_set("tonight tomorrow sharp o'clock")
_AFTER_MILITARY = word_set("hours zulu")
_PARTS_OF_DAY = word_set("morning afternoon evening")
_BEFORE_YEAR = ("in", "of", "year")
_ROUND_MINUTES = frozenset((15, 30, 45))
_HALF_DAYS = {"am": "a.m.", "pm": "p.m.", "a.m": "a.m.", "p.m": "p.m."}


def clock(sentence: Sentence, i: int) -> Match | None:
    """3:30, 3:30 p.m., 9 a.m., 7 o'clock."""
    read = sentence.reader(i)
    hour = _HOURS.get(read(i))
    minutes = _minutes(sentence, i + 1)
    if hour is None:
        return _day_hour(sentence, i)
    if minutes is None:
        if read(i + 1) in ("o'clock", "oclock"):
            return Match(i + 2, ((str(hour), 1), (sentence.tokens[i + 1].core, 1)))
        half = _half_day(sentence, i + 1)
        return Match(half[1], ((str(hour), 1), (half[0], half[1] - i - 1))) if half is not None else None
    value, end = minutes
    text: tuple[Piece, ...] = ((f"{hour}:{value:02}", end - i),)
    half = _half_day(sentence, end)
    if half is not None:
        return Match(half[1], (*text, (half[0], half[1] - end)))
    if (
        _timed(sentence, i)
        or _in_the_morning(sentence, end)
        or (value in _ROUND_MINUTES and sentence.before(i) not in _BEFORE_YEAR)
    ):
        return Match(end, text)
    return None


def clock_range(sentence: Sentence, i: int) -> Match | None:
    """2 and 3 p.m., 5 to 7 p.m."""
    first = _plain_time(sentence, i)
    if first is None or sentence.at(first[1]) not in ("to", "and", "or", "through"):
        return None
    text, end = first
    if not sentence.linked(end + 1):
        return None
    second = _plain_time(sentence, end + 1)
    half = _half_day(sentence, second[1]) if second is not None else None
    if second is None or half is None:
        return None
    return Match(
        half[1],
        (
            (text, end - i),
            (sentence.tokens[end].core, 1),
            (second[0], second[1] - end - 1),
            (half[0], half[1] - second[1]),
        ),
    )


def relative(sentence: Sentence, i: int) -> Match | None:
    """Half past three: 3:30; ten to nine: 8:50."""
    read = sentence.reader(i)
    start = i + 1 if read(i) == "a" and read(i + 1) == "quarter" else i
    if read(start) in ("half", "quarter"):
        minute, end = (30 if read(start) == "half" else 15), start + 1
        certain = True
    else:
        found = tens(read, start)
        if found is None or found[0] >= 30:
            return None
        minute, end = found
        certain = read(end) in ("minute", "minutes")
        end += certain
        certain = certain or _timed(sentence, i)
    link, hour = read(end), _HOURS.get(read(end + 1))
    if hour is None or (minute == 30 and link != "past"):
        return None
    if link in ("past", "after") and (certain or (minute % 5 == 0 and link == "past")):
        text = f"{hour}:{minute:02}"
    elif link in ("to", "of", "till") and certain and (link != "of" or _timed(sentence, i)):
        text = f"{hour - 1 or 12}:{60 - minute}"
    else:
        return None
    after = end + 2
    half = _half_day(sentence, after)
    pieces: tuple[Piece, ...] = ((text, after - i),)
    return Match(half[1], (*pieces, (half[0], half[1] - after))) if half is not None else Match(after, pieces)


def military(sentence: Sentence, i: int) -> Match | None:
    """0800 hours, 1430 hours; 0600 and 0830 with the zero before the hour; at 1400."""
    read = sentence.reader(i)
    padded = read(i) in ("oh", "zero") and read(i + 1) in DIGITS
    if padded:
        hour, end = DIGITS[read(i + 1)], i + 2
    elif read(i) == "zero":
        hour, end = 0, i + 1
    else:
        found = tens(read, i)
        if found is None or not 10 <= found[0] < 24:
            return None
        hour, end = found
    hundred = read(end) == "hundred"
    minutes = (0, end + 1) if hundred else _minutes(sentence, end)
    if minutes is None:
        return None
    minute, end = minutes
    pieces: tuple[Piece, ...] = ((f"{hour:02}{minute:02}", end - i),)
    if read(end) in _AFTER_MILITARY:
        return Match(end + 1, (*pieces, (sentence.tokens[end].core, 1)))
    if padded and (half := _half_day(sentence, end)) is not None:
        return Match(half[1], ((f"{hour}:{minute:02}", end - i), (half[0], half[1] - end)))
    before = sentence.before(i)
    if padded and before == "the" and minute:
        return Match(end, pieces)
    if read(end) and read(end) not in FUNCTION_WORDS and read(end) not in _AFTER_TIME:
        return None
    if padded:
        # Without a word before it "oh" may be a cry: "oh six hundred of them".
        said = before or read(i) == "zero" or not read(end) or read(end) in _AFTER_TIME
        return Match(end, pieces) if said and (read(end) != "of" or _timed(sentence, i)) else None
    paired = before in ("to", "until", "till", "and") and _padded_before(sentence, i - 1)
    return Match(end, pieces) if hundred and (before == "at" or paired) else None


def _padded_before(sentence: Sentence, end: int) -> bool:
    """Whether "oh eight hundred" or 0800 stands before a token."""
    if len(sentence.word(end - 1)) == 4 and sentence.word(end - 1).isdigit():
        return True
    return any(sentence.word(end - k) in ("oh", "zero") and sentence.word(end - k + 1) in DIGITS for k in (3, 4))


def _day_hour(sentence: Sentence, i: int) -> Match | None:
    """18:45, said after "at" or "it's"; elsewhere such a pair is a year."""
    hour = tens(sentence.reader(i), i)
    if hour is None or not 13 <= hour[0] < 24 or not _timed(sentence, i, ("at", "it's")):
        return None
    minutes = _minutes(sentence, hour[1])
    if minutes is None:
        return None
    return Match(minutes[1], ((f"{hour[0]}:{minutes[0]:02}", minutes[1] - i),))


def _plain_time(sentence: Sentence, i: int) -> tuple[str, int] | None:
    hour = _HOURS.get(sentence.word(i))
    if hour is None:
        return None
    minutes = _minutes(sentence, i + 1)
    return (str(hour), i + 1) if minutes is None else (f"{hour}:{minutes[0]:02}", minutes[1])


def _minutes(sentence: Sentence, i: int) -> tuple[int, int] | None:
    """Minutes after the hour, from "oh one" to "fifty nine"."""
    word = sentence.at(i)
    if word in ("oh", "o") and sentence.at(i + 1) in UNITS:
        return UNITS[sentence.at(i + 1)], i + 2
    if word not in TEENS and word not in TENS:
        return None
    found = tens(sentence.at, i)
    return (
        found if found is not None and found[0] < 60 and sentence.at(found[1]) not in ("hundred", "thousand") else None
    )


def _half_day(sentence: Sentence, i: int) -> tuple[str, int] | None:
    """a.m. or p.m. and the index after it."""
    word, following = sentence.at(i), sentence.at(i + 1)
    if word in ("a", "p") and following == "m":
        return f"{word}.m.", i + 2
    if word not in _HALF_DAYS or (word == "am" and following in ("i", "not")):
        return None
    return _HALF_DAYS[word], i + 1


def _timed(sentence: Sentence, i: int, words: frozenset[str] | tuple[str, ...] = _BEFORE_TIME) -> bool:
    before = sentence.before(i)
    return before in words or (before == "is" and sentence.word(i - 2) == "it")


def _in_the_morning(sentence: Sentence, i: int) -> bool:
    word = sentence.at(i)
    if word in _AFTER_TIME:
        return True
    return word == "in" and sentence.at(i + 1) == "the" and sentence.at(i + 2) in _PARTS_OF_DAY
