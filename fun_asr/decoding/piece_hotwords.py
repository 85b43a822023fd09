"""Hotwords in the pieces of a CTC head that writes sentences as people do, with capitals and punctuation or without."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fun_asr.decoding.hotwords import CTC_TOKEN_BONUS, HEARD, STRONGEST, HotwordTree
from fun_asr.decoding.spotting import times_heard
from fun_asr.errors import ConfigError
from fun_asr.text.hotwords import Hotword
from fun_asr.text.pieces import Pieces

__all__ = ["PieceHotwords"]


class PieceHotwords:
    """The ways in which each phrase may be written.

    Arguments:
        hotwords: phrases and weights.
        pieces: of the CTC head.
        blank: its index.

    Raises:
        ConfigError: for a phrase with a letter that no piece has.
    """

    def __init__(self, hotwords: Iterable[Hotword], pieces: Pieces, blank: int) -> None:
        self._blank = blank
        self._continues = frozenset(range(len(pieces))) - pieces.word_starts
        self._ways: list[list[list[int]]] = []
        self._totals: list[float] = []
        for phrase, weight in hotwords:
            ways = [tokens for written in sorted(_spellings(phrase)) if (tokens := pieces.encode(written))]
            if not ways:
                raise ConfigError(f"hotword {phrase!r} cannot be written with the model's pieces")
            # In total the bonus is the same for all ways: an unusual spelling has more tokens.
            self._ways.append(ways)
            self._totals.append(CTC_TOKEN_BONUS * min(weight, STRONGEST) * min(map(len, ways)))

    def tree(self, log_probs: npt.NDArray[np.float32]) -> HotwordTree | None:
        """The phrases that may have been said in a segment; None where there is none.

        Arguments:
            log_probs: CTC's of the segment `[J, C]`.
        """
        every = [tokens for ways in self._ways for tokens in ways]
        times = iter(times_heard(log_probs, every, self._blank, HEARD).tolist())
        phrases: list[tuple[list[int], float]] = []
        limit = 0.0
        for ways, total in zip(self._ways, self._totals, strict=True):
            heard = [next(times) for _ in ways]
            # The same telling fits several ways to write it.
            limit += max(heard) * total
            phrases += [(tokens, total / len(tokens)) for tokens, count in zip(ways, heard, strict=True) if count]
        return HotwordTree(phrases, continues=self._continues, limit=limit) if phrases else None


def _spellings(phrase: str) -> set[str]:
    capitals = " ".join(word[:1].upper() + word[1:] for word in phrase.split(" "))
    return {phrase, phrase.lower(), phrase[:1].upper() + phrase[1:], capitals}
