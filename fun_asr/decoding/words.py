"""Words in time: each written word's place in its segment by CTC alignment, and what speaks for it.

CTC marks a token by a spike somewhere inside its sound. Where two words follow each other closely, the boundary lies a
little before the second one's first spike; where there is a pause between the spikes, the words end and start with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding.alignment import Alignment, align
from fun_asr.text.spoken import spoken_form
from fun_asr.text.tokenizer import CTCTokenizer

__all__ = [
    "HOP",
    "AlignedWord",
    "WordTokens",
    "WrittenWord",
    "levels_of",
    "quiet_stretch",
    "retime",
    "time_words",
    "written_words",
]

HOP = SAMPLE_RATE // 100  # samples between two levels
# By bin/bench-alignment on synthesised words: the first spike comes this long after a word's start,
ONSET = 6  # hops
LAST_TAIL = 8  # and the last one this long before its end, in hops.
PAUSE = 10  # hops = 0.1 s: longer than the closure of most stop consonants
QUIET = 0.35  # of the way in dB from the quietest place between two words to the quieter word's loudest place
DEEPEST_DB = 45.0  # under that place, nothing quieter counts
CLEAR_DB = 8.0  # less difference between them says nothing about pauses
UNSUPPORTED = -12.0  # log-probability given to a token that CTC had no frame for

Samples = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float64]


class WordTokens(Protocol):
    """What makes words of tokens; a tokenizer is one."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text."""

    def split_words(self, tokens: Sequence[int]) -> list[slice]:
        """The tokens of each word."""


@dataclass(frozen=True)
class WrittenWord:
    """A word as the decoder wrote it."""

    text: str
    log_probs: tuple[float, ...] = ()
    """Of the decoder's tokens; none where CTC wrote it."""


@dataclass(frozen=True)
class AlignedWord:
    """A written word, where it was said, and what speaks for it."""

    text: str
    start: int
    """First sample, counted from the start of the segment."""
    end: int
    """One past the last sample."""
    log_probs: tuple[float, ...]
    """Of the decoder's tokens; none where CTC wrote it."""
    ctc_log_probs: tuple[float, ...] | None
    """Of the word's CTC tokens, each at its spike; none for a word that is not said, such as a dash."""


def written_words(tokenizer: WordTokens, tokens: Sequence[int], log_probs: Sequence[float]) -> list[WrittenWord]:
    """A hypothesis as words.

    Arguments:
        tokenizer: the decoder's.
        tokens: text tokens.
        log_probs: of each of them.
    """
    words = []
    for part in tokenizer.split_words(tokens):
        values = tuple(log_probs[part])
        words += [WrittenWord(text, values) for text in tokenizer.decode(tokens[part]).split()]
    return words


def time_words(
    utterances: Sequence[Sequence[WrittenWord]],
    ctc_log_probs: Sequence[npt.NDArray[np.float32]],
    samples: Sequence[Samples],
    tokenizer: CTCTokenizer,
    frame: int,
) -> list[list[AlignedWord]]:
    """Find the words of segments in their audio.

    Arguments:
        utterances: the words of each segment, in a language of the CTC head.
        ctc_log_probs: CTC log-probabilities of each segment, float32 `[J, C]`.
        samples: mono 16 kHz audio of each segment, float32 `[samples]`.
        tokenizer: the CTC head's.
        frame: samples of a CTC frame, a multiple of 10 ms.

    Returns:
        for each segment its words in order, none overlapping another or reaching beyond the segment. Words that are too
        many for the segment's frames are spread evenly over it.
    """
    # One more column: any token at all, for words of which the tokenizer does not know how they are said.
    extended = [
        np.concatenate([np.delete(frames, tokenizer.blank, axis=1).max(axis=1, keepdims=True), frames], axis=1)
        for frames in ctc_log_probs
    ]
    tokens = [[_word_tokens(word.text, tokenizer) for word in words] for words in utterances]
    flat = [[token + 1 for word in row for token in word] for row in tokens]
    alignments = align(extended, flat, tokenizer.blank + 1)
    return [
        _timed(words, [len(word) for word in row], alignment, audio, frame // HOP)
        for words, row, alignment, audio in zip(utterances, tokens, alignments, samples, strict=True)
    ]


def _word_tokens(text: str, tokenizer: CTCTokenizer) -> list[int]:
    """CTC tokens of a written word; -1 stands for any."""
    spoken = spoken_form(text)
    return [-1] if spoken is None else tokenizer.encode(spoken) if spoken else []


def _timed(
    words: Sequence[WrittenWord],
    counts: list[int],
    alignment: Alignment | None,
    samples: Samples,
    hops_per_frame: int,
) -> list[AlignedWord]:
    if alignment is None:
        edges = np.linspace(0, len(samples), len(words) + 1).astype(int).tolist()
        return [
            AlignedWord(word.text, edges[i], edges[i + 1], word.log_probs, (UNSUPPORTED,) * count)
            for i, (word, count) in enumerate(zip(words, counts, strict=True))
        ]
    firsts = np.cumsum([0, *counts])
    said = [i for i, count in enumerate(counts) if count]
    spikes = [
        (int(alignment.starts[firsts[i]]) * hops_per_frame, int(alignment.ends[firsts[i + 1] - 1]) * hops_per_frame)
        for i in said
    ]
    edges_of = dict(zip(said, _word_edges(spikes, levels_of(samples)), strict=True))
    timed = []
    here = 0
    for i, word in enumerate(words):
        start, end = edges_of.get(i, (here, here))
        start, here = (min(hop * HOP, len(samples)) for hop in (start, end))
        support = tuple(alignment.log_probs[firsts[i] : firsts[i + 1]].tolist())
        timed.append(AlignedWord(word.text, start, here, word.log_probs, support))
        here = end
    return timed


def levels_of(samples: Samples) -> Levels:
    """Level in dB of every 10 ms, the last part of one included, smoothed over three."""
    padded = np.pad(samples, (0, -len(samples) % HOP)).reshape(-1, HOP)
    power = np.einsum("ij,ij->i", padded, padded, dtype=np.float64) / HOP
    smooth = np.convolve(np.pad(power, 1, mode="edge"), np.ones(3) / 3, mode="valid") if len(power) else power
    levels: Levels = 10 * np.log10(smooth + 1e-10)
    return levels


def _word_edges(spikes: Sequence[tuple[int, int]], levels: Levels) -> list[tuple[int, int]]:
    """First hop, and one past the last, of each word with sound; `spikes` has those of its first and last spike."""
    loudest = [levels[max(0, start - ONSET) : end + ONSET].max(initial=-100.0) for start, end in spikes]
    starts, ends = [0] * len(spikes), [0] * len(spikes)
    for i, (low, high) in enumerate(_gaps(spikes, len(levels))):
        first, last = i == 0, i == len(spikes)
        pause = quiet_stretch(levels, max(0, low - 2), min(high + 4, len(levels)), min(loudest[max(0, i - 1) : i + 1]))
        if pause is None:
            # Half-way where the spikes are closer to each other than a first spike is to its word's start.
            boundary = min(low + LAST_TAIL, high) if last else max(high - ONSET, 0 if first else (low + high) // 2)
            pause = (boundary, boundary)
        if not first:
            ends[i - 1] = max(pause[0], starts[i - 1] + 1)
        if not last:
            starts[i] = pause[1] if first else max(pause[1], ends[i - 1])
    return list(zip(starts, ends, strict=True))


def _gaps(spikes: Sequence[tuple[int, int]], hops: int) -> Iterator[tuple[int, int]]:
    """The hops without spikes before, between and after the words."""
    before = 0
    for start, end in spikes:
        yield before, start
        before = end
    yield before, max(hops, before)


def quiet_stretch(levels: Levels, low: int, high: int, loud: float) -> tuple[int, int] | None:
    """The longest quiet stretch of some hops beside words as loud as `loud` dB; None where there is none."""
    part = levels[low:high]
    if len(part) < PAUSE:
        return None
    # Digital silence beside a noisy recording is no measure of what is quiet in it.
    floor = max(float(np.partition(part, len(part) // 20)[len(part) // 20]), loud - DEEPEST_DB)
    if loud - floor < CLEAR_DB:
        return None
    quiet = part < floor + QUIET * (loud - floor)
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    start, end = max(edges.tolist(), key=lambda edge: edge[1] - edge[0], default=(0, 0))
    at_edge = (start == 0 and low == 0) or (end == len(part) and high == len(levels))
    return (low + start, low + end) if end - start >= PAUSE or (at_edge and end > start) else None


def retime(words: Sequence[AlignedWord], text: str, *, spaced: bool = True) -> list[AlignedWord]:
    """The times of a text that says the same as `words` in other words, such as "$25" for "twenty five dollars".

    Arguments:
        words: the words before they were rewritten.
        text: the rewritten text.
        spaced: whether spaces part its words; without, every character is one.
    """
    written = text.split() if spaced else [character for character in text if not character.isspace()]
    if written == [word.text for word in words]:
        return list(words)

    def parts_of(word: str) -> list[str]:
        return (spoken_form(word) or word).split() if spaced else list(word)

    old = [(i, part) for i, word in enumerate(words) for part in parts_of(word.text)]
    new = [(i, part) for i, word in enumerate(written) for part in parts_of(word)]
    sources: list[set[int]] = [set() for _ in written]
    matcher = difflib.SequenceMatcher(None, [part for _, part in old], [part for _, part in new], autojunk=False)
    for _, a, b, c, d in matcher.get_opcodes():
        for place, (owner, _) in enumerate(new[c:d]):
            low = a + place * (b - a) // (d - c)
            high = min(b, max(low + 1, a + (place + 1) * (b - a) // (d - c)))
            sources[owner] |= {i for i, _ in old[low:high]}
    timed: list[AlignedWord] = []
    by_ctc = None if words and words[0].ctc_log_probs is None else ()
    for word, found in zip(written, sources, strict=True):
        here = timed[-1].end if timed else 0
        if not found:
            timed.append(AlignedWord(word, here, here, (), by_ctc))
            continue
        parts = [words[i] for i in sorted(found)]
        joined = replace(
            parts[0],
            text=word,
            start=max(here, parts[0].start),
            end=max(here, parts[-1].end),
            log_probs=tuple(value for part in parts for value in part.log_probs),
            ctc_log_probs=None
            if by_ctc is None
            else tuple(value for part in parts for value in part.ctc_log_probs or ()),
        )
        timed.append(joined)
    return timed
