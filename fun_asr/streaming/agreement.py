"""Which words of ever longer hypotheses can be relied on (local agreement: Liu et al. 2020, Macháček et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from fun_asr.transcript import Word

__all__ = ["Agreement"]

SETTLED = 0.6  # seconds: a word that ends later than that before the end of the sound may still change
EDGE = 0.2  # seconds: a word that ends later than that may be cut off by the end of the sound
COPY = 3  # words that are a copy of others
COPIED_WITHIN = 40  # words back
SAID = 0.6  # of the first time's seconds, that a repetition takes at least
OVERLAP = 0.1  # seconds by which the times of one word differ between two hypotheses


class Agreement:
    """Takes the hypotheses of one utterance, each from a later end of its sound."""

    def __init__(self) -> None:
        self.committed: list[Word] = []
        self._before: list[Word] = []

    def take(self, words: Sequence[Word], start: float, end: float) -> tuple[list[Word], list[Word]]:
        """Compare a hypothesis with the one before.

        Arguments:
            words: of the hypothesis, in order.
            start, end: of the sound that it was made of, in the seconds of the words.

        Returns:
            the words that are committed now, and those after them that are likely.
        """
        fresh = self._fresh(words, start)
        fresh = fresh[: max(0, _without_repeats([*self.committed, *fresh]) - len(self.committed))]
        agreed = 0
        for now, before in zip(fresh, self._before, strict=False):
            if _plain(now.text) != _plain(before.text) or now.end > end - SETTLED:
                break
            agreed += 1
        new = fresh[:agreed]
        self.committed += new
        self._before = fresh[agreed:]
        return new, list(takewhile(lambda word: word.end <= end - EDGE, self._before))

    def _fresh(self, words: Sequence[Word], start: float) -> list[Word]:
        """The words after those that are committed."""
        known = [word for word in self.committed if word.start >= start - OVERLAP]
        if not known:
            return list(words)
        if [_plain(word.text) for word in words[: len(known)]] == [_plain(word.text) for word in known]:
            return list(words[len(known) :])
        last = known[-1]
        fresh = [word for word in words if (word.start + word.end) / 2 > last.end - OVERLAP / 2]
        if fresh and _plain(fresh[0].text) == _plain(last.text) and fresh[0].start < last.end + OVERLAP:
            return fresh[1:]
        return fresh


def _without_repeats(words: Sequence[Word]) -> int:
    """How many of some words come before a copy that nobody said.

    A decoder that has come to the end of the sound before that of the sentence says things again, in no time.
    """
    plain = [_plain(word.text) for word in words]
    for first in range(1, len(words) - COPY + 1):
        copy = plain[first : first + COPY]
        for i in range(max(0, first - COPIED_WITHIN), first):
            if plain[i : i + COPY] == copy and _seconds(words, first) < SAID * _seconds(words, i):
                return first
    return len(words)


def _seconds(words: Sequence[Word], first: int) -> float:
    return words[first + COPY - 1].end - words[first].start


def _plain(word: str) -> str:
    """A word without case and punctuation, which later words change."""
    return "".join(letter for letter in word.casefold() if letter.isalnum()) or word
