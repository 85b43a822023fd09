"""CTC greedy decoding: the best token of each frame, repeats merged, blanks dropped (Graves et al. 2006)."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy(log_probs: Tensor, lengths_B: Tensor, blank: int) -> list[list[int]]:
    """Tokens of each utterance.

    Arguments:
        log_probs: `[B, J, C]`.
        lengths_B: valid frames of each utterance, int64 `[B]`.
        blank: the blank's index.
    """
    best_BJ = log_probs.argmax(dim=-1).cpu()
    tokens = []
    for row, length in zip(best_BJ, lengths_B.tolist(), strict=True):
        merged = torch.unique_consecutive(row[:length])
        tokens.append([token for token in merged.tolist() if token != blank])
    return tokens
