"""Intervals and the paired test."""

import numpy as np
import pytest

from fun_asr.scoring.bootstrap import interval, paired_test, resampled_rates

REPLICATES = 4000


def test_an_interval_is_what_drawing_one_by_one_gives() -> None:
    rng = np.random.default_rng(0)
    errors, lengths = rng.integers(0, 4, 60), rng.integers(4, 12, 60)
    drawn = rng.integers(0, 60, (REPLICATES, 60))
    expected = np.quantile(errors[drawn].sum(1) / lengths[drawn].sum(1), [0.025, 0.975])
    rates = resampled_rates([errors], [lengths], None, replicates=REPLICATES, seed=1)
    assert rates is not None
    found = interval(rates[0])
    assert found is not None
    assert [found.low, found.high] == pytest.approx(expected, rel=0.03)


def test_the_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        errors = rng.binomial(10, 0.1, 100)
        rates = resampled_rates([errors], [np.full(100, 10)], None, replicates=300, seed=seed)
        assert rates is not None
        found = interval(rates[0])
        assert found is not None
        covered += found.low <= 0.1 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_speakers_are_drawn_whole() -> None:
    # All of a speaker's utterances are alike, so that utterances say less than their number.
    errors = np.repeat([0, 5], 50)
    speakers = [f"s{n // 25}" for n in range(100)]
    widths = []
    for clusters in (None, speakers):
        rates = resampled_rates([errors], [np.full(100, 10)], clusters, replicates=REPLICATES, seed=0)
        assert rates is not None
        found = interval(rates[0])
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


def test_one_unit_has_no_interval() -> None:
    assert resampled_rates([[1]], [[5]], None, replicates=10, seed=0) is None
    assert resampled_rates([[1, 2]], [[5, 5]], ["a", "a"], replicates=10, seed=0) is None


def compared(first: np.ndarray, second: np.ndarray) -> float:  # type: ignore[type-arg]
    lengths = np.full((2, len(first)), 10)
    rates = resampled_rates(np.stack([first, second]), lengths, None, replicates=REPLICATES, seed=0)
    assert rates is not None
    test = paired_test(first.sum() / lengths[0].sum(), second.sum() / lengths[1].sum(), rates)
    assert test is not None
    assert test.difference == pytest.approx((second.sum() - first.sum()) / lengths[0].sum())
    assert test.interval.low <= test.difference <= test.interval.high
    assert test.probability_of_improvement == pytest.approx(np.mean(rates[1] < rates[0]))
    return test.p_value


def test_paired_p_values() -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(0, 8, 200)
    assert compared(hard, hard) == 1.0
    # A small gain on every utterance is certain, whatever the utterances differ by.
    assert compared(hard + 1, hard) < 0.001
    assert compared(hard, rng.permutation(hard)) > 0.2
