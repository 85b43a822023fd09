"""Charts as elements of SVG; colours are the page's classes, so that they follow its light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fun_asr.scoring.bootstrap import Interval

__all__ = ["Bar", "Chart", "Point", "Rate", "bars", "histogram", "rates", "rates_against", "shares"]

_WIDTH = 560


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A row of a chart of error rates."""

    name: str
    rate: float
    """A fraction, as all rates here."""
    interval: Interval | None
    note: str
    """How much the rate rests on."""
    style: str = ""
    """A further class of its mark."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of a bar chart."""

    label: str
    value: float
    text: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """An utterance, or several put together, in a scatter plot."""

    x: float
    rate: float
    title: str
    interval: Interval | None = None


@dataclass(frozen=True)
class Element:
    """An element of SVG; the page's templates write it."""

    tag: str
    attributes: Mapping[str, str]
    title: str = ""
    text: str = ""
    children: Sequence[Element] = ()


@dataclass(frozen=True)
class Chart:
    """A whole drawing."""

    height: float
    elements: Sequence[Element]
    label: str
    """What it shows, for who cannot see it."""
    width: ClassVar = _WIDTH


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Element:
    return Element("line", _places(x1=x1, y1=y1, x2=x2, y2=y2) | {"class": style})


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> Element:
    return Element("text", _places(x=x, y=y) | {"text-anchor": anchor, "class": style}, text=text)


def _rect(x: float, y: float, width: float, height: float, style: str, title: str, radius: float = 3) -> Element:
    place = _places(x=x, y=y, width=width, height=height)
    return Element("rect", place | {"rx": f"{radius:g}", "class": style}, title)


def _circle(x: float, y: float, radius: float, style: str, title: str = "") -> Element:
    return Element("circle", _places(cx=x, cy=y) | {"r": f"{radius:g}", "class": style}, title)


def _curve(places: Iterable[tuple[float, float]], style: str) -> Element:
    return Element("polyline", {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in places), "class": style})


def _places(**values: float) -> dict[str, str]:
    return {name: f"{value:.1f}" for name, value in values.items()}


def _ticks(highest: float, most: int = 5) -> list[float]:
    """From 0 in steps of 1, 2 or 5 times a power of ten, the last at or above the highest value."""
    highest = highest or 0.01
    magnitude = 10.0 ** math.floor(math.log10(highest / most))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor * most >= highest)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def rates(rows: Sequence[Rate], overall: float | None, label: str) -> Chart:
    """A dot and an interval for each row, and a dashed line at the overall rate."""
    left, right, row_height, top = 150.0, 430.0, 27.0, 8.0
    highest = max(row.rate for row in rows)
    ends = [row.interval.high for row in rows if row.interval] + [highest, overall or 0.0]
    # A group of three words may have an interval that would crush all others.
    ticks = _ticks(min(max(ends), 2 * highest or 0.01))
    bottom = top + row_height * len(rows)

    def place(rate: float) -> float:
        return left + (right - left) * min(rate / ticks[-1], 1.0)

    parts = [_line(place(tick), top, place(tick), bottom, "grid") for tick in ticks]
    parts += [_text(place(tick), bottom + 16, _percent(tick), "tick", "middle") for tick in ticks]
    if overall is not None:
        parts.append(_line(place(overall), top - 4, place(overall), bottom, "overall"))
    for number, row in enumerate(rows):
        y = top + row_height * (number + 0.5)
        spread = f", {_percent(row.interval.low)} to {_percent(row.interval.high)}" if row.interval else ""
        marks = [
            _text(left - 12, y + 4, _shortened(row.name, 18), "name", "end"),
            _text(_WIDTH, y + 4, row.note, "tick", "end"),
        ]
        if row.interval:
            marks.append(_line(place(row.interval.low), y, place(row.interval.high), y, f"whisker {row.style}"))
        marks += [
            _circle(place(row.rate), y, 5, f"dot {row.style}"),
            _text(right + 8, y + 4, f"{100 * row.rate:.1f}", "value"),
        ]
        title = f"{row.name}: {100 * row.rate:.2f} %{spread}, {row.note}"
        parts.append(Element("g", {}, title, children=marks))
    return Chart(bottom + 24, parts, label)


def shares(parts: Sequence[Bar], label: str) -> Chart:
    """One bar, divided."""
    total = sum(part.value for part in parts) or 1
    height, x, drawn = 30.0, 0.0, []
    for part in parts:
        width = _WIDTH * part.value / total
        if part.value:
            drawn.append(_rect(x, 0, max(width - 2, 1.5), height, part.style, f"{part.label}: {part.text}", 4))
        x += width
    return Chart(height, drawn, label)


def bars(rows: Sequence[Bar], label: str) -> Chart:
    """Horizontal bars that start beside their labels.

    Arguments:
        rows: at least one.
        label: what is shown.
    """
    names, row_height = 250.0, 34.0
    highest = max(row.value for row in rows) or 1
    drawn = []
    for number, row in enumerate(rows):
        y = row_height * number
        width = (_WIDTH - names - 70) * row.value / highest
        title = f"{row.label}: {row.text}"
        marks = [
            _text(names - 14, y + 23, _shortened(row.label, 23), "name", "end"),
            _rect(names, y + 6, max(width, 2), row_height - 12, row.style, title),
            _text(names + width + 10, y + 23, row.text, "value"),
        ]
        drawn.append(Element("g", {}, title, children=marks))
    return Chart(row_height * len(rows), drawn, label)


def histogram(columns: Sequence[Bar], label: str) -> Chart:
    """Columns with their values on top."""
    top, height, gap = 22.0, 150.0, 8.0
    highest = max(column.value for column in columns) or 1
    width = _WIDTH / len(columns)
    drawn = [_line(0, top + height, _WIDTH, top + height, "axis")]
    for number, column in enumerate(columns):
        tall = height * column.value / highest
        x = width * number
        if column.value:
            title = f"{column.label}: {column.text}"
            drawn.append(_rect(x + gap / 2, top + height - tall, width - gap, tall, column.style, title))
        drawn.append(_text(x + width / 2, top + height - tall - 6, column.text, "value", "middle"))
        drawn.append(_text(x + width / 2, top + height + 17, column.label, "tick", "middle"))
    return Chart(top + height + 24, drawn, label)


def rates_against(
    points: Sequence[Point],
    bins: Sequence[Point],
    label: str,
    *,
    x_label: str,
    logarithmic: bool = False,
    expected: Callable[[float], float] | None = None,
) -> Chart:
    """Error rates over a quantity: faint points for utterances, marks with intervals for bins of them.

    Arguments:
        points: utterances; those above the scale are drawn at its edge.
        bins: several utterances each, in rising order.
        label: what is shown.
        x_label: the quantity and its unit.
        logarithmic: scale of the quantity, which is then above 0.
        expected: the rate that is to be expected at a value, drawn as a dashed line.
    """
    left, right, top, bottom = 46.0, _WIDTH - 10.0, 10.0, 220.0
    rated = bins or points
    highest = max(max(point.interval.high if point.interval else point.rate for point in rated), 0.01)
    y_ticks = _ticks(min(1.5 * highest, 3 * max(point.rate for point in rated) or 0.01))
    values = [point.x for point in (*points, *bins)]
    low, high = min(values), max(values)
    if logarithmic:
        x_ticks = _log_ticks(low, high)
    else:
        x_ticks = [tick for tick in _ticks(high, 10) if tick >= low - (high - low) / 4]
        low, high = min(low, x_ticks[0]), max(high, x_ticks[-1])

    def across(value: float) -> float:
        if logarithmic:
            return left + (right - left) * math.log(value / low) / (math.log(high / low) or 1.0)
        return left + (right - left) * (value - low) / ((high - low) or 1.0)

    def up(rate: float) -> float:
        return bottom - (bottom - top) * min(rate / y_ticks[-1], 1.0)

    drawn = [_line(left, up(tick), right, up(tick), "grid") for tick in y_ticks]
    drawn += [_text(left - 8, up(tick) + 4, _percent(tick), "tick", "end") for tick in y_ticks]
    drawn += [_text(across(tick), bottom + 17, f"{tick:.4g}", "tick", "middle") for tick in x_ticks]
    drawn.append(_text(right, bottom + 34, x_label, "tick", "end"))
    if expected:
        edges = [low + (high - low) * step / 60 for step in range(61)]
        shown = [edge for edge in edges if expected(edge) <= y_ticks[-1]]
        drawn.append(_curve(((across(edge), up(expected(edge))) for edge in shown), "expected"))
    drawn += [
        _circle(across(p.x), up(p.rate), 2.5, "faint" if p.rate <= y_ticks[-1] else "faint over", p.title)
        for p in points
    ]
    drawn.append(_curve(((across(p.x), up(p.rate)) for p in bins), "trend"))
    for point in bins:
        x = across(point.x)
        if point.interval:
            drawn.append(_line(x, up(point.interval.low), x, up(point.interval.high), "whisker"))
        drawn.append(_circle(x, up(point.rate), 5, "dot", point.title))
    return Chart(bottom + 40, drawn, label)


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside or [low]
