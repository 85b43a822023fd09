"""Scores of phrases against all alignments, written out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fun_asr.decoding.spotting import phrase_scores, times_heard

PIECES, BLANK = 3, 3


def plain_score(log_probs: np.ndarray, phrase: list[int]) -> float:
    """Of every sequence of labels over every stretch of frames that is the phrase once repeats and blanks are gone."""
    relative = log_probs - log_probs.max(axis=1, keepdims=True)
    best = -np.inf
    for start in range(len(log_probs)):
        for length in range(1, len(log_probs) - start + 1):
            for path in itertools.product([*sorted(set(phrase)), BLANK], repeat=length):
                merged = [label for label, _ in itertools.groupby(path) if label != BLANK]
                if merged == phrase:
                    best = max(best, sum(relative[start + i, label] for i, label in enumerate(path)))
    return best / len(phrase)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, PIECES - 1), min_size=1, max_size=3), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(0, 2**16),
)
def test_scores_are_those_of_the_best_alignment(phrases: list[list[int]], frames: int, seed: int) -> None:
    draw = np.random.default_rng(seed).normal(size=(frames, PIECES + 1)).astype(np.float32)
    log_probs = draw - np.log(np.exp(draw).sum(axis=1, keepdims=True))
    expected = [plain_score(log_probs, phrase) for phrase in phrases]
    assert phrase_scores(log_probs, phrases, BLANK).tolist() == pytest.approx(expected, abs=1e-4)


def test_without_phrases_or_frames_there_is_nothing_to_hear() -> None:
    assert phrase_scores(np.zeros((4, 4), np.float32), [], BLANK).tolist() == []
    assert phrase_scores(np.zeros((0, 4), np.float32), [[1]], BLANK).tolist() == [-np.inf]


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_phrase_is_counted_as_often_as_it_was_told(times: int) -> None:
    labels = [BLANK, *[0, BLANK, 1, 1, BLANK, BLANK, 2, BLANK, BLANK] * times]
    log_probs = np.full((len(labels), PIECES + 1), -9.0, np.float32)
    log_probs[range(len(labels)), labels] = -0.1
    assert times_heard(log_probs, [[0, 1, 2], [2, 1]], BLANK, -2.0).tolist() == [times, 0]
    assert times_heard(log_probs, [], BLANK, -2.0).tolist() == []
