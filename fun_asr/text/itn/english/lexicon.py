"""English words that rules share: numbers, months, and the small words that tell where a phrase ends."""

from __future__ import annotations

__all__ = [
    "DECADES",
    "DIGITS",
    "FUNCTION_WORDS",
    "MONTHS",
    "NUMBER_WORDS",
    "ORDINALS",
    "SCALES",
    "TEENS",
    "TENS",
    "THOUSANDS",
    "UNITS",
    "WEEKDAYS",
    "word_set",
]


def word_set(words: str) -> frozenset[str]:
    """Words parted by white space."""
    return frozenset(words.split())


UNITS = {w: n for n, w in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), 1)}

TEENS = {
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
}

TENS = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}

DIGITS = {"zero": 0, "oh": 0, "o": 0, **UNITS, "niner": 9}
"""Words for one digit, as in telephone numbers and on the radio."""

SCALES = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "quadrillion": 10**15,
    "quintillion": 10**18,
    "sextillion": 10**21,
}

THOUSANDS = frozenset(SCALES)

ORDINALS = {
    "first": "one",
    "second": "two",
    "third": "three",
    "fifth": "five",
    "eighth": "eight",
    "ninth": "nine",
    "twelfth": "twelve",
    **{w + "th": w for w in ("four", "six", "seven", "ten", "eleven")},
    **{w + "th": w for w in TEENS if w.endswith("teen")},
    **{w.removesuffix("y") + "ieth": w for w in TENS},
    "hundredth": "hundred",
    **{w + "th": w for w in SCALES},
}
"""Ordinals and their cardinals."""

DECADES = {w.removesuffix("y") + "ies": n for w, n in TENS.items()}

NUMBER_WORDS = frozenset({*DIGITS, *TEENS, *TENS, "hundred", *SCALES}) - {"o"}

MONTHS = word_set("january february march april may june july august september october november december")

WEEKDAYS = word_set("monday tuesday wednesday thursday friday saturday sunday")

FUNCTION_WORDS = word_set(
    """a about across after again against all also although always am an and any are around as at away back be
    because been before behind being between both but by can could did do does done down during each either even
    every for from had has have he her here hers him his how i if in into is it its just may me might mine more
    most much must my near never no nor not now of off on once only onto or other our ours out over per please
    she should since so some soon still such than that the their them then there these they this those though
    through till to today together tomorrow tonight too towards under until up upon us very was we were what
    when where whether which while who whom whose why will with within without would yes yesterday yet you your
    yours i'm it's he's she's that's you're we're they're isn't wasn't aren't weren't don't doesn't didn't won't
    can't"""
)
"""Words that no noun phrase's noun is: after a number they end the phrase."""
