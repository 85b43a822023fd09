"""References that leave a choice."""

import itertools
import random

import pytest

from fun_asr.errors import ScoringError
from fun_asr.scoring.alternations import parse_alternations
from fun_asr.scoring.utterance import Utterance
from fun_asr.scoring.wer import Counts, UtteranceScore, score


def scored(reference: str, hypothesis: str) -> UtteranceScore:
    sides = [{"u": Utterance(id="u", text=text)} for text in (reference, hypothesis)]
    return score(*sides, alternations=True).utterances[0]


# The counts are those of sclite 2.4.10 -D.
@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("the cat { sat / sits } on the mat", "the cat sits on a mat", Counts(5, 1, 0, 0)),
        ("one two { three four / @ } five", "one two five", Counts(3, 0, 0, 0)),
        ("hello (uh) world how are you", "hello world how are", Counts(5, 0, 1, 0)),
        ("a (uh) b", "a um b", Counts(2, 1, 0, 0)),
        ("c (d)", "c", Counts(2, 0, 0, 0)),
        ("e { f / g } h { i / { j / k l } }", "e g h k l", Counts(5, 0, 0, 0)),
        ("{ a / b } c", "a c", Counts(2, 0, 0, 0)),
    ],
)
def test_as_sclite(reference: str, hypothesis: str, counts: Counts) -> None:
    assert scored(reference, hypothesis).counts == counts


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("the set{a} of {a / b}", "the set{a} of b", Counts(4, 0, 0, 0)),
        ("wor{d}s {x}y a{b", "wor{d}s {x}y a{b", Counts(3, 0, 0, 0)),
        ("{set{a} / b} c", "set{a} c", Counts(2, 0, 0, 0)),
        ("{ a / b }{ c / d }", "b c", Counts(2, 0, 0, 0)),
    ],
)
def test_braces_inside_words_are_letters(reference: str, hypothesis: str, counts: Counts) -> None:
    assert scored(reference, hypothesis).counts == counts


def test_the_choice_is_as_good_as_trying_all() -> None:
    rng = random.Random(0)
    for _ in range(200):
        groups = [[rng.choices("abc", k=rng.randrange(3)) for _ in range(rng.randrange(1, 4))] for _ in range(3)]
        reference = " ".join("{ " + " / ".join(" ".join(g) or "@" for g in group) + " }" for group in groups)
        hypothesis = " ".join(rng.choices("abc", k=rng.randrange(1, 6)))
        tried = []
        for choice in itertools.product(*groups):
            text = " ".join(itertools.chain(*choice))
            if text:
                tried.append(scored(text, hypothesis).counts.errors)
        choice = parse_alternations(reference, str.split).closest(hypothesis.split())
        if choice.tokens and tried:
            assert scored(reference, hypothesis).counts.errors <= min(tried)


@pytest.mark.parametrize("reference", ["a { b / c", "a } b", "{ a / { b } c"])
def test_braces_that_do_not_match_are_refused(reference: str) -> None:
    with pytest.raises(ScoringError, match="the reference of u has a"):
        scored(reference, "a")


def test_without_alternations_braces_are_text() -> None:
    sides = [{"u": Utterance(id="u", text=text)} for text in ("{ a / b }", "a")]
    assert score(*sides).utterances[0].counts == Counts(1, 0, 4, 0)
