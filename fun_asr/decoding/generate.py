"""Autoregressive decoding of many segments at once: greedy and beam search over one KV cache.

Shapes: B utterances still being decoded, R rows (their hypotheses, at most the beam's width each), V vocabulary,
L encoder frames, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from fun_asr.model.decoder import Decoder, DecoderCache
from fun_asr.model.encoder import ENCODER_FRAMES_PER_SECOND, length_mask
from fun_asr.text.tokenizer import Tokenizer

TOKENS_PER_SECOND = 25
"""More than any language speaks, in Whisper's tokens; bounds the work that a loop can cause."""


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


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How hypotheses are searched."""

    beam_size: int = 1
    margin: float = math.inf
    """Beam search drops what is less likely than the utterance's best by more than this, in nats."""
    suppress: tuple[int, ...] = ()
    """Tokens never written, beside the special ones."""
    suppress_first: tuple[int, ...] = ()
    """Tokens never written first."""
    max_tokens_per_second: float = TOKENS_PER_SECOND
    no_repeat_ngram: int = 0
    """Greedy search writes no sequence of so many tokens twice; 0 allows it."""


_Found = tuple[float, list[int], list[float]]
"""Mean log-probability a token, tokens, and the log-probability summed up to each of them."""


@dataclass
class _Beam:
    """The search state of one utterance."""

    index: int
    """Its place among the inputs."""
    limit: int
    """Most tokens it may have."""
    finished: list[_Found] = field(default_factory=list)
    """The complete hypotheses."""
    likeliest: float = -math.inf
    """Log-probability of the likeliest of them."""


@dataclass(frozen=True)
class _Partial:
    """A hypothesis that goes on."""

    score: float
    """Log-probability."""
    tokens: list[int]
    sums: list[float]
    """The log-probability up to each token."""


def detect_languages(
    decoder: Decoder, memory: Tensor, lengths_B: Tensor, tokenizer: Tokenizer
) -> list[dict[str, float]]:
    """The probability of each language for each utterance, most likely first, from the encoder's output `[B, L, D]`."""
    cache = decoder.start(memory, length_mask(lengths_B, memory.shape[1]))
    return _language_probabilities(decoder, cache, tokenizer)


def _language_probabilities(decoder: Decoder, cache: DecoderCache, tokenizer: Tokenizer) -> list[dict[str, float]]:
    rows = len(cache.self_keys[0])
    device = cache.self_keys[0].device
    logits = decoder.step(torch.full((rows, 1), tokenizer.sot, device=device), cache)
    cache.length = 0
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
    memory: Tensor,
    lengths_B: Tensor,
    tokenizer: Tokenizer,
    languages: Sequence[str | None],
    options: GenerateOptions = GenerateOptions(),
) -> list[Hypothesis]:
    """Decode a batch of encoded segments.

    Arguments:
        decoder: the decoder.
        memory: encoder output `[B, L, D]`.
        lengths_B: valid frames of each segment, int64 `[B]`.
        tokenizer: gives prompts and special tokens.
        languages: a code per segment; None detects it.
        options: beam width and suppressed tokens.
    """
    width = options.beam_size
    mask = length_mask(lengths_B, memory.shape[1])
    limits = [int(8 + options.max_tokens_per_second * n / ENCODER_FRAMES_PER_SECOND) for n in lengths_B.tolist()]
    prompt_length = len(tokenizer.prompt("en"))
    room = decoder.config.max_tokens - prompt_length
    limits = [min(limit, room) for limit in limits]
    cache = decoder.start(memory, mask)

    detected: list[tuple[str, float | None]] = [(language or "", None) for language in languages]
    if None in languages:
        ranked = _language_probabilities(decoder, cache, tokenizer)
        for i, probabilities in enumerate(ranked):
            if languages[i] is None:
                detected[i] = next(iter(probabilities.items()))
    prompts = torch.tensor([tokenizer.prompt(code) for code, _ in detected], device=memory.device)
    logits = decoder.step(prompts, cache)

    banned = torch.tensor(options.suppress, dtype=torch.int64, device=memory.device)
    first = torch.tensor([*options.suppress, *options.suppress_first], dtype=torch.int64, device=memory.device)
    beams = [_Beam(index=i, limit=limit) for i, limit in enumerate(limits)]
    if width == 1:
        searched = [
            [found]
            for found in _greedy(decoder, cache, logits, beams, banned, first, tokenizer.eot, options.no_repeat_ngram)
        ]
    else:
        searched = _beam_search(decoder, cache, logits, beams, banned, first, tokenizer.eot, options)
    hypotheses = []
    for found, (code, probability) in zip(searched, detected, strict=True):
        best, *others = (
            Hypothesis(tokens, score, code, probability, [b - a for a, b in pairwise([0.0, *sums])])
            for score, tokens, sums in found
        )
        hypotheses.append(replace(best, others=tuple(others)))
    return hypotheses


def _greedy(
    decoder: Decoder,
    cache: DecoderCache,
    logits: Tensor,
    beams: list[_Beam],
    banned: Tensor,
    first: Tensor,
    eot: int,
    no_repeat_ngram: int,
) -> list[_Found]:
    best: list[_Found] = [(0.0, [], [])] * len(beams)
    tokens: list[list[int]] = [[] for _ in beams]
    sums: list[list[float]] = [[] for _ in beams]
    scores = [0.0] * len(beams)
    block = first
    while True:
        logits = logits[:, : eot + 1].index_fill_(1, block, -torch.inf)
        block = banned
        if no_repeat_ngram:
            for row, beam in enumerate(beams):
                logits[row, _repeated(tokens[beam.index], no_repeat_ngram)] = -torch.inf
        top = logits.max(dim=-1)
        log_probs = (top.values - logits.logsumexp(dim=-1)).tolist()
        chosen = top.indices.tolist()
        kept = []
        for row, (beam, token, log_prob) in enumerate(zip(beams, chosen, log_probs, strict=True)):
            scores[beam.index] += log_prob
            if token != eot:
                tokens[beam.index].append(token)
                sums[beam.index].append(scores[beam.index])
            written = tokens[beam.index]
            if token == eot or len(written) >= beam.limit:
                best[beam.index] = (scores[beam.index] / (len(written) + 1), written, sums[beam.index])
            else:
                kept.append(row)
        if not kept:
            return best
        if len(kept) < len(beams):
            kept = cache.keep_utterances(kept)
            cache.select_rows(torch.tensor(kept, device=logits.device))
            beams = [beams[row] for row in kept]
        logits = decoder.step(torch.tensor([[chosen[row]] for row in kept], device=logits.device), cache)


def _repeated(tokens: list[int], n: int) -> list[int]:
    """What would end an n-gram that has been written before."""
    last = tokens[len(tokens) - n + 1 :]
    return [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == last]


def _beam_search(
    decoder: Decoder,
    cache: DecoderCache,
    logits: Tensor,
    beams: list[_Beam],
    banned: Tensor,
    first: Tensor,
    eot: int,
    options: GenerateOptions,
) -> list[list[_Found]]:
    """Beam search that ends for an utterance once `beam_size` hypotheses are complete, or none within the margin is
    left; the best has the highest mean.
    """
    device = logits.device
    width = options.beam_size
    best: list[list[_Found]] = [[] for _ in beams]
    live: list[list[_Partial]] = [[_Partial(0.0, [], [])] for _ in beams]
    block = first
    while True:
        logits = logits[:, : eot + 1].index_fill_(1, block, -torch.inf)
        block = banned
        # 2 W candidates hold at least W that do not end.
        top = logits.topk(2 * width, dim=-1)
        log_probs = (top.values - logits.logsumexp(dim=-1, keepdim=True)).tolist()
        choices = top.indices.tolist()
        kept: list[int] = []
        extended: dict[int, list[tuple[int, _Partial]]] = {}
        start = 0  # the utterance's first row
        for b, (beam, partials) in enumerate(zip(beams, live, strict=True)):
            candidates = [
                (partial.score + log_prob, row, token)
                for row, partial in enumerate(partials)
                for log_prob, token in zip(log_probs[start + row], choices[start + row], strict=True)
                if log_prob > -torch.inf
            ]
            candidates.sort(key=lambda candidate: -candidate[0])
            length = len(partials[0].tokens) + 1
            going_on: list[tuple[int, _Partial]] = []
            for rank, (score, row, token) in enumerate(candidates[: 2 * width]):
                source = partials[row]
                if token == eot:
                    if rank < width:
                        beam.finished.append((score / length, source.tokens, source.sums))
                        beam.likeliest = max(beam.likeliest, score)
                elif len(going_on) < width:
                    going_on.append((start + row, _Partial(score, [*source.tokens, token], [*source.sums, score])))
            start += len(partials)
            likeliest = max([beam.likeliest, *(partial.score for _, partial in going_on)])
            going_on = [(row, partial) for row, partial in going_on if partial.score >= likeliest - options.margin]
            if len(beam.finished) >= width or length >= beam.limit or not going_on:
                complete = beam.finished or [(p.score / length, p.tokens, p.sums) for _, p in going_on]
                best[beam.index] = sorted(complete, key=lambda hypothesis: -hypothesis[0])
                continue
            kept.append(b)
            extended[b] = going_on
        if not kept:
            return best
        if len(kept) < len(beams):
            kept = cache.keep_utterances(kept)
            beams = [beams[b] for b in kept]
        rows = [row for b in kept for row, _ in extended[b]]
        live = [[partial for _, partial in extended[b]] for b in kept]
        if rows != list(range(len(logits))):
            cache.select_rows(torch.tensor(rows, device=device))
        cache.lay_out([len(partials) for partials in live])
        tokens = [[partial.tokens[-1]] for partials in live for partial in partials]
        logits = decoder.step(torch.tensor(tokens, device=device), cache)
