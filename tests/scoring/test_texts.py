"""`fun_asr.wer` against jiwer."""

import doctest
import random
import subprocess
import sys

import jiwer
import pytest

import fun_asr
from fun_asr.errors import ConfigError, ScoringError
from fun_asr.scoring import texts
from fun_asr.scoring.texts import error_rate_interval, score_texts


def test_random_texts_against_jiwer() -> None:
    rng = random.Random(0)
    words = ["a", "b", "c", "the", "cat", "don't"]
    for _ in range(200):
        count = rng.randint(1, 5)
        references = [" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(count)]
        hypotheses = [" ".join(rng.choices(words, k=rng.randint(0, 8))) for _ in range(count)]
        found, expected = fun_asr.wer(references, hypotheses), jiwer.process_words(references, hypotheses)
        assert found.error_rate == expected.wer
        assert found.errors == expected.substitutions + expected.deletions + expected.insertions
        assert found.reference == sum(len(reference.split()) for reference in references)
        assert found.hits + found.substitutions + found.insertions == sum(len(text.split()) for text in hypotheses)
        assert found.character_error_rate == jiwer.cer(references, hypotheses)
        wrong = sum(left != right for left, right in zip(references, hypotheses, strict=True))
        assert found.sentence_error_rate == wrong / count


def test_one_text_a_side_and_the_example() -> None:
    assert fun_asr.wer("the cat sat", "the cat").deletions == 1
    assert fun_asr.wer(["It's 5."], ["it is five"], normalizer="english").error_rate == 0
    assert fun_asr.wer("你好吗", "你好").error_rate == pytest.approx(1 / 3)
    assert fun_asr.wer("你好吗", "你好", unit="words").error_rate == 1
    assert doctest.testmod(texts).failed == 0


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="2 references, but 1 hypotheses"):
        fun_asr.wer(["a", "b"], ["a"])
    with pytest.raises(ScoringError, match="no reference has a word"):
        fun_asr.wer(["", " "], ["a", "b"])
    with pytest.raises(ConfigError, match="use none, basic, basic_marks, english"):
        fun_asr.wer("a", "b", normalizer="German")  # type: ignore[arg-type]


def test_interval_holds_the_rate_and_needs_two_utterances() -> None:
    references, hypotheses = ["a b c d"] * 50, ["a b c d", "a x c d"] * 25
    found = error_rate_interval(score_texts(references, hypotheses))
    assert found is not None
    # Of a mean of 50 rates of 0 and 1/4: a standard error of 0.125 / sqrt(50), by the normal approximation.
    assert found.low == pytest.approx(0.125 - 1.96 * 0.125 / 50**0.5, abs=0.01)
    assert found.high == pytest.approx(0.125 + 1.96 * 0.125 / 50**0.5, abs=0.01)
    assert error_rate_interval(score_texts(["a"], ["b"])) is None


def test_scoring_needs_no_torch() -> None:
    code = "import sys, fun_asr; fun_asr.wer('a', 'b'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
