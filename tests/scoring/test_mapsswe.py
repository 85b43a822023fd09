"""The matched-pairs test against a count by hand, its own definition written out, and chance."""

import itertools
import math
import statistics

import numpy as np
import pytest

from fun_asr.scoring.mapsswe import matched_pairs, segments_of
from fun_asr.scoring.utterance import Utterance
from fun_asr.scoring.wer import Score, UtteranceScore, score


def scored(references: list[str], hypotheses: list[str]) -> tuple[UtteranceScore, ...]:
    sides = [
        {str(n): Utterance(id=str(n), text=text) for n, text in enumerate(texts)} for texts in (references, hypotheses)
    ]
    found: Score = score(sides[0], sides[1], normalize=str, unit="words", empty=True)
    return found.utterances


def segments(reference: str, first: str, second: str) -> list[tuple[int, int]]:
    return list(segments_of(scored([reference], [first])[0], scored([reference], [second])[0]))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a b c d e f g h", "a b c d e f g h", []),
        ("X b c d e f g h", "a b c d e f g Y", [(1, 0), (0, 1)]),
        ("a X c d e f g h", "a b c Y e f g h", [(1, 1)]),  # one word right between them
        ("a X c d e f g h", "a b c d Y f g h", [(1, 0), (0, 1)]),
        ("a b c d x y e f g h", "a b c d z e f g h", [(2, 1)]),
        ("x a b c d e f g h y", "a b c d e f g h", [(1, 0), (1, 0)]),
        ("c d e f g h", "a b", [(2, 6)]),  # everything is wrong on one side or the other
        ("", "a b c d e f g h", [(8, 0)]),
    ],
)
def test_segments_end_where_both_have_two_words_right(first: str, second: str, expected: list[tuple[int, int]]) -> None:
    assert segments("a b c d e f g h", first, second) == expected


def test_all_errors_are_in_segments() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        reference = " ".join(rng.choice(list("abcd"), rng.integers(0, 12)))
        sides = [" ".join(rng.choice(list("abcd"), rng.integers(0, 12))) for _ in range(2)]
        first, second = (scored([reference], [side])[0] for side in sides)
        found = list(segments_of(first, second))
        assert [sum(column) for column in zip(*found, strict=True)] == [first.counts.errors, second.counts.errors] or (
            not found and not first.counts.errors and not second.counts.errors
        )
        assert all(one or other for one, other in found)


def test_the_statistic_is_that_of_the_paper() -> None:
    references = ["a b c d e f"] * 30
    rng = np.random.default_rng(1)
    sides = [
        [" ".join("X" if rng.random() < rate else w for w in r.split()) for r in references] for rate in (0.3, 0.1)
    ]
    pairs = list(zip(scored(references, sides[0]), scored(references, sides[1]), strict=True))
    found = matched_pairs(pairs)
    assert found is not None
    differences = [b - a for pair in pairs for a, b in segments_of(*pair)]
    n = len(differences)
    mean = sum(differences) / n
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    assert (found.segments, found.mean) == (n, pytest.approx(mean))
    assert found.z == pytest.approx(mean / (deviation / math.sqrt(n)))
    assert found.p_value == pytest.approx(2 * statistics.NormalDist().cdf(-abs(found.z)))
    turned = matched_pairs([(second, first) for first, second in pairs])
    assert turned is not None and (turned.z, turned.p_value) == (pytest.approx(-found.z), pytest.approx(found.p_value))


def test_systems_that_differ_by_chance_alone_are_told_apart_once_in_twenty_times() -> None:
    rng = np.random.default_rng(2)
    references = [" ".join(rng.choice(list("abcdefgh"), 12)) for _ in range(40)]
    low = total = 0
    for _ in range(200):
        sides = [[" ".join("X" if rng.random() < 0.1 else w for w in r.split()) for r in references] for _ in range(2)]
        found = matched_pairs(zip(scored(references, sides[0]), scored(references, sides[1]), strict=True))
        assert found is not None
        low += found.p_value < 0.05
        total += 1
    assert 0.015 < low / total < 0.1


def test_what_says_nothing_has_no_test() -> None:
    same = scored(["a b c"] * 3, ["a X c"] * 3)
    assert matched_pairs([]) is None
    assert matched_pairs(list(itertools.islice(zip(same, same, strict=True), 1))) is None
    found = matched_pairs(zip(same, same, strict=True))
    assert found is not None and (found.segments, found.p_value) == (3, 1.0)
