"""The guard against invented text: no speech, no text, and no endless repetition."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fun_asr.decoding.generate import Hypothesis
from fun_asr.decoding.words import AlignedWord

SILENCE_PEAK = 1e-4  # -80 dBFS, 3 steps of 16-bit audio: dithered silence stays below it
MAX_LOOP_TOKENS = 20
MIN_LOOP_COPIES = 4
MIN_LOOP_SPAN = 8  # tokens: "no, no, no, no" is speech
BLOCKED_NGRAM = 5  # tokens that are not written twice when a segment is decoded again
UNLIKELY = -5.0  # mean CTC log-probability of a word's tokens at their best frames
# Of a segment in which CTC finds the blank likeliest everywhere. In half an hour of noise, hum, chords and clicks the
# three that the detector lets through have a certainty of at most 0.85.
SURE_SPEECH = 0.9  # the detector's highest probability
HEARD_TOKENS = 0.4  # to be expected of CTC
SURE_SCORE = -0.75  # the decoder's mean log-probability a token
REPETITIVE = 2.4  # compression ratio of a text, as in Whisper's own fallback
MIN_REPEATED_WORDS = 4
SHORTER_COPY = 0.5  # of the longer one's time: who says a sentence again takes nearly as long
HEARD_SHARE = 1 / 3  # of the tokens written, by bin/bench-guard: of words that were said CTC hears more than half


def is_silent(samples: npt.NDArray[np.float32]) -> bool:
    """Whether mono samples `[samples]` in [-1, 1] are digital silence, in which nothing needs to be recognised."""
    return len(samples) == 0 or float(np.abs(samples).max()) < SILENCE_PEAK


def has_speech(log_probs: Tensor, lengths_B: Tensor, blank: int) -> list[bool]:
    """Whether CTC hears any token in each utterance.

    Arguments:
        log_probs: CTC log-probabilities `[B, J, C]`.
        lengths_B: valid CTC frames of each utterance, int64 `[B]`.
        blank: the blank's index.
    """
    heard_BJ = (log_probs.argmax(dim=-1) != blank).cpu()
    return [bool(row[:length].any()) for row, length in zip(heard_BJ, lengths_B.tolist(), strict=True)]


def may_be_speech(log_probs: Tensor, lengths_B: Tensor, blank: int, certainties: Sequence[float]) -> list[bool]:
    """Whether the detector is sure of speech and CTC expects a token, though none at any one place.

    Short words end so: what is written of them is to be believed where the decoder is sure of it (`is_sure`).

    Arguments:
        log_probs, lengths_B, blank: as for `has_speech`.
        certainties: the detector's highest probability of speech in each utterance.
    """
    heard_BJ = (1 - log_probs[:, :, blank].exp()).cpu()
    return [
        certainty >= SURE_SPEECH and float(row[:length].sum()) >= HEARD_TOKENS
        for row, length, certainty in zip(heard_BJ, lengths_B.tolist(), certainties, strict=True)
    ]


def is_sure(score: float, looped: bool) -> bool:
    """Whether the decoder is sure of a text of which CTC hears no token.

    Arguments:
        score: its mean log-probability a token.
        looped: whether the decoder got caught in a loop.
    """
    return score >= SURE_SCORE and not looped


def cut_loops(tokens: Sequence[int]) -> tuple[list[int], bool]:
    """Cut the repetition in which an autoregressive decoder got caught, and keep one copy of what it repeats.

    A loop is an n-gram of up to 20 tokens at the end, at least four times in a row and over at least eight tokens.

    Arguments:
        tokens: text tokens of one hypothesis.

    Returns:
        the tokens that stay, and whether any were cut.

    >>> cut_loops([5, 1, 2, 1, 2, 1, 2, 1, 2])
    ([5, 1, 2], True)
    """
    tokens = list(tokens)
    for n in range(1, MAX_LOOP_TOKENS + 1):
        copies = 1
        while tokens[-(copies + 1) * n : -copies * n] == tokens[-n:] and (copies + 1) * n <= len(tokens):
            copies += 1
        if copies >= MIN_LOOP_COPIES and copies * n >= MIN_LOOP_SPAN:
            return tokens[: len(tokens) - (copies - 1) * n], True
    return tokens, False


def compression_ratio(text: str) -> float:
    """How many times shorter zlib makes a text: 1 to 2 for speech, more for what repeats itself."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data)) if data else 1.0


def is_repetitive(text: str) -> bool:
    """Whether a text says the same over and over, if not in the same words."""
    return compression_ratio(text) > REPETITIVE


def repeated_end(words: Sequence[Hashable], least: int = MIN_REPEATED_WORDS) -> int:
    """How many words at the end are a copy of those just before them; 0 when there is no such copy.

    Arguments:
        words: in the form in which they are compared, without case and punctuation.
        least: words of a copy that counts.

    >>> repeated_end("so it goes on and on so it goes on and on".split())
    6
    """
    words = list(words)
    for n in range(len(words) // 2, least - 1, -1):
        if words[-n:] == words[-2 * n : -n]:
            return n
    return 0


def said_once(first: float, second: float) -> bool:
    """Whether of a sentence and its copy, which take so much time in the audio, only one was said.

    Two tellings take about as long; where there is one, the other copy is left what time remains.
    """
    return min(first, second) < SHORTER_COPY * max(first, second)


def without_loops(
    hypotheses: Sequence[Hypothesis],
    decode_again: Callable[[list[int]], Sequence[Hypothesis]],
    repetitive: Callable[[Sequence[int]], bool] = lambda _: False,
) -> tuple[list[Hypothesis], list[bool]]:
    """Replace hypotheses that got caught in a loop.

    Arguments:
        hypotheses: of a batch.
        decode_again: decodes those at the given places in another way, without repetitions.
        repetitive: whether tokens without a loop at their end repeat themselves all the same.

    Returns:
        the hypotheses, and which of them had a loop. Where the second try loops as well, the first one with the loop
        cut stays.
    """
    cut = [cut_loops(hypothesis.tokens) for hypothesis in hypotheses]
    looped = [had_loop or repetitive(tokens) for tokens, had_loop in cut]
    found = list(hypotheses)
    places = [i for i, had_loop in enumerate(looped) if had_loop]
    if places:
        for i, again in zip(places, decode_again(places), strict=True):
            tokens = cut[i][0]
            kept = replace(hypotheses[i], tokens=tokens, log_probs=hypotheses[i].log_probs[: len(tokens)])
            found[i] = kept if cut_loops(again.tokens)[1] or repetitive(again.tokens) else again
    return found, looped


def supported_words(
    words: Sequence[AlignedWord], ctc_log_probs: npt.NDArray[np.float32], blank: int, frame: int
) -> int:
    """How many of the words stay: all but those at the end that CTC does not hear.

    They go if each of them is unlikely where it was aligned, and the frames from there on are nearly all blank: fewer
    than a third as many tokens are to be expected there as were written. Where CTC hears something else they stay.

    Arguments:
        words: in order, with their places in the segment.
        ctc_log_probs: the segment's CTC log-probabilities, float32 `[J, C]`.
        blank: the blank's index.
        frame: samples of a CTC frame.
    """
    kept = len(words)
    while kept and np.mean(words[kept - 1].ctc_log_probs or (-np.inf,)) < UNLIKELY:
        kept -= 1
    written = sum(len(word.ctc_log_probs or ()) for word in words[kept:])
    start = -(-words[kept - 1].end // frame) if kept else 0
    heard = float(np.sum(1 - np.exp(ctc_log_probs[start:, blank])))
    return kept if heard < HEARD_SHARE * written else len(words)
