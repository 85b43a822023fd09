"""Which language a text is in, where its letters alone say it; and what is a word in it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

__all__ = ["WRITTEN_BY_CHARACTER", "language_of_script", "written_units"]

WRITTEN_BY_CHARACTER = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # kana and Chinese characters
)
_LANGUAGES = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh", "HANGUL": "ko", "THAI": "th", "DEVANAGARI": "hi", "GREEK": "el",
    "ARABIC": "ar",
}  # fmt: skip
KANA_OF_JAPANESE = 0.1  # of the letters, at least: a sentence without any kana is rare


def language_of_script(text: str) -> str | None:
    """The language whose script most of a text is in; None where several languages share that script.

    A letter of a script of its own counts as much as a word of the others.

    >>> language_of_script("今天天气很好"), language_of_script("今日は天気がいい"), language_of_script("hello")
    ('zh', 'ja', None)
    """
    scripts: Counter[str | None] = Counter()
    for word in re.findall(r"[^\W\d_]+", text):
        found = [_LANGUAGES.get(unicodedata.name(letter, "").partition(" ")[0]) for letter in word]
        scripts.update(language for language in found if language is not None)
        scripts[None] += all(language is None for language in found)
    if not scripts.total():
        return None
    if scripts["ja"] >= KANA_OF_JAPANESE * scripts.total():
        scripts["ja"] += scripts.pop("zh", 0)
    return scripts.most_common(1)[0][0]


def written_units(text: str) -> list[tuple[int, int]]:
    """Where the words of a text lie, by its characters; one of a language without spaces is a word.

    Punctuation belongs to the word before it.

    >>> [text[a:b] for text in ("开 the door，好。",) for a, b in written_units(text)]
    ['开', 'the', 'door，', '好。']
    """
    units: list[tuple[int, int]] = []
    before = " "
    for place, letter in enumerate(text):
        if not letter.isspace():
            marks = unicodedata.category(letter)[0] in "PM"
            apart = bool(WRITTEN_BY_CHARACTER.match(letter) or WRITTEN_BY_CHARACTER.match(before))
            closed = bool(units) and unicodedata.category(text[units[-1][1] - 1])[0] == "P"
            after_mark = closed and bool(WRITTEN_BY_CHARACTER.match(text[units[-1][0]]))
            if before.isspace() or (not marks and (apart or after_mark)):
                units.append((place, place + 1))
            else:
                units[-1] = (units[-1][0], place + 1)
        before = letter
    return units
