"""Chinese: numbers from ten on, decimals, percentages, fractions, dates, times and strings of digits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fun_asr.text.itn.cjk import Pattern, amount, decimal, replace, spelled
from fun_asr.text.itn.spans import Written

__all__ = ["rewrite"]

_FIGURE = "零〇一二三四五六七八九"
_NUMERAL = "[零〇一二两三四五六七八九十百千万亿]"
_IDIOMS = "(?<![二三四五])十分|千万[不别要]|万一|一一|万分|百般|三三两两|七七八八|乱七八糟|十全十美|一五一十"
_UNITS = "块钱|块|元|美元|美金|欧元|日元|英镑|港币|港元|人民币|公里|千米|公斤|千克|厘米|毫米|平方米|摄氏度|毫升"


def rewrite(words: Sequence[str]) -> list[Written]:
    """Words as written tokens with the words they stand for."""
    return replace(words, _PATTERNS)


def _number(numeral: str) -> str | None:
    """Digits of a numeral; a round number of 亿 keeps the character."""
    if not set(numeral) & set("十百千万亿"):
        return spelled(numeral) if len(numeral) == 1 and numeral != "两" else "2" if numeral == "两" else None
    value = amount(numeral)
    if value is None:
        return None
    if value >= 10**8 and value % 10**6 == 0:
        return f"{value / 10**8:g}亿"
    if value >= 10**4 and value % 10**3 == 0:
        return f"{value / 10**4:g}万"
    return str(value)


def _fraction(match: re.Match[str]) -> str | None:
    below, above = _number(match[1]), _number(match[2])
    return None if below is None or above is None else f"{above}/{below}"


def _clock(match: re.Match[str]) -> str | None:
    hour = _number(match[1])
    minute = _number(match[3].lstrip("零〇")) if match[3] else None
    if hour is None or (match[3] and minute is None):
        return None
    return f"{hour}{match[2]}{match[4] if not match[3] else minute + match[4] if minute else ''}"


def _small(match: re.Match[str]) -> str | None:
    number = _number(match[1])
    return None if number is None else number + match[2]


def _large(match: re.Match[str]) -> str | None:
    numeral = match[2]
    if len(numeral) < 2 and numeral != "十":
        return None
    number = _number(numeral)
    if number is None or set(numeral) <= set("百千万亿"):
        return None
    return ("-" if match[1] else "") + number


_PATTERNS: tuple[Pattern, ...] = (
    (re.compile(_IDIOMS), lambda match: match[0]),
    (re.compile(rf"([{_FIGURE}]{{4}}|[{_FIGURE}]{{2}})年"), lambda match: spelled(match[1]) + "年"),
    (re.compile(rf"百分之({_NUMERAL}+)(?:点([{_FIGURE}]+))?"), decimal(_number, "%")),
    (re.compile(rf"({_NUMERAL}+)分之({_NUMERAL}+)"), _fraction),
    (re.compile(rf"({_NUMERAL}+)(点|时)()(半|整|一刻|三刻)"), _clock),
    (re.compile(rf"({_NUMERAL}+)(点|时)({_NUMERAL}+)(分)"), _clock),
    (re.compile(rf"({_NUMERAL}+)点([{_FIGURE}]+)(?![十百千])"), decimal(_number)),
    (re.compile(rf"(?<=[上下中]午|[早晚]上|凌晨|傍晚)({_NUMERAL}{{1,3}})(点)"), _small),
    (re.compile(rf"({_NUMERAL}+)(月(?=[{_FIGURE}十]+[日号])|{_UNITS})"), _small),
    (re.compile(rf"(?<=月)({_NUMERAL}+)([日号])"), _small),
    (re.compile(rf"([{_FIGURE}幺]{{3,}})(?![十百千万亿])"), lambda match: spelled(match[1])),
    (re.compile(rf"(负?)({_NUMERAL}+)"), _large),
)
"""Earlier patterns have precedence."""
