"""Spans with and without speech: nothing lost, nothing too long, cuts in pauses."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.segment import LONG_PAUSE, PADDING, Span, pack_speech
from fun_asr.audio.vad import WINDOW, WINDOWS_PER_SECOND

Piece = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def stream(parts: list[tuple[float, bool]], extra: int = 0) -> Piece:
    """Samples that count up, and probabilities for stretches of (seconds, speech)."""
    heard = np.concatenate([np.full(round(s * WINDOWS_PER_SECOND), speech) for s, speech in parts] or [np.zeros(0)])
    samples = np.arange(max(0, len(heard) * WINDOW - extra), dtype=np.float32)
    return samples, np.where(heard, 0.9, 0.01).astype(np.float32)


def pack(parts: list[tuple[float, bool]], max_seconds: float = 30.0) -> list[tuple[float, float, bool]]:
    """Start and end in seconds, and whether there is speech."""
    spans = pack_speech([stream(parts)], max_seconds)
    return [(span.start / SAMPLE_RATE, span.end / SAMPLE_RATE, certainty > 0) for span, _, certainty in spans]


def test_a_clip_with_short_silence_around_it_stays_whole() -> None:
    ((start, end, speech),) = pack([(1.5, False), (3, True), (1.5, False)])
    assert (start, speech) == (0, True)
    assert abs(end - 6) < 0.1


def test_long_silence_is_left_out_with_a_margin() -> None:
    spans = pack([(10, False), (3, True), (10, False), (4, True), (10, False)])
    assert [speech for *_, speech in spans] == [False, True, False, True, False]
    (_, a, _), (_, b, _), (_, c, _), (_, d, _), _ = spans
    for edge, expected in ((a, 9.6), (b, 13.4), (c, 22.6), (d, 27.4)):
        assert abs(edge - expected) < 0.1


def test_silence_alone_has_no_speech_and_long_spans() -> None:
    spans = pack([(100, False)])
    assert not any(speech for *_, speech in spans)
    assert all(29 < end - start <= 30 for start, end, _ in spans[:-1])


def test_speech_without_a_pause_is_cut_at_full_length_or_where_it_is_quiet() -> None:
    assert all(15 <= end - start <= 30 for start, end, _ in pack([(100, True)])[:-1])
    first = pack([(18, True), (0.3, False), (5, True), (0.6, False), (20, True)])[0]
    assert 23.3 <= first[1] <= 23.9


def test_no_samples_give_no_spans() -> None:
    assert list(pack_speech([])) == []
    assert list(pack_speech([stream([])])) == []


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.03, 12), st.booleans()), min_size=1, max_size=12),
    extra=st.integers(0, WINDOW - 1),
    longest=st.sampled_from([6.0, 10.0, 30.0]),
    sizes=st.lists(st.integers(1, 500), max_size=8),
)
def test_spans_cover_hold_all_speech_and_do_not_depend_on_the_pieces(
    parts: list[tuple[float, bool]], extra: int, longest: float, sizes: list[int]
) -> None:
    samples, probabilities = stream(parts, extra)
    found = list(pack_speech([(samples, probabilities)], longest))
    edges = [0, *(span.end for span, _, _ in found)]
    assert [span.start for span, _, _ in found] == edges[:-1]
    assert edges[-1] == len(samples)
    near = np.convolve(probabilities > 0.5, np.ones(2 * PADDING + 1), mode="full")[
        PADDING : PADDING + len(probabilities)
    ]
    for number, (span, piece, speech) in enumerate(found):
        assert 0 < len(span) <= longest * SAMPLE_RATE
        np.testing.assert_array_equal(piece, samples[span.start : span.end])
        windows = slice(span.start // WINDOW, -(-span.end // WINDOW))
        if not speech:
            assert not (probabilities[windows] > 0.5).any()
            assert len(span) >= LONG_PAUSE * WINDOW or number >= len(found) - 2 or not found[number - 1][2]
            # Speech before it may have been cut off from its margin, speech after it may not.
            following = near[windows][PADDING:]
            assert not (following > 0.5).any()
    cuts = np.minimum(np.cumsum(sizes), len(probabilities))
    assert [(span, speech) for span, _, speech in pack_speech(_pieces(samples, probabilities, cuts), longest)] == [
        (span, speech) for span, _, speech in found
    ]


def _pieces(
    samples: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float32], cuts: npt.NDArray[np.int64]
) -> Iterator[Piece]:
    for part, found in zip(np.split(samples, cuts * WINDOW), np.split(probabilities, cuts), strict=True):
        if len(found):
            yield part, found


def test_memory_is_bounded() -> None:
    taken = 0

    def pieces() -> Iterator[Piece]:
        nonlocal taken
        for _ in range(200):
            taken += 512 * WINDOW
            yield np.zeros(512 * WINDOW, np.float32), np.full(512, 0.9, np.float32)

    last = Span(0, 0)
    for last, _, _ in pack_speech(pieces()):
        assert taken - last.start <= (30 + 2 + 0.5 + 16.4 + 1) * SAMPLE_RATE
    assert last.end == taken
