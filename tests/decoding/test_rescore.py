"""Choosing among hypotheses with a language model."""

import dataclasses

import pytest

from fun_asr.decoding.generate import Hypothesis
from fun_asr.decoding.language_model import NGramModel
from fun_asr.decoding.rescore import best_hypothesis
from fun_asr.training.language_model import train


class Letters:
    """A CTC vocabulary of three letters."""

    def encode(self, text: str) -> list[int]:
        return ["abc".index(letter) for letter in text if letter != " "]


class Texts:
    """A decoder's tokenizer whose every token is a character."""

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


@pytest.fixture(scope="module")
def model() -> NGramModel:
    """Knows that "a" is followed by "b"."""
    return train([[0, 1, 2]] * 50 + [[0, 1]] * 50 + [[2], [1]], 3, {}, 0.7)


def chosen(model: NGramModel, *texts_and_scores: tuple[str, float]) -> str:
    first, *others = (
        Hypothesis(list(map(ord, text)), score, "en", None, [score] * len(text)) for text, score in texts_and_scores
    )
    found = best_hypothesis(dataclasses.replace(first, others=tuple(others)), model, Texts(), Letters())
    return Texts().decode(found.tokens)


def test_the_language_model_decides_between_near_equals(model: NGramModel) -> None:
    assert chosen(model, ("A c.", -0.50), ("a b.", -0.52)) == "a b."
    assert chosen(model, ("A b.", -0.50), ("a c.", -0.52)) == "A b."


def test_the_decoder_decides_where_it_is_sure(model: NGramModel) -> None:
    assert chosen(model, ("A c.", -0.1), ("a b.", -3.0)) == "A c."


def test_of_near_equals_with_the_same_words_the_shorter_wins(model: NGramModel) -> None:
    """Its mean is lower, its sum is not."""
    assert chosen(model, ("A,  b. ", -0.50), ("a b", -0.55)) == "a b"


def test_a_text_that_ends_early_is_no_near_equal(model: NGramModel) -> None:
    """Its sum is the higher one: every token that it leaves out would cost something."""
    whole = "a b c a b c a b c a b c"
    assert chosen(model, (whole, -0.2), ("a b c", -0.5)) == whole


def test_the_first_choice_stays_where_a_hypothesis_has_no_spoken_form(model: NGramModel) -> None:
    assert chosen(model, ("A ж", -0.50), ("a b", -0.52)) == "A ж"


def test_the_bonus_of_hotwords_counts(model: NGramModel) -> None:
    """Else the language model would undo what the search found."""
    texts = [("A c.", -0.50, 3.0), ("a b.", -0.52, 0.0)]
    first, other = (
        Hypothesis(list(map(ord, text)), score, "en", None, [], bonus=bonus) for text, score, bonus in texts
    )
    best = best_hypothesis(dataclasses.replace(first, others=(other,)), model, Texts(), Letters())
    assert Texts().decode(best.tokens) == "A c."
    assert best.score == -0.50
