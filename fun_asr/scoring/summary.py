"""What a score comes to: totals with intervals, groups, the comparison of two systems, weighted means of sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fun_asr.errors import ScoringError
from fun_asr.scoring.bootstrap import Interval, PairedTest, interval, paired_test, resampled_rates
from fun_asr.scoring.mapsswe import MatchedPairs, matched_pairs
from fun_asr.scoring.wer import Confusions, Score, Total, UtteranceScore, add_up, confusions

__all__ = [
    "GROUPINGS",
    "Bootstrap",
    "Comparison",
    "Group",
    "Grouping",
    "Summary",
    "WeightedMean",
    "find_groups",
    "rate_interval",
    "summarize",
]

Grouping = Literal["set", "corpus", "language", "speaker"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are found."""

    replicates: int = 1000
    """0 finds none."""
    seed: int = 0
    unit: Literal["utterance", "speaker"] = "utterance"
    """What is drawn; utterances without a speaker are drawn alone."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Utterances that have something in common."""

    name: str
    total: Total
    interval: Interval | None
    """Of the error rate; None of fewer than two units."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A second system on the utterances that both are scored on."""

    first: Total
    second: Total
    interval: Interval | None
    """Of the second system's error rate."""
    test: PairedTest | None
    """None of fewer than two units."""
    matched: MatchedPairs | None
    """The same question asked of segments; None of fewer than two."""


@dataclass(frozen=True, kw_only=True)
class WeightedMean:
    """A mean of groups' error rates."""

    weights: Mapping[str, float]
    """By the groups' names; they add up to 1."""
    within: Literal["words", "duration"]
    """How utterances are weighted in a group."""
    rate: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that reports show."""

    score: Score
    total: Total
    interval: Interval | None
    bootstrap: Bootstrap
    groups: Mapping[Grouping, Sequence[Group]]
    confusions: Confusions
    comparison: Comparison | None
    weighted: WeightedMean | None


def summarize(
    score: Score,
    *,
    by: Iterable[Grouping] = (),
    bootstrap: Bootstrap | None = None,
    second: Score | None = None,
    weights: Mapping[str, float] | None = None,
    weigh_by: Grouping = "corpus",
    within: Literal["words", "duration"] = "words",
) -> Summary:
    """Add a score up.

    Arguments:
        score: of the first system.
        by: what to group by.
        bootstrap: how intervals are found.
        second: the score of another system on the same references.
        weights: of the groups' error rates in a mean, by name.
        weigh_by: which groups these are.
        within: what weighs an utterance in its group.

    Raises:
        ScoringError: when weights name a group that is not there, or durations are needed and unknown.
    """
    bootstrap = bootstrap or Bootstrap()
    return Summary(
        score=score,
        total=add_up(score.utterances),
        interval=rate_interval(score.utterances, bootstrap),
        bootstrap=bootstrap,
        groups={grouping: find_groups(score.utterances, grouping, bootstrap) for grouping in by},
        confusions=confusions(score.utterances),
        comparison=None if second is None else _compare(score, second, bootstrap),
        weighted=None if weights is None else _weighted(score.utterances, weights, weigh_by, within, bootstrap),
    )


def find_groups(
    utterances: Iterable[UtteranceScore], grouping: Grouping, bootstrap: Bootstrap, *, most: int | None = None
) -> list[Group]:
    """The groups of utterances, in the order of the groups' first ones.

    Arguments:
        utterances: of a score.
        grouping: what a group has in common.
        bootstrap: how intervals are found.
        most: find intervals for as many groups only, those with the longest references; None for all.
    """
    members = _members(utterances, grouping)
    totals = {name: add_up(group) for name, group in members.items()}
    longest = set(sorted(totals, key=lambda name: -totals[name].counts.reference)[:most])
    return [
        Group(name=name, total=totals[name], interval=rate_interval(group, bootstrap) if name in longest else None)
        for name, group in members.items()
    ]


def _members(utterances: Iterable[UtteranceScore], grouping: Grouping) -> dict[str, list[UtteranceScore]]:
    groups: dict[str, list[UtteranceScore]] = {}
    for utterance in utterances:
        name = getattr(utterance.reference, grouping)
        if name is None and utterance.hypothesis is not None and grouping == "language":
            name = utterance.hypothesis.language
        groups.setdefault(f"no {grouping}" if name is None else name, []).append(utterance)
    return groups


def rate_interval(utterances: Sequence[UtteranceScore], bootstrap: Bootstrap) -> Interval | None:
    """The interval of the error rate of all utterances together; None of fewer than two units."""
    rates = resampled_rates(
        [[u.counts.errors for u in utterances]],
        [[u.counts.reference for u in utterances]],
        _speakers(utterances, bootstrap),
        replicates=bootstrap.replicates,
        seed=bootstrap.seed,
    )
    return None if rates is None else interval(rates[0])


def _speakers(utterances: Sequence[UtteranceScore], bootstrap: Bootstrap) -> list[str] | None:
    if bootstrap.unit == "utterance":
        return None
    # A slash cannot make an id and a speaker the same: speakers get one in front.
    return [f"/{u.reference.speaker}" if u.reference.speaker else u.reference.id for u in utterances]


def _compare(first: Score, second: Score, bootstrap: Bootstrap) -> Comparison:
    others = {utterance.reference.id: utterance for utterance in second.utterances}
    pairs = [(u, others[u.reference.id]) for u in first.utterances if u.reference.id in others]
    totals = [add_up(pair[system] for pair in pairs) for system in (0, 1)]
    rates = resampled_rates(
        [[pair[system].counts.errors for pair in pairs] for system in (0, 1)],
        [[pair[system].counts.reference for pair in pairs] for system in (0, 1)],
        _speakers([u for u, _ in pairs], bootstrap),
        replicates=bootstrap.replicates,
        seed=bootstrap.seed,
    )
    spread = test = None
    if rates is not None:
        spread = interval(rates[1])
        test = paired_test(totals[0].counts.error_rate or 0.0, totals[1].counts.error_rate or 0.0, rates)
    return Comparison(first=totals[0], second=totals[1], interval=spread, test=test, matched=matched_pairs(pairs))


def _weighted(
    utterances: Sequence[UtteranceScore],
    weights: Mapping[str, float],
    grouping: Grouping,
    within: Literal["words", "duration"],
    bootstrap: Bootstrap,
) -> WeightedMean:
    groups = _members(utterances, grouping)
    unknown = [name for name in weights if name not in groups]
    if unknown:
        raise ScoringError(f"--weights: there is no {grouping} {unknown[0]}, but {', '.join(sorted(groups))}")
    total = sum(weights.values())
    rate = 0.0
    samples = np.zeros(max(bootstrap.replicates, 1))
    certain = True
    for number, (name, weight) in enumerate(weights.items()):
        members = groups[name]
        errors, lengths = _weighed(members, within)
        if not sum(lengths):
            raise ScoringError(f"--weights: the {grouping} {name} has no {within}")
        rate += weight / total * sum(errors) / sum(lengths)
        rates = resampled_rates(
            [errors],
            [lengths],
            _speakers(members, bootstrap),
            replicates=bootstrap.replicates,
            # Sets are independent samples.
            seed=bootstrap.seed + number,
        )
        if rates is None:
            certain = False
        else:
            samples += weight / total * rates[0]
    return WeightedMean(
        weights={name: weight / total for name, weight in weights.items()},
        within=within,
        rate=rate,
        interval=interval(samples) if certain else None,
    )


def _weighed(members: Sequence[UtteranceScore], within: str) -> tuple[list[float], list[float]]:
    """Errors and lengths whose ratio of sums is the group's error rate."""
    if within == "words":
        return [float(u.counts.errors) for u in members], [float(u.counts.reference) for u in members]
    durations = []
    for utterance in members:
        if utterance.reference.duration is None:
            raise ScoringError(f"--within duration: the reference of {utterance.reference.id} has no duration")
        durations.append(utterance.reference.duration)
    # As in jiwer, each word said where the reference has none is an error of a whole reference's length.
    rates = [u.counts.errors / max(u.counts.reference, 1) for u in members]
    return [rate * duration for rate, duration in zip(rates, durations, strict=True)], durations
