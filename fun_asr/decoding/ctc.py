"""CTC decoding (Graves et al. 2006): greedy, and prefix search with a language model (Hannun et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fun_asr.decoding.language_model import BOUNDARY, NGramModel


@dataclass(frozen=True, kw_only=True)
class PrefixSearchOptions:
    """How wide the prefix search is and how much the language model counts."""

    beam_size: int = 8
    """Prefixes kept."""
    language_weight: float = 0.7
    """Of the language model's log-probabilities beside CTC's."""
    piece_bonus: float = 2.0
    """Added for each piece: a product of more probabilities is smaller."""
    least_probability: float = 1e-3
    """Pieces less likely than this in a frame do not extend a prefix there."""


def greedy(log_probs: Tensor, lengths_B: Tensor, blank: int) -> list[list[int]]:
    """Tokens of each utterance: the best of each frame, repeats merged, blanks dropped.

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


def prefix_search(
    log_probs: Tensor, blank: int, model: NGramModel, options: PrefixSearchOptions = PrefixSearchOptions()
) -> list[int]:
    """The tokens that CTC and a language model together find most likely.

    Arguments:
        log_probs: one utterance's `[J, C]`, without padding.
        blank: the blank's index, C - 1.
        model: over the same tokens.
        options: the search's.
    """
    # For each prefix the log-probabilities of all its alignments that end in a blank, and of those that do not; it
    # ranks by their sum and by what the language model and the bonus add.
    prefixes: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    language: dict[tuple[int, ...], float] = {(): 0.0}
    floor = math.log(options.least_probability)
    for row, candidates in zip(log_probs.tolist(), _candidates(log_probs, blank, floor), strict=True):
        extended: dict[tuple[int, ...], tuple[float, float]] = {}
        for prefix, (in_blank, in_token) in prefixes.items():
            total = _log_add(in_blank, in_token)
            repeated = in_token + row[prefix[-1]] if prefix else -math.inf
            _add(extended, prefix, total + row[blank], repeated)
            for token in candidates:
                # A token that repeats the last one is another only after a blank.
                before = in_blank if prefix and token == prefix[-1] else total
                if before > -math.inf:
                    _add(extended, (*prefix, token), -math.inf, before + row[token])
        for prefix in extended:
            if prefix not in language:
                probability = float(model.next((BOUNDARY, *prefix[:-1]))[prefix[-1]])
                gained = options.language_weight * math.log(probability) + options.piece_bonus
                language[prefix] = language[prefix[:-1]] + gained
        ranked = sorted(extended, key=lambda p: _log_add(*extended[p]) + language[p], reverse=True)
        prefixes = {prefix: extended[prefix] for prefix in ranked[: options.beam_size]}

    def final(prefix: tuple[int, ...]) -> float:
        ended = options.language_weight * math.log(float(model.next((BOUNDARY, *prefix))[BOUNDARY]))
        return _log_add(*prefixes[prefix]) + language[prefix] + ended

    best = max(prefixes, key=final)
    return list(best)


def _candidates(log_probs: Tensor, blank: int, floor: float) -> Sequence[list[int]]:
    """The tokens likely enough in each frame, without the blank."""
    likely = log_probs > floor
    likely[:, blank] = False
    found: list[list[int]] = [[] for _ in range(len(log_probs))]
    for frame, token in likely.nonzero().tolist():
        found[frame].append(token)
    return found


def _add(
    prefixes: dict[tuple[int, ...], tuple[float, float]], prefix: tuple[int, ...], in_blank: float, in_token: float
) -> None:
    known = prefixes.get(prefix)
    if known is not None:
        in_blank, in_token = _log_add(known[0], in_blank), _log_add(known[1], in_token)
    prefixes[prefix] = (in_blank, in_token)


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))
