"""The report to look at: one HTML page that needs nothing beside it but, to be heard, the recordings."""

from __future__ import annotations

import itertools
import json
import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from fun_asr.scoring.page.charts import Bar, Point, Rate, bars, histogram, rates, rates_against, shares
from fun_asr.scoring.report import rate_name
from fun_asr.scoring.summary import GROUPINGS, Group, Summary, find_groups, rate_interval
from fun_asr.scoring.wer import Total, UtteranceScore, add_up

__all__ = ["render_page"]

_MOST_UTTERANCES = 20_000
"""In the table: those with the most errors."""
_MOST_GROUPS = 20
_MOST_CONFUSED = 10
_MOST_POINTS = 1_500
_CARD_HEIGHT = 140.0
"""Of what is around a chart."""
_NAMES = {"WER": "Word error rate", "CER": "Character error rate"}


def render_page(summary: Summary, folder: Path, *, title: str) -> str:
    """The page.

    Arguments:
        summary: what to report.
        folder: where the page will be; recordings are named from there.
        title: what was scored.
    """
    name = rate_name(summary.score)
    sections = [
        _card("What kind of errors", _error_types(summary)),
        _card("How errors spread over utterances", _spread(summary.score.utterances, name)),
    ]
    if summary.comparison:
        sections.append(_card("Two systems", _comparison(summary, name)))
    sections += [*_group_cards(summary, name), *_against_cards(summary, name)]
    left, right = _columns(sections)
    resources = files(__package__)
    return Template(resources.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=resources.joinpath("page.css").read_text(encoding="utf-8"),
        script=resources.joinpath("page.js").read_text(encoding="utf-8"),
        hero=_hero(summary, name),
        left="\n".join(left),
        right="\n".join(right),
        confusions=_confusions(summary),
        data=_script_json(_table(summary, folder, name)),
        table_note=escape(_table_note(summary)),
    )


def _script_json(value: Any) -> str:
    # A script element ends at the first </script, wherever it stands.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _card(title: str, content: str, *, note: str = "") -> str:
    small = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section class="card"><h2>{escape(title)}</h2>{content}{small}</section>'


def _columns(cards: Sequence[str]) -> tuple[list[str], list[str]]:
    """The cards in two columns, the first on the left, of heights as equal as their charts tell."""
    charts = [re.search(r'viewBox="0 0 \d+ ([\d.]+)"', card) for card in cards]
    heights = [_CARD_HEIGHT + (float(chart[1]) if chart else 0.0) for chart in charts]
    # A handful of cards: each division can be tried.
    divisions = itertools.product((True, False), repeat=len(cards) - 1)
    best = min(
        ((True, *division) for division in divisions),
        key=lambda on_left: abs(sum(h if left else -h for h, left in zip(heights, on_left, strict=True))),
    )
    left = [card for card, on_left in zip(cards, best, strict=True) if on_left]
    return left, [card for card, on_left in zip(cards, best, strict=True) if not on_left]


def _percent(rate: float | None, digits: int = 2) -> str:
    return "–" if rate is None else f"{100 * rate:.{digits}f}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _unit(summary: Summary) -> str:
    return {"words": "word", "characters": "character", "mixed": "token"}[summary.score.unit]


def _hero(summary: Summary, name: str) -> str:
    total = summary.total
    seconds = [u.reference.duration for u in summary.score.utterances if u.reference.duration is not None]
    tiles = [
        ("Sentences with an error", f"{_percent(total.sentence_error_rate, 1)}<small> %</small>"),
        ("Utterances", f"{total.utterances:,}"),
        (f"Reference {_unit(summary)}s", f"{total.counts.reference:,}"),
    ]
    if summary.score.unit == "words":
        tiles.insert(0, ("Character error rate", f"{_percent(total.character_error_rate)}<small> %</small>"))
    if seconds:
        hours, minutes = sum(seconds) / 3600, sum(seconds) / 60
        length = f"{hours:.1f}<small> h</small>" if hours >= 1 else f"{minutes:.1f}<small> min</small>"
        tiles.append(("Speech", length))
    if summary.score.missing:
        tiles.append(("Without a hypothesis", f"{len(summary.score.missing):,}"))
    if summary.weighted:
        tiles.append(("Weighted mean of sets", f"{_percent(summary.weighted.rate)}<small> %</small>"))
    spread = ""
    if summary.interval:
        spread = (
            f'<p class="interval">95 % interval <b>{_percent(summary.interval.low)} – '
            f"{_percent(summary.interval.high)} %</b>, from {summary.bootstrap.replicates:,} bootstrap samples of "
            f"{summary.bootstrap.unit}s</p>"
        )
    boxes = "".join(f'<div class="tile"><dt>{label}</dt><dd>{value}</dd></div>' for label, value in tiles)
    return (
        f'<div class="headline"><p class="what">{_NAMES[name]}</p>'
        f'<p class="big">{_percent(total.counts.error_rate)}<small> %</small></p>{spread}</div>'
        f'<dl class="tiles">{boxes}</dl>'
    )


def _error_types(summary: Summary) -> str:
    counts, unit = summary.total.counts, _unit(summary)
    parts = [
        Bar(label=label, value=value, text=f"{value:,}", style=style)
        for label, value, style in (
            ("Substituted", counts.substitutions, "substitution"),
            ("Deleted", counts.deletions, "deletion"),
            ("Inserted", counts.insertions, "insertion"),
        )
    ]
    rows = "".join(
        f'<tr><td><i class="key {part.style}"></i>{part.label}</td><td>{part.text}</td>'
        f"<td>{_percent(part.value / counts.reference if counts.reference else None)} %</td></tr>"
        for part in parts
    )
    return (
        f'{shares(parts, "Errors by kind")}<table class="legend"><thead><tr><th></th><th>{unit}s</th>'
        f"<th>of the reference</th></tr></thead><tbody>{rows}</tbody>"
        f'<tfoot><tr><td><i class="key correct"></i>Correct</td><td>{counts.hits:,}</td>'
        f"<td>{_percent(counts.hits / counts.reference if counts.reference else None)} %</td></tr></tfoot></table>"
    )


def _spread(utterances: Sequence[UtteranceScore], name: str) -> str:
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
    return histogram(columns, f"Utterances by their {name}") + f'<p class="note">{note}</p>'


def _comparison(summary: Summary, name: str) -> str:
    comparison = summary.comparison
    assert comparison is not None
    unit = _unit(summary)
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
    verdict = ""
    if comparison.test:
        test = comparison.test
        certain = test.p_value < 0.05
        which = "better" if test.difference < 0 else "worse"
        verdict = (
            f'<p class="verdict">System 2 is <b>{which if certain else "not proven different"}</b>: '
            f"{100 * test.difference:+.2f} points ({100 * test.interval.low:+.2f} to {100 * test.interval.high:+.2f}), "
            f"p = {test.p_value:.3f}</p>"
        )
    note = f"{name} over {comparison.first.counts.reference:,} {unit}s; paired bootstrap."
    if comparison.matched:
        matched = comparison.matched
        note += f" Matched pairs (MAPSSWE): p = {matched.p_value:.3f} of {_counted(matched.segments, 'segment')}."
    return rates(rows, None, "Two systems") + verdict + f'<p class="note">{note}</p>'


def _group_cards(summary: Summary, name: str) -> list[str]:
    cards = []
    unit = _unit(summary)
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
        cards.append(_card(f"{name} by {grouping}", chart, note=note))
    return cards


def _against_cards(summary: Summary, name: str) -> list[str]:
    def duration(utterance: UtteranceScore) -> float | None:
        return utterance.reference.duration or (utterance.hypothesis and utterance.hypothesis.duration) or None

    def confidence(utterance: UtteranceScore) -> float | None:
        return utterance.hypothesis.confidence if utterance.hypothesis else None

    def length(utterance: UtteranceScore) -> float | None:
        return utterance.counts.reference or None

    cards = []
    timed = _against(summary, f"{name} against duration", duration, "seconds", logarithmic=True)
    timed = timed or _against(summary, f"{name} against length", length, f"{_unit(summary)}s", logarithmic=True)
    note = "Marks: utterances of like length together, with 95 % intervals. Faint: single ones; red: above the scale."
    if timed:
        cards.append(_card(f"{name} against length", timed, note=note))
    sure = _against(
        summary, f"{name} against confidence", confidence, "confidence", expected=lambda value: max(0.0, 1 - value)
    )
    if sure:
        note = "Dashed: what the confidence promises, an error rate of 1 − confidence."
        cards.append(_card(f"{name} against confidence", sure, note=note))
    return cards


def _against(
    summary: Summary,
    label: str,
    value_of: Callable[[UtteranceScore], float | None],
    x_label: str,
    *,
    logarithmic: bool = False,
    expected: Callable[[float], float] | None = None,
) -> str | None:
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


def _confusions(summary: Summary) -> str:
    found = summary.confusions
    charts = []
    for title, counter, style in (
        ("Substituted", {f"{a} → {b}": n for (a, b), n in found.substitutions.items()}, "substitution"),
        ("Deleted", found.deletions, "deletion"),
        ("Inserted", found.insertions, "insertion"),
    ):
        rows = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CONFUSED]
        if rows:
            chart = bars([Bar(label=text, value=n, text=str(n), style=style) for text, n in rows], title)
            charts.append(f'<div><h3><i class="key {style}"></i>{title}</h3>{chart}</div>')
    if not charts:
        return ""
    return _card("Most frequent errors", f'<div class="columns">{"".join(charts)}</div>')


def _worst(summary: Summary) -> list[UtteranceScore]:
    utterances = summary.score.utterances
    if len(utterances) <= _MOST_UTTERANCES:
        return list(utterances)
    return sorted(utterances, key=lambda utterance: -utterance.counts.errors)[:_MOST_UTTERANCES]


def _table_note(summary: Summary) -> str:
    shown, total = len(_worst(summary)), len(summary.score.utterances)
    return f"The {shown:,} of {total:,} with the most errors. " if shown < total else ""


def _table(summary: Summary, folder: Path, name: str) -> dict[str, Any]:
    """What the page's script shows as a table."""
    rows = []
    for utterance in _worst(summary):
        reference, hypothesis, counts = utterance.reference, utterance.hypothesis, utterance.counts
        audio = reference.audio or (hypothesis and hypothesis.audio)
        rows.append(
            {
                "id": reference.id,
                "speaker": reference.speaker,
                "seconds": reference.duration or (hypothesis and hypothesis.duration),
                "confidence": hypothesis and hypothesis.confidence,
                "counts": [counts.hits, counts.substitutions, counts.deletions, counts.insertions],
                "missing": hypothesis is None,
                "characters": utterance.in_characters,
                "audio": _address(audio, folder) if audio else None,
                "pieces": _pieces(utterance),
            }
        )
    return {"rate": name, "rows": rows}


def _address(path: str, folder: Path) -> str:
    """A recording's address, from the page where both are below one folder, so that they can move together."""
    absolute, home = os.path.abspath(path), os.path.abspath(folder)
    if os.path.commonpath([absolute, home]) == os.path.sep:
        return Path(absolute).as_uri()
    # As an address of a file, so that # and % in names are escaped.
    start = len(Path(os.path.sep).as_uri())
    return Path(os.path.sep, "x", os.path.relpath(absolute, home)).as_uri()[start + 2 :]


def _pieces(utterance: UtteranceScore) -> list[list[str]]:
    """The alignment as [both], [reference, hypothesis], with "" for nothing; equal tokens in one piece."""
    separator = "" if utterance.in_characters else " "
    pieces = []
    for chunk in utterance.alignment:
        left = utterance.reference_tokens[chunk.ref_start_idx : chunk.ref_end_idx]
        right = utterance.hypothesis_tokens[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            pieces.append([separator.join(left)])
        else:
            pieces += [[left[i] if left else "", right[i] if right else ""] for i in range(max(len(left), len(right)))]
    return pieces
