"""Autoregressive decoding of many segments at once: greedy and beam search over one KV cache.

Shapes: B utterances still being decoded, W beam width, R = B * W rows, V vocabulary, L encoder frames, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from fun_asr.decoding.hotwords import HotwordTree, RowBias
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
    bonus: float = 0.0
    """What hotwords added to the sum of log-probabilities by which the beam search ranked it."""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How hypotheses are searched."""

    beam_size: int = 1
    suppress: tuple[int, ...] = ()
    """Tokens never written, beside the special ones."""
    suppress_first: tuple[int, ...] = ()
    """Tokens never written first."""
    max_tokens_per_second: float = TOKENS_PER_SECOND
    no_repeat_ngram: int = 0
    """Greedy search writes no sequence of so many tokens twice; 0 allows it."""
    hotwords: Sequence[HotwordTree | None] | None = None
    """Phrases that the search prefers in each segment; the log-probabilities stay the model's own."""


_Found = tuple[float, list[int], list[float], float]
"""Mean log-probability a token, tokens, the log-probability summed up to each of them, and the hotwords' bonus."""


@dataclass
class _Beam:
    """The search state of one utterance."""

    index: int
    """Its place among the inputs."""
    limit: int
    """Most tokens it may have."""
    finished: list[_Found] = field(default_factory=list)
    """The complete hypotheses."""


def detect_languages(
    decoder: Decoder, memory: Tensor, lengths_B: Tensor, tokenizer: Tokenizer
) -> list[dict[str, float]]:
    """The probability of each language for each utterance, most likely first, from the encoder's output `[B, L, D]`."""
    cache = decoder.start(memory, length_mask(lengths_B, memory.shape[1]), rows_per_utterance=1, capacity=1)
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
        options: beam width, suppressed tokens and hotwords.
    """
    width = options.beam_size
    mask = length_mask(lengths_B, memory.shape[1])
    limits = [int(8 + options.max_tokens_per_second * n / ENCODER_FRAMES_PER_SECOND) for n in lengths_B.tolist()]
    prompt_length = len(tokenizer.prompt("en"))
    room = decoder.config.max_tokens - prompt_length
    limits = [min(limit, room) for limit in limits]
    cache = decoder.start(memory, mask, rows_per_utterance=width, capacity=prompt_length + max(limits))

    detected: list[tuple[str, float | None]] = [(language or "", None) for language in languages]
    if None in languages:
        ranked = _language_probabilities(decoder, cache, tokenizer)[::width]
        for i, probabilities in enumerate(ranked):
            if languages[i] is None:
                detected[i] = next(iter(probabilities.items()))
    prompts = torch.tensor([tokenizer.prompt(code) for code, _ in detected], device=memory.device)
    logits = decoder.step(prompts.repeat_interleave(width, dim=0), cache)

    banned = torch.zeros(decoder.config.vocab_size, dtype=torch.bool, device=memory.device)
    banned[tokenizer.eot + 1 :] = True
    banned[list(options.suppress)] = True
    first = banned.clone()
    first[list(options.suppress_first)] = True
    beams = [_Beam(index=i, limit=limit) for i, limit in enumerate(limits)]
    trees = options.hotwords or ()
    bias = RowBias(trees, width, memory.device) if any(tree is not None for tree in trees) else None
    if width == 1:
        searched = [
            [found]
            for found in _greedy(
                decoder, cache, logits, beams, banned, first, tokenizer.eot, options.no_repeat_ngram, bias
            )
        ]
    else:
        searched = _beam_search(decoder, cache, logits, beams, banned, first, tokenizer.eot, width, bias)
    hypotheses = []
    for found, (code, probability) in zip(searched, detected, strict=True):
        best, *others = (
            Hypothesis(tokens, score, code, probability, [b - a for a, b in pairwise([0.0, *sums])], bonus=bonus)
            for score, tokens, sums, bonus in found
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
    bias: RowBias | None,
) -> list[_Found]:
    best: list[_Found] = [(0.0, [], [], 0.0)] * len(beams)
    tokens: list[list[int]] = [[] for _ in beams]
    sums: list[list[float]] = [[] for _ in beams]
    scores = [0.0] * len(beams)
    block = first
    while True:
        logits.masked_fill_(block, -torch.inf)
        block = banned
        if no_repeat_ngram:
            for row, beam in enumerate(beams):
                logits[row, _repeated(tokens[beam.index], no_repeat_ngram)] = -torch.inf
        ranks = logits if bias is None else bias.added(logits, logits)
        best_R1 = ranks.argmax(dim=-1, keepdim=True)
        log_probs = (logits.gather(1, best_R1)[:, 0] - logits.logsumexp(dim=-1)).tolist()
        chosen = best_R1[:, 0].tolist()
        kept = []
        for row, (beam, token, log_prob) in enumerate(zip(beams, chosen, log_probs, strict=True)):
            scores[beam.index] += log_prob
            if token != eot:
                tokens[beam.index].append(token)
                sums[beam.index].append(scores[beam.index])
            written = tokens[beam.index]
            if token == eot or len(written) >= beam.limit:
                best[beam.index] = (scores[beam.index] / (len(written) + 1), written, sums[beam.index], 0.0)
            else:
                kept.append(row)
        if not kept:
            return best
        if len(kept) < len(beams):
            rows = torch.tensor(kept, device=logits.device)
            cache.select_rows(rows)
            cache.select_utterances(rows)
            beams = [beams[row] for row in kept]
        next_tokens = [chosen[row] for row in kept]
        if bias is not None:
            bias.advance(kept, next_tokens)
        logits = decoder.step(torch.tensor(next_tokens, device=logits.device)[:, None], cache)


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
    width: int,
    bias: RowBias | None,
) -> list[list[_Found]]:
    """Beam search that ends for an utterance once `width` hypotheses are complete; the best has the highest mean.

    Hypotheses rank by the sum of their log-probabilities and the hotwords' bonus.
    """
    device = logits.device
    best: list[list[_Found]] = [[] for _ in beams]
    tokens: list[list[list[int]]] = [[[] for _ in range(width)] for _ in beams]
    sums: list[list[list[float]]] = [[[] for _ in range(width)] for _ in beams]
    # All rows of an utterance start equal: only the first may branch.
    scores_BW = torch.full((len(beams), width), -torch.inf, device=device)
    scores_BW[:, 0] = 0.0
    block = first
    while True:
        log_probs = logits.masked_fill_(block, -torch.inf).log_softmax(dim=-1)
        block = banned
        vocabulary = log_probs.shape[-1]
        scores_RV = log_probs + scores_BW.flatten()[:, None]
        ranks_RV = scores_RV if bias is None else bias.added(scores_RV, log_probs)
        # 2 W candidates hold at least W that do not end.
        top = ranks_RV.view(len(beams), -1).topk(2 * width, dim=-1)
        values_BC = top.values if bias is None else scores_RV.view(len(beams), -1).gather(1, top.indices)
        bonuses = (top.values - values_BC).tolist()
        next_rows: list[int] = []
        next_tokens: list[int] = []
        next_scores: list[list[float]] = []
        kept: list[int] = []
        for b, (beam, values, indices) in enumerate(zip(beams, values_BC.tolist(), top.indices.tolist(), strict=True)):
            live: list[tuple[float, int, int, float]] = []
            for rank, (value, index, bonus) in enumerate(zip(values, indices, bonuses[b], strict=True)):
                source, token = divmod(index, vocabulary)
                if value == -torch.inf:
                    continue
                if token == eot:
                    if rank < width:
                        written = tokens[b][source]
                        beam.finished.append((value / (len(written) + 1), written, sums[b][source], bonus))
                elif len(live) < width:
                    live.append((value, source, token, bonus))
            length = len(tokens[b][0]) + 1
            if len(beam.finished) >= width or length >= beam.limit or not live:
                best[beam.index] = sorted(beam.finished, key=_rank, reverse=True) or [
                    (value / length, [*tokens[b][s], t], [*sums[b][s], value], bonus) for value, s, t, bonus in live
                ]
                continue
            live += [(-torch.inf, *live[0][1:])] * (width - len(live))
            kept.append(b)
            next_rows += [b * width + source for _, source, _, _ in live]
            next_tokens += [token for _, _, token, _ in live]
            next_scores.append([value for value, *_ in live])
            tokens[b] = [[*tokens[b][source], token] for _, source, token, _ in live]
            sums[b] = [[*sums[b][source], value] for value, source, _, _ in live]
        if not kept:
            return best
        cache.select_rows(torch.tensor(next_rows, device=device))
        if len(kept) < len(beams):
            cache.select_utterances(torch.tensor(kept, device=device))
            beams = [beams[b] for b in kept]
            tokens = [tokens[b] for b in kept]
            sums = [sums[b] for b in kept]
        if bias is not None:
            bias.advance(next_rows, next_tokens)
        scores_BW = torch.tensor(next_scores, device=device)
        logits = decoder.step(torch.tensor(next_tokens, device=device)[:, None], cache)


def _rank(found: _Found) -> float:
    """Mean log-probability a token, the hotwords' bonus included."""
    mean, tokens, _, bonus = found
    return mean + bonus / (len(tokens) + 1)
