"""Choosing among hypotheses: spoken forms, and CTC scores against a sum over all alignments."""

import itertools
import math

import pytest
import torch

from fun_asr.decoding.rescore import best_hypothesis, ctc_scores, spoken_form

BLANK = 3


class Letters:
    """A CTC vocabulary of three letters."""

    blank = BLANK

    def encode(self, text: str) -> list[int]:
        return ["abc".index(letter) for letter in text if letter != " "]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Is it? Yes, it is.", "is it yes it is"),
        ("don’t — 'tis well-known…", "don't tis well known"),
        ("It costs $5.", None),
        ("Room 12", None),
        ("café", None),
        ("", ""),
    ],
)
def test_spoken_form(written: str, spoken: str | None) -> None:
    assert spoken_form(written) == spoken


def alignments(log_probs: torch.Tensor, labels: list[int]) -> float:
    """Log of the summed probability of every path of symbols that merges to the labels."""
    total = 0.0
    for path in itertools.product(range(4), repeat=len(log_probs)):
        merged = [symbol for symbol, _ in itertools.groupby(path)]
        if [symbol for symbol in merged if symbol != BLANK] == labels:
            total += math.exp(sum(float(log_probs[frame, symbol]) for frame, symbol in enumerate(path)))
    return math.log(total) if total else -math.inf


def test_scores_sum_over_all_alignments() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(5, 4).log_softmax(dim=-1)
    texts = ["ab", "aa", "", "cba", "aaaa"]
    scores = ctc_scores(log_probs, texts, Letters())
    expected = [alignments(log_probs, Letters().encode(text)) for text in texts]
    assert expected[-1] == -math.inf, "four equal letters need seven frames"
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def certain(text: str) -> torch.Tensor:
    """CTC log-probabilities that say `text`, a letter and a blank at a time."""
    frames = [symbol for letter in Letters().encode(text) for symbol in (letter, BLANK)]
    probabilities = torch.full((len(frames), 4), 0.01)
    probabilities[range(len(frames)), frames] = 0.97
    return probabilities.log()


def test_what_ctc_heard_decides_between_near_equals() -> None:
    n_best = [(-0.50, [1, 2]), (-0.52, [1, 3])]
    assert best_hypothesis(n_best, ["a b.", "A c."], certain("ac"), Letters()) == 1
    assert best_hypothesis(n_best, ["a b.", "A c."], certain("ab"), Letters()) == 0


def test_the_decoder_decides_where_ctc_cannot_score() -> None:
    n_best = [(-0.50, [1, 2]), (-0.52, [1, 3])]
    assert best_hypothesis(n_best, ["a 2", "a c"], certain("ac"), Letters()) == 0
