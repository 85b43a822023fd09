"""Numbers counted in lakh (10^5) and crore (10^7)."""

from __future__ import annotations

from fractions import Fraction

from fun_asr.text.itn.english.lexicon import UNITS, word_set
from fun_asr.text.itn.english.numerals import cardinal, divided, number
from fun_asr.text.itn.english.sentence import Match, Piece, Sentence
from fun_asr.text.itn.english.units import CURRENCIES

__all__ = ["UNITS_OF_COUNT", "indian"]

_LAKH = word_set("lakh lakhs lac lacs")
_CRORE = word_set("crore crores")
_VALUES = {**dict.fromkeys(_LAKH, 10**5), **dict.fromkeys(_CRORE, 10**7)}
UNITS_OF_COUNT = frozenset(_VALUES)
_BEFORE_LAST = ("to", "or")


def indian(sentence: Sentence, i: int) -> Match | None:
    """₹5 lakh, ₹1,50,000, 3.5 crore, 10 to 15 lakh."""
    if not _VALUES.keys() & sentence.lowers:
        return None
    exact = _summed(sentence, i)
    if exact is not None:
        value, end = exact
        symbol = CURRENCIES.get(sentence.at(end), "")
        end += bool(symbol)
        return Match(end, ((symbol + _grouped(value), end - i),))
    first = _round(sentence, i)
    if first is None or sentence.before(i) in UNITS:
        # "Two three lakh" is a guess between the two.
        return None
    text, unit, end = first
    last = _round(sentence, end + 1) if sentence.at(end) in _BEFORE_LAST and sentence.linked(end + 1) else None
    if last is not None and last[1] < last[2]:
        symbol = CURRENCIES.get(sentence.at(last[2]), "")
        link = sentence.tokens[end].core
        head = (*_counted(sentence, symbol + text, i, unit, end), (link, 1))
        return _priced(symbol, (*head, *_counted(sentence, symbol + last[0], end + 1, *last[1:])), last[2])
    symbol = CURRENCIES.get(sentence.at(end), "")
    if unit == end or (sentence.word(i) == "a" and not symbol):
        return None
    return _priced(symbol, _counted(sentence, symbol + text, i, unit, end), end)


def _counted(sentence: Sentence, text: str, start: int, unit: int, end: int) -> tuple[Piece, ...]:
    """A number and the words of its unit."""
    return (text, unit - start), *((sentence.tokens[k].core, 1) for k in range(unit, end))


def _priced(symbol: str, pieces: tuple[Piece, ...], end: int) -> Match:
    """The match with the currency's name, which the symbol before the number stands for."""
    if not symbol:
        return Match(end, pieces)
    text, count = pieces[-1]
    return Match(end + 1, (*pieces[:-1], (text, count + 1)))


def _round(sentence: Sentence, i: int) -> tuple[str, int, int] | None:
    """A number's digits, the index of the unit after it, and the index after the unit (the same without one)."""
    if sentence.word(i) == "a":
        return ("1", i + 1, i + 2) if sentence.at(i + 1) in _VALUES and not divided(sentence, i) else None
    amount = number(sentence, i)
    if amount is None or amount.scale:
        return None
    end = amount.end
    if sentence.at(end) in _LAKH and sentence.at(end + 1) in _CRORE:
        return amount.digits, end, end + 2
    return amount.digits, end, end + (sentence.at(end) in _VALUES)


def _summed(sentence: Sentence, i: int) -> tuple[int, int] | None:
    """The value of "one lakh fifty thousand", where more than one unit is counted, and the index after it."""
    total, last, end = Fraction(0), 0, i
    read = sentence.reader(i)
    parts = 0
    while True:
        start = end + 1 if parts and read(end) == "and" else end
        below = (1, i + 1) if start == i and read(i) == "a" else cardinal(read, start) if read(start) else None
        if below is None:
            break
        value, after = below
        unit = _VALUES.get(read(after), 1)
        if last and value * unit >= last:
            return None
        total, parts = total + value * unit, parts + 1
        last, end = unit, after + (unit > 1)
        if unit == 1:
            break
    return (int(total), end) if parts > 1 else None


def _grouped(value: int) -> str:
    """Digits with commas as in India: after the thousands, every second one."""
    head, tail = divmod(value, 1000)
    text = f"{tail:03}" if head else str(tail)
    while head:
        head, pair = divmod(head, 100)
        text = f"{pair:02},{text}" if head else f"{pair},{text}"
    return text
