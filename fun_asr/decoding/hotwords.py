"""Contextual biasing: phrases that the search prefers among what the model finds plausible.

Shallow fusion with a prefix tree (Zhao et al. 2019): each token along a phrase adds a bonus, which is taken back when
the phrase breaks off and kept when it is complete, at the end of a word. The bonus ranks hypotheses; their
log-probabilities stay the model's own. In the language of the CTC head only phrases that it may have heard in a segment
are in that segment's tree: the others would take places in a narrow beam from what was said.

Shapes: R rows of a search, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.decoding.spotting import times_heard
from fun_asr.text.hotwords import Hotword
from fun_asr.text.spoken import spoken_text
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer

__all__ = ["CTC_TOKEN_BONUS", "HEARD", "START", "STRONGEST", "HotwordTree", "Hotwords", "Place", "RowBias"]

# On development clips 53 of 85 rare words were written without hotwords, 65 with a bonus of 2, 72 with 3.5; 5 wrote a
# name where "she" was said.
TOKEN_BONUS = 3.5
CTC_TOKEN_BONUS = 2.0
MARGIN = 10.0
"""A token that is so much less likely than the best one gets no bonus: what was not said stays out."""
UNHEARD_TOKEN_BONUS = 1.5
UNHEARD_MARGIN = 5.0
"""Where CTC cannot tell which phrases may have been said, so that all are in the tree."""
HEARD = -5.0
"""Score of a phrase that CTC may have heard: of 112 words, it leaves 4 of those not said in a clip."""
STRONGEST = 1.5
"""Weights beyond it raise the bonus no more: phrases would be written wherever a word begins like them."""


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
        limit: most that all phrases of a hypothesis add, so that none is written more often than it was said.
    """

    def __init__(
        self,
        phrases: Iterable[tuple[Sequence[int], float]],
        *,
        continues: frozenset[int],
        ends_in_letter: frozenset[int] = frozenset(),
        margin: float = MARGIN,
        limit: float = math.inf,
    ) -> None:
        self.margin = margin
        self.limit = limit
        self.continues = continues
        self._ends_in_letter = ends_in_letter
        self._nodes = [_Node()]
        for tokens, bonus in phrases:
            self._add(tokens, bonus)

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
    """The bonus of hotwords in a search of R hypotheses that grow by a token at a time.

    Arguments:
        trees: of each utterance, which starts with one hypothesis; None where it has no hotwords.
        device: of the search.
    """

    def __init__(self, trees: Sequence[HotwordTree | None], device: torch.device) -> None:
        self._device = device
        self._trees = list(trees)
        self._kept = [0.0] * len(self._trees)
        self._places = [START] * len(self._trees)
        self._additions: dict[tuple[HotwordTree, Place], tuple[Tensor, Tensor, Tensor]] = {}
        self._continues: dict[frozenset[int], Tensor] = {}
        self._plausible = torch.empty(0)

    def added(self, log_probs_RV: Tensor) -> Tensor:
        """Log-probabilities of the next tokens `[R, V]` and the bonus that each hypothesis would have with each token.

        Arguments:
            log_probs_RV: impossible ones -inf, not changed; but for a constant of each row, they may be logits.
        """
        margins_R = [0.0 if tree is None else tree.margin for tree in self._trees]
        best_R = log_probs_RV.amax(dim=-1)
        self._plausible = log_probs_RV >= (best_R - torch.tensor(margins_R, device=self._device))[:, None]
        ranks_RV = log_probs_RV.clone()
        alike: dict[tuple[HotwordTree, Place], list[int]] = {}
        for row, (tree, place, kept) in enumerate(zip(self._trees, self._places, self._kept, strict=True)):
            if tree is None:
                continue
            alike.setdefault((tree, place), []).append(row)
            complete = min(tree.complete(place), tree.limit - kept)
            if kept or complete:
                ranks_RV[row] += kept + complete
            if complete:
                ranks_RV[row, self._continuing(tree)] -= complete
        for (tree, place), rows in alike.items():
            tokens, pending, complete_with = self._pending(tree, place)
            where = (torch.tensor(rows, device=self._device)[:, None], tokens[None])
            kept_R1 = torch.tensor([[self._kept[row]] for row in rows], device=self._device)
            room = (tree.limit - kept_R1 - complete_with).clamp(min=0.0)
            ranks_RV[where] += torch.minimum(pending, room) * self._plausible[where]
        return ranks_RV

    def advance(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Hypotheses become those of `rows`, each with one of `tokens` more."""
        where = (torch.tensor(rows, device=self._device), torch.tensor(tokens, device=self._device))
        kept, places = [], []
        for row, token, plausible in zip(rows, tokens, self._plausible[where].tolist(), strict=True):
            tree = self._trees[row]
            moved = Moved(0.0, START) if tree is None else tree.move(self._places[row], token, plausible=plausible)
            gained = self._kept[row] + moved.gained
            kept.append(gained if tree is None else min(gained, tree.limit))
            places.append(moved.place)
        self._kept, self._places, self._trees = kept, places, [self._trees[row] for row in rows]

    def _pending(self, tree: HotwordTree, place: Place) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens along phrases, the bonus that is pending with each, and that of a phrase complete before it."""
        found = self._additions.get((tree, place))
        if found is None:
            tokens = tree.moves(place)
            moved = [tree.move(place, token) for token in tokens]
            found = self._additions[tree, place] = (
                torch.tensor(tokens, dtype=torch.int64, device=self._device),
                torch.tensor([tree.pending(after.place) for after in moved], device=self._device),
                torch.tensor([after.gained for after in moved], device=self._device),
            )
        return found

    def _continuing(self, tree: HotwordTree) -> Tensor:
        found = self._continues.get(tree.continues)
        if found is None:
            found = self._continues[tree.continues] = torch.tensor(sorted(tree.continues), device=self._device)
        return found


class Hotwords:
    """The hotwords of a transcription in the tokens of the decoder and of the CTC head.

    Arguments:
        hotwords: phrases and weights.
        tokenizer, ctc_tokenizer: the decoder's and the CTC head's; None for a model without one.
        token_bonus: of the decoder: added for each token of a phrase of weight 1 in its shortest spelling; natural
            logarithm.
        ctc_token_bonus: likewise for the pieces of the CTC head.
        margin: as for `HotwordTree`.
        unheard_token_bonus, unheard_margin: of the decoder where CTC does not know the language.
        heard: see `HEARD`.
    """

    def __init__(
        self,
        hotwords: Iterable[Hotword],
        tokenizer: Tokenizer,
        ctc_tokenizer: CTCTokenizer | None,
        *,
        token_bonus: float = TOKEN_BONUS,
        ctc_token_bonus: float = CTC_TOKEN_BONUS,
        margin: float = MARGIN,
        unheard_token_bonus: float = UNHEARD_TOKEN_BONUS,
        unheard_margin: float = UNHEARD_MARGIN,
        heard: float = HEARD,
    ) -> None:
        self._heard, self._blank = heard, 0 if ctc_tokenizer is None else ctc_tokenizer.blank
        self._token_bonus, self._margin = token_bonus, margin
        self._unheard_token_bonus, self._unheard_margin = unheard_token_bonus, unheard_margin
        hotwords = tuple(hotwords)
        spoken = [_sayable(phrase) for phrase, _ in hotwords]
        # Empty for what the CTC head's alphabet cannot say.
        self._pieces = [ctc_tokenizer.encode(text) if text and ctc_tokenizer is not None else [] for text in spoken]
        self._weights = [min(weight, STRONGEST) for _, weight in hotwords]
        self._ctc_bonuses = [ctc_token_bonus * weight for weight in self._weights]
        word_starts: frozenset[int] = frozenset() if ctc_tokenizer is None else ctc_tokenizer.word_starts
        self._ctc_continues = frozenset(range(self._blank)) - word_starts
        self._spellings = [
            _token_bonuses(phrase, weight, tokenizer)
            for (phrase, _), weight in zip(hotwords, self._weights, strict=True)
        ]
        texts = [token.decode("utf-8", errors="ignore") for token in tokenizer.token_bytes]
        # The second part of a character is no word's beginning either.
        continues = {i for i, token in enumerate(tokenizer.token_bytes) if token and 0x80 <= token[0] < 0xC0}
        self._continues = frozenset(continues.union(i for i, text in enumerate(texts) if text and _in_word(text[0])))
        self._ends_in_letter = frozenset(i for i, text in enumerate(texts) if text and _in_word(text[-1]))

    def decoder_tree(self, log_probs: npt.NDArray[np.float32] | None) -> HotwordTree | None:
        """The tree for a segment over the decoder's tokens; None where no phrase may have been said.

        Phrases are as given, in lower case and with capitals, after a space or without.

        Arguments:
            log_probs: CTC's of the segment `[J, C]`; None for a language that CTC does not know, with all phrases.
        """
        heard = {} if log_probs is None else self._heard_places(log_probs)
        cannot_tell = [log_probs is None or not pieces for pieces in self._pieces]
        margin = self._margin if heard else self._unheard_margin
        phrases = [
            (tokens, share * (self._token_bonus if place in heard else self._unheard_token_bonus))
            for place, spellings in enumerate(self._spellings)
            if place in heard or cannot_tell[place]
            for tokens, share in spellings
        ]
        if not phrases:
            return None
        limit = math.inf
        if not any(cannot_tell):
            limit = self._token_bonus * sum(times * _total(self._spellings[place]) for place, times in heard.items())
        return HotwordTree(
            phrases, continues=self._continues, ends_in_letter=self._ends_in_letter, margin=margin, limit=limit
        )

    def ctc_tree(self, log_probs: npt.NDArray[np.float32]) -> HotwordTree | None:
        """The tree for a segment over the CTC head's pieces; None where no phrase may have been said.

        Arguments:
            log_probs: CTC's of the segment `[J, C]`.
        """
        heard = self._heard_places(log_probs)
        phrases = [(self._pieces[place], self._ctc_bonuses[place]) for place in heard]
        limit = sum(times * len(self._pieces[place]) * self._ctc_bonuses[place] for place, times in heard.items())
        return HotwordTree(phrases, continues=self._ctc_continues, limit=limit) if phrases else None

    def _heard_places(self, log_probs: npt.NDArray[np.float32]) -> dict[int, int]:
        """Of the phrases that CTC may have heard, how often."""
        sayable = [place for place, pieces in enumerate(self._pieces) if pieces]
        times = times_heard(log_probs, [self._pieces[place] for place in sayable], self._blank, self._heard)
        return {place: count for place, count in zip(sayable, times.tolist(), strict=True) if count}


def _total(ways: Sequence[tuple[Sequence[int], float]]) -> float:
    """How often the bonus counts for the whole phrase; the same for all ways to write it."""
    return len(ways[0][0]) * ways[0][1]


def _sayable(phrase: str) -> str | None:
    """The spoken form in the letters of the CTC head; None where it lacks one, such as the first of "Łódź"."""
    spoken = spoken_text(phrase)
    if spoken is None or sum(map(str.isalpha, spoken)) < sum(map(str.isalpha, phrase)):
        return None
    return spoken


def _token_bonuses(phrase: str, weight: float, tokenizer: Tokenizer) -> list[tuple[list[int], float]]:
    """Tokens of each way to write a phrase, and how often the bonus counts for each token.

    In total that is the same for all ways: an unusual spelling has more tokens, and is to win nothing by that.
    """
    ways = [
        tokens
        for written in _spellings(phrase)
        for tokens in (tokenizer.encode(written), tokenizer.encode(written, leading_space=False))
    ]
    total = weight * min(map(len, ways))
    return [(tokens, total / len(tokens)) for tokens in ways]


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
