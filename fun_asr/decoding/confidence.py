"""How likely a word is right, from what the decoder and CTC say of it: a logistic regression on a few numbers.

`bin/recipe/calibrate-confidence` fits the weights on one half of development clips and measures them on the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fun_asr.decoding.words import AlignedWord

__all__ = ["features", "word_confidence"]

# Of `features`, the constant last; by bin/recipe/calibrate-confidence.
GENERATE = (2.449, 2.414, 0.686, 1.155, -2.191)
CTC = (0.592, 1.811, 1.705, -1.279)


def features(word: AlignedWord) -> list[float]:
    """What is known of a word.

    Returns:
        of the decoder's tokens the least and the mean probability, of the CTC tokens the same, and 1. Where CTC alone
        wrote the word, one divided by the number of its tokens stands in the place of the decoder's.
    """
    ctc = word.ctc_log_probs or (0.0,)
    decoder = _summary(word.log_probs) if word.log_probs else [1 / len(ctc)]
    return [*decoder, *_summary(ctc), 1.0]


def _summary(log_probs: Sequence[float]) -> list[float]:
    probabilities = [math.exp(value) for value in log_probs]
    return [min(probabilities), sum(probabilities) / len(probabilities)]


def word_confidence(word: AlignedWord) -> float:
    """The probability in [0, 1] that a word is right.

    Where CTC was not asked of it, that is the mean probability of the decoder's tokens, which nothing was fitted to.
    """
    if word.ctc_log_probs is None:
        return _summary(word.log_probs)[1] if word.log_probs else 0.0
    weights = GENERATE if word.log_probs else CTC
    return 1 / (1 + math.exp(-sum(w * x for w, x in zip(weights, features(word), strict=True))))
