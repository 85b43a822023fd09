"""An n-gram language model over the CTC head's pieces, for fusion in its prefix search.

Interpolated Kneser-Ney smoothing (Ney et al. 1994, Chen and Goodman 1999): the probability of a piece w after a context
h is a(w | h) + (1 - sum of a(. | h)) * p(w | h without its oldest piece). Only the discounted parts a are stored; what
the pruning left out goes to the shorter context by itself, so the probabilities always sum to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fun_asr.errors import CheckpointError
from fun_asr.files import replacing

KEY_BITS = 10
"""Of a packed n-gram, for each piece: at most 1,023 pieces and one for the boundary, at most six to a key."""
BOUNDARY = (1 << KEY_BITS) - 1
"""Stands before the first and after the last piece of a sentence."""
LARGEST_ORDER = 6
LEAST_REST = 1e-4
"""Of a context's probability for the shorter one: stored in float16, the explicit parts may sum to a little over 1."""

REMEMBERED = 8192
"""Contexts whose probabilities are kept: 4 KB each."""

Keys = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


class NGramModel:
    """Probabilities of the next piece.

    Arguments:
        keys: the n-grams of each order from 2 on, packed (the oldest piece in the highest bits), sorted.
        parts: the discounted part a of each, float `[n-grams of the order]`.
        unigrams: probability of each piece, the boundary last in its place, float `[2^KEY_BITS]`.
    """

    def __init__(self, keys: Sequence[Keys], parts: Sequence[Probabilities], unigrams: Probabilities) -> None:
        self._keys = list(keys)
        self._parts = [part.astype(np.float32) for part in parts]
        self._unigrams = unigrams.astype(np.float32)
        self._known: dict[tuple[int, ...], Probabilities] = {}  # what follows a context

    @property
    def order(self) -> int:
        """Pieces of the longest n-grams."""
        return len(self._keys) + 1

    def next(self, context: Sequence[int]) -> Probabilities:
        """Probability of each piece after `context`, float32 `[2^KEY_BITS]`; only the last `order - 1` pieces count."""
        recent = tuple(context[-(self.order - 1) :]) if self.order > 1 else ()
        found = self._known.get(recent)
        if found is None:
            found = self._interpolated(recent)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[recent] = found
        return found

    def _interpolated(self, context: tuple[int, ...]) -> Probabilities:
        if not context:
            return self._unigrams
        shorter = self.next(context[1:])
        keys, parts = self._keys[len(context) - 1], self._parts[len(context) - 1]
        packed = 0
        for piece in context:
            packed = packed << KEY_BITS | piece
        first, last = np.searchsorted(keys, (packed << KEY_BITS, (packed + 1) << KEY_BITS))
        if first == last:
            return shorter
        explicit = parts[first:last]
        mixed = shorter * np.float32(max(1 - explicit.sum(), LEAST_REST))
        mixed[keys[first:last] & BOUNDARY] += explicit
        return mixed

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors: dict[str, npt.NDArray[np.generic]] = {"unigrams": self._unigrams}
        for order, (keys, parts) in enumerate(zip(self._keys, self._parts, strict=True), start=2):
            tensors[f"{order}.keys"], tensors[f"{order}.parts"] = keys, parts.astype(np.float16)
        with replacing(path) as unfinished:
            save_file(tensors, unfinished)
            unfinished.chmod(0o644)  # the library writes files that only their owner may read

    @classmethod
    def load(cls, path: Path) -> NGramModel:
        """Read what `save` wrote.

        Raises:
            CheckpointError: when the file is damaged or is something else.
        """
        try:
            tensors = load_file(path)
            orders = range(2, len(tensors) // 2 + 2)
            keys = [tensors[f"{order}.keys"] for order in orders]
            return cls(keys, [tensors[f"{order}.parts"] for order in orders], tensors["unigrams"])
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"{path}: no n-gram model ({error})") from None
