"""Words of models that write a token at a frame: CTC and transducers say where each token is by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding.alignment import align
from fun_asr.decoding.words import AlignedWord
from fun_asr.text.pieces import Pieces
from fun_asr.transcript import Word

__all__ = ["Emission", "aligned_emissions", "confidence", "emitted_words", "greedy_emissions", "placed_words"]


@dataclass(frozen=True)
class Emission:
    """A token and its frames."""

    token: int
    start: int
    """First frame."""
    end: int
    """One past the last frame, at least `start`."""
    log_prob: float


def greedy_emissions(logits: Tensor, lengths_B: Tensor, blank: int) -> tuple[list[list[Emission]], list[float]]:
    """CTC's best token of each frame, repeats merged, blanks dropped (Graves et al. 2006).

    Arguments:
        logits: of the CTC head, `[B, J, C]`.
        lengths_B: valid frames of each utterance, int64 `[B]`.
        blank: the blank's index.

    Returns:
        each utterance's tokens, with the best log-probability that each has in its frames, and the mean log-probability
        of its frames.
    """
    best_BJ, token_BJ = logits.max(dim=-1)
    log_prob_BJ = (best_BJ.float() - torch.logsumexp(logits.float(), dim=-1)).cpu()
    found, scores = [], []
    for tokens_J, log_probs_J, length in zip(token_BJ.cpu(), log_prob_BJ, lengths_B.tolist(), strict=True):
        row: list[Emission] = []
        tokens, counts = torch.unique_consecutive(tokens_J[:length], return_counts=True)
        start = 0
        for token, count in zip(tokens.tolist(), counts.tolist(), strict=True):
            if token != blank:
                row.append(Emission(token, start, start + count, float(log_probs_J[start : start + count].max())))
            start += count
        found.append(row)
        scores.append(float(log_probs_J[:length].mean()) if length else 0.0)
    return found, scores


def aligned_emissions(log_probs: Tensor, tokens: Sequence[int], blank: int) -> list[Emission]:
    """Where CTC hears tokens that a search found.

    Arguments:
        log_probs: one utterance's `[J, C]`.
        tokens: without blanks.
        blank: the blank's index.
    """
    frames = log_probs.float().cpu().numpy()
    (alignment,) = align([frames], [list(tokens)], blank)
    if alignment is None:
        return []
    return [
        Emission(token, int(start), int(end), float(log_prob))
        for token, start, end, log_prob in zip(
            tokens, alignment.starts, alignment.ends, alignment.log_probs, strict=True
        )
    ]


def emitted_words(emissions: Sequence[Emission], pieces: Pieces, frame: int, samples: int) -> list[AlignedWord]:
    """The words that tokens are, from the first frame of each to its last.

    Arguments:
        emissions: of one utterance, in order.
        pieces: the model's.
        frame: samples of a frame.
        samples: of the utterance; no word reaches beyond.

    Returns:
        words in order, none overlapping another.
    """
    tokens = [emission.token for emission in emissions]
    words: list[AlignedWord] = []
    for part in pieces.split_words(tokens):
        said = emissions[part]
        log_probs = tuple(emission.log_prob for emission in said)
        for text in pieces.decode(tokens[part]).split():
            start = min(max(said[0].start * frame, words[-1].end if words else 0), samples)
            end = min(max(said[-1].end * frame, start), samples)
            words.append(AlignedWord(text, start, end, log_probs, log_probs))
    return words


def confidence(word: AlignedWord) -> float:
    """The mean probability of a word's tokens."""
    values = [math.exp(value) for value in word.log_probs]
    return sum(values) / len(values) if values else 0.0


def placed_words(timed: Iterable[AlignedWord], start: int) -> tuple[Word, ...]:
    """Words with times in seconds of the recording, for a segment that starts at sample `start`."""
    return tuple(
        Word(
            text=word.text,
            start=(start + word.start) / SAMPLE_RATE,
            end=(start + word.end) / SAMPLE_RATE,
            confidence=confidence(word),
        )
        for word in timed
    )
