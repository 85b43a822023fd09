"""Greedy and beam search over the next tokens of many segments at once, whatever decoder gives their logits.

Shapes: B utterances still being decoded, R rows (their hypotheses, at most the beam's width each), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from fun_asr.decoding.hotwords import HotwordTree, RowBias

__all__ = ["Hypothesis", "Partial", "SearchOptions", "Steps", "hypothesis_of", "search"]


@dataclass(frozen=True)
class Hypothesis:
    """What was decoded from one segment."""

    tokens: list[int]
    """Text tokens, without prompt and end of text."""
    score: float
    """Mean log-probability a token, end of text included."""
    language: str
    language_probability: float | None
    """None when the language was given."""
    log_probs: list[float]
    """Of each of `tokens`."""
    others: tuple[Hypothesis, ...] = ()
    """The other complete hypotheses of the search, best first."""
    bonus: float = 0.0
    """What hotwords added to the sum of log-probabilities by which the beam search ranked it."""
    complete: bool = True
    """Whether it came to its end before the most tokens that it may have."""
    no_speech: float | None = None
    """The probability of `GenerateOptions.no_speech` before the language; None when it was not asked for."""

    def first(self, count: int) -> Hypothesis:
        """Its first tokens alone."""
        return replace(self, tokens=self.tokens[:count], log_probs=self.log_probs[:count])

    @property
    def total(self) -> float:
        """Log-probability, end of text included where it is complete."""
        return self.score * (len(self.tokens) + self.complete)


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How hypotheses are searched."""

    beam_size: int = 1
    margin: float = math.inf
    """Beam search drops what is less likely than the utterance's best by more than this, in nats, with the hotwords'
    bonus and without it."""
    no_repeat_ngram: int = 0
    """Greedy search writes no sequence of so many tokens twice; 0 allows it."""
    hotwords: Sequence[HotwordTree | None] | None = None
    """Phrases that the search prefers in each segment; the log-probabilities stay the model's own."""
    temperature: float = 0.0
    """Greedy search draws each token with the probabilities to the power of 1 / temperature; 0 takes the likeliest."""
    seed: int = 0
    """Of the draws."""


class Steps(Protocol):
    """A decoder's steps in a search."""

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a hypothesis, among the columns of the logits."""

    @property
    def bias(self) -> RowBias | None:
        """The hotwords'; None without any."""

    def allowed(self, logits: Tensor, *, first: bool) -> Tensor:
        """Logits `[R, V]` of what may be written, -inf for what is not; the ones that are given may change."""

    def keep(self, kept: list[int]) -> list[int]:
        """Drop all utterances but `kept`, ascending; returns which utterance is now in each place."""

    def extend(self, rows: list[int], tokens: list[int], counts: list[int]) -> Tensor:
        """Logits `[R, V]` after one more token of each hypothesis.

        Arguments:
            rows: which hypothesis before the last choice each goes on from, utterance by utterance.
            tokens: chosen for each.
            counts: of the hypotheses of each utterance.
        """


@dataclass(frozen=True)
class Partial:
    """What has been written of a hypothesis."""

    score: float
    """Log-probability, of the end of text too where it is complete."""
    tokens: list[int]
    sums: list[float]
    """The log-probability up to each token."""
    bonus: float = 0.0
    """The hotwords'."""
    steps: int = 0
    """Tokens, and the end of text where it is complete."""

    @property
    def rank(self) -> float:
        """What the search compares."""
        return self.score + self.bonus

    @property
    def mean_rank(self) -> float:
        """What complete hypotheses of different lengths are compared by."""
        return self.rank / self.steps

    def then(self, score: float, bonus: float, token: int) -> Partial:
        """With one more token."""
        return Partial(score, [*self.tokens, token], [*self.sums, score], bonus, self.steps + 1)

    def ended(self, score: float, bonus: float) -> Partial:
        """With the end of text."""
        return Partial(score, self.tokens, self.sums, bonus, self.steps + 1)


@dataclass
class _Beam:
    """The search state of one utterance."""

    index: int
    """Its place among the inputs."""
    limit: int
    """Most tokens it may have."""
    live: list[Partial] = field(default_factory=lambda: [Partial(0.0, [], [])])
    finished: list[Partial] = field(default_factory=list)
    """The complete hypotheses."""

    def prune(self, extended: list[tuple[int, Partial]], margin: float) -> list[tuple[int, Partial]]:
        """What of the extended hypotheses is within the margin of the best one, and may still be the choice.

        One that is complete has a higher sum than any that says more, and so does the first sentence of several: what
        goes on is given up for it only where its mean is lower too.
        """
        if not extended:
            return []
        rank = max(partial.rank for _, partial in extended) - margin
        score = max(partial.score for _, partial in extended) - margin
        done_rank = max((partial.rank for partial in self.finished), default=-math.inf) - margin
        done_score = max((partial.score for partial in self.finished), default=-math.inf) - margin
        done_mean = max((partial.mean_rank for partial in self.finished), default=-math.inf)
        # By either: a hotword's bonus must not drop what goes on when its phrase breaks off, nor come too late.
        return [
            (row, partial)
            for row, partial in extended
            if (partial.rank >= rank or partial.score >= score)
            and (partial.rank >= done_rank or partial.score >= done_score or partial.mean_rank > done_mean)
        ]

    def is_full(self, width: int, going_on: list[tuple[int, Partial]], margin: float) -> bool:
        """Whether enough hypotheses are complete, and, where there is a margin, none that goes on is better."""
        if len(self.finished) < width:
            return False
        best = max(partial.mean_rank for partial in self.finished)
        return margin == math.inf or all(partial.mean_rank <= best for _, partial in going_on)


def hypothesis_of(
    found: Sequence[Partial],
    language: str = "",
    language_probability: float | None = None,
    no_speech: float | None = None,
) -> Hypothesis:
    """The best of an utterance's complete hypotheses, with the others in it.

    Arguments:
        found: best first.
        language, language_probability, no_speech: as in `Hypothesis`.
    """
    best, *others = (
        Hypothesis(
            tokens=partial.tokens,
            score=partial.score / partial.steps,
            complete=partial.steps > len(partial.tokens),
            language=language,
            language_probability=language_probability,
            log_probs=[b - a for a, b in pairwise([0.0, *partial.sums])],
            bonus=partial.bonus,
            no_speech=no_speech,
        )
        for partial in found
    )
    return replace(best, others=tuple(others))


def search(steps: Steps, logits: Tensor, limits: Sequence[int], options: SearchOptions) -> list[list[Partial]]:
    """The complete hypotheses of each utterance, the best first; greedy search finds one.

    Arguments:
        steps: the decoder's.
        logits: after the prompts, `[B, V]`.
        limits: most tokens of each utterance.
        options: how.
    """
    beams = [_Beam(index=i, limit=limit) for i, limit in enumerate(limits)]
    if options.beam_size == 1:
        return [[found] for found in _greedy(steps, logits, beams, options)]
    return _beam_search(steps, logits, beams, options.beam_size, options.margin)


def _greedy(steps: Steps, logits: Tensor, beams: list[_Beam], options: SearchOptions) -> list[Partial]:
    """The hypothesis of each utterance, from the prompts' logits `[B, V]`."""
    no_repeat_ngram = options.no_repeat_ngram
    # A generator an utterance: what it is batched with changes nothing.
    draws = [torch.Generator().manual_seed(options.seed) for _ in beams] if options.temperature else []
    ends, bias = steps.ends, steps.bias
    best = [beam.live[0] for beam in beams]
    first = True
    while True:
        logits = steps.allowed(logits, first=first)
        first = False
        if no_repeat_ngram:
            for row, beam in enumerate(beams):
                logits[row, _repeated(beam.live[0].tokens, no_repeat_ngram)] = -torch.inf
        ranks = logits if bias is None else bias.added(logits)
        if draws:
            weights = (ranks / options.temperature).softmax(dim=-1).cpu()
            drawn = [
                torch.multinomial(row, 1, generator=draws[beam.index]) for row, beam in zip(weights, beams, strict=True)
            ]
            chosen_R1 = torch.stack(drawn).to(logits.device)
        else:
            chosen_R1 = ranks.argmax(dim=-1, keepdim=True)
        log_probs = (logits.gather(1, chosen_R1)[:, 0] - logits.logsumexp(dim=-1)).tolist()
        kept = []
        for row, (beam, token, log_prob) in enumerate(zip(beams, chosen_R1[:, 0].tolist(), log_probs, strict=True)):
            (partial,) = beam.live
            score = partial.score + log_prob
            partial = partial.ended(score, 0.0) if token in ends else partial.then(score, 0.0, token)
            beam.live = [partial]
            if token in ends or len(partial.tokens) >= beam.limit:
                best[beam.index] = partial
            else:
                kept.append(row)
        if not kept:
            return best
        if len(kept) < len(beams):
            kept = steps.keep(kept)
            beams = [beams[row] for row in kept]
        logits = steps.extend(kept, [beam.live[0].tokens[-1] for beam in beams], [1] * len(beams))


def _repeated(tokens: list[int], n: int) -> list[int]:
    """What would end an n-gram that has been written before."""
    last = tokens[len(tokens) - n + 1 :]
    return [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == last]


def _beam_search(steps: Steps, logits: Tensor, beams: list[_Beam], width: int, margin: float) -> list[list[Partial]]:
    """The complete hypotheses of each utterance, the highest mean first, from the prompts' logits `[B, V]`.

    The search ends for an utterance once `width` hypotheses are complete, or none within the margin goes on; with a
    margin, of which few tokens remain to choose from, ends of sentences alone do not make up the number.
    """
    ends, bias = steps.ends, steps.bias
    best: list[list[Partial]] = [[] for _ in beams]
    first = True
    while True:
        logits = steps.allowed(logits, first=first)
        first = False
        # Of each row 2 W candidates, so that at least W of them all do not end.
        if bias is None:
            top = logits.topk(min(2 * width, logits.shape[1]), dim=-1)
            values = top.values - logits.logsumexp(dim=-1, keepdim=True)
            bonuses = torch.zeros_like(values)
        else:
            log_probs = logits.log_softmax(dim=-1)
            top = bias.added(log_probs).topk(min(2 * width, logits.shape[1]), dim=-1)
            values = log_probs.gather(1, top.indices)
            bonuses = top.values - values
        choices = [
            [choice for choice in zip(*columns, strict=True) if choice[0] > -math.inf]
            for columns in zip(values.tolist(), bonuses.tolist(), top.indices.tolist(), strict=True)
        ]
        kept: list[int] = []
        extended: list[list[tuple[int, Partial]]] = []
        start = 0  # the utterance's first row
        for b, beam in enumerate(beams):
            candidates = [
                (partial.score + log_prob, bonus, row, token)
                for row, partial in enumerate(beam.live)
                for log_prob, bonus, token in choices[start + row]
            ]
            candidates.sort(key=lambda candidate: -(candidate[0] + candidate[1]))
            going_on: list[tuple[int, Partial]] = []
            for rank, (score, bonus, row, token) in enumerate(candidates[: 2 * width]):
                if token not in ends:
                    if len(going_on) < width:
                        going_on.append((start + row, beam.live[row].then(score, bonus, token)))
                elif rank < width:
                    beam.finished.append(beam.live[row].ended(score, bonus))
            length = len(beam.live[0].tokens) + 1
            start += len(beam.live)
            going_on = beam.prune(going_on, margin)
            extended.append(going_on)
            if beam.is_full(width, going_on, margin) or length >= beam.limit or not going_on:
                complete = beam.finished or [partial for _, partial in going_on]
                best[beam.index] = sorted(complete, key=lambda partial: -partial.mean_rank)
            else:
                kept.append(b)
        if not kept:
            return best
        if len(kept) < len(beams):
            kept = steps.keep(kept)
            beams = [beams[b] for b in kept]
        rows = [row for b in kept for row, _ in extended[b]]
        for beam, b in zip(beams, kept, strict=True):
            beam.live = [partial for _, partial in extended[b]]
        tokens = [partial.tokens[-1] for beam in beams for partial in beam.live]
        logits = steps.extend(rows, tokens, [len(beam.live) for beam in beams])
