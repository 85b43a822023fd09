"""Numbers read from words: cardinals, ordinals, decimals, mixed numbers and digit strings."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fun_asr.text.itn.english.lexicon import DIGITS, NUMBER_WORDS, ORDINALS, SCALES, TEENS, TENS, UNITS, word_set
from fun_asr.text.itn.english.sentence import Piece, Reader, Sentence

__all__ = [
    "POINTS",
    "REPEATS",
    "Number",
    "cardinal",
    "digit_decimal",
    "digit_words",
    "divided",
    "fractional",
    "group",
    "number",
    "ordinal",
    "scaled",
    "suffixed",
    "tens",
]

POINTS = frozenset(("point", "decimal"))
"""Words between a whole number and its decimals; the second is said on the radio."""

REPEATS = {"double": 2, "triple": 3}
"""Words for a digit that is said once and stands several times."""

_BARE = ("hundred", "thousand")
_BEFORE_VAGUE = NUMBER_WORDS | word_set(
    """a an few several many couple any every each per by half quarter dozen odd how more no another single multi
    other one's"""
)
"""Words after which "hundred" is a rough count or belongs to a number that was cut before it."""
_PARTS = (ORDINALS.keys() - {"first", "second"}) | {"half", "quarter"}
_SINGULAR_UNITS = word_set(
    "liter litre meter metre inch foot mile ton tonne gallon ounce pound kilo kilogram gram quart pint"
)
_HALVES = {"half": Fraction(1, 2), "quarter": Fraction(1, 4)}
_LONGEST_ORDINAL = 30
"""Words; a recogniser caught in a loop may repeat one thousands of times."""
_ROUND = 10**6
"""From here on a round number keeps its scale as a word: "2 million"."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it will be written."""

    digits: str
    scale: str
    """"million" in "3.5 million"; empty in most numbers."""
    start: int
    split: int
    """Index of the token from which on the scale is spoken; `end` without a scale."""
    end: int
    value: Fraction
    article: bool = False
    """Spoken as no more than "a hundred" or "a thousand"."""

    @property
    def small(self) -> bool:
        """A whole number below ten, which stays a word in running prose."""
        return self.value.denominator == 1 and 0 <= self.value < 10 and "." not in self.digits

    def pieces(self, prefix: str = "", suffix: str = "") -> tuple[Piece, ...]:
        """The number with a symbol before or after it."""
        if not self.scale:
            return ((prefix + self.digits + suffix, self.end - self.start),)
        return (prefix + self.digits, self.split - self.start), (self.scale + suffix, self.end - self.split)


def group(value: int) -> str:
    """Digits with a comma between thousands."""
    return f"{value:,}"


def suffixed(value: int) -> str:
    """Digits of an ordinal: 1st, 22nd, 113th."""
    teens = value % 100 in (11, 12, 13)
    return group(value) + ("th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th"))


def tens(read: Reader, i: int) -> tuple[int, int] | None:
    """A number from 1 to 99 and the index after it."""
    word = read(i)
    if word in TENS:
        unit = UNITS.get(read(i + 1), 0)
        return TENS[word] + unit, i + (2 if unit else 1)
    value = UNITS.get(word) or TEENS.get(word)
    return (value, i + 1) if value else None


def cardinal(read: Reader, i: int, bare: bool = False) -> tuple[int, int] | None:
    """A whole number of at least 1 and the index after it.

    "A" counts as one before "hundred" and the scales; where `bare`, "hundred" and "thousand" begin a number by
    themselves ("hundred and fifty").
    """
    total, last = 0, None
    end = i
    position = i
    while (below := _hundreds(read, position, article=position == i, bare=bare and position == i)) is not None:
        value, after = below
        scale = SCALES.get(read(after))
        if scale is None or (last is not None and scale >= last):
            if scale is not None or (last is not None and last <= value):
                break
            return total + value, after
        total += value * scale
        last = scale
        end = position = after + 1
        if read(position) == "and":
            position += 1
    return (total, end) if end > i else None


def _hundreds(read: Reader, i: int, article: bool, bare: bool) -> tuple[int, int] | None:
    if bare and read(i) in _BARE:
        found: tuple[int, int] | None = (1, i)
    elif article and read(i) == "a" and (read(i + 1) == "hundred" or read(i + 1) in SCALES):
        found = (1, i + 1)
    else:
        found = tens(read, i)
    if found is None:
        return None
    value, end = found
    if read(end) != "hundred" or (value >= 10 and value % 10 == 0):
        return found
    value, end = value * 100, end + 1
    rest = tens(read, end + 1) if read(end) == "and" else tens(read, end)
    if rest is None or read(rest[1]) == "hundred":
        return value, end
    return value + rest[0], rest[1]


def ordinal(sentence: Sentence, i: int) -> tuple[int, int] | None:
    """An ordinal's value and the index after it: "twenty first", "one hundred and third"."""
    read = sentence.reader(i)
    k = i
    while k - i < _LONGEST_ORDINAL and (read(k) in NUMBER_WORDS or (read(k) in ("and", "a") and read(k + 1))):
        k += 1
    base = ORDINALS.get(read(k))
    if base is None:
        return None

    def spelled(index: int) -> str:
        return base if index == k else "" if index > k else read(index)

    if k == i and base in ("hundred", *SCALES):
        return (100 if base == "hundred" else SCALES[base]), k + 1
    found = cardinal(spelled, i, bare=_bare_allowed(sentence, i))
    return found if found is not None and found[1] == k + 1 else None


def number(sentence: Sentence, i: int, exact: bool = True) -> Number | None:
    """The longest number at a token: "ninety", "three point five million", with `exact` "two and a half" as 2.5 too."""
    read = sentence.reader(i)
    by_digits = digit_decimal(read, i) if POINTS & sentence.lowers else None
    if by_digits is not None:
        text, after = by_digits
        return scaled(read, Number(text, "", i, after, after, Fraction(text)))
    article = read(i) == "a"
    if article and divided(sentence, i):
        return None
    whole = (0, i + 1) if read(i) in ("zero", "oh") else cardinal(read, i, bare=_bare_allowed(sentence, i))
    if whole is None:
        return None
    value, end = whole
    decimals = fractional(read, end)
    if decimals is not None and not article:
        digits, after = decimals
        amount = Fraction(f"{value}.{digits}")
        return scaled(read, Number(f"{group(value)}.{digits}", "", i, after, after, amount))
    if read(i) == "oh":
        return None
    scale = SCALES.get(read(end - 1), 0)
    if exact and scale >= _ROUND and value % scale == 0 and (part := _half(read, end)) is not None:
        amount = value // scale + part[0]
        return Number(f"{float(amount):,}", read(end - 1), i, end - 1, part[1], amount * scale)
    if exact and not article and (part := _half(read, end)) is not None:
        amount = value + part[0]
        return scaled(read, Number(f"{float(amount):,}", "", i, part[1], part[1], amount))
    alone = end == i + (1 if read(i) in _BARE else 2)
    article = (article or read(i) in _BARE) and alone
    if scale >= _ROUND and value % scale == 0 and value // scale < 1000:
        return Number(group(value // scale), read(end - 1), i, end - 1, end, Fraction(value), article)
    return Number(group(value), "", i, end, end, Fraction(value), article)


def fractional(read: Reader, i: int) -> tuple[str, int] | None:
    """Decimals from the word "point" on: digits one by one, or one number below a hundred ("three point eleven")."""
    if read(i) not in POINTS:
        return None
    end = i + 1
    digits = ""
    while True:
        times = REPEATS.get(read(end), 1)
        digit = DIGITS.get(read(end + 1) if times > 1 else read(end))
        if digit is None:
            break
        digits += str(digit) * times
        end += 2 if times > 1 else 1
    if digits:
        return digits, end
    found = tens(read, end)
    return (str(found[0]), found[1]) if found is not None else None


def digit_decimal(read: Reader, i: int) -> tuple[str, int] | None:
    """A decimal whose whole part is no cardinal: "one three five point six" (135.6), "one eighteen point three"."""
    if read(i) not in DIGITS or read(i) in ("oh", "o"):
        return None
    whole, end = str(DIGITS[read(i)]), i + 1
    while read(end) in DIGITS:
        whole += str(DIGITS[read(end)])
        end += 1
    if len(whole) == 1:
        pair = tens(read, end) if read(end) in TEENS or read(end) in TENS else None
        if pair is None or whole == "0":
            return None
        whole, end = f"{whole}{pair[0]}", pair[1]
    decimals = fractional(read, end)
    if decimals is None or (len(whole) == 2 and read(decimals[1]) in _SINGULAR_UNITS):
        # "Two one point five liter bottles" are two bottles.
        return None
    return f"{whole}.{decimals[0]}", decimals[1]


def digit_words(sentence: Sentence, i: int, commas: bool = False) -> list[tuple[str, int]]:
    """Digits spoken one by one ("four oh double seven"), each word's digits with the index after them."""

    def read(index: int) -> str:
        return sentence.word(index) if index == i else sentence.after_comma(index) if commas else sentence.at(index)

    found: list[tuple[str, int]] = []
    end = i
    while True:
        word = read(end)
        times = REPEATS.get(word, 1)
        digit = DIGITS.get(read(end + 1)) if times > 1 else DIGITS.get(word)
        if digit is None:
            return found
        end += 2 if times > 1 else 1
        found.append((str(digit) * times, end))


def _half(read: Reader, i: int) -> tuple[Fraction, int] | None:
    if read(i) != "and":
        return None
    if read(i + 1) in ("a", "one") and read(i + 2) in _HALVES:
        return _HALVES[read(i + 2)], i + 3
    if read(i + 1) == "three" and (read(i + 2) == "quarters" or (read(i + 2) == "quarter" and read(i + 3) in SCALES)):
        return Fraction(3, 4), i + 3
    return None


def scaled(read: Reader, amount: Number) -> Number:
    """The number with the scale after it: 3.5 and "million"."""
    scale = read(amount.end)
    if scale not in SCALES:
        return amount
    value = amount.value * SCALES[scale]
    if SCALES[scale] < _ROUND and value.denominator == 1:
        return Number(group(int(value)), "", amount.start, amount.end + 1, amount.end + 1, value)
    return Number(amount.digits, scale, amount.start, amount.end, amount.end + 1, value)


def _bare_allowed(sentence: Sentence, i: int) -> bool:
    """Whether "hundred" or "thousand" begins a number: neither "few hundred" nor a piece of a longer one."""
    if sentence.word(i) not in _BARE:
        return False
    before = sentence.before(i)
    if before == "and" or (before == "of" and sentence.before(i - 1) == "couple"):
        before = sentence.before(i - 1)
    # A dash joins an article to the word before it: "money—a hundred and sixty pounds".
    return before not in _BEFORE_VAGUE and not before[-1:].isdigit() and not before.endswith(("—a", "–a"))


def divided(sentence: Sentence, i: int) -> bool:
    """Whether "a million" is what a part is of: "half a million", "a quarter of a million"."""
    before = sentence.before(i)
    if before == "of":
        part = sentence.before(i - 1)
        return part in _PARTS or part.removesuffix("s") in _PARTS or "/" in part
    return before == "half"
