"""Where sentences and clauses end, by their punctuation."""

from __future__ import annotations

import re
from enum import IntEnum

from fun_asr.transcript.data import WRITTEN_WITHOUT_SPACES

__all__ = ["Ending", "ending"]

_CLOSERS = "\"'”’»›)]}」』】》〉）］*_"
_SENTENCE = ".!?…。！？．｡؟۔।॥։።჻‽"
_CLAUSE = ",;:—–،؛，、；：､・~～"
_OPENERS = re.compile(r"^[\"'“‘„‚«‹(\[{¿¡「『【《〈（［*_–—-]+")
_QUESTION_IN_GREEK = ";\u037e"

# Before a name or a number, in the languages that are written with points behind short forms.
_ABBREVIATIONS = re.compile(
    "(mr|mrs|ms|dr|prof|messrs|mme|mlle|sr|sra|srta|st|ste|gen|col|capt|lt|sgt|rev|hon|vs|e\\.g|i\\.e|cf|hr|fr|bzw|z\\.b"
    "|d\\.h|u\\.a|ca|vgl|sog|dhr|mevr|dott|sig|np|tzn|tzv|resp|approx|dept)",
    re.IGNORECASE,
)
_BEFORE_NUMBERS = re.compile("(nos?|nrs?|figs?|vol|pp?|art|ch|sec|§|bd|abb|kap|núm|n|num)", re.IGNORECASE)
_ORDINALS_WITH_POINT = frozenset(
    {"cs", "da", "de", "et", "fi", "hr", "hu", "is", "lt", "lv", "nb", "nn", "no", "pl", "sk", "sl", "sr", "tr"}
)


class Ending(IntEnum):
    """What a word ends beside itself."""

    NOTHING = 0
    CLAUSE = 1
    SENTENCE = 2


def ending(word: str, following: str | None, language: str | None, *, spaced: bool = True) -> Ending:
    """What ends with a word.

    Arguments:
        word: with its punctuation.
        following: the word after it, with its own; None where there is none.
        language: code; decides on what a point behind a number says, and a space.
        spaced: whether a space stands before the word after it.
    """
    bare = word.rstrip(_CLOSERS)
    if not bare:
        return Ending.NOTHING
    last = bare[-1]
    if last in _SENTENCE or (language == "el" and last in _QUESTION_IN_GREEK):
        return Ending.SENTENCE if _ends_sentence(bare, following, language) else Ending.NOTHING
    if last in _CLAUSE or bare in ("-", "--") or (following is not None and following[0] in "–—"):
        return Ending.CLAUSE
    # Thai has spaces for marks, and Whisper's Japanese often does.
    return Ending.CLAUSE if following is not None and spaced and language in WRITTEN_WITHOUT_SPACES else Ending.NOTHING


def _ends_sentence(bare: str, following: str | None, language: str | None) -> bool:
    if following is None:
        return True
    after = _OPENERS.sub("", following)
    if after[:1].islower():
        return False
    if not bare.endswith(".") or bare.endswith(".."):
        return True
    stem = _OPENERS.sub("", bare)[:-1]
    if _ABBREVIATIONS.fullmatch(stem):
        return False
    if _BEFORE_NUMBERS.fullmatch(stem) and after[:1].isdigit():
        return False
    if len(stem) == 1 and stem.isalpha() and stem.isupper() and stem != "I" and after[:1].isupper():
        return False  # an initial
    return not (stem.isdigit() and len(stem) <= 2 and language in _ORDINALS_WITH_POINT)
