"""Titles before names, and set phrases."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import FUNCTION_WORDS, NUMBER_WORDS, ORDINALS, word_set
from fun_asr.text.itn.english.sentence import Match, Sentence

__all__ = ["STARTS", "junior", "phrase", "title"]

_TITLES = {"doctor": "Dr.", "mister": "Mr.", "missus": "Mrs.", "professor": "Prof.", "saint": "St.", "mount": "Mt."}
_BEFORE_NOUN = word_set(
    """a an the my your his her our their this that each every no any some another one's family junior senior good
    head medical new old patron to"""
)
_NO_NAMES = FUNCTION_WORDS | word_set(
    """said says told asked thinks thought knows knew came comes went goes gave gives visits visit appointment
    appointments office patient patients quickly please thanks ordered prescribed recommends recommended
    examined took takes makes made sir ma'am emeritus general street station"""
)
_SUFFIXES = {"junior": "Jr.", "senior": "Sr."}
_PHRASES: dict[tuple[str, ...], str] = {
    ("twenty", "four", "seven"): "24/7",
    ("fifty", "fifty"): "50/50",
    ("nine", "eleven"): "9/11",
    ("a", "t", "and", "t"): "AT&T",
    ("r", "and", "d"): "R&D",
    ("q", "and", "a"): "Q&A",
    ("c", "plus", "plus"): "C++",
    ("c", "plus", "plus", "seventeen"): "C++17",
    ("c", "plus", "plus", "twenty"): "C++20",
    ("covid", "nineteen"): "COVID-19",
}
_BARE_PHRASES: dict[tuple[str, ...], str] = {("et", "cetera"): "etc.", ("e", "g"): "e.g.", ("i", "e"): "i.e."}
"""Written out in formatted text, abbreviated where nobody has formatted it."""

STARTS = frozenset((*_TITLES, *_SUFFIXES, *(words[0] for words in (*_PHRASES, *_BARE_PHRASES))))
"""First words of what is matched here."""


def title(sentence: Sentence, i: int) -> Match | None:
    """Dr. Smith; a title that was written with a capital stays."""
    token = sentence.tokens[i]
    abbreviation = _TITLES.get(token.core)
    if abbreviation is None:
        return None
    if token.core == "mister" and sentence.at(i + 1) == "and" and sentence.at(i + 2) == "missus":
        if sentence.linked(i + 3):
            pieces = (("Mr.", 1), ("and", 1), ("Mrs.", 1), (_capital(sentence.tokens[i + 3].core), 1))
            return Match(i + 4, pieces)
        return None
    if not sentence.linked(i + 1) or sentence.before(i) in _BEFORE_NOUN:
        return None
    name = sentence.tokens[i + 1].core
    lower = sentence.word(i + 1)
    if not name[:1].isupper() and not (sentence.bare and _is_name(token.core, lower.removesuffix("'s"))):
        return None
    return Match(i + 2, ((abbreviation, 1), (_capital(name), 1)))


def junior(sentence: Sentence, i: int) -> Match | None:
    """King Jr., where two names stand before it in bare text."""
    suffix = _SUFFIXES.get(sentence.tokens[i].core)
    if suffix is None or not sentence.bare or i < 2:
        return None
    before = [sentence.before(i), sentence.before(i - 1)]
    if any(not word.isalpha() or word in FUNCTION_WORDS or word in _BEFORE_NOUN for word in before):
        return None
    following = sentence.at(i + 1)
    if following in ("at", "in", "year", "high", "doctor", "partner", "citizen", "citizens", "staff"):
        return None
    return Match(i + 1, ((suffix, 1),))


def phrase(sentence: Sentence, i: int) -> Match | None:
    """Set phrases: 24/7, R&D, etc."""
    read = sentence.reader(i)
    for size in (4, 3, 2):
        words = tuple(read(i + k) for k in range(size))
        written = _PHRASES.get(words) or (_BARE_PHRASES.get(words) if sentence.bare else None)
        if written is not None:
            return Match(i + size, ((written, size),))
    return None


def _is_name(title_word: str, word: str) -> bool:
    """Whether a lower-case word after a title can be a name."""
    if not word.isalpha() or word in _NO_NAMES or word in NUMBER_WORDS or word in ORDINALS:
        return False
    return title_word != "doctor" or not word.endswith(("ing", "ed"))


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
