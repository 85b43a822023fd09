"""Two systems on the same speech: the matched-pairs sentence-segment word error test (Gillick and Cox, 1989)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fun_asr.scoring.wer import UtteranceScore

__all__ = ["MatchedPairs", "matched_pairs", "segments_of"]

CORRECT_BETWEEN = 2
"""Words that both systems got right, after which errors are taken to be independent of those before; NIST's number."""


@dataclass(frozen=True)
class MatchedPairs:
    """A second system against a first, on the segments in which either has an error."""

    segments: int
    mean: float
    """Errors of the second less those of the first, a segment."""
    z: float
    """The mean by its standard error."""
    p_value: float
    """Two-sided: how likely a mean is at least as far from 0 if there is no difference."""


def matched_pairs(pairs: Iterable[tuple[UtteranceScore, UtteranceScore]]) -> MatchedPairs | None:
    """Test two systems' scores of the same utterances; None where segments are too few, or all differ alike."""
    differences = [second - first for pair in pairs for first, second in segments_of(*pair)]
    count = len(differences)
    if count < 2:
        return None
    mean = sum(differences) / count
    variance = sum((difference - mean) ** 2 for difference in differences) / (count - 1)
    if not variance:
        return MatchedPairs(count, 0.0, 0.0, 1.0) if not mean else None
    z = mean / math.sqrt(variance / count)
    return MatchedPairs(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))


def segments_of(first: UtteranceScore, second: UtteranceScore) -> Iterator[tuple[int, int]]:
    """Both systems' errors in each stretch of an utterance that holds some.

    Between two stretches both systems got at least `CORRECT_BETWEEN` words of the reference right.
    """
    if first.reference_tokens != second.reference_tokens:
        # Of a reference with choices each system has its own words, and no place in common.
        if first.counts.errors or second.counts.errors:
            yield first.counts.errors, second.counts.errors
        return
    length = len(first.reference_tokens)
    wrong = [_errors(score, length) for score in (first, second)]
    errors = [0, 0]
    correct = 0
    for place in range(2 * length + 1):
        here = [side[place] for side in wrong]
        if any(here):
            errors = [total + more for total, more in zip(errors, here, strict=True)]
            correct = 0
        elif place % 2:
            correct += 1
            if correct == CORRECT_BETWEEN and any(errors):
                yield errors[0], errors[1]
                errors = [0, 0]
    if any(errors):
        yield errors[0], errors[1]


def _errors(score: UtteranceScore, length: int) -> list[int]:
    """Errors at each place of a reference of N words: 2 i is before word i, and 2 i + 1 is the word."""
    errors = [0] * (2 * length + 1)
    for chunk in score.alignment:
        if chunk.type == "insert":
            errors[2 * chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for word in range(chunk.ref_start_idx, chunk.ref_end_idx):
                errors[2 * word + 1] = 1
    return errors
