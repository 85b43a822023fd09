"""What the page's cards show: charts with a title and a note."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fun_asr.scoring.bootstrap import PairedTest
from fun_asr.scoring.page.charts import Bar, Chart, Point, Rate, bars, histogram, rates, rates_against, shares
from fun_asr.scoring.summary import GROUPINGS, Comparison, Group, Summary, find_groups, rate_interval
from fun_asr.scoring.wer import Confusions, Total, UtteranceScore, add_up

__all__ = ["Card", "confusion_charts", "in_columns", "make_cards", "unit_name"]

_MOST_GROUPS = 20
_MOST_CONFUSED = 10
_MOST_POINTS = 1_500
_CARD_HEIGHT = 140.0
"""Of what is around a chart."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A chart and what stands around it."""

    title: str
    chart: Chart
    note: str = ""
    legend: Sequence[Bar] = ()
    """Kinds of words, to be shown with their share of the reference; the last is what the chart leaves out."""
    test: PairedTest | None = None
    """What came of the comparison of two systems."""


def make_cards(summary: Summary, name: str) -> list[Card]:
    """All of a summary.

    Arguments:
        summary: what to show.
        name: of the error rate.
    """
    cards = [_error_types(summary), _spread(summary.score.utterances, name)]
    if summary.comparison:
        cards.append(_comparison(summary, summary.comparison, name))
    return [*cards, *_group_cards(summary, name), *_against_cards(summary, name)]


def in_columns(cards: Sequence[Card]) -> tuple[list[Card], list[Card]]:
    """The cards in two columns, the first on the left, of heights as equal as their charts tell."""
    heights = [_CARD_HEIGHT + card.chart.height for card in cards]
    # A handful of cards: each division can be tried.
    divisions = itertools.product((True, False), repeat=len(cards) - 1)
    best = min(
        ((True, *division) for division in divisions),
        key=lambda on_left: abs(sum(h if left else -h for h, left in zip(heights, on_left, strict=True))),
    )
    left = [card for card, on_left in zip(cards, best, strict=True) if on_left]
    return left, [card for card, on_left in zip(cards, best, strict=True) if not on_left]


def unit_name(summary: Summary) -> str:
    """What errors are counted in."""
    return {"words": "word", "characters": "character", "mixed": "token"}[summary.score.unit]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _error_types(summary: Summary) -> Card:
    counts = summary.total.counts
    kinds = [
        Bar(label=label, value=value, text=f"{value:,}", style=style)
        for label, value, style in (
            ("Substituted", counts.substitutions, "substitution"),
            ("Deleted", counts.deletions, "deletion"),
            ("Inserted", counts.insertions, "insertion"),
            ("Correct", counts.hits, "correct"),
        )
    ]
    return Card(title="What kind of errors", chart=shares(kinds[:-1], "Errors by kind"), legend=kinds)


def _spread(utterances: Sequence[UtteranceScore], name: str) -> Card:
    edges = [0.0, 0.1, 0.2, 0.3, 0.5, 1.0, float("inf")]
    labels = ["none", "to 10 %", "to 20 %", "to 30 %", "to 50 %", "to 100 %", "more"]
    numbers = Counter(bisect_left(edges, u.counts.errors / max(u.counts.reference, 1)) for u in utterances)
    columns = [
        Bar(label=label, value=numbers[place], text=f"{numbers[place]:,}", style="correct" if not place else "accent")
        for place, label in enumerate(labels)
    ]
    worst = sorted((utterance.counts.errors for utterance in utterances), reverse=True)
    total, half, reached = sum(worst), 0, 0
    while total and 2 * reached < total:
        reached += worst[half]
        half += 1
    note = (
        f"Half of all errors are in {_counted(half, 'utterance')} ({100 * half / len(worst):.1f} %)." if total else ""
    )
    chart = histogram(columns, f"Utterances by their {name}")
    return Card(title="How errors spread over utterances", chart=chart, note=note)


def _comparison(summary: Summary, comparison: Comparison, name: str) -> Card:
    rows = [
        Rate(
            name=label,
            rate=total.counts.error_rate or 0.0,
            interval=spread,
            note=_counted(total.counts.errors, "error"),
            style=style,
        )
        for label, total, spread, style in (
            ("System 1", comparison.first, summary.interval, ""),
            ("System 2", comparison.second, comparison.interval, "second"),
        )
    ]
    note = f"{name} over {_counted(comparison.first.counts.reference, unit_name(summary))}; paired bootstrap."
    if comparison.matched:
        matched = comparison.matched
        note += f" Matched pairs (MAPSSWE): p = {matched.p_value:.3f} of {_counted(matched.segments, 'segment')}."
    return Card(title="Two systems", chart=rates(rows, None, "Two systems"), note=note, test=comparison.test)


def _group_cards(summary: Summary, name: str) -> list[Card]:
    cards = []
    unit = unit_name(summary)
    drawn: list[list[Total]] = []
    for grouping in GROUPINGS:
        groups = [
            group
            for group in find_groups(summary.score.utterances, grouping, summary.bootstrap, most=_MOST_GROUPS)
            if group.total.counts.reference
        ]
        totals = [group.total for group in groups]
        # Often each set is a corpus.
        if len(groups) < 2 or totals in drawn:
            continue
        drawn.append(totals)
        largest: list[Group] = sorted(groups, key=lambda group: -group.total.counts.reference)[:_MOST_GROUPS]
        largest.sort(key=lambda group: -(group.total.counts.error_rate or 0.0))
        rows = [
            Rate(
                name=group.name,
                rate=group.total.counts.error_rate or 0.0,
                interval=group.interval,
                note=_counted(group.total.counts.reference, unit),
            )
            for group in largest
        ]
        note = "Dots: error rate. Lines: 95 % interval. Dashed: all together."
        if len(largest) < len(groups):
            note = f"The {len(largest)} of {len(groups)} with the most {unit}s. {note}"
        chart = rates(rows, summary.total.counts.error_rate, f"{name} by {grouping}")
        cards.append(Card(title=f"{name} by {grouping}", chart=chart, note=note))
    return cards


def _against_cards(summary: Summary, name: str) -> list[Card]:
    def duration(utterance: UtteranceScore) -> float | None:
        return utterance.reference.duration or (utterance.hypothesis and utterance.hypothesis.duration) or None

    def confidence(utterance: UtteranceScore) -> float | None:
        return utterance.hypothesis.confidence if utterance.hypothesis else None

    def length(utterance: UtteranceScore) -> float | None:
        return utterance.counts.reference or None

    cards = []
    timed = _against(summary, f"{name} against duration", duration, "seconds", logarithmic=True)
    timed = timed or _against(summary, f"{name} against length", length, f"{unit_name(summary)}s", logarithmic=True)
    note = "Marks: utterances of like length together, with 95 % intervals. Faint: single ones; red: above the scale."
    if timed:
        cards.append(Card(title=f"{name} against length", chart=timed, note=note))
    sure = _against(
        summary, f"{name} against confidence", confidence, "confidence", expected=lambda value: max(0.0, 1 - value)
    )
    if sure:
        note = "Dashed: what the confidence promises, an error rate of 1 − confidence."
        cards.append(Card(title=f"{name} against confidence", chart=sure, note=note))
    return cards


def _against(
    summary: Summary,
    label: str,
    value_of: Callable[[UtteranceScore], float | None],
    x_label: str,
    *,
    logarithmic: bool = False,
    expected: Callable[[float], float] | None = None,
) -> Chart | None:
    """A chart of error rates over a quantity; None where too few utterances have it."""
    valued = [
        (value, utterance)
        for utterance in summary.score.utterances
        if utterance.counts.reference and (value := value_of(utterance)) is not None
    ]
    if len({value for value, _ in valued}) < 3:
        return None
    valued.sort(key=lambda pair: pair[0])
    number = max(1, min(8, len(valued) // 15))
    bins = []
    for place in range(number):
        members = valued[place * len(valued) // number : (place + 1) * len(valued) // number]
        utterances = [utterance for _, utterance in members]
        rate = add_up(utterances).counts.error_rate or 0.0
        title = f"{members[0][0]:.3g} to {members[-1][0]:.3g} {x_label}: {100 * rate:.1f} %, {len(members)} utterances"
        middle = sum(value for value, _ in members) / len(members)
        bins.append(Point(x=middle, rate=rate, title=title, interval=rate_interval(utterances, summary.bootstrap)))
    step = max(1, len(valued) // _MOST_POINTS)
    points = [
        Point(
            x=value,
            rate=utterance.counts.errors / utterance.counts.reference,
            title=f"{utterance.reference.id}: {utterance.counts.errors} of {utterance.counts.reference}",
        )
        for value, utterance in valued[::step]
    ]
    return rates_against(points, bins, label, x_label=x_label, logarithmic=logarithmic, expected=expected)


def confusion_charts(found: Confusions) -> list[tuple[str, Chart]]:
    """The most frequent errors of each kind, with the style of its mark."""
    charts = []
    for title, counter, style in (
        ("Substituted", {f"{a} → {b}": n for (a, b), n in found.substitutions.items()}, "substitution"),
        ("Deleted", found.deletions, "deletion"),
        ("Inserted", found.insertions, "insertion"),
    ):
        rows = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CONFUSED]
        if rows:
            chart = bars([Bar(label=text, value=n, text=str(n), style=style) for text, n in rows], title)
            charts.append((style, chart))
    return charts
