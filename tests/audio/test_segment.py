"""Cuts of long recordings: cover, limits, place, and the streaming form."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.segment import Span, segment_stream, split_at_pauses

Samples = npt.NDArray[np.float32]


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> Samples:
    draw = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (level * draw).astype(np.float32)


def with_pauses(seconds: float, pauses: list[tuple[float, float]], level: float = 0.0) -> Samples:
    """Noise with quieter stretches, given as (start, end) in seconds."""
    samples = noise(seconds)
    for start, end in pauses:
        part = slice(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
        samples[part] = noise(end - start, level, seed=1)[: len(samples[part])]
    return samples


def assert_covers(spans: list[Span], total: int, longest: int) -> None:
    edges = [0, *(span.end for span in spans)]
    assert [span.start for span in spans] == edges[:-1]
    assert edges[-1] == total
    assert all(0 < len(span) <= longest for span in spans)


@pytest.mark.parametrize("samples", [1, 159, SAMPLE_RATE, 30 * SAMPLE_RATE])
def test_a_recording_that_fits_is_one_span(samples: int) -> None:
    assert split_at_pauses(np.zeros(samples, np.float32)) == [Span(0, samples)]


def test_no_samples_give_no_spans() -> None:
    assert split_at_pauses(np.zeros(0, np.float32)) == []
    assert list(segment_stream([])) == []


def test_one_sample_too_many_makes_two_spans() -> None:
    spans = split_at_pauses(noise(30 + 1 / SAMPLE_RATE))
    assert len(spans) == 2
    assert_covers(spans, 30 * SAMPLE_RATE + 1, 30 * SAMPLE_RATE)


@pytest.mark.parametrize("level", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("start", [15.2, 19.0, 24.3, 29.4])
def test_cut_falls_inside_the_pause(start: float, level: float) -> None:
    end = start + 0.4
    first, _ = split_at_pauses(with_pauses(40, [(start, end)], level))
    # The 0.2 s window of the energy lies wholly in the pause, so speech is at least 50 ms away on either side.
    assert start + 0.05 <= first.end / SAMPLE_RATE <= end - 0.05


def test_a_gap_within_a_word_is_no_match_for_a_pause() -> None:
    samples = with_pauses(40, [(20.0, 20.5), (28.0, 28.06)])
    first, _ = split_at_pauses(samples)
    assert 20.0 < first.end / SAMPLE_RATE < 20.5


def test_of_comparable_pauses_the_later_one_is_cut() -> None:
    samples = with_pauses(40, [(17.0, 17.5), (21.0, 21.5), (27.0, 27.5)], level=0.002)
    samples[17 * SAMPLE_RATE : round(17.5 * SAMPLE_RATE)] *= 0.7
    first, _ = split_at_pauses(samples)
    assert 27.0 < first.end / SAMPLE_RATE < 27.5


def test_room_noise_is_as_good_a_pause_as_digital_silence() -> None:
    samples = with_pauses(40, [(27.0, 27.5)], level=0.001)
    samples[16 * SAMPLE_RATE : round(16.5 * SAMPLE_RATE)] = 0
    first, _ = split_at_pauses(samples)
    assert 27.0 < first.end / SAMPLE_RATE < 27.5


def test_the_quiet_pause_wins_over_a_much_louder_later_one() -> None:
    samples = with_pauses(40, [(20.0, 20.5)], level=0.005)
    samples[27 * SAMPLE_RATE : round(27.5 * SAMPLE_RATE)] *= 0.4
    first, _ = split_at_pauses(samples)
    assert 20.0 < first.end / SAMPLE_RATE < 20.5


def test_a_pause_outside_the_latter_half_does_not_shorten_the_span() -> None:
    spans = split_at_pauses(with_pauses(40, [(3.0, 5.0)]))
    assert spans[0].seconds >= 15


def test_long_silence_gives_nearly_full_spans() -> None:
    spans = split_at_pauses(np.zeros(100 * SAMPLE_RATE, np.float32))
    assert all(29 <= span.seconds <= 30 for span in spans[:-1])


def test_min_seconds_is_kept() -> None:
    spans = split_at_pauses(with_pauses(60, [(6.0, 7.0), (12.0, 13.0)]), max_seconds=20, min_seconds=10)
    assert 12.0 < spans[0].end / SAMPLE_RATE < 13.0
    assert all(span.seconds >= 10 for span in spans[:-1])


@pytest.mark.parametrize(("longest", "shortest"), [(30, 30), (30, 0), (30, -1), (0.5, 0.2), (10, 15)])
def test_impossible_limits_are_refused(longest: float, shortest: float) -> None:
    with pytest.raises(ValueError, match="min_seconds"):
        split_at_pauses(noise(1), longest, shortest)


def test_stereo_is_refused() -> None:
    with pytest.raises(ValueError, match="mono"):
        split_at_pauses(np.zeros((100, 2), np.float32))


@settings(max_examples=40, deadline=None)
@given(
    total=st.integers(0, 8 * SAMPLE_RATE),
    longest=st.floats(1.0, 3.0),
    fraction=st.floats(0.05, 0.95),
    pauses=st.lists(st.tuples(st.floats(0, 8), st.floats(0.01, 2)), max_size=6),
    sizes=st.lists(st.integers(0, 3 * SAMPLE_RATE), max_size=12),
    seed=st.integers(0, 9),
)
def test_spans_cover_keep_limits_and_do_not_depend_on_the_blocks(
    total: int, longest: float, fraction: float, pauses: list[tuple[float, float]], sizes: list[int], seed: int
) -> None:
    samples = noise(8, seed=seed)[:total]
    for start, length in pauses:
        samples[round(start * SAMPLE_RATE) : round((start + length) * SAMPLE_RATE)] *= 0.01
    shortest = longest * fraction
    spans = split_at_pauses(samples, longest, shortest)
    assert_covers(spans, total, round(longest * SAMPLE_RATE)) if total else None
    assert all(len(span) >= round(shortest * SAMPLE_RATE) for span in spans[:-1])

    blocks = np.split(samples, np.minimum(np.cumsum(sizes), total)) if sizes else [samples]
    streamed = list(segment_stream(blocks, longest, shortest))
    assert [span for span, _ in streamed] == spans
    for span, piece in streamed:
        np.testing.assert_array_equal(piece, samples[span.start : span.end])


def test_streaming_takes_no_more_input_than_the_next_span_needs() -> None:
    taken = 0

    def blocks():
        nonlocal taken
        for seed in range(600):
            taken += SAMPLE_RATE
            yield noise(1, seed=seed)

    for span, _ in segment_stream(blocks()):
        assert taken - span.start <= 31 * SAMPLE_RATE
