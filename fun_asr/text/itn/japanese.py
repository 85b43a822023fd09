"""Japanese: numbers from ten on and before counters, decimals, percentages, fractions, dates, times, digits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fun_asr.text.itn.cjk import Pattern, amount, decimal, replace, spelled
from fun_asr.text.itn.spans import Written

__all__ = ["rewrite"]

_FIGURE = "〇零一二三四五六七八九"
_NUMERAL = "[〇零一二三四五六七八九十百千万億兆]"
_IDIOMS = "(?<![二三四五時])十分(?!の)|千葉|八百屋|八百長|万一|百合|十字|千代|一万歩|百貨店|三十三間堂"
_UNITS = "人(?![生間気類口])|歳|匹|個|枚|台|冊|円|ドル|ユーロ|キロ|メートル|センチ|グラム|パーセント|度"


def rewrite(words: Sequence[str]) -> list[Written]:
    """Words as written tokens with the words they stand for."""
    return replace(words, _PATTERNS)


def _number(numeral: str) -> str | None:
    """Digits of a numeral; 万, 億 and 兆 stay characters, as newspapers write them."""
    if not set(numeral) & set("十百千万億兆"):
        return spelled(numeral)
    value = amount(numeral)
    if value is None:
        return None
    written = ""
    for name, size in (("兆", 10**12), ("億", 10**8), ("万", 10**4)):
        if value >= size:
            written += f"{value // size}{name}"
            value %= size
    return written + str(value) if value or not written else written


def _fraction(match: re.Match[str]) -> str | None:
    below, above = _number(match[1]), _number(match[2])
    return None if below is None or above is None else f"{below}分の{above}"


def _clock(match: re.Match[str]) -> str | None:
    hour, minute = _number(match[1]), _number(match[2]) if match[2] else ""
    return None if hour is None or minute is None else f"{hour}時{minute}{match[3]}"


def _year(match: re.Match[str]) -> str | None:
    value = amount(match[1]) if set(match[1]) & set("十百千") else int(spelled(match[1]))
    return None if value is None else f"{value}年"


def _small(match: re.Match[str]) -> str | None:
    number = None if match[0] in ("一人", "二人") else _number(match[1])
    return None if number is None else number + match[2]


def _large(match: re.Match[str]) -> str | None:
    numeral = match[1]
    if set(numeral) <= set("百千万億兆") or (len(numeral) < 2 and numeral != "十"):
        return None
    if not set(numeral) & set("十百千万億兆") and len(numeral) < 3:
        return None
    return _number(numeral)


def _digits(match: re.Match[str]) -> str:
    return spelled(match[0].replace("ゼロ", "零"))


_PATTERNS: tuple[Pattern, ...] = (
    (re.compile(_IDIOMS), lambda match: match[0]),
    (re.compile(rf"([{_FIGURE}]{{4}}|{_NUMERAL}{{2,}})年"), _year),
    (re.compile(rf"({_NUMERAL}+)(?:点([{_FIGURE}]+))?パーセント"), decimal(_number, "%")),
    (re.compile(rf"({_NUMERAL}+)分の({_NUMERAL}+)"), _fraction),
    (re.compile(rf"({_NUMERAL}+)時({_NUMERAL}+)(分)"), _clock),
    (re.compile(rf"({_NUMERAL}+)時()(半|(?![間々代期計]))"), _clock),
    (re.compile(rf"({_NUMERAL}+)点([{_FIGURE}]+)(?![十百千])"), decimal(_number)),
    (re.compile(rf"({_NUMERAL}+)(月(?={_NUMERAL}+日)|{_UNITS})"), _small),
    (re.compile(rf"(?<=月)({_NUMERAL}+)(日)"), _small),
    (re.compile(rf"(?:ゼロ|[{_FIGURE}]){{3,}}(?![十百千万億兆])"), _digits),
    (re.compile(rf"({_NUMERAL}+)"), _large),
)
"""Earlier patterns have precedence."""
