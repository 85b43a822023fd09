"""CTC forced alignment: the frames of given tokens on the most likely path (Graves et al. 2006; Kürzinger et al. 2020).

Written out, because torchaudio's forced_align does not always find the most likely path, and its compiled part does not
load beside every torch.

Shapes: B utterances, J CTC frames, C vocabulary, N tokens, S = 2 N + 1 states (blank, token, blank, ..., blank).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["Alignment", "align"]

LogProbs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Alignment:
    """Where the tokens of one utterance lie."""

    starts: npt.NDArray[np.int64]
    """First frame of each token, `[N]`; the frames between two tokens are blank."""
    ends: npt.NDArray[np.int64]
    """One past the last frame of each token, `[N]`."""
    log_probs: npt.NDArray[np.float32]
    """The best log-probability that each token has in its frames, `[N]`."""


def align(utterances: Sequence[LogProbs], tokens: Sequence[Sequence[int]], blank: int) -> list[Alignment | None]:
    """Align each utterance's tokens with its frames, all utterances in one pass over time.

    Arguments:
        utterances: CTC log-probabilities of each utterance, float32 `[J, C]`.
        tokens: what each utterance says, without blanks.
        blank: the blank's index.

    Returns:
        None for an utterance with fewer frames than its tokens need, or without tokens.
    """
    needed = [len(row) + sum(a == b for a, b in pairwise(row)) for row in tokens]
    possible = [b for b, frames in enumerate(utterances) if 0 < needed[b] <= len(frames)]
    found: list[Alignment | None] = [None] * len(utterances)
    if possible:
        paths = _best_paths([utterances[b] for b in possible], [tokens[b] for b in possible], blank)
        for b, path in zip(possible, paths, strict=True):
            found[b] = _token_frames(path, utterances[b], tokens[b])
    return found


def _best_paths(utterances: list[LogProbs], tokens: list[Sequence[int]], blank: int) -> list[npt.NDArray[np.int64]]:
    """The state of each frame of each utterance, `[J]`."""
    lengths = [len(frames) for frames in utterances]
    states = [2 * len(row) + 1 for row in tokens]
    shape = (max(lengths), len(utterances), max(states))
    emission_JBS = np.full(shape, -np.inf, np.float32)
    jump_BS = np.full(shape[1:], -np.inf, np.float32)
    for b, (frames, row) in enumerate(zip(utterances, tokens, strict=True)):
        labels = np.full(states[b], blank)
        labels[1::2] = row
        emission_JBS[: lengths[b], b, : states[b]] = frames[:, labels]
        # From one token to the next without a blank, unless they are equal.
        jump_BS[b, 3 : states[b] : 2] = np.where(labels[3::2] == labels[1:-2:2], -np.inf, 0.0)
    score_BS = np.full(shape[1:], -np.inf, np.float32)
    score_BS[:, :2] = emission_JBS[0, :, :2]
    # How many states each frame's best path has advanced.
    steps_JBS = np.zeros(shape, np.uint8)
    final_BS = score_BS.copy()
    for j in range(1, shape[0]):
        best_BS = score_BS.copy()
        np.maximum(best_BS[:, 1:], score_BS[:, :-1], out=best_BS[:, 1:])
        np.greater(best_BS, score_BS, out=steps_JBS[j], casting="unsafe")
        jumped_BS = score_BS[:, :-2] + jump_BS[:, 2:]
        jumps_BS = jumped_BS > best_BS[:, 2:]
        steps_JBS[j, :, 2:][jumps_BS] = 2
        np.maximum(best_BS[:, 2:], jumped_BS, out=best_BS[:, 2:])
        score_BS = best_BS
        score_BS += emission_JBS[j]
        for b, length in enumerate(lengths):
            if length == j + 1:
                final_BS[b] = score_BS[b]
    rows = np.arange(len(utterances))
    last_B = np.array(states) - 1
    state_B = np.where(final_BS[rows, last_B] >= final_BS[rows, last_B - 1], last_B, last_B - 1)
    path_JB = np.zeros(shape[:2], np.int64)
    length_B = np.array(lengths)
    for j in range(shape[0] - 1, -1, -1):
        inside_B = j < length_B
        path_JB[j] = state_B
        state_B = state_B - np.where(inside_B, steps_JBS[j, rows, state_B], 0)
    return [path_JB[:length, b] for b, length in enumerate(lengths)]


def _token_frames(path: npt.NDArray[np.int64], frames: LogProbs, tokens: Sequence[int]) -> Alignment:
    """What a path over states says of its tokens."""
    states = 2 * np.arange(len(tokens)) + 1
    starts = np.searchsorted(path, states, side="left")
    ends = np.searchsorted(path, states, side="right")
    best = [frames[a:b, token].max() for a, b, token in zip(starts, ends, tokens, strict=True)]
    return Alignment(starts, ends, np.array(best, np.float32))
