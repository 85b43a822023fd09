"""How likely a word is right, from what the decoder and CTC say of it: a logistic regression on a few numbers.

`bin/calibrate-confidence` fits the weights on one half of development clips and measures them on the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fun_asr.decoding.words import TimedWord

__all__ = ["features", "word_confidence"]

LOWEST = -10.0  # log-probability: less says no more

# Of `features`, the constant last; by bin/calibrate-confidence.
GENERATE = (2.160, 3.023, -0.038, 1.478, -0.310)
CTC = (1.369, 5.228, -3.032)


def features(word: TimedWord) -> list[float]:
    """What is known of a word.

    Returns:
        of the decoder's tokens the mean log-probability and the least probability, of the CTC tokens the mean
        log-probability and the least probability, and 1; without the former two where CTC alone wrote the word.
    """
    return [*_summary(word.log_probs), *_summary(word.ctc_log_probs or (0.0,)), 1.0]


def _summary(log_probs: Sequence[float]) -> list[float]:
    if not log_probs:
        return []
    floored = [max(value, LOWEST) for value in log_probs]
    return [sum(floored) / len(floored), math.exp(min(floored))]


def word_confidence(word: TimedWord) -> float:
    """The probability in [0, 1] that a word is right."""
    weights = GENERATE if word.log_probs else CTC
    return 1 / (1 + math.exp(-sum(w * x for w, x in zip(weights, features(word), strict=True))))
