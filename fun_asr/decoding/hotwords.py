"""Contextual biasing: phrases that the search prefers among what the model finds plausible.

Shallow fusion with a prefix tree (Zhao et al. 2019): each token along a phrase adds a bonus, which is taken back when
the phrase breaks off and kept when it is complete, at the end of a word. The bonus ranks hypotheses; their
log-probabilities stay the model's own.

Shapes: R rows of a search, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fun_asr.text.hotwords import Hotword
from fun_asr.text.spoken import spoken_text
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer

__all__ = ["HotwordTree", "Place", "RowBias", "ctc_tree", "decoder_tree"]

TOKEN_BONUS = 1.5
CTC_TOKEN_BONUS = 1.5
MARGIN = 5.0
"""A token that is so much less likely than the best one gets no bonus: what was not said stays out."""


class Place(NamedTuple):
    """Where a hypothesis stands in the tree."""

    nodes: tuple[int, ...] = ()
    """Of the phrases that may be going on, one for each word they may have started with."""
    between_letters: bool = False
    """Whether its last token ends in a letter, so that only a space starts another word."""


START = Place()


class Moved(NamedTuple):
    """What one more token does to a hypothesis."""

    gained: float
    """Bonus of a phrase that is now complete."""
    place: Place


@dataclass
class _Node:
    children: dict[int, int] = field(default_factory=dict)
    pending: float = 0.0
    """The bonus of what is written of a phrase."""
    complete: float = 0.0
    """The bonus of the phrase that may end here."""


class HotwordTree:
    """Phrases as a prefix tree over tokens.

    Arguments:
        phrases: tokens and bonus a token of each way to write each phrase.
        continues: tokens that go on with a word where a letter is before them; all others, and the end, let a phrase
            be complete.
        ends_in_letter: tokens that end in a letter: after them no phrase starts with one of `continues`.
        margin: see `MARGIN`; natural logarithm.
    """

    def __init__(
        self,
        phrases: Iterable[tuple[Sequence[int], float]],
        *,
        continues: frozenset[int],
        ends_in_letter: frozenset[int] = frozenset(),
        margin: float = MARGIN,
    ) -> None:
        self.margin = margin
        self.continues = continues
        self._ends_in_letter = ends_in_letter
        self._nodes = [_Node()]
        for tokens, bonus in phrases:
            self._add(tokens, bonus)
        self._moves: dict[tuple[Place, int], Moved] = {}

    def _add(self, tokens: Sequence[int], bonus: float) -> None:
        node = 0
        for depth, token in enumerate(tokens, start=1):
            children = self._nodes[node].children
            if token not in children:
                children[token] = len(self._nodes)
                self._nodes.append(_Node())
            node = children[token]
            self._nodes[node].pending = max(self._nodes[node].pending, depth * bonus)
        self._nodes[node].complete = max(self._nodes[node].complete, len(tokens) * bonus)

    def pending(self, place: Place) -> float:
        """The bonus of what is written of the phrase that may be going on, taken back if it breaks off."""
        return max((self._nodes[node].pending for node in place.nodes), default=0.0)

    def complete(self, place: Place) -> float:
        """The bonus that is kept if the word ends here."""
        return max((self._nodes[node].complete for node in place.nodes), default=0.0)

    def moves(self, place: Place) -> list[int]:
        """The tokens along phrases."""
        found = {token for node in place.nodes for token in self._nodes[node].children}
        starts = self._nodes[0].children
        return sorted(found.union(t for t in starts if not (place.between_letters and t in self.continues)))

    def move(self, place: Place, token: int, *, plausible: bool = True) -> Moved:
        """Where one more token leads; one that is not plausible breaks off every phrase."""
        gained = 0.0 if token in self.continues else self.complete(place)
        nodes: tuple[int, ...] = ()
        if plausible:
            going_on = [n for node in place.nodes if (n := self._nodes[node].children.get(token)) is not None]
            start = self._nodes[0].children.get(token)
            if start is not None and not (place.between_letters and token in self.continues):
                going_on.append(start)
            nodes = tuple(going_on)
        return Moved(gained, Place(nodes, token in self._ends_in_letter))


class RowBias:
    """The tree's bonus in a search of R hypotheses that grow by a token at a time.

    Arguments:
        tree: the phrases.
        rows: R at the start.
        device: of the search.
    """

    def __init__(self, tree: HotwordTree, rows: int, device: torch.device) -> None:
        self._tree = tree
        self._device = device
        self._kept = [0.0] * rows
        self._places = [START] * rows
        self._additions: dict[Place, tuple[Tensor, Tensor]] = {}
        self._continues = torch.tensor(sorted(tree.continues), device=device)
        self._plausible = torch.empty(0)

    def added(self, scores_RV: Tensor, log_probs_RV: Tensor) -> Tensor:
        """The scores `[R, V]` and the bonus that each hypothesis would have with each token.

        Arguments:
            scores_RV: of the hypotheses with each next token; they are not changed.
            log_probs_RV: of the next tokens alone, impossible ones -inf; they decide on what is plausible.
        """
        tree = self._tree
        least_R = log_probs_RV.amax(dim=-1, keepdim=True) - tree.margin
        self._plausible = log_probs_RV >= least_R
        complete = [tree.complete(place) for place in self._places]
        constant = [kept + gained for kept, gained in zip(self._kept, complete, strict=True)]
        ranks_RV = scores_RV + torch.tensor(constant, device=self._device, dtype=scores_RV.dtype)[:, None]
        for row, gained in enumerate(complete):
            if gained:
                ranks_RV[row, self._continues] -= gained
        by_place: dict[Place, list[int]] = {}
        for row, place in enumerate(self._places):
            by_place.setdefault(place, []).append(row)
        for place, rows in by_place.items():
            tokens, pending = self._pending(place)
            where = (torch.tensor(rows, device=self._device)[:, None], tokens[None])
            ranks_RV[where] += pending * self._plausible[where]
        return ranks_RV

    def advance(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Hypotheses become those of `rows`, each with one of `tokens` more."""
        where = (torch.tensor(rows, device=self._device), torch.tensor(tokens, device=self._device))
        kept, places = [], []
        for row, token, plausible in zip(rows, tokens, self._plausible[where].tolist(), strict=True):
            gained, place = self._tree.move(self._places[row], token, plausible=plausible)
            kept.append(self._kept[row] + gained)
            places.append(place)
        self._kept, self._places = kept, places

    def _pending(self, place: Place) -> tuple[Tensor, Tensor]:
        """The tokens along phrases and the bonus that is pending with each."""
        if place not in self._additions:
            tokens = self._tree.moves(place)
            pending = [self._tree.pending(self._tree.move(place, token).place) for token in tokens]
            self._additions[place] = (
                torch.tensor(tokens, dtype=torch.int64, device=self._device),
                torch.tensor(pending, device=self._device),
            )
        return self._additions[place]


def decoder_tree(
    hotwords: Iterable[Hotword], tokenizer: Tokenizer, *, token_bonus: float = TOKEN_BONUS, margin: float = MARGIN
) -> HotwordTree:
    """The tree over the decoder's tokens: phrases as given, in lower case and with capitals, after a space or without.

    Arguments:
        hotwords: phrases and weights.
        tokenizer: the decoder's.
        token_bonus: added for each token of a phrase of weight 1; natural logarithm.
        margin: as for `HotwordTree`.
    """
    texts = [token.decode("utf-8", errors="ignore") for token in tokenizer.token_bytes]
    # The second part of a character is no word's beginning either.
    continues = {i for i, t in enumerate(tokenizer.token_bytes) if t and (0x80 <= t[0] < 0xC0)}
    continues |= {i for i, text in enumerate(texts) if text and _in_word(text[0])}
    phrases = [
        (tokens, token_bonus * weight)
        for phrase, weight in hotwords
        for written in _spellings(phrase)
        for tokens in (tokenizer.encode(written), tokenizer.encode(written, leading_space=False))
    ]
    ends_in_letter = frozenset(i for i, text in enumerate(texts) if text and _in_word(text[-1]))
    return HotwordTree(phrases, continues=frozenset(continues), ends_in_letter=ends_in_letter, margin=margin)


def ctc_tree(
    hotwords: Iterable[Hotword], tokenizer: CTCTokenizer, *, token_bonus: float = CTC_TOKEN_BONUS
) -> HotwordTree:
    """The tree over the CTC head's pieces; what its alphabet cannot say is left out.

    Arguments:
        hotwords: phrases and weights.
        tokenizer: the CTC head's.
        token_bonus: as for `decoder_tree`.
    """
    phrases = [
        (tokenizer.encode(spoken), token_bonus * weight)
        for phrase, weight in hotwords
        if (spoken := spoken_text(phrase))
    ]
    return HotwordTree(phrases, continues=frozenset(range(tokenizer.blank)) - tokenizer.word_starts)


def _spellings(phrase: str) -> set[str]:
    words = phrase.split(" ")
    return {
        phrase,
        phrase.lower(),
        phrase[:1].upper() + phrase[1:],
        " ".join(word[:1].upper() + word[1:] for word in words),
    }


def _in_word(character: str) -> bool:
    """Whether it belongs to a word that spaces end: no Thai, Chinese, Japanese or Korean letters do."""
    return character.isalnum() and (character < "\u0e00" or "\u1e00" <= character < "\u2000")
