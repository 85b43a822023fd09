"""Words in time, on sounds and spikes laid out by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from fun_asr.decoding.words import AlignedWord, WrittenWord, retime, time_words
from fun_asr.text.tokenizer import CTCTokenizer
from fun_asr.transcriber import BUNDLED_MODEL
from fun_asr.weights.directory import CTC_TOKENIZER_FILE

RATE = 16_000
TOKENIZER = CTCTokenizer(BUNDLED_MODEL / CTC_TOKENIZER_FILE)
FRAME = 640  # samples: 25 Hz


def heard(
    words: list[tuple[str, float, float]], seconds: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """CTC log-probabilities and audio of words (spoken form, start, end), each with spikes spread over its sound."""
    count = round(seconds * 25)
    log_probs = np.full((count, TOKENIZER.vocab_size), -12.0, np.float32)
    log_probs[:, TOKENIZER.blank] = -0.01
    samples = np.zeros(round(seconds * RATE), np.float32)
    draw = np.random.default_rng(0)
    for text, start, end in words:
        part = slice(round(start * RATE), round(end * RATE))
        samples[part] = 0.1 * draw.standard_normal(part.stop - part.start)
        tokens = TOKENIZER.encode(text)
        places = np.linspace(start + 0.08, end - 0.08, len(tokens)) * 25
        for token, place in zip(tokens, places.round().astype(int), strict=True):
            log_probs[place] = -12.0
            log_probs[place, token] = -0.01
    return log_probs, samples


def timed(written: str, words: list[tuple[str, float, float]], seconds: float) -> list[AlignedWord]:
    log_probs, samples = heard(words, seconds)
    (found,) = time_words(
        [[WrittenWord(word, (-0.1,)) for word in written.split()]], [log_probs], [samples], TOKENIZER, FRAME
    )
    return found


SPEECH = [("there", 1.0, 1.4), ("were", 1.4, 1.8), ("twenty five", 2.5, 3.5), ("mountains", 3.5, 4.2)]


@pytest.mark.parametrize("written", ["There were twenty-five mountains.", "there were 25 mountains"])
def test_edges_lie_at_pauses_and_shortly_before_spikes(written: str) -> None:
    found = timed(written, SPEECH, 6.0)
    assert [word.text for word in found] == written.split()
    for word, (_, start, end) in zip(found, SPEECH, strict=True):
        assert word.start / RATE == pytest.approx(start, abs=0.05)
        assert word.end / RATE == pytest.approx(end, abs=0.05)
        assert max(word.ctc_log_probs) > -0.1
        assert word.log_probs == (-0.1,)


def test_what_is_not_said_takes_no_time_and_foreign_letters_take_what_is_there() -> None:
    found = timed("there — were Москва mountains", SPEECH, 6.0)
    _, dash, were, foreign, mountains = found
    assert dash.start == dash.end
    assert dash.ctc_log_probs == ()
    assert were.end <= foreign.start
    assert 2.4 < foreign.start / RATE < foreign.end / RATE < 3.6
    assert mountains.start / RATE == pytest.approx(3.5, abs=0.05)


def test_words_never_overlap_or_leave_the_segment() -> None:
    found = timed("were there mountains twenty twenty five there were", SPEECH, 6.0)
    edges = [edge for word in found for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= 6 * RATE


def test_more_words_than_frames_are_spread_and_unsupported() -> None:
    log_probs, samples = heard([], 0.2)
    words = [WrittenWord("mountains")] * 10
    (found,) = time_words([words], [log_probs], [samples], TOKENIZER, FRAME)
    assert len(found) == 10
    assert found[-1].end == len(samples)
    assert max(found[0].ctc_log_probs) < -10


def test_no_words_and_no_segments() -> None:
    log_probs, samples = heard([], 0.2)
    assert time_words([], [], [], TOKENIZER, FRAME) == []
    assert time_words([[]], [log_probs], [samples], TOKENIZER, FRAME) == [[]]


def test_rewritten_words_keep_their_times() -> None:
    found = timed("it cost twenty five dollars there", [("it cost", 0.2, 0.8), ("twenty five dollars", 1, 2)], 3.0)
    again = retime(found, "It cost $25, there.")
    assert [word.text for word in again] == ["It", "cost", "$25,", "there."]
    assert (again[2].start, again[2].end) == (found[2].start, found[4].end)
    assert (again[3].start, again[3].end) == (found[5].start, found[5].end)
    assert again[2].log_probs == (-0.1,) * 3
    assert retime(found, " ".join(word.text for word in found)) == found


def test_an_unlike_text_still_has_times_in_order() -> None:
    found = timed("there were mountains", SPEECH, 6.0)
    again = retime(found, "a b c d mountains e")
    edges = [edge for word in again for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert again[4].start == found[2].start
