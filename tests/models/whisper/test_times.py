"""What is written twice and said once is cut; where it was said twice, or nothing repeats, texts stay."""

from pathlib import Path

import numpy as np
import pytest
from transformers import WhisperForConditionalGeneration

from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.decoding.attention_times import TokenFrames
from fun_asr.decoding.generate import Hypothesis
from fun_asr.models.text_times import timed_words, unrepeated
from fun_asr.models.whisper.recogniser import WhisperRecogniser, load
from fun_asr.models.whisper.tokenizer import WhisperTokenizer
from fun_asr.options import ModelOptions, TranscriptionOptions
from tests.models.whisper.conftest import LETTERS, save_transformers

SENTENCE = "and so it goes"


@pytest.fixture(scope="module")
def recogniser(whisper: WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> WhisperRecogniser:
    directory: Path = save_transformers(whisper, tmp_path_factory.mktemp("whisper"))
    return load(ModelOptions(directory=directory, device="cpu", compute_type="float32"))


def hypothesis(text: str) -> Hypothesis:
    tokens = [LETTERS["Ġ" if letter == " " else letter] for letter in f" {text}"]
    return Hypothesis(tokens, -0.2, "en", None, [-0.2] * len(tokens))


def frames(starts: list[int]) -> TokenFrames:
    """Tokens that follow each other without a pause."""
    return TokenFrames(np.array(starts), np.array(starts[1:]))


class Times:
    """Tokens at given rates: those of the copy follow each other faster or slower than the ones before."""

    def __init__(self, tokenizer: WhisperTokenizer, copy_rate: float) -> None:
        self.tokenizer, self._copy_rate, self.asked = tokenizer, copy_rate, 0

    def of(self, places: list[int], texts: list[list[int]]) -> list[TokenFrames]:
        self.asked += len(places)
        found = []
        for text in texts:
            half = len(text) // 2
            before = [10 * i for i in range(half)]
            found.append(
                frames([*before, *(int(10 * half + 10 * self._copy_rate * i) for i in range(len(text) - half + 1))])
            )
        return found


@pytest.mark.parametrize(("copy_rate", "cut"), [(0.1, True), (4.0, True), (0.8, False), (1.3, False)])
def test_a_copy_stays_only_where_it_was_said(recogniser: WhisperRecogniser, copy_rate: float, cut: bool) -> None:
    doubled = hypothesis(f"{SENTENCE} {SENTENCE}")
    times = Times(recogniser._tokenizer, copy_rate)
    (kept,) = unrepeated([doubled], times)
    if cut:
        assert kept is not None
        assert recogniser._tokenizer.decode(doubled.first(kept).tokens) == SENTENCE
        assert len(doubled.first(kept).log_probs) == kept
    else:
        assert kept is None


def test_texts_without_a_copy_cost_nothing(recogniser: WhisperRecogniser) -> None:
    times = Times(recogniser._tokenizer, 0.1)
    assert unrepeated([hypothesis(SENTENCE), hypothesis("no no")], times) == [None, None]
    assert times.asked == 0


def test_words_follow_their_tokens(recogniser: WhisperRecogniser) -> None:
    found = hypothesis("go on")
    samples = (0.3 * np.sin(np.arange(32_000) * 0.3)).astype(np.float32)
    segment = AudioSegment(0, Span(0, len(samples)), samples)
    words = timed_words(recogniser._tokenizer, found, frames([0, 10, 20, 40, 60, 80, 100]), segment)
    assert [(word.text, word.start, word.end) for word in words] == [
        ("go", 0, 40 * 320),
        ("on", 40 * 320, 32_000),
    ]
    assert words[0].log_probs == (-0.2,) * 3


def test_a_given_text_is_laid_over_the_sound_and_the_language_asked_alone(recogniser: WhisperRecogniser) -> None:
    samples = (0.3 * np.sin(np.arange(48_000) * 0.3)).astype(np.float32)
    segment = AudioSegment(0, Span(0, len(samples)), samples)
    words = recogniser.align(segment, SENTENCE, "en")
    assert [word.text for word in words] == SENTENCE.split()
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges) and 0 <= edges[0] and edges[-1] <= 3.0
    assert {word.confidence for word in words} == {None}
    (found,) = recogniser.language_probabilities([segment])
    (recognised,) = recogniser.recognise([segment], [None], TranscriptionOptions())
    assert found == pytest.approx(dict(recognised.language_evidence or {}))
