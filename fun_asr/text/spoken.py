"""How a written English word is said: "$5" is "five dollars", "1984" is "nineteen eighty four".

One reading of each word is enough to align it with CTC, which lets a path through tokens that are not quite right.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

__all__ = ["spoken_form", "spoken_text"]

_MOST_DIGITS = 15
"""Of a number that is said as one; longer ones are said digit by digit."""
_JOINTS = re.compile(r" and |, |-")
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
        said = "o'clock" if minutes == 0 else f"oh {_words(minutes)}" if minutes < 10 else _words(minutes)
        return f"{_words(hours)} {said}"
    if "ordinal" in part:
        return _count(part["ordinal"], "ordinal")
    if "decade" in part:
        return _plural(_number(part["decade"]))
    if "whole" in part:
        decimals = "".join(f" {_words(int(digit))}" for digit in part.get("decimals", ""))
        return _number(part["whole"]) + (f" point{decimals}" if decimals else "")
    if "symbol" in part:
        return _SYMBOLS[part["symbol"]]
    return _ABBREVIATIONS.get(part["letters"], part["letters"])


def _money(part: dict[str, str]) -> str:
    unit, hundredth = _CURRENCIES[part["currency"]]
    amount, cents = part["amount"].replace(",", ""), int(part.get("cents", "0"))
    # int refuses thousands of digits; float does not.
    said = f"{_count(amount)} {unit if float(amount) == 1 else unit + 's'}"
    if cents:
        small = hundredth if cents == 1 else "pence" if hundredth == "penny" else hundredth + "s"
        said += f" and {_words(cents)} {small}"
    return said


def _number(digits: str) -> str:
    """A number without context: of four digits and no comma it is a year."""
    if len(digits) == 4 and digits.isdecimal() and digits[0] in "12" and digits[1:3] != "00":
        return _words(int(digits), "year")
    return _count(digits)


def _count(digits: str, form: Literal["cardinal", "ordinal"] = "cardinal") -> str:
    digits = digits.replace(",", "")
    apart = (digits[0] == "0" and len(digits) > 1) or len(digits) > _MOST_DIGITS
    *before, last = list(digits) if apart else [digits]
    return " ".join([*(_words(int(digit)) for digit in before), _words(int(last), form)])


# Texts say the same numbers again and again, and num2words takes its time for each.
@lru_cache(maxsize=1024)
def _words(number: int, form: Literal["cardinal", "ordinal", "year"] = "cardinal") -> str:
    """As num2words has it, but as it is said in America, without "and", and without hyphens and commas."""
    # Imported here: it brings the numbers of every language, which only a text with a number should wait for.
    from num2words import num2words

    return _JOINTS.sub(" ", num2words(number, to=form))


def _plural(words: str) -> str:
    return words[:-1] + "ies" if words.endswith("y") else words + "s"
