"""CTC decoding (Graves et al. 2006): greedy, and prefix search with a language model (Hannun et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fun_asr.decoding.hotwords import START, HotwordTree, Place
from fun_asr.decoding.language_model import BOUNDARY, NGramModel


@dataclass(frozen=True, kw_only=True)
class PrefixSearchOptions:
    """How wide the prefix search is and how much the language model counts."""

    beam_size: int = 32
    """Most prefixes kept."""
    margin: float = 8.0
    """Prefixes whose log-probability is so much lower than the best one's are dropped too."""
    language_weight: float = 0.7
    """Of the language model's log-probabilities beside CTC's."""
    piece_bonus: float = 3.0
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


class _Knowledge:
    """What is known of likely texts, beside CTC: a language model, hotwords, or both."""

    def __init__(self, model: NGramModel | None, hotwords: HotwordTree | None, options: PrefixSearchOptions) -> None:
        self._model, self._hotwords, self._options = model, hotwords, options

    def then(self, prefix: _Prefix, token: int) -> _Prefix:
        """The prefix with one more token."""
        child = prefix.children.get(token)
        if child is None:
            context, known, kept, place = prefix.context, prefix.known, prefix.kept, prefix.place
            if self._model is not None:
                known += self._language(context, token) + self._options.piece_bonus
                context = (*context, token)[-(self._model.order - 1) :]
            if self._hotwords is not None:
                gained, place = self._hotwords.move(place, token)
                kept = min(kept + gained, self._hotwords.limit)
            child = prefix.children[token] = _Prefix(prefix, token, context, known, kept, place)
            if self._hotwords is not None:
                child.rank = known + min(kept + self._hotwords.pending(place), self._hotwords.limit)
        return child

    def final(self, prefix: _Prefix) -> float:
        """What the whole text is worth."""
        known = prefix.known
        if self._model is not None:
            known += self._language(prefix.context, BOUNDARY)
        if self._hotwords is not None:
            known += min(prefix.kept + self._hotwords.complete(prefix.place), self._hotwords.limit)
        return known

    def _language(self, context: tuple[int, ...], token: int) -> float:
        assert self._model is not None
        return self._options.language_weight * math.log(float(self._model.next(context)[token]))


class _Prefix:
    """A node of the tree of prefixes: what was written up to here, and what language model and hotwords make of it.

    Arguments:
        known: what the language model makes of it.
        kept: the bonus of complete hotwords.
    """

    __slots__ = ("children", "context", "kept", "known", "parent", "place", "rank", "token")

    def __init__(
        self,
        parent: _Prefix | None,
        token: int,
        context: tuple[int, ...] = (BOUNDARY,),
        known: float = 0.0,
        kept: float = 0.0,
        place: Place = START,
    ) -> None:
        self.parent, self.token, self.context, self.place = parent, token, context, place
        self.known, self.kept = known, kept
        self.rank = known
        self.children: dict[int, _Prefix] = {}

    def tokens(self) -> list[int]:
        found: list[int] = []
        node = self
        while node.parent is not None:
            found.append(node.token)
            node = node.parent
        return found[::-1]


# For each prefix the log-probabilities of all its alignments that end in a blank, and of those that do not.
_Beam = dict[_Prefix, tuple[float, float]]


def prefix_search(
    log_probs: Tensor,
    blank: int,
    model: NGramModel | None,
    options: PrefixSearchOptions = PrefixSearchOptions(),
    hotwords: HotwordTree | None = None,
) -> list[int]:
    """The tokens that CTC, a language model and hotwords together find most likely.

    Arguments:
        log_probs: one utterance's `[J, C]`, without padding.
        blank: the blank's index, C - 1.
        model: over the same tokens; None for CTC alone.
        options: the search's.
        hotwords: phrases of the same tokens that the search prefers.
    """
    knowledge = _Knowledge(model, hotwords, options)
    beam: _Beam = {_Prefix(None, blank): (0.0, -math.inf)}
    floor = math.log(options.least_probability)
    for row, candidates in zip(log_probs.tolist(), _candidates(log_probs, blank, floor), strict=True):
        extended: _Beam = {}
        for prefix, (in_blank, in_token) in beam.items():
            total = _log_add(in_blank, in_token)
            _add(extended, prefix, total + row[blank], in_token + row[prefix.token])
            for token in candidates:
                # A token that repeats the last one is another only after a blank.
                before = in_blank if token == prefix.token else total
                if before > -math.inf:
                    _add(extended, knowledge.then(prefix, token), -math.inf, before + row[token])
        beam = _pruned(extended, options) if candidates else extended
    return max(beam, key=lambda prefix: _log_add(*beam[prefix]) + knowledge.final(prefix)).tokens()


def _pruned(beam: _Beam, options: PrefixSearchOptions) -> _Beam:
    ranks = {prefix: _log_add(*ends) + prefix.rank for prefix, ends in beam.items()}
    least = max(ranks.values()) - options.margin
    kept = sorted((prefix for prefix, rank in ranks.items() if rank > least), key=ranks.__getitem__, reverse=True)
    return {prefix: beam[prefix] for prefix in kept[: options.beam_size]}


def _candidates(log_probs: Tensor, blank: int, floor: float) -> Sequence[list[int]]:
    """The tokens likely enough in each frame, without the blank."""
    likely = log_probs > floor
    likely[:, blank] = False
    found: list[list[int]] = [[] for _ in range(len(log_probs))]
    for frame, token in likely.nonzero().tolist():
        found[frame].append(token)
    return found


def _add(beam: _Beam, prefix: _Prefix, in_blank: float, in_token: float) -> None:
    known = beam.get(prefix)
    if known is not None:
        in_blank, in_token = _log_add(known[0], in_blank), _log_add(known[1], in_token)
    beam[prefix] = (in_blank, in_token)


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))
