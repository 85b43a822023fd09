"""A summary as text, with Kaldi's lines first and alignments in sclite's form, and as JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fun_asr.scoring.bootstrap import Interval
from fun_asr.scoring.summary import Comparison, Group, Summary
from fun_asr.scoring.wer import Score, Total, UtteranceScore

__all__ = ["alignments", "error_rate_line", "rate_name", "render_text", "to_dict"]

_GAP = "*"


def rate_name(score: Score) -> str:
    """What the error rate is called: CER where all is counted in characters."""
    return "CER" if score.unit == "characters" else "WER"


def render_text(summary: Summary, *, most_confused: int) -> str:
    """The report, its last line ended.

    Arguments:
        summary: what to report.
        most_confused: how many confusions of each kind to list.
    """
    score, total = summary.score, summary.total
    name = rate_name(score)
    missing = len(score.missing)
    lines = [
        error_rate_line(name, total) + " [PARTIAL]" * (score.partial and missing > 0),
        f"%SER {_percent(total.sentence_error_rate)} [ {total.wrong_utterances} / {total.utterances} ]",
        f"Scored {total.utterances} sentences, {missing} not present in hyp.",
    ]
    if summary.interval:
        lines.append(
            f"%{name} {_percent(total.counts.error_rate)} 95% Conf Interval {_interval(summary.interval)}, "
            f"{summary.bootstrap.replicates} bootstrap samples of {summary.bootstrap.unit}s"
        )
    more = [f"%MER {_percent(total.counts.match_error_rate)}", f"%WIL {_percent(total.counts.information_lost)}"]
    if score.unit == "words":
        more.insert(
            0,
            f"%CER {_percent(total.character_error_rate)} [ {total.character_errors} / {total.characters} ]",
        )
    lines.append(", ".join(more))
    if score.unit == "mixed":
        number = sum(utterance.in_characters for utterance in score.utterances)
        lines.append(f"{number} of {total.utterances} sentences are counted in characters, the others in words.")
    if summary.comparison:
        lines += ["", *_comparison(name, summary.comparison, summary.bootstrap.unit)]
    if summary.weighted:
        parts = ", ".join(f"{weight:.4g} {group}" for group, weight in summary.weighted.weights.items())
        spread = f" 95% Conf Interval {_interval(summary.weighted.interval)}" if summary.weighted.interval else ""
        how = "duration-weighted in each" if summary.weighted.within == "duration" else "all words of each"
        lines += ["", f"Weighted %{name} {_percent(summary.weighted.rate)}{spread} ({parts}; {how})"]
    for grouping, groups in summary.groups.items():
        lines += ["", *_table(grouping, name, groups)]
    if most_confused and total.counts.errors:
        lines += ["", *_confusions(summary, most_confused)]
    return "\n".join(lines) + "\n"


def error_rate_line(name: str, total: Total) -> str:
    """Kaldi's line."""
    counts = total.counts
    return (
        f"%{name} {_percent(counts.error_rate)} [ {counts.errors} / {counts.reference}, {counts.insertions} ins, "
        f"{counts.deletions} del, {counts.substitutions} sub ]"
    )


def _percent(rate: float | None) -> str:
    return "nan" if rate is None else f"{100 * rate:.2f}"


def _interval(interval: Interval) -> str:
    return f"[ {_percent(interval.low)}, {_percent(interval.high)} ]"


def _comparison(name: str, comparison: Comparison, unit: str) -> list[str]:
    lines = [f"Set1: {error_rate_line(name, comparison.first)}", f"Set2: {error_rate_line(name, comparison.second)}"]
    if comparison.interval:
        lines[1] += f" 95% Conf Interval {_interval(comparison.interval)}"
    if comparison.test:
        test = comparison.test
        low, high = 100 * test.interval.low, 100 * test.interval.high
        lines += [
            f"Set2 - Set1: {100 * test.difference:+.2f} 95% Conf Interval [ {low:+.2f}, {high:+.2f} ], "
            f"p = {test.p_value:.4f} (paired bootstrap over {unit}s)",
            f"Probability of Set2 improving Set1: {test.probability_of_improvement:.4f}",
        ]
    if comparison.matched:
        matched = comparison.matched
        lines.append(
            f"Matched pairs (MAPSSWE): p = {matched.p_value:.4f}, {matched.mean:+.3f} errors in each of "
            f"{matched.segments} segments"
        )
    return lines


def _table(grouping: str, name: str, groups: Sequence[Group]) -> list[str]:
    width = max(len(grouping), *(len(group.name) for group in groups))
    lines = [
        f"{grouping:<{width}}  {'sent':>7} {'ref':>8} {'%' + name:>8}  {'95% interval':<16} {'ins':>6} {'del':>6} "
        f"{'sub':>6} {'%SER':>7}"
    ]
    for group in groups:
        counts = group.total.counts
        spread = f"{_percent(group.interval.low)}-{_percent(group.interval.high)}" if group.interval else "-"
        lines.append(
            f"{group.name:<{width}}  {group.total.utterances:>7} {counts.reference:>8} "
            f"{_percent(counts.error_rate):>8}  {spread:<16} {counts.insertions:>6} {counts.deletions:>6} "
            f"{counts.substitutions:>6} {_percent(group.total.sentence_error_rate):>7}"
        )
    return lines


def _confusions(summary: Summary, most: int) -> list[str]:
    found = summary.confusions
    kinds: Mapping[str, Iterable[tuple[str, int]]] = {
        "Substitutions": ((f"{left} -> {right}", n) for (left, right), n in _most_common(found.substitutions, most)),
        "Deletions": _most_common(found.deletions, most),
        "Insertions": _most_common(found.insertions, most),
    }
    lines = []
    for kind, rows in kinds.items():
        listed = [f"  {number:>6}  {text}" for text, number in rows]
        if listed:
            lines += [f"{kind}, most frequent first", *listed]
    return lines


def _most_common(counter: Counter[Any], most: int) -> list[tuple[Any, int]]:
    """Ties by name, so that the order does not hang on that of the utterances."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most]


def alignments(utterances: Iterable[UtteranceScore]) -> Iterable[str]:
    """Each utterance in the form of sclite's pra report, its last line ended."""
    for utterance in utterances:
        reference, hypothesis, evaluation = [], [], []
        for left, right in utterance.pairs():
            wrong = left != right
            cells = [left or "", right or ""]
            # sclite knows no case; where case is what is wrong, it must be seen.
            if wrong and cells[0].upper() != cells[1].upper():
                cells = [token.upper() for token in cells]
            width = max(1, *map(_columns, cells))
            letter = "" if not wrong else "I" if left is None else "D" if right is None else "S"
            reference.append(_padded(cells[0] if left is not None else _GAP * width, width))
            hypothesis.append(_padded(cells[1] if right is not None else _GAP * width, width))
            evaluation.append(letter.ljust(width))
        counts = utterance.counts
        yield "\n".join(
            [
                f"id: ({utterance.reference.id})",
                f"Scores: (#C #S #D #I) {counts.hits} {counts.substitutions} {counts.deletions} {counts.insertions}",
                " ".join(["REF: ", *reference]).rstrip(),
                " ".join(["HYP: ", *hypothesis]).rstrip(),
                " ".join(["Eval:", *evaluation]).rstrip(),
                "",
                "",
            ]
        )


def _columns(text: str) -> int:
    """How wide a terminal prints a text."""
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def to_dict(summary: Summary, *, most_confused: int, with_alignments: bool) -> dict[str, Any]:
    """The report for machines; rates are fractions, and None where they are not defined.

    Arguments:
        summary: what to report.
        most_confused: how many confusions of each kind to list.
        with_alignments: whether each utterance is in it.
    """
    score, found = summary.score, summary.confusions
    report: dict[str, Any] = {
        "unit": score.unit,
        **_total(summary.total),
        "interval": _pair(summary.interval),
        "bootstrap": {
            "replicates": summary.bootstrap.replicates,
            "seed": summary.bootstrap.seed,
            "unit": summary.bootstrap.unit,
        },
        "missing": list(score.missing),
        "partial": score.partial,
        "groups": {
            grouping: [{"name": g.name, **_total(g.total), "interval": _pair(g.interval)} for g in groups]
            for grouping, groups in summary.groups.items()
        },
        "confusions": {
            "substitutions": [
                {"reference": left, "hypothesis": right, "count": n}
                for (left, right), n in _most_common(found.substitutions, most_confused)
            ],
            "deletions": [{"reference": t, "count": n} for t, n in _most_common(found.deletions, most_confused)],
            "insertions": [{"hypothesis": t, "count": n} for t, n in _most_common(found.insertions, most_confused)],
        },
    }
    if summary.comparison:
        comparison, test = summary.comparison, summary.comparison.test
        report["comparison"] = {
            "first": _total(comparison.first),
            "second": _total(comparison.second),
            "interval": _pair(comparison.interval),
        }
        if test:
            report["comparison"] |= {
                "difference": test.difference,
                "difference_interval": _pair(test.interval),
                "p_value": test.p_value,
                "probability_of_improvement": test.probability_of_improvement,
            }
        matched = comparison.matched
        report["comparison"]["mapsswe"] = None if matched is None else dataclasses.asdict(matched)
    if summary.weighted:
        report["weighted"] = {
            "rate": summary.weighted.rate,
            "interval": _pair(summary.weighted.interval),
            "weights": dict(summary.weighted.weights),
            "within": summary.weighted.within,
        }
    if with_alignments:
        report["utterances"] = [_utterance(utterance) for utterance in score.utterances]
    return report


def _total(total: Total) -> dict[str, Any]:
    counts = total.counts
    return {
        "error_rate": counts.error_rate,
        "errors": counts.errors,
        "reference_length": counts.reference,
        "hits": counts.hits,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "match_error_rate": counts.match_error_rate,
        "information_lost": counts.information_lost,
        "character_error_rate": total.character_error_rate,
        "character_errors": total.character_errors,
        "characters": total.characters,
        "sentence_error_rate": total.sentence_error_rate,
        "wrong_sentences": total.wrong_utterances,
        "sentences": total.utterances,
    }


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _utterance(utterance: UtteranceScore) -> dict[str, Any]:
    counts = utterance.counts
    return {
        "id": utterance.reference.id,
        "missing": utterance.hypothesis is None,
        "hits": counts.hits,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "alignment": list(utterance.pairs()),
    }
