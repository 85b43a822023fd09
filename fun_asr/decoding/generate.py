"""Autoregressive decoding of many segments at once: greedy and beam search over one KV cache.

Shapes: B utterances still being decoded, R rows (their hypotheses, at most the beam's width each), V vocabulary,
L encoder frames, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fun_asr.decoding.hotwords import RowBias
from fun_asr.decoding.search import Hypothesis, SearchOptions, hypothesis_of, search
from fun_asr.layers.cache import DecoderCache
from fun_asr.layers.decoder import Decoder
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND

__all__ = [
    "TOKENS_PER_SECOND",
    "GenerateOptions",
    "Hypothesis",
    "Prompts",
    "detect_languages",
    "generate",
    "start_decoding",
]

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


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(SearchOptions):
    """How hypotheses are searched."""

    suppress: tuple[int, ...] = ()
    """Tokens never written, beside the special ones."""
    suppress_first: tuple[int, ...] = ()
    """Tokens never written first."""
    max_tokens_per_second: float = TOKENS_PER_SECOND
    no_speech: int | None = None
    """The token by which the model says that nobody speaks; None does not ask."""


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

    @property
    def ends(self) -> frozenset[int]:
        """The token that ends a text."""
        return frozenset((self.eot,))

    def allowed(self, logits: Tensor, *, first: bool) -> Tensor:
        """Logits `[R, V]` of the text tokens and the end of text, -inf for what is never written; `logits` change."""
        return logits[:, : self.eot + 1].index_fill_(1, self.suppress_first if first else self.suppress, -torch.inf)

    def keep(self, kept: list[int]) -> list[int]:
        """Drop all utterances but `kept`, ascending; returns which utterance is now in each place."""
        return self.cache.keep_utterances(kept)

    def extend(self, rows: list[int], tokens: list[int], counts: list[int]) -> Tensor:
        """Logits `[R, V]` after one more token of each hypothesis."""
        if rows != list(range(len(self.cache.self_keys[0]))):
            self.cache.select_rows(torch.tensor(rows, device=self.suppress.device))
        self.cache.lay_out(counts)
        if self.bias is not None:
            self.bias.advance(rows, tokens)
        return self.decoder.step(torch.tensor(tokens, device=self.suppress.device)[:, None], self.cache)


@torch.inference_mode()
def start_decoding(decoder: Decoder, encoded: Tensor, lengths_B: Tensor) -> DecoderCache:
    """An empty cache over the encoder's output `[B, L, D]`, of which `lengths_B` frames are valid."""
    return decoder.start(encoded, decoder.memory_mask(lengths_B, encoded.shape[1]))


@torch.inference_mode()
def detect_languages(decoder: Decoder, cache: DecoderCache, tokenizer: Prompts) -> list[dict[str, float]]:
    """The probability of each language for each utterance, most likely first; the cache stays empty."""
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
    cache: DecoderCache | None = None,
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
        cache: `start_decoding`'s for them, which is used up; None to start here.
    """
    if seconds is None:
        seconds = [frames / ENCODER_FRAMES_PER_SECOND for frames in decoder.sound_frames(lengths_B).tolist()]
    limits = [int(8 + options.max_tokens_per_second * sound) for sound in seconds]
    room = decoder.config.max_tokens - len(tokenizer.prompt("en"))
    limits = [min(limit, room) for limit in limits]
    if cache is None:
        cache = start_decoding(decoder, encoded, lengths_B)

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
    searched = search(steps, logits, limits, options)
    return [
        hypothesis_of(found, code, probability, silence)
        for found, (code, probability), silence in zip(searched, detected, no_speech, strict=True)
    ]
