"""Money, percentages, measures, and plain numbers and ranges of them."""

from __future__ import annotations

from fractions import Fraction

from fun_asr.text.itn.english.arithmetic import subtracts
from fun_asr.text.itn.english.lexicon import FUNCTION_WORDS, TENS, UNITS, word_set
from fun_asr.text.itn.english.numerals import Number, fractional, group, number, ordinal, scaled, suffixed, tens
from fun_asr.text.itn.english.sentence import Match, Piece, Sentence
from fun_asr.text.itn.english.telephone import read_compound
from fun_asr.text.itn.english.units import CENTS, CURRENCIES, DIGIT_UNITS, SYMBOLS, TIME_UNITS

__all__ = [
    "age",
    "coin_money",
    "height",
    "measure",
    "money",
    "percent",
    "plain",
    "plain_ordinal",
    "plain_range",
    "seconds",
]

_BEFORE_NOUN_POINT = word_set("a the this that one some any which what every each my your his her our their at no")
_CONJUNCTIONS = ("to", "through", "or")


def money(sentence: Sentence, i: int) -> Match | None:
    """$25.50, €2.5 billion, 10 cents, $5 to $10, 80p."""
    spread = _by_parts(sentence, i) or _spread(sentence, i)
    if spread is None:
        return None
    first, middle, last = spread
    unit = sentence.at(last.end)
    if unit in CENTS and first.value < 100:
        return _cents(sentence, first, middle, last, unit)
    if unit not in CURRENCIES:
        return None
    symbol = CURRENCIES[unit]
    if symbol == "£":
        pounds = _pounds(sentence, last)
        if pounds is None:
            return None
        amount, end = pounds
        return Match(end, (*_before(first, middle, symbol), *_with_unit(amount, symbol, end)))
    amount, end = _with_cents(sentence, last, last.end + 1)
    if first.article and not middle:
        return _article(sentence, first, symbol, end)
    return Match(end, (*_before(first, middle, symbol), *_with_unit(amount, symbol, end)))


def coin_money(sentence: Sentence, i: int) -> Match | None:
    """A dollar fifty: $1.50."""
    if sentence.word(i) not in ("a", "one") or sentence.at(i + 1) not in ("dollar", "euro"):
        return None
    cents = tens(sentence.reader(i), i + 2)
    if cents is None or cents[0] < 10 or not _phrase_ends(sentence, cents[1]):
        return None
    return Match(cents[1], ((f"{CURRENCIES[sentence.at(i + 1)]}1.{cents[0]:02}", cents[1] - i),))


def percent(sentence: Sentence, i: int) -> Match | None:
    """5%, 5 to 10%, 2.5%."""
    sign, start = _signed(sentence, i)
    spread = _spread(sentence, start, _CONJUNCTIONS if start == i else ())
    if spread is None:
        return None
    first, middle, last = spread
    end = last.end
    if sentence.at(end) == "percent":
        end += 1
    elif sentence.at(end) == "per" and sentence.at(end + 1) == "cent":
        end += 2
    elif sentence.at(end) == "percentage" and sentence.at(end + 1) in ("point", "points"):
        return Match(end, (*_signed_pieces(sign, first, start - i), *middle, *_again(first, last)))
    else:
        return None
    if first is last:
        pieces = first.pieces(sign, "%")
        return Match(end, _stretch(pieces, start - i, end - last.end))
    return Match(end, (*first.pieces(), *middle, *_stretch(last.pieces("", "%"), 0, end - last.end)))


def measure(sentence: Sentence, i: int) -> Match | None:
    """5 km, 60 mph, 20°C, 6 feet."""
    sign, start = _signed(sentence, i)
    spread = _spread(sentence, start, (*_CONJUNCTIONS, "by") if start == i else ())
    if spread is None:
        return None
    first, middle, last = spread
    head = _signed_pieces(sign, first, start - i)
    for length in (3, 2, 1):
        words = " ".join(sentence.at(last.end + k) for k in range(length))
        symbol = SYMBOLS.get(words)
        if symbol is None:
            continue
        end = last.end + length
        if symbol.startswith("°"):
            if first is last:
                return Match(end, _stretch(first.pieces(sign, symbol), start - i, length))
            return Match(end, (*head, *middle, *_stretch(last.pieces("", symbol), 0, length)))
        return Match(end, (*head, *middle, *_again(first, last), (symbol, length)))
    if sentence.at(last.end) not in DIGIT_UNITS or first.article or first.value == 1:
        return None
    return Match(last.end + 1, (*head, *middle, *_again(first, last), (sentence.tokens[last.end].core, 1)))


def height(sentence: Sentence, i: int) -> Match | None:
    """Five foot eleven: 5'11"."""
    feet = UNITS.get(sentence.word(i))
    if feet is None or sentence.at(i + 1) not in ("foot", "feet"):
        return None
    inches = tens(sentence.reader(i), i + 2)
    if inches is None or inches[0] > 11 or not (_phrase_ends(sentence, inches[1]) or sentence.at(inches[1]) == "tall"):
        return None
    return Match(inches[1], ((f"{feet}'{inches[0]}\"", inches[1] - i),))


def age(sentence: Sentence, i: int) -> Match | None:
    """A 45-year-old."""
    years = number(sentence, i, exact=False)
    if years is None or years.small or years.article or sentence.at(years.end) not in TIME_UNITS:
        return None
    if sentence.at(years.end + 1) not in ("old", "olds") or sentence.at(years.end).endswith("s"):
        return None
    unit, old = sentence.at(years.end), sentence.at(years.end + 1)
    return Match(years.end + 2, ((f"{years.digits}-{unit}-{old}", years.end + 2 - i),))


def seconds(sentence: Sentence, i: int) -> Match | None:
    """A 30-second delay, where "thirty second" could be an ordinal."""
    length = tens(sentence.reader(i), i)
    if length is None or length[0] < 20 or length[0] % 10 or sentence.at(length[1]) != "second":
        return None
    following = sentence.at(length[1] + 1)
    if sentence.before(i) not in ("a", "another", "every", "per") or not following or following in FUNCTION_WORDS:
        return None
    return Match(length[1] + 1, ((f"{length[0]}-second", length[1] + 1 - i),))


def plain_range(sentence: Sentence, i: int) -> Match | None:
    """10 to 15, 5 out of 10, between 8 and 12: digits for both if one has two of them."""
    spread = _spread(sentence, i, (*_CONJUNCTIONS, "out", "by"))
    if spread is None or spread[0] is spread[2]:
        return None
    first, middle, last = spread
    if (first.small or first.article) and (last.small or last.article):
        return None
    return Match(last.end, (*first.pieces(), *middle, *last.pieces()))


def plain(sentence: Sentence, i: int) -> Match | None:
    """25, 1,234, 2 million, 3.14, -20."""
    sign, start = _signed(sentence, i)
    value = number(sentence, start, exact=False)
    million_and_half = number(sentence, start)
    if million_and_half is not None and million_and_half.scale:
        value = million_and_half
    if value is None and (decimal := _leading_point(sentence, start)) is not None:
        value = decimal if decimal.digits.startswith("0.0") or decimal.value >= 1 else None
    if value is None or value.article or (value.small and not sign) or _archaic(sentence, value):
        return None
    return Match(value.end, _stretch(value.pieces(sign), start - i, 0))


def plain_ordinal(sentence: Sentence, i: int) -> Match | None:
    """21st; ordinals below ten stay words."""
    found = ordinal(sentence, i)
    if found is None or found[0] < 10 or (sentence.before(i) == "a" and sentence.at(found[1]) in ("", "of", "part")):
        return None
    value, end = found
    if end == i + 1 and sentence.before(i) == "and" and sentence.before(i - 1) in UNITS:
        return None
    last = sentence.word(end - 1)
    if last.endswith("illionth"):
        count = number(sentence, i, exact=False)
        if end == i + 1 or count is None or count.end != end - 1:
            return None
        return Match(end, (*count.pieces(), (last, 1)))
    return Match(end, ((suffixed(value), end - i),))


def _spread(
    sentence: Sentence, i: int, conjunctions: tuple[str, ...] = _CONJUNCTIONS
) -> tuple[Number, tuple[Piece, ...], Number] | None:
    """One number, or two with a word like "to" between them (the same number twice where there is one)."""
    first = number(sentence, i) or _leading_point(sentence, i)
    if first is None:
        return None
    word = sentence.at(first.end)
    if word == "and" and sentence.before(i) == "between":
        conjunctions = (*conjunctions, "and")
    if word in conjunctions:
        gap = 2 if word == "out" else 1
        last = number(sentence, first.end + gap) if sentence.linked(first.end + gap) else None
        if last is not None and (gap == 1 or sentence.at(first.end + 1) == "of"):
            middle = tuple((sentence.tokens[first.end + k].core, 1) for k in range(gap))
            return (_sharing_scale(sentence, first, last) if word in ("to", "or") else first), middle, last
    return first, (), first


def _by_parts(sentence: Sentence, i: int) -> tuple[Number, tuple[Piece, ...], Number] | None:
    """One fifty five dollars: 155."""
    found = read_compound(sentence, i)
    if found is None or sentence.at(found[1]) not in CURRENCIES:
        return None
    amount = Number(found[0], "", i, found[1], found[1], Fraction(found[0]))
    return amount, (), amount


def _sharing_scale(sentence: Sentence, first: Number, last: Number) -> Number:
    """The first number of "two to three hundred" as 200."""
    scale = {"hundred": 100, "thousand": 1000}.get(sentence.word(last.end - 1))
    if scale is None or not 1 <= first.value * scale < last.value or first.value >= 100 or first.article:
        return first
    if last.end - last.start != 2 and scale == 100:
        return first
    value = first.value * scale
    return Number(group(int(value)), "", first.start, first.end, first.end, value) if value.denominator == 1 else first


def _leading_point(sentence: Sentence, i: int) -> Number | None:
    """Point five: 0.5; "at one point two people" has no number there."""
    decimals = fractional(sentence.reader(i), i)
    if decimals is None or sentence.before(i) in _BEFORE_NOUN_POINT:
        return None
    digits, end = decimals
    return scaled(sentence.reader(i), Number(f"0.{digits}", "", i, end, end, Fraction(f"0.{digits}")))


def _archaic(sentence: Sentence, amount: Number) -> bool:
    """Whether it ends "five and twenty", which stays words."""
    i = amount.start
    return (
        amount.end == i + 1
        and sentence.word(i) in TENS
        and sentence.before(i) == "and"
        and sentence.before(i - 1) in UNITS
        and sentence.before(i - 2) not in TENS
    )


def _signed(sentence: Sentence, i: int) -> tuple[str, int]:
    """The sign and where the number starts."""
    signed = sentence.word(i) in ("minus", "negative") and sentence.linked(i + 1) and not subtracts(sentence, i)
    return ("-", i + 1) if signed else ("", i)


def _signed_pieces(sign: str, amount: Number, extra: int) -> tuple[Piece, ...]:
    return _stretch(amount.pieces(sign), extra, 0)


def _stretch(pieces: tuple[Piece, ...], before: int, after: int) -> tuple[Piece, ...]:
    """Let the first piece stand for tokens before it too, and the last for tokens after it."""
    counts = [count for _, count in pieces]
    counts[0] += before
    counts[-1] += after
    return tuple((text, count) for (text, _), count in zip(pieces, counts, strict=True))


def _again(first: Number, last: Number) -> tuple[Piece, ...]:
    return () if first is last else last.pieces()


def _before(first: Number, middle: tuple[Piece, ...], symbol: str) -> tuple[Piece, ...]:
    return (*first.pieces(symbol), *middle) if middle else ()


def _with_unit(amount: Number, symbol: str, end: int) -> tuple[Piece, ...]:
    """The amount, its last piece standing for the currency's name too."""
    return _stretch(amount.pieces(symbol), 0, end - amount.end)


def _with_cents(sentence: Sentence, amount: Number, end: int) -> tuple[Number, int]:
    """The amount with the cents after it: "... dollars and fifty cents", "... euros fifty"."""
    if amount.scale or "." in amount.digits:
        return amount, end
    start = end + 1 if sentence.at(end) == "and" else end
    cents = tens(sentence.reader(start), start) if sentence.linked(start) else None
    if cents is None:
        return amount, end
    value, after = cents
    if sentence.at(after) in CENTS:
        after += 1
    elif start > end or value < 10 or not _phrase_ends(sentence, after):
        return amount, end
    return Number(f"{amount.digits}.{value:02}", "", amount.start, amount.end, amount.end, amount.value), after


def _pounds(sentence: Sentence, amount: Number) -> tuple[Number, int] | None:
    """Pounds are money only with pence or "sterling"; without, they may be a weight."""
    end = amount.end + 1
    if sentence.at(end) == "sterling":
        return amount, end + 1
    with_pence, after = _with_cents(sentence, amount, end)
    return (with_pence, after) if after > end else None


def _cents(sentence: Sentence, first: Number, middle: tuple[Piece, ...], last: Number, unit: str) -> Match | None:
    if unit == "pence":
        return Match(last.end + 1, (*_before(first, middle, ""), *_stretch(last.pieces("", "p"), 0, 1)))
    if unit == "cent" and first.value == 1:
        return None
    return Match(last.end + 1, (*_before(first, middle, ""), *last.pieces(), (sentence.tokens[last.end].core, 1)))


def _article(sentence: Sentence, amount: Number, symbol: str, end: int) -> Match | None:
    """A hundred dollar bill: the article stays before a noun."""
    spoken = amount.end - amount.start > 1
    if spoken and sentence.at(end - 1) == "dollar" and sentence.at(end) and not amount.scale and end == amount.end + 1:
        return Match(end, ((sentence.tokens[amount.start].core, 1), (symbol + amount.digits, end - amount.start - 1)))
    return Match(end, _with_unit(amount, symbol, end))


def _phrase_ends(sentence: Sentence, i: int) -> bool:
    following = sentence.at(i)
    return not following or following in FUNCTION_WORDS
