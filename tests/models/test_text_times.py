"""Words of the decoder in time: the pauses that none of them lies over."""

import numpy as np

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.bundled import BUNDLED_MODEL
from fun_asr.decoding.attention_times import TokenFrames
from fun_asr.decoding.generate import Hypothesis
from fun_asr.models.text_times import FRAME, long_pauses, timed_words
from fun_asr.text.tokenizer import Tokenizer
from fun_asr.weights.directory import TOKENIZER_FILE


def segment(pauses: list[tuple[float, float]], start: float = 100.0, seconds: float = 10.0) -> AudioSegment:
    """A segment of noise, its pauses in seconds from its start."""
    span = Span(round(start * SAMPLE_RATE), round((start + seconds) * SAMPLE_RATE))
    samples = np.random.default_rng(0).normal(0, 0.1, len(span)).astype(np.float32)
    places = tuple((span.start + round(a * SAMPLE_RATE), span.start + round(b * SAMPLE_RATE)) for a, b in pauses)
    return AudioSegment(0, span, samples, pauses=places)


def in_seconds(spans: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(round(start / SAMPLE_RATE, 2), round(end / SAMPLE_RATE, 2)) for start, end in spans]


def test_soft_sounds_beside_a_pause_and_short_pauses_may_be_speech() -> None:
    assert in_seconds(long_pauses(segment([(1.0, 1.3), (2.0, 4.0)]))) == [(2.15, 3.85)]


def test_too_short_a_sound_for_a_word_does_not_part_a_pause() -> None:
    assert in_seconds(long_pauses(segment([(1.0, 3.0), (3.06, 4.0), (4.2, 5.0)]))) == [(1.15, 3.85), (4.35, 4.85)]
    assert long_pauses(segment([])) == []


def test_a_word_with_its_point_ends_before_the_pause_also_where_the_noise_goes_on() -> None:
    tokenizer = Tokenizer(BUNDLED_MODEL / TOKENIZER_FILE)
    tokens = tokenizer.encode("Ja. Nein.")
    (first, second) = tokenizer.split_words(tokens)
    starts = np.linspace(0, 500, len(tokens) + 1).astype(np.int64)
    starts[second.start] = 250  # frames of 20 ms: the second word starts at 5 s
    ends = starts[1:].copy()
    ends[first.stop - 1] = 120  # and the first one ends at 2.4 s
    found = Hypothesis(tokens, 0.0, "de", None, [-0.1] * len(tokens))
    words = timed_words(tokenizer, found, TokenFrames(starts, ends), segment([(2.0, 5.1)]), "de")
    assert FRAME * 50 == SAMPLE_RATE and [word.text for word in words] == ["Ja.", "Nein."]
    assert words[0].end <= 2.4 * SAMPLE_RATE and words[1].start >= 4.95 * SAMPLE_RATE
