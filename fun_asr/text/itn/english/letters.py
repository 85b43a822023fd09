"""Spelled letters: USA, CO2, ABC123, 5G."""

from __future__ import annotations

from string import ascii_lowercase

from fun_asr.text.itn.english.lexicon import DIGITS, TEENS, TENS, word_set
from fun_asr.text.itn.english.numerals import cardinal, tens
from fun_asr.text.itn.english.sentence import Match, Sentence

__all__ = ["acronym", "code", "generation", "single"]

_ACRONYMS = word_set(
    """USA UK EU UN US UAE USSR FBI CIA NSA NASA NATO BBC CNN NBC ABC CBS PBS NPR IBM HP GE GM BMW TV DVD CD PC ID
    IT IP AI ML UI UX API CPU GPU RAM ROM SSD USB HTML CSS PHP SQL XML PDF URL HTTP HTTPS FTP SSH DNS VPN PhD MD
    MBA BA MA DNA RNA HIV AIDS CEO CFO CTO COO VP HR PR GDP IRS FDA CDC EPA DMV NBA NFL NHL MLB FIFA LA DC NYC
    SUV ATM GPS LED LCD iOS AC AM FM DJ MC PM UFO VIP FAQ DIY ASAP RSVP KGB NHS MIT UCLA MTV HBO ESPN RPM BC AD
    ISBN MRI CT ICU ER EMT TSA UPS JFK LBJ FDR"""
)
_SPELLINGS = {name.lower(): name for name in _ACRONYMS}
"""Acronyms that are told from an article or pronoun and letters ("a t v"), as they are written."""

_LONGEST = max(map(len, _SPELLINGS))
_LONGEST_CODE = 20
"""Tokens; a recogniser caught in a loop may spell thousands."""

_WITH_FIGURES = {
    "co2": "CO2",
    "h2o": "H2O",
    "o2": "O2",
    "h2": "H2",
    "html5": "HTML5",
    "css3": "CSS3",
    "mp3": "MP3",
    "mp4": "MP4",
    "b2b": "B2B",
    "b2c": "B2C",
    "p2p": "P2P",
    "r2d2": "R2D2",
    "c3po": "C3PO",
    "usbc": "USB-C",
    "ps5": "PS5",
    "ps4": "PS4",
    "g7": "G7",
    "g8": "G8",
    "g20": "G20",
    "f16": "F16",
    "b52": "B52",
    "ak47": "AK47",
    "m16": "M16",
    "mi6": "MI6",
    "mi5": "MI5",
}
_LETTERS = frozenset(ascii_lowercase)
_BEFORE_LETTER = word_set("plan vitamin option team group exhibit hepatitis grade type section class letter model")
_AMBIGUOUS = frozenset("aimostdn")
"""Letters that also are words, or what is left of one where an apostrophe is missing."""
_AFTER_I = word_set("am was have had don't do didn't did think know mean want said i'm i've")
"""Words before which "a i" is a broken-off sentence."""
_SPOKEN_AS_WORDS = ("mp", "usb", "html", "css")
_GENERATIONS = frozenset("gdk")


def acronym(sentence: Sentence, i: int) -> Match | None:
    """USA, PhD; three letters or more, or a pair that cannot be words."""
    letters = _run(sentence, i)
    if len(letters) < 2:
        return None
    for size in range(min(len(letters), _LONGEST), 1, -1):
        if letters[:size] == "ai" and sentence.at(i + 2) in _AFTER_I:
            continue
        if letters[:size] in _SPELLINGS and (size == len(letters) or letters[size] in "ai"):
            return Match(i + size, ((_SPELLINGS[letters[:size]], size),))
    if letters[0] in "ai" and (letters[1:] in _SPELLINGS or letters[1:] in _WITH_FIGURES):
        return None
    unclear = set(letters) <= set("aio") or (
        len(letters) == 2 and (set(letters) & set("aio") or letters[0] == letters[1])
    )
    return None if unclear else Match(i + len(letters), ((letters.upper(), len(letters)),))


def code(sentence: Sentence, i: int) -> Match | None:
    """Letters and digits mixed: CO2, B12, ABC123, 7XYZ234."""
    text, end = "", i
    letters = 0
    best: Match | None = None
    read = sentence.reader(i)
    while end - i < _LONGEST_CODE:
        word = read(end)
        if word in _LETTERS and sentence.tokens[end].core == word and (letters or _opens_code(sentence, end)):
            text, end, letters = text + word, end + 1, letters + 1
        elif word in _SPOKEN_AS_WORDS and not text:
            text, end, letters = word, end + 1, letters + 1
        elif word in DIGITS and word != "oh" and text:
            text, end = text + str(DIGITS[word]), end + 1
        elif (word in TEENS or word in TENS) and text:
            found = tens(read, end)
            assert found is not None, "tens and teens are numbers"
            text, end = text + str(found[0]), found[1]
        elif word in DIGITS and word != "o" and not text and _run(sentence, end + 1, linked=True):
            text, end = str(DIGITS[word]), end + 1
        else:
            break
        written = _WITH_FIGURES.get(text) or (text.upper() if _is_code(text) else None)
        if written is not None and read(end) not in ("point", "hundred", "thousand"):
            best = Match(end, ((written, end - i),))
    return best


def generation(sentence: Sentence, i: int) -> Match | None:
    """5G, 3D, 10K."""
    found = cardinal(sentence.reader(i), i)
    if found is None or sentence.word(i) == "a":
        return None
    value, end = found
    letter = sentence.at(end)
    if letter not in _GENERATIONS or (letter != "k" and value > 9) or len(sentence.at(end + 1)) == 1:
        return None
    return Match(end + 1, ((f"{value}{letter.upper()}", end + 1 - i),))


def single(sentence: Sentence, i: int) -> Match | None:
    """Plan B; in bare text a lone letter that cannot be a word."""
    letter = sentence.word(i)
    if letter not in _LETTERS or not sentence.bare:
        return None
    if letter in _AMBIGUOUS and not (sentence.before(i) in _BEFORE_LETTER and sentence.at(i + 1) in ("", "is", "and")):
        return None
    return Match(i + 1, ((letter.upper(), 1),))


def _run(sentence: Sentence, i: int, linked: bool = False) -> str:
    """Lower-case letters spelled one by one."""
    letters = ""
    while (sentence.at(i) if letters or linked else sentence.word(i)) and sentence.tokens[i].core in _LETTERS:
        if len(letters) == _LONGEST_CODE:
            break
        letters += sentence.tokens[i].core
        i += 1
    return letters


def _opens_code(sentence: Sentence, i: int) -> bool:
    """Whether a first letter is no article or pronoun."""
    letters = _run(sentence, i)
    if letters == "o" and sentence.at(i + 2) in DIGITS:
        return False
    return letters[:1] not in "ai" or letters in _SPELLINGS or (len(letters) > 2 and letters[1:] not in _SPELLINGS)


def _is_code(text: str) -> bool:
    """Whether letters and digits belong together: B12, ABC123, 7XYZ234."""
    letters = [c for c in text if c.isalpha()]
    figures = [c for c in text if c.isdigit()]
    if not letters or not figures:
        return False
    if text[0].isdigit():
        return (
            len(letters) > 1 and len(figures) > 1 and text[-1].isdigit() and text.strip("0123456789") not in _SPELLINGS
        )
    head = text.rstrip("0123456789")
    if not head.isalpha():
        return len(text) > 3 and text[-1].isdigit()
    return (len(head) == 1 and head not in "aios") or len(text) - len(head) > (2 if head in _SPELLINGS else 1)
