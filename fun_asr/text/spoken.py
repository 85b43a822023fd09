"""How a written English word is said: "$5" is "five dollars", "1984" is "nineteen eighty four".

One reading of each word is enough to align it with CTC, which lets a path through tokens that are not quite right.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["spoken_form", "spoken_text"]

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_LARGEST = 10**15
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
             "twelve": "twelfth"}  # fmt: skip
_CURRENCIES = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}
_ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "ms": "miss", "dr": "doctor", "prof": "professor", "vs": "versus",
    "etc": "et cetera", "km": "kilometers", "kg": "kilograms", "cm": "centimeters", "mm": "millimeters",
    "mph": "miles an hour", "am": "am", "pm": "p m",
}  # fmt: skip
_SYMBOLS = {"&": "and", "%": "percent", "+": "plus", "=": "equals", "@": "at", "°": "degrees", "#": "number"}
_PARTS = re.compile(
    r"(?P<currency>[$€£])(?P<amount>\d[\d,]*)(?:\.(?P<cents>\d\d)(?!\d))?"
    r"|(?P<hours>\d{1,2}):(?P<minutes>[0-5]\d)(?!\d)"
    r"|(?P<ordinal>\d[\d,]*)(?:st|nd|rd|th)\b"
    r"|(?P<decade>\d+0)'?s\b"
    r"|(?P<whole>\d[\d,]*)(?:\.(?P<decimals>\d+))?"
    r"|(?P<letters>[a-z]+(?:'[a-z]+)*)"
    r"|(?P<symbol>[&%+=@°#])"
)


def spoken_form(word: str) -> str | None:
    """The lower-case words a to z in which a written word is said.

    Returns:
        "" for what is not said, such as a dash alone; None for letters of another alphabet.

    >>> spoken_form("$25,"), spoken_form("3rd"), spoken_form("—")
    ('twenty five dollars', 'third', '')
    """
    plain = unicodedata.normalize("NFKD", word.replace("’", "'")).lower()
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    parts = [_say(found) for found in _PARTS.finditer(plain)]
    if not parts and any(character.isalnum() for character in plain):
        return None
    return " ".join(parts)


def spoken_text(text: str) -> str | None:
    """The words of a text as they are said; None where `spoken_form` does not know one.

    >>> spoken_text("It's Mr. Brown’s well-known dog!")
    "it's mister brown's well known dog"
    """
    forms = [spoken_form(word) for word in text.split()]
    known = [form for form in forms if form is not None]
    return " ".join(form for form in known if form) if len(known) == len(forms) else None


def _say(found: re.Match[str]) -> str:
    part = {name: text for name, text in found.groupdict().items() if text is not None}
    if "currency" in part:
        return _money(part)
    if "hours" in part:
        hours, minutes = int(part["hours"]), int(part["minutes"])
        said = "o'clock" if minutes == 0 else f"oh {_ONES[minutes]}" if minutes < 10 else _cardinal(minutes)
        return f"{_cardinal(hours)} {said}"
    if "ordinal" in part:
        return _ordinal(part["ordinal"])
    if "decade" in part:
        return _plural(_number(part["decade"]))
    if "whole" in part:
        decimals = "".join(f" {_ONES[int(digit)]}" for digit in part.get("decimals", ""))
        return _number(part["whole"]) + (f" point{decimals}" if decimals else "")
    if "symbol" in part:
        return _SYMBOLS[part["symbol"]]
    return _ABBREVIATIONS.get(part["letters"], part["letters"])


def _money(part: dict[str, str]) -> str:
    unit, hundredth = _CURRENCIES[part["currency"]]
    amount, cents = part["amount"].replace(",", ""), int(part.get("cents", "0"))
    said = f"{_count(amount)} {unit if int(amount) == 1 else unit + 's'}"
    if cents:
        small = hundredth if cents == 1 else "pence" if hundredth == "penny" else hundredth + "s"
        said += f" and {_cardinal(cents)} {small}"
    return said


def _number(digits: str) -> str:
    """A number without context: of four digits and no comma it is a year."""
    if len(digits) == 4 and digits.isdecimal() and digits[0] in "12" and digits[1:3] != "00":
        century, rest = divmod(int(digits), 100)
        said = "hundred" if rest == 0 else f"oh {_ONES[rest]}" if rest < 10 else _cardinal(rest)
        return f"{_cardinal(century)} {said}"
    return _count(digits.replace(",", ""))


def _count(digits: str) -> str:
    if (digits[0] == "0" and len(digits) > 1) or int(digits) >= _LARGEST:
        return " ".join(_ONES[int(digit)] for digit in digits)
    return _cardinal(int(digits))


def _cardinal(number: int) -> str:
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
    scale, name = next(entry for entry in _SCALES if entry[0] <= number)
    count, rest = divmod(number, scale)
    return f"{_cardinal(count)} {name}" + (f" {_cardinal(rest)}" if rest else "")


def _ordinal(digits: str) -> str:
    *before, last = _count(digits.replace(",", "")).split()
    regular = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return " ".join([*before, _ORDINALS.get(last, regular)])


def _plural(words: str) -> str:
    return words[:-1] + "ies" if words.endswith("y") else words + "s"
