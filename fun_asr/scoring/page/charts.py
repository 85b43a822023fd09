"""Charts as inline SVG; colours are the page's classes, so that they follow its light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from fun_asr.scoring.bootstrap import Interval

__all__ = ["Bar", "Point", "Rate", "bars", "histogram", "rates", "rates_against", "shares"]

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


def _svg(height: float, parts: Iterable[str], label: str) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, style: str, title: str, radius: float = 3) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" class="{style}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _circle(x: float, y: float, radius: float, style: str, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{style}"><title>{escape(title)}</title></circle>'


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


def rates(rows: Sequence[Rate], overall: float | None, label: str) -> str:
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
        title = f"{row.name}: {100 * row.rate:.2f} %{spread}, {row.note}"
        parts.append(
            f"<g><title>{escape(title)}</title>"
            + _text(left - 12, y + 4, _shortened(row.name, 18), "name", "end")
            + _text(_WIDTH, y + 4, row.note, "tick", "end")
        )
        if row.interval:
            parts.append(_line(place(row.interval.low), y, place(row.interval.high), y, f"whisker {row.style}"))
        parts.append(
            f'<circle cx="{place(row.rate):.1f}" cy="{y:.1f}" r="5" class="dot {row.style}"/>'
            + _text(right + 8, y + 4, f"{100 * row.rate:.1f}", "value")
            + "</g>"
        )
    return _svg(bottom + 24, parts, label)


def shares(parts: Sequence[Bar], label: str) -> str:
    """One bar, divided."""
    total = sum(part.value for part in parts) or 1
    height, x, drawn = 30.0, 0.0, []
    for part in parts:
        width = _WIDTH * part.value / total
        if part.value:
            drawn.append(_rect(x, 0, max(width - 2, 1.5), height, part.style, f"{part.label}: {part.text}", 4))
        x += width
    return _svg(height, drawn, label)


def bars(rows: Sequence[Bar], label: str) -> str:
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
        drawn += [
            f"<g><title>{escape(f'{row.label}: {row.text}')}</title>",
            _text(names - 14, y + 23, _shortened(row.label, 23), "name", "end"),
            _rect(names, y + 6, max(width, 2), row_height - 12, row.style, f"{row.label}: {row.text}"),
            _text(names + width + 10, y + 23, row.text, "value"),
            "</g>",
        ]
    return _svg(row_height * len(rows), drawn, label)


def histogram(columns: Sequence[Bar], label: str) -> str:
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
    return _svg(top + height + 24, drawn, label)


def rates_against(
    points: Sequence[Point],
    bins: Sequence[Point],
    label: str,
    *,
    x_label: str,
    logarithmic: bool = False,
    expected: Callable[[float], float] | None = None,
) -> str:
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
        path = " ".join(f"{across(edge):.1f},{up(expected(edge)):.1f}" for edge in shown)
        drawn.append(f'<polyline points="{path}" class="expected"/>')
    drawn += [
        _circle(across(p.x), up(p.rate), 2.5, "faint" if p.rate <= y_ticks[-1] else "faint over", p.title)
        for p in points
    ]
    path = " ".join(f"{across(p.x):.1f},{up(p.rate):.1f}" for p in bins)
    drawn.append(f'<polyline points="{path}" class="trend"/>')
    for point in bins:
        x = across(point.x)
        if point.interval:
            drawn.append(_line(x, up(point.interval.low), x, up(point.interval.high), "whisker"))
        drawn.append(_circle(x, up(point.rate), 5, "dot", point.title))
    return _svg(bottom + 40, drawn, label)


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside or [low]
