"""Fractions: 2/3, 2 1/2."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import ORDINALS, TEENS, TENS, UNITS, word_set
from fun_asr.text.itn.english.numerals import cardinal, group, tens
from fun_asr.text.itn.english.sentence import Match, Sentence

__all__ = ["fraction", "mixed"]

_CARDINALS = {**UNITS, **TEENS, **TENS, "hundred": 100, "thousand": 1000}
_DENOMINATORS = {
    "half": 2,
    "quarter": 4,
    **{word: _CARDINALS[base] for word, base in ORDINALS.items() if _CARDINALS.get(base, 0) > 2},
}
_PLURALS = {f"{word}s": value for word, value in _DENOMINATORS.items() if word != "half"}
_COMPOUNDS = {("thirty", "seconds"): 32, ("sixty", "fourths"): 64}
_AFTER_ONE = word_set("of the inch mile cup teaspoon tablespoon less more that")
"""Words after which "one third" is a part and not the third of several."""


def fraction(sentence: Sentence, i: int) -> Match | None:
    """2/3, 1/2 before what is divided."""
    found = _parts(sentence, i)
    if found is None:
        return None
    text, end = found
    return Match(end, ((text, end - i),))


def mixed(sentence: Sentence, i: int) -> Match | None:
    """2 1/2, 3 3/4."""
    whole = cardinal(sentence.reader(i), i)
    if whole is None or sentence.word(i) == "a" or sentence.at(whole[1]) != "and":
        return None
    if sentence.word(whole[1] - 1).endswith("illion"):
        # "Two million and a half" is 2.5 million.
        return None
    value, end = whole
    if sentence.at(end + 1) == "a" and sentence.at(end + 2) in ("half", "quarter", "third"):
        part, after = f"1/{_DENOMINATORS[sentence.at(end + 2)]}", end + 3
    else:
        found = _parts(sentence, end + 1) if sentence.linked(end + 1) else None
        if found is None:
            return None
        part, after = found
    return Match(after, ((group(value), end - i), (part, after - end)))


def _parts(sentence: Sentence, i: int) -> tuple[str, int] | None:
    top = tens(sentence.reader(i), i)
    if top is None:
        return None
    value, end = top
    word = sentence.at(end)
    if value == 1:
        if word == "half":
            return "1/2", end + 1
        following = sentence.at(end + 1)
        if word not in _DENOMINATORS or (following and following not in _AFTER_ONE and sentence.before(i) != "and"):
            return None
        return f"1/{_DENOMINATORS[word]}", end + 1
    if value < _PLURALS.get(word, 0) and (value, word) != (2, "quarters"):
        return f"{value}/{_PLURALS[word]}", end + 1
    compound = _COMPOUNDS.get((word, sentence.at(end + 1)))
    if compound and sentence.at(end + 2) in ("of", "inch"):
        return f"{value}/{compound}", end + 2
    return None
