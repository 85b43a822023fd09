"""Choosing among hypotheses with a language model."""

import pytest

from fun_asr.decoding.language_model import NGramModel
from fun_asr.decoding.rescore import best_hypothesis, spoken_form
from fun_asr.training.ngram import train


class Letters:
    """A CTC vocabulary of three letters."""

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


@pytest.fixture(scope="module")
def model() -> NGramModel:
    """Knows that "a" is followed by "b"."""
    return train([[0, 1, 2]] * 50 + [[0, 1]] * 50 + [[2], [1]], 3, {}, 0.7)


def test_the_language_model_decides_between_near_equals(model: NGramModel) -> None:
    n_best = [(-0.50, [1, 2]), (-0.52, [1, 3])]
    assert best_hypothesis(n_best, ["A c.", "a b."], model, Letters()) == 1
    assert best_hypothesis(n_best, ["A b.", "a c."], model, Letters()) == 0


def test_the_decoder_decides_where_it_is_sure(model: NGramModel) -> None:
    assert best_hypothesis([(-0.1, [1, 2]), (-3.0, [1, 3])], ["A c.", "a b."], model, Letters()) == 0


def test_of_near_equals_with_the_same_words_the_shorter_wins(model: NGramModel) -> None:
    """Its mean is lower, its sum is not."""
    assert best_hypothesis([(-0.50, [1, 2, 3, 4]), (-0.55, [1, 2])], ["A, b.", "a b"], model, Letters()) == 1


def test_the_first_choice_stays_where_a_hypothesis_has_no_spoken_form(model: NGramModel) -> None:
    n_best = [(-0.50, [1, 2]), (-0.52, [1, 3])]
    assert best_hypothesis(n_best, ["A 2", "a b"], model, Letters()) == 0
