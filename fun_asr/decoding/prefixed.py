"""Texts that a decoder-only model writes after prefixes: greedy and beam search of many segments at once.

Shapes: B segments, N positions of all prefixes, R rows (hypotheses), D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from fun_asr.decoding.guard import BLOCKED_NGRAM, cut_loops, is_repetitive, without_loops
from fun_asr.decoding.hotwords import RowBias
from fun_asr.decoding.search import Hypothesis, SearchOptions, hypothesis_of, search
from fun_asr.layers.prefix_cache import PrefixCache

__all__ = ["PrefixedModel", "PrefixedOptions", "continue_from", "continue_prefixes", "written_after"]


class PrefixedModel(Protocol):
    """What reads prefixes and goes on from them a token at a time."""

    def start(self, prefixes_ND: Tensor, lengths: Sequence[int]) -> tuple[Tensor, PrefixCache]:
        """Read prefixes; returns logits `[B, V]` after each, and the cache to go on from."""

    def step(self, tokens_R: Tensor, cache: PrefixCache) -> Tensor:
        """Logits `[R, V]` after one more token of each hypothesis."""


@dataclass(frozen=True, kw_only=True)
class PrefixedOptions(SearchOptions):
    """How texts are searched."""

    stop: tuple[int, ...]
    """Tokens that end a text, at least one."""
    suppress: tuple[int, ...] = ()
    """Tokens never written."""
    suppress_first: tuple[int, ...] = ()
    """Tokens never written first."""
    openings: Sequence[Sequence[int]] | None = None
    """Tokens that each segment's text starts with, whatever the model thinks of them; they count as sure."""


class _Steps:
    """The model's steps in a search."""

    def __init__(
        self, model: PrefixedModel, cache: PrefixCache, options: PrefixedOptions, device: torch.device
    ) -> None:
        self.ends = frozenset(options.stop)
        trees = options.hotwords or ()
        self.bias = RowBias(trees, device) if any(tree is not None for tree in trees) else None
        self._model, self._cache, self._device = model, cache, device
        self._never = torch.tensor(options.suppress, dtype=torch.int64, device=device)
        self._never_first = torch.tensor((*options.suppress, *options.suppress_first), dtype=torch.int64, device=device)
        self._kept: list[int] | None = None
        self._openings = [list(opening) for opening in options.openings or ()]
        self._rows = list(range(len(self._openings)))  # the segment of each hypothesis

    def allowed(self, logits: Tensor, *, first: bool) -> Tensor:
        """Logits `[R, V]`, -inf for what is not to be written."""
        written = 0 if first else self._cache.written
        opening = [
            (row, self._openings[segment][written])
            for row, segment in enumerate(self._rows)
            if written < len(self._openings[segment])
        ]
        logits = logits.index_fill_(1, self._never_first if first else self._never, -torch.inf)
        if opening:
            rows, tokens = (torch.tensor(side, device=self._device) for side in zip(*opening, strict=True))
            logits.index_fill_(0, rows, -torch.inf)[rows, tokens] = 0.0
        return logits

    def keep(self, kept: list[int]) -> list[int]:
        """Drop all segments but `kept`, ascending, which stay in their order."""
        self._kept = kept
        return kept

    def extend(self, rows: list[int], tokens: list[int], counts: list[int]) -> Tensor:
        """Logits `[R, V]` after one more token of each hypothesis."""
        if self.bias is not None:
            self.bias.advance(rows, tokens)
        self._cache.select(rows, counts, self._kept)
        if self._openings:
            self._rows = [self._rows[row] for row in rows]
        self._kept = None
        return self._model.step(torch.tensor(tokens, device=self._device), self._cache)


@torch.inference_mode()
def continue_prefixes(
    model: PrefixedModel,
    prefixes_ND: Tensor,
    lengths: Sequence[int],
    limits: Sequence[int],
    options: PrefixedOptions,
) -> list[Hypothesis]:
    """Write what follows the prefixes of some segments.

    Arguments:
        model: the decoder.
        prefixes_ND: vectors `[N, D]` of all segments, one segment after the other: the model's `embed` of tokens, and
            what an encoder says of the audio.
        lengths: positions of each segment's prefix, at least 1; they sum to N.
        limits: most tokens of each text, at least 1.
        options: beam width, the tokens that end a text and those that are never written.

    Returns:
        a hypothesis a segment, in their order: its tokens without the one that ends it, and the log-probability of each
        among what may be written.
    """
    return continue_from(model, *model.start(prefixes_ND, lengths), limits, options)


@torch.inference_mode()
def continue_from(
    model: PrefixedModel, logits: Tensor, cache: PrefixCache, limits: Sequence[int], options: PrefixedOptions
) -> list[Hypothesis]:
    """`continue_prefixes` of prefixes that have been read, for those who look at the first logits before.

    Arguments:
        model, limits, options: as for `continue_prefixes`.
        logits, cache: what the model's `start` gave; both change.
    """
    steps = _Steps(model, cache, options, logits.device)
    return [hypothesis_of(found) for found in search(steps, logits, limits, options)]


def written_after(
    model: PrefixedModel,
    prefixes: Sequence[Tensor],
    limits: Sequence[int],
    options: PrefixedOptions,
    text_of: Callable[[Sequence[int]], str],
    *,
    guard: bool,
) -> list[tuple[Hypothesis, bool]]:
    """What follows each prefix, and whether the model got caught in a loop.

    Arguments:
        model: the decoder.
        prefixes: vectors `[N, D]` of each segment, as for `continue_prefixes`.
        limits: most tokens of each text, at least 1.
        options: as for `continue_prefixes`.
        text_of: what tokens say, to see repetitions in it.
        guard: write those with a loop again, without repetitions.
    """

    def decode(chosen: Sequence[int], search: PrefixedOptions) -> list[Hypothesis]:
        parts = [prefixes[b] for b in chosen]
        lengths = [len(part) for part in parts]
        return continue_prefixes(model, torch.cat(parts), lengths, [limits[b] for b in chosen], search)

    hypotheses = decode(range(len(prefixes)), options)
    if guard:
        again = replace(options, beam_size=1, no_repeat_ngram=BLOCKED_NGRAM)
        hypotheses, looped = without_loops(
            hypotheses, lambda chosen: decode(chosen, again), lambda tokens: is_repetitive(text_of(tokens))
        )
    else:
        looped = [cut_loops(found.tokens)[1] for found in hypotheses]
    return list(zip(hypotheses, looped, strict=True))
