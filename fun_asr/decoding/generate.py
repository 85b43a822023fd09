"""Autoregressive decoding of many segments at once: greedy and beam search over one KV cache.

Shapes: B utterances still being decoded, R rows (their hypotheses, at most the beam's width each), V vocabulary,
L encoder frames, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from fun_asr.decoding.hotwords import HotwordTree, RowBias
from fun_asr.layers.cache import DecoderCache
from fun_asr.layers.decoder import Decoder
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND

TOKENS_PER_SECOND = 25
"""More than any language speaks, in Whisper's tokens; bounds the work that a loop can cause."""


class Prompts(Protocol):
    """What a search needs to know of the tokens; a tokenizer is one."""

    @property
    def sot(self) -> int:
        """The token that every transcript starts with."""

    @property
    def eot(self) -> int:
        """The token that ends it; the text tokens are below."""

    @property
    def languages(self) -> Mapping[str, int]:
        """Language code to its token."""

    def prompt(self, language: str) -> list[int]:
        """The tokens that start a transcript in a language; as many for each of them."""


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
class GenerateOptions:
    """How hypotheses are searched."""

    beam_size: int = 1
    margin: float = math.inf
    """Beam search drops what is less likely than the utterance's best by more than this, in nats, with the hotwords'
    bonus and without it."""
    suppress: tuple[int, ...] = ()
    """Tokens never written, beside the special ones."""
    suppress_first: tuple[int, ...] = ()
    """Tokens never written first."""
    max_tokens_per_second: float = TOKENS_PER_SECOND
    no_repeat_ngram: int = 0
    """Greedy search writes no sequence of so many tokens twice; 0 allows it."""
    hotwords: Sequence[HotwordTree | None] | None = None
    """Phrases that the search prefers in each segment; the log-probabilities stay the model's own."""
    no_speech: int | None = None
    """The token by which the model says that nobody speaks; None does not ask."""
    temperature: float = 0.0
    """Greedy search draws each token with the probabilities to the power of 1 / temperature; 0 takes the likeliest."""
    seed: int = 0
    """Of the draws."""


@dataclass(frozen=True)
class _Partial:
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

    def then(self, score: float, bonus: float, token: int) -> _Partial:
        """With one more token."""
        return _Partial(score, [*self.tokens, token], [*self.sums, score], bonus, self.steps + 1)

    def ended(self, score: float, bonus: float) -> _Partial:
        """With the end of text."""
        return _Partial(score, self.tokens, self.sums, bonus, self.steps + 1)


@dataclass
class _Beam:
    """The search state of one utterance."""

    index: int
    """Its place among the inputs."""
    limit: int
    """Most tokens it may have."""
    live: list[_Partial] = field(default_factory=lambda: [_Partial(0.0, [], [])])
    finished: list[_Partial] = field(default_factory=list)
    """The complete hypotheses."""

    def prune(self, extended: list[tuple[int, _Partial]], margin: float) -> list[tuple[int, _Partial]]:
        """What of the extended hypotheses is within the margin of the best one, complete ones included."""
        seen = [*self.finished, *(partial for _, partial in extended)]
        if not seen:
            return []
        rank = max(partial.rank for partial in seen) - margin
        score = max(partial.score for partial in seen) - margin
        # By either: a hotword's bonus must not drop what goes on when its phrase breaks off, nor come too late.
        return [(row, partial) for row, partial in extended if partial.rank >= rank or partial.score >= score]


@dataclass(frozen=True)
class _Steps:
    """The decoder's steps in a search, greedy or with a beam."""

    decoder: Decoder
    cache: DecoderCache
    eot: int
    suppress: Tensor
    """Tokens never written, int64."""
    suppress_first: Tensor
    """Tokens never written first, those of `suppress` among them."""
    bias: RowBias | None
    """The hotwords'; None without any."""

    def allowed(self, logits: Tensor, *, first: bool) -> Tensor:
        """Logits `[R, V]` of the text tokens and the end of text, -inf for what is never written; `logits` change."""
        return logits[:, : self.eot + 1].index_fill_(1, self.suppress_first if first else self.suppress, -torch.inf)

    def extend(self, rows: list[int], tokens: list[int]) -> Tensor:
        """Logits `[R, V]` after one more token of each hypothesis.

        Arguments:
            rows: which hypothesis before the last choice each goes on from; the cache has been put in this order.
            tokens: chosen for each.
        """
        if self.bias is not None:
            self.bias.advance(rows, tokens)
        return self.decoder.step(torch.tensor(tokens, device=self.suppress.device)[:, None], self.cache)


@torch.inference_mode()
def detect_languages(
    decoder: Decoder, encoded: Tensor, lengths_B: Tensor, tokenizer: Prompts
) -> list[dict[str, float]]:
    """The probability of each language for each utterance, most likely first, from the encoder's output `[B, L, D]`."""
    cache = decoder.start(encoded, decoder.memory_mask(lengths_B, encoded.shape[1]))
    return _language_probabilities(_opening(decoder, cache, tokenizer), tokenizer)


def _opening(decoder: Decoder, cache: DecoderCache, tokenizer: Prompts) -> Tensor:
    """Logits `[R, V]` after the first token alone; the cache stays empty."""
    rows = len(cache.self_keys[0])
    device = cache.self_keys[0].device
    logits = decoder.step(torch.full((rows, 1), tokenizer.sot, device=device), cache)
    cache.length = 0
    return logits


def _language_probabilities(logits: Tensor, tokenizer: Prompts) -> list[dict[str, float]]:
    codes = list(tokenizer.languages)
    probabilities = logits[:, [tokenizer.languages[code] for code in codes]].softmax(dim=-1)
    ranked = probabilities.sort(dim=-1, descending=True)
    return [
        {codes[i]: p for i, p in zip(order, values, strict=True)}
        for order, values in zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True)
    ]


@torch.inference_mode()
def generate(
    decoder: Decoder,
    encoded: Tensor,
    lengths_B: Tensor,
    tokenizer: Prompts,
    languages: Sequence[str | None],
    options: GenerateOptions = GenerateOptions(),
    *,
    seconds: Sequence[float] | None = None,
) -> list[Hypothesis]:
    """Decode a batch of encoded segments.

    Arguments:
        decoder: the decoder.
        encoded: encoder output `[B, L, D]`.
        lengths_B: valid frames of each segment, int64 `[B]`.
        tokenizer: gives prompts and special tokens.
        languages: a code per segment; None detects it.
        options: beam width, suppressed tokens and hotwords.
        seconds: of sound in each segment, which bound its tokens; None where all valid frames are sound.
    """
    if seconds is None:
        seconds = [frames / ENCODER_FRAMES_PER_SECOND for frames in decoder.sound_frames(lengths_B).tolist()]
    limits = [int(8 + options.max_tokens_per_second * sound) for sound in seconds]
    room = decoder.config.max_tokens - len(tokenizer.prompt("en"))
    limits = [min(limit, room) for limit in limits]
    cache = decoder.start(encoded, decoder.memory_mask(lengths_B, encoded.shape[1]))

    detected: list[tuple[str, float | None]] = [(language or "", None) for language in languages]
    no_speech: list[float | None] = [None] * len(languages)
    opening = None
    if None in languages or options.no_speech is not None:
        opening = _opening(decoder, cache, tokenizer)
    if opening is not None and options.no_speech is not None:
        no_speech = opening.softmax(dim=-1)[:, options.no_speech].tolist()
    if opening is not None and None in languages:
        ranked = _language_probabilities(opening, tokenizer)
        for i, probabilities in enumerate(ranked):
            if languages[i] is None:
                detected[i] = next(iter(probabilities.items()))
    prompts = torch.tensor([tokenizer.prompt(code) for code, _ in detected], device=encoded.device)
    logits = decoder.step(prompts, cache)

    trees = options.hotwords or ()
    # The special tokens after the end of text are never written anyway; published lists have them.
    never = [token for token in options.suppress if token <= tokenizer.eot]
    never_first = [*never, *(token for token in options.suppress_first if token <= tokenizer.eot)]
    steps = _Steps(
        decoder=decoder,
        cache=cache,
        eot=tokenizer.eot,
        suppress=torch.tensor(never, dtype=torch.int64, device=encoded.device),
        suppress_first=torch.tensor(never_first, dtype=torch.int64, device=encoded.device),
        bias=RowBias(trees, encoded.device) if any(tree is not None for tree in trees) else None,
    )
    beams = [_Beam(index=i, limit=limit) for i, limit in enumerate(limits)]
    if options.beam_size == 1:
        searched = [[found] for found in _greedy(steps, logits, beams, options)]
    else:
        searched = _beam_search(steps, logits, beams, options.beam_size, options.margin)
    hypotheses = []
    for found, (code, probability), silence in zip(searched, detected, no_speech, strict=True):
        best, *others = (
            Hypothesis(
                tokens=partial.tokens,
                score=partial.score / partial.steps,
                complete=partial.steps > len(partial.tokens),
                language=code,
                language_probability=probability,
                log_probs=[b - a for a, b in pairwise([0.0, *partial.sums])],
                bonus=partial.bonus,
                no_speech=silence,
            )
            for partial in found
        )
        hypotheses.append(replace(best, others=tuple(others)))
    return hypotheses


def _greedy(steps: _Steps, logits: Tensor, beams: list[_Beam], options: GenerateOptions) -> list[_Partial]:
    """The hypothesis of each utterance, from the prompts' logits `[B, V]`."""
    no_repeat_ngram = options.no_repeat_ngram
    # A generator an utterance: what it is batched with changes nothing.
    draws = [torch.Generator().manual_seed(options.seed) for _ in beams] if options.temperature else []
    cache, eot, bias = steps.cache, steps.eot, steps.bias
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
            partial = partial.ended(score, 0.0) if token == eot else partial.then(score, 0.0, token)
            beam.live = [partial]
            if token == eot or len(partial.tokens) >= beam.limit:
                best[beam.index] = partial
            else:
                kept.append(row)
        if not kept:
            return best
        if len(kept) < len(beams):
            kept = cache.keep_utterances(kept)
            cache.select_rows(torch.tensor(kept, device=logits.device))
            beams = [beams[row] for row in kept]
        logits = steps.extend(kept, [beam.live[0].tokens[-1] for beam in beams])


def _repeated(tokens: list[int], n: int) -> list[int]:
    """What would end an n-gram that has been written before."""
    last = tokens[len(tokens) - n + 1 :]
    return [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == last]


def _beam_search(steps: _Steps, logits: Tensor, beams: list[_Beam], width: int, margin: float) -> list[list[_Partial]]:
    """The complete hypotheses of each utterance, the highest mean first, from the prompts' logits `[B, V]`.

    The search ends for an utterance once `width` hypotheses are complete, or none within the margin goes on.
    """
    cache, eot, bias = steps.cache, steps.eot, steps.bias
    best: list[list[_Partial]] = [[] for _ in beams]
    first = True
    while True:
        logits = steps.allowed(logits, first=first)
        first = False
        # Of each row 2 W candidates, so that at least W of them all do not end.
        if bias is None:
            top = logits.topk(min(2 * width, eot + 1), dim=-1)
            values = top.values - logits.logsumexp(dim=-1, keepdim=True)
            bonuses = torch.zeros_like(values)
        else:
            log_probs = logits.log_softmax(dim=-1)
            top = bias.added(log_probs).topk(min(2 * width, eot + 1), dim=-1)
            values = log_probs.gather(1, top.indices)
            bonuses = top.values - values
        choices = [
            [choice for choice in zip(*columns, strict=True) if choice[0] > -math.inf]
            for columns in zip(values.tolist(), bonuses.tolist(), top.indices.tolist(), strict=True)
        ]
        kept: list[int] = []
        extended: list[list[tuple[int, _Partial]]] = []
        start = 0  # the utterance's first row
        for b, beam in enumerate(beams):
            candidates = [
                (partial.score + log_prob, bonus, row, token)
                for row, partial in enumerate(beam.live)
                for log_prob, bonus, token in choices[start + row]
            ]
            candidates.sort(key=lambda candidate: -(candidate[0] + candidate[1]))
            going_on: list[tuple[int, _Partial]] = []
            for rank, (score, bonus, row, token) in enumerate(candidates[: 2 * width]):
                if token != eot:
                    if len(going_on) < width:
                        going_on.append((start + row, beam.live[row].then(score, bonus, token)))
                elif rank < width:
                    beam.finished.append(beam.live[row].ended(score, bonus))
            length = len(beam.live[0].tokens) + 1
            start += len(beam.live)
            going_on = beam.prune(going_on, margin)
            extended.append(going_on)
            if len(beam.finished) >= width or length >= beam.limit or not going_on:
                complete = beam.finished or [partial for _, partial in going_on]
                best[beam.index] = sorted(complete, key=lambda partial: -partial.mean_rank)
            else:
                kept.append(b)
        if not kept:
            return best
        if len(kept) < len(beams):
            kept = cache.keep_utterances(kept)
            beams = [beams[b] for b in kept]
        rows = [row for b in kept for row, _ in extended[b]]
        for beam, b in zip(beams, kept, strict=True):
            beam.live = [partial for _, partial in extended[b]]
        tokens = [partial.tokens[-1] for beam in beams for partial in beam.live]
        if rows != list(range(len(logits))):
            cache.select_rows(torch.tensor(rows, device=logits.device))
        cache.lay_out([len(beam.live) for beam in beams])
        logits = steps.extend(rows, tokens)
