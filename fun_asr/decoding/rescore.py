"""Choosing among the decoder's hypotheses with the n-gram language model of the CTC head's pieces.

The decoder's own search ends with the highest mean log-probability a token; the sum, the probability of the whole
sentence, prefers the shorter of two near equals ("tonight" to "to night"), and the language model knows which of them
people write. A sum also prefers a text that ends after the first words, which a wide beam always finds: only what says
about as much is a near equal.
"""

from __future__ import annotations

import dataclasses
import math

from fun_asr.decoding.generate import Hypothesis
from fun_asr.decoding.language_model import BOUNDARY, NGramModel
from fun_asr.text.spoken import spoken_text
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer

__all__ = ["best_hypothesis"]

LANGUAGE_WEIGHT = 0.15
PIECE_BONUS = 0.3
"""Added for each piece, for which the language model takes a little."""
LEAST_SHARE = 0.75
SPARED_PIECES = 4
"""A candidate has at least this share of the pieces that the search's choice has, or is so many shorter at most."""


def best_hypothesis(
    hypothesis: Hypothesis, model: NGramModel, tokenizer: Tokenizer, ctc_tokenizer: CTCTokenizer
) -> Hypothesis:
    """The hypothesis that decoder and language model together find most likely, itself or one of its `others`.

    The bonus of hotwords counts as in the search.

    It stays as it is where one of them has no spoken form.

    Arguments:
        hypothesis: English, as the search found it.
        model: over the pieces of `ctc_tokenizer`.
        tokenizer, ctc_tokenizer: the decoder's and the CTC head's.
    """
    candidates = (dataclasses.replace(hypothesis, others=()), *hypothesis.others)
    spoken = [form for c in candidates if (form := spoken_text(tokenizer.decode(c.tokens))) is not None]
    if len(candidates) < 2 or len(spoken) < len(candidates):
        return hypothesis
    pieces_of = [ctc_tokenizer.encode(form) for form in spoken]
    least = min(LEAST_SHARE * len(pieces_of[0]), len(pieces_of[0]) - SPARED_PIECES)
    joint = []
    for candidate, pieces in zip(candidates, pieces_of, strict=True):
        if len(pieces) < least:
            joint.append(-math.inf)
            continue
        stream = [BOUNDARY, *pieces, BOUNDARY]
        language = sum(math.log(model.next(stream[:i])[stream[i]]) for i in range(1, len(stream)))
        total = candidate.total
        joint.append(total + candidate.bonus + LANGUAGE_WEIGHT * language + PIECE_BONUS * len(pieces))
    return candidates[joint.index(max(joint))]
