"""How sure an error rate is: the bootstrap over utterances or speakers (Bisani and Ney, 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "PairedTest", "interval", "paired_test", "resampled_rates"]

FloatArray = npt.NDArray[np.float64]

_CONFIDENCE = 0.95
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """A second system against a first, on the same draws."""

    difference: float
    """The second's rate less the first's."""
    interval: Interval
    p_value: float
    """Two-sided: how likely a difference is at least as far from 0 if there is none."""
    probability_of_improvement: float
    """Share of the draws in which the second system has the lower rate."""


def resampled_rates(
    errors: npt.ArrayLike, lengths: npt.ArrayLike, clusters: Sequence[str] | None, *, replicates: int, seed: int
) -> FloatArray | None:
    """Error rates of samples of as many units as there are, drawn with replacement.

    Units that have the same numbers are drawn together, by a multinomial distribution, so that 100,000 utterances cost
    no more than the few hundred different ones among them.

    Arguments:
        errors: [S, n], S systems' errors in n utterances.
        lengths: [S, n], of the references that they are divided by.
        clusters: n names, of speakers; whole clusters are drawn. None draws utterances.
        replicates: R.
        seed: of the random numbers.

    Returns:
        [S, R]; None when there are fewer than two units.
    """
    rows = np.stack([np.asarray(errors, float), np.asarray(lengths, float)])  # [2, S, n]
    if clusters is not None:
        names, index = np.unique(np.asarray(clusters), return_inverse=True)
        rows = np.stack([[np.bincount(index, row, len(names)) for row in side] for side in rows])
    systems, units = rows.shape[1:]
    if units < 2 or replicates < 1:
        return None
    different, counts = np.unique(rows.reshape(2 * systems, units).T, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    rates = []
    step = max(1, _DRAWS_AT_ONCE // len(counts))
    for start in range(0, replicates, step):
        drawn = rng.multinomial(units, counts / units, size=min(step, replicates - start))
        sums = drawn @ different  # [R', 2 S]
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(sums[:, :systems] / sums[:, systems:])
    return np.concatenate(rates).T


def interval(rates: FloatArray) -> Interval | None:
    """The middle 95 % of resampled rates [R]; None where too few samples have a rate."""
    finite = rates[np.isfinite(rates)]
    if len(finite) < 2:
        return None
    low, high = np.quantile(finite, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def paired_test(first: float, second: float, rates: FloatArray) -> PairedTest | None:
    """Compare two systems.

    Arguments:
        first: the first system's rate.
        second: the second's.
        rates: [2, R], both systems' rates on the same draws.
    """
    differences = rates[1] - rates[0]
    differences = differences[np.isfinite(differences)]
    spread = interval(differences)
    if spread is None:
        return None
    # One is added, so that no number of draws calls a difference impossible.
    tails = [1 + np.count_nonzero(differences <= 0), 1 + np.count_nonzero(differences >= 0)]
    return PairedTest(
        difference=second - first,
        interval=spread,
        p_value=min(1.0, float(2 * min(tails) / (len(differences) + 1))),
        probability_of_improvement=float(np.mean(differences < 0)),
    )
