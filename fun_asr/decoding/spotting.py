"""Which phrases CTC may have heard, by the best place of each in its log-probabilities (as in Andrusenko et al. 2024).

Shapes: N phrases, S pieces of the longest, J CTC frames, C pieces and blank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["phrase_scores", "times_heard"]


def phrase_scores(
    log_probs: npt.NDArray[np.float32], phrases: Sequence[Sequence[int]], blank: int
) -> npt.NDArray[np.float32]:
    """How well each phrase fits the best stretch of frames, beside what fits best there.

    Arguments:
        log_probs: of CTC, `[J, C]`.
        phrases: pieces of each, at least one.
        blank: the blank's index.

    Returns:
        for each phrase the log-probability of its best alignment to any stretch of frames, less that of the best path
        through them, divided by its number of pieces; float32 `[N]`, 0 where the best path has the phrase.
    """
    if not phrases or not len(log_probs):
        return np.full(len(phrases), -np.inf, np.float32)
    best_N: npt.NDArray[np.float32] = _scores_by_end(log_probs, phrases, blank).max(axis=0)
    return best_N


def times_heard(
    log_probs: npt.NDArray[np.float32], phrases: Sequence[Sequence[int]], blank: int, least: float
) -> npt.NDArray[np.int64]:
    """How often each phrase may have been said: the stretches of frames in which one ends that fits well enough.

    Arguments:
        log_probs, phrases, blank: as for `phrase_scores`.
        least: score of a phrase that fits.

    Returns:
        int64 `[N]`, more than 0 where `phrase_scores` is at least `least`.
    """
    if not phrases or not len(log_probs):
        return np.zeros(len(phrases), np.int64)
    scores_JN = _scores_by_end(log_probs, phrases, blank)
    # A phrase that was clearly heard once fits badly many times around that place.
    fits_JN = scores_JN >= np.maximum(least, (scores_JN.max(axis=0) + least) / 2)
    times_N = np.zeros(len(phrases), np.int64)
    for place, phrase in enumerate(phrases):
        (ends,) = fits_JN[:, place].nonzero()
        last = -np.inf
        for before, end in zip([-2, *ends], ends, strict=False):
            # Each piece takes a frame: what ends sooner is the same telling.
            if end > before + 1 and end >= last + len(phrase):
                times_N[place] += 1
                last = end
    return times_N


def _scores_by_end(
    log_probs: npt.NDArray[np.float32], phrases: Sequence[Sequence[int]], blank: int
) -> npt.NDArray[np.float32]:
    """`phrase_scores` of the phrases that end in each frame, `[J, N]`."""
    counts_N = np.array([len(phrase) for phrase in phrases])
    pieces_NS = np.zeros((len(phrases), counts_N.max()), np.int64)
    for row, phrase in zip(pieces_NS, phrases, strict=True):
        row[: len(phrase)] = phrase
    repeated_NS = np.zeros(pieces_NS.shape, bool)
    repeated_NS[:, 1:] = pieces_NS[:, 1:] == pieces_NS[:, :-1]
    last_N = (np.arange(len(phrases)), counts_N - 1)
    relative_JC = log_probs - log_probs.max(axis=1, keepdims=True)
    in_piece_NS = np.full(pieces_NS.shape, -np.inf, np.float32)
    in_blank_NS = in_piece_NS.copy()
    before_NS = np.zeros_like(in_piece_NS)  # a phrase may start in any frame
    scores_JN = np.empty((len(log_probs), len(phrases)), np.float32)
    for j, frame_C in enumerate(relative_JC):
        moved_NS = np.where(repeated_NS[:, 1:], -np.inf, in_piece_NS[:, :-1])
        before_NS[:, 1:] = np.maximum(in_blank_NS[:, :-1], moved_NS)
        in_blank_NS = np.maximum(in_blank_NS, in_piece_NS) + frame_C[blank]
        in_piece_NS = np.maximum(in_piece_NS, before_NS) + frame_C[pieces_NS]
        scores_JN[j] = in_piece_NS[last_N] / counts_N
    return scores_JN
