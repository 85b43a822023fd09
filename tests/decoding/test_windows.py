"""Windows of a long recording: a known text comes back whole, nothing lost and nothing twice."""

import itertools
import random

import pytest

from fun_asr.decoding.frames import Emission
from fun_asr.decoding.windows import join, window_starts

FRAMES, WINDOW, OVERLAP = 4000, 500, 60


def spoken(seed: int, pauses: bool) -> list[Emission]:
    """A text of a few thousand frames whose tokens repeat often, with pauses now and then or none at all."""
    generator = random.Random(seed)
    tokens, frame = [], 3
    while frame < FRAMES - 3:
        tokens.append(Emission(generator.randrange(12), frame, frame + 1, -0.1))
        frame += generator.choice((1, 2, 2, 3)) + (generator.choice((0,) * 8 + (6, 12)) if pauses else 0)
    return tokens


def heard(text: list[Emission], start: int, generator: random.Random) -> list[Emission]:
    """What a window hears: a token may be a frame late, and near an edge that cuts speech much is wrong."""
    found = []
    for token in text:
        place = token.start - start
        if not 0 <= place < WINDOW:
            continue
        inside_left, inside_right = start == 0 or place >= 12, start + WINDOW >= FRAMES or place < WINDOW - 12
        if not (inside_left and inside_right):
            if generator.random() < 0.5:
                continue
            found.append(Emission(99, place, place + 1, -3.0))
        else:
            found.append(Emission(token.token, place, place + 1, -0.1))
    return found


@pytest.mark.parametrize("pauses", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_a_known_text_comes_back_whole(seed: int, pauses: bool) -> None:
    text = spoken(seed, pauses)
    starts = window_starts(FRAMES, WINDOW, OVERLAP)
    generator = random.Random(seed)
    joined = join([heard(text, start, generator) for start in starts], starts, WINDOW)
    assert [token.token for token in joined] == [token.token for token in text]
    assert [token.start for token in joined] == [token.start for token in text]


@pytest.mark.parametrize("seed", range(20))
def test_tokens_a_frame_off_are_neither_lost_nor_doubled(seed: int) -> None:
    text = spoken(seed, pauses=True)
    starts = window_starts(FRAMES, WINDOW, OVERLAP)
    generator = random.Random(seed)
    parts = []
    for number, start in enumerate(starts):
        late = number % 2
        part = heard(text, start, generator)
        parts.append([Emission(t.token, t.start + late, t.end + late, t.log_prob) for t in part])
    joined = join(parts, starts, WINDOW)
    assert [token.token for token in joined] == [token.token for token in text]


@pytest.mark.parametrize("frames", [1, 499, 500, 501, 940, 941, 4000])
def test_windows_cover_everything_and_overlap(frames: int) -> None:
    starts = window_starts(frames, WINDOW, OVERLAP)
    assert starts[0] == 0
    assert starts[-1] + WINDOW >= frames
    for before, after in itertools.pairwise(starts):
        assert before < after <= before + WINDOW - OVERLAP
