"""English, written as editors do.

One to nine stay words in running prose, and become digits with a unit, a symbol, a date, a time, an address or a
label; "one", "second", "may", "point" and their like are left alone where they are no number.
"""

from __future__ import annotations

from collections.abc import Sequence

from fun_asr.text.itn.english import (
    addresses,
    arithmetic,
    clock,
    dates,
    electronic,
    fractions,
    idioms,
    indian,
    labels,
    letters,
    names,
    prices,
    quantities,
    telephone,
)
from fun_asr.text.itn.english.lexicon import DECADES, MONTHS, NUMBER_WORDS, ORDINALS, THOUSANDS, WEEKDAYS, word_set
from fun_asr.text.itn.english.sentence import Rule, Sentence, apply
from fun_asr.text.itn.spans import Written

__all__ = ["rewrite"]

_SPLIT = NUMBER_WORDS | ORDINALS.keys() | DECADES.keys()

_SCALES = THOUSANDS | indian.UNITS_OF_COUNT

_SCHEMES = ("http", "https")

_STARTS = frozenset(
    (
        *_SPLIT,
        *MONTHS,
        *WEEKDAYS,
        *names.STARTS,
        *idioms.STARTS,
        *labels.STARTS,
        *word_set("half quarter minus negative plus point double triple star www mp usb html css"),
    )
)

_RULES: tuple[Rule, ...] = (
    idioms.idiom,
    names.phrase,
    names.title,
    names.junior,
    electronic.email,
    electronic.url,
    electronic.ip_address,
    dates.month_day,
    dates.day_of_month,
    dates.weekday_date,
    dates.era,
    dates.year_range,
    addresses.house_number,
    clock.relative,
    clock.clock_range,
    clock.military,
    indian.indian,
    quantities.seconds,
    quantities.age,
    quantities.height,
    quantities.money,
    quantities.coin_money,
    quantities.percent,
    quantities.measure,
    labels.label,
    telephone.international,
    telephone.toll_free,
    telephone.star,
    telephone.telephone,
    prices.price,
    arithmetic.arithmetic,
    letters.generation,
    letters.code,
    letters.acronym,
    letters.single,
    labels.version,
    fractions.mixed,
    fractions.fraction,
    clock.clock,
    dates.decade,
    dates.year,
    quantities.plain_range,
    quantities.plain_ordinal,
    telephone.digits,
    telephone.compound,
    quantities.plain,
)
"""Where two matches are equally long, the earlier rule's is taken."""


def rewrite(words: Sequence[str]) -> list[Written]:
    """Words as written tokens with the words they stand for."""
    written = _pass(words)
    # What one rule writes may be what another waits for ("doctor june one"): only then is a second pass without effect.
    for _ in words:
        before = [text for text, _ in written]
        again = _pass(before)
        if len(again) == len(before) and all(text == old for (text, _), old in zip(again, before, strict=True)):
            break
        written = [(text, (written[start][1][0], written[end - 1][1][1])) for text, (start, end) in again]
    return written


def _pass(words: Sequence[str]) -> list[Written]:
    return apply(Sentence(words, _SPLIT.__contains__, _SCALES), _RULES, _starts)


def _starts(sentence: Sentence, i: int) -> bool:
    """Whether any rule can begin at a token, found without asking all of them."""
    word = sentence.word(i)
    return word in _STARTS or (len(word) == 1 and word.isalpha()) or "dot" in sentence.lowers or word in _SCHEMES
