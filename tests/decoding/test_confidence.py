"""Word confidence: a probability that grows with what speaks for a word."""

import pytest

from fun_asr.decoding.confidence import word_confidence
from fun_asr.decoding.words import AlignedWord


def confidence(decoder: tuple[float, ...], ctc: tuple[float, ...]) -> float:
    return word_confidence(AlignedWord("word", 0, 100, decoder, ctc))


def test_sure_words_are_nearly_certain_and_doubtful_ones_are_not() -> None:
    assert confidence((-0.01, -0.02), (-0.01,)) > 0.95
    assert confidence((-2.5, -3.0), (-9.0, -8.0)) < 0.5
    assert confidence((), (-0.01,)) > 0.8
    assert confidence((), (-2.0, -3.0)) < 0.5


@pytest.mark.parametrize("ctc", [(), (-1.0,), (-100.0, -1e9)])
@pytest.mark.parametrize("decoder", [(), (-1e9,), (0.0, -50.0)])
def test_it_lies_between_0_and_1(decoder: tuple[float, ...], ctc: tuple[float, ...]) -> None:
    assert 0 <= confidence(decoder, ctc) <= 1
