"""Training of the n-gram model over the CTC head's pieces (fun_asr/decoding/language_model.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fun_asr.decoding.language_model import BOUNDARY, KEY_BITS, LARGEST_ORDER, Keys, NGramModel
from fun_asr.text.spoken import spoken_text
from fun_asr.training.sentences import read_lines

OVERLAP = 5
"""A sentence that shares so many words in a row with a development set is left out of the training text."""

_TEXT = itemgetter("text")


def read_sentences(paths: Iterable[Path], exclude: Iterable[Path] = ()) -> Iterator[str]:
    """The sentences of text files in spoken form, those left out that have none or are in a manifest of `exclude`.

    Arguments:
        paths: UTF-8 text, one sentence a line, or `.xz` of it, or JSONL manifests, of which `text` is taken.
        exclude: JSONL manifests whose words must not be trained on.

    Raises:
        ManifestError: when a file cannot be read.
    """
    held_out = {gram for path in exclude for line in read_lines(path, _TEXT) for gram in _grams(line.split())}
    for path in paths:
        for line in read_lines(path, _TEXT):
            spoken = spoken_text(line)
            if spoken and held_out.isdisjoint(_grams(spoken.split())):
                yield spoken


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    if len(words) < OVERLAP:
        return [tuple(words)]
    return [tuple(words[i : i + OVERLAP]) for i in range(len(words) - OVERLAP + 1)]


def train(
    sentences: Sequence[Sequence[int]], order: int, least_counts: Mapping[int, int], discount: float
) -> NGramModel:
    """Count n-grams and smooth them.

    Arguments:
        sentences: pieces of each sentence.
        order: pieces of the longest n-grams, 2 to 6.
        least_counts: for an order, how often an n-gram must occur to be kept; 1 where it is missing.
        discount: taken from each count, in (0, 1).
    """
    if not 2 <= order <= LARGEST_ORDER:
        raise ValueError(f"order must lie in [2, {LARGEST_ORDER}], got {order}")
    stream = np.concatenate([np.asarray([BOUNDARY, *pieces, BOUNDARY], dtype=np.int64) for pieces in sentences])
    # A context never reaches back over the start of its sentence.
    start = np.zeros(len(stream), dtype=np.int64)
    starts = np.flatnonzero(stream == BOUNDARY)[::2]
    start[starts] = starts
    since = np.arange(len(stream)) - np.maximum.accumulate(start)
    grams: list[Keys] = []
    counts: list[npt.NDArray[np.float64]] = []
    for n in range(1, order + 1):
        packed = np.zeros(len(stream) - n + 1, dtype=np.int64)
        for offset in range(n):
            packed = packed << KEY_BITS | stream[offset : len(stream) - n + 1 + offset]
        unique, found = np.unique(packed[since[n - 1 :] >= max(n - 1, 1)], return_counts=True)
        grams.append(unique)
        counts.append(found.astype(np.float64))
    for n in range(1, order):  # of shorter n-grams, how many pieces precede them counts, not how often they occur
        longer = grams[n]
        begins = (grams[n - 1] >> (KEY_BITS * (n - 1))) == BOUNDARY
        continued = np.zeros(len(grams[n - 1]))
        suffixes, different = np.unique(longer & ((1 << (KEY_BITS * n)) - 1), return_counts=True)
        continued[np.searchsorted(grams[n - 1], suffixes)] = different
        # Nothing precedes a sentence's start: these n-grams keep their counts.
        counts[n - 1] = np.where(begins, counts[n - 1], continued) if n > 1 else continued
    unigrams = np.zeros(1 << KEY_BITS)
    unigrams[grams[0]] = counts[0]
    seen = np.count_nonzero(unigrams)
    rest = discount * seen / unigrams.sum() / len(unigrams)
    unigrams = np.maximum(unigrams - discount, 0) / unigrams.sum() + rest
    keys, parts = [], []
    for n in range(2, order + 1):
        contexts, inverse = np.unique(grams[n - 1] >> KEY_BITS, return_inverse=True)
        totals = np.bincount(inverse, weights=counts[n - 1], minlength=len(contexts))
        kept = counts[n - 1] >= least_counts.get(n, 1)
        part = np.maximum(counts[n - 1] - discount, 0) / totals[inverse]
        kept &= part > 0
        keys.append(grams[n - 1][kept])
        parts.append(part[kept].astype(np.float32))
    return NGramModel(keys, parts, unigrams.astype(np.float32))
