"""Parts of recordings: exactly their samples, out of one pass over it, and named where they cannot be had."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from fun_asr.audio import prefetch
from fun_asr.audio.excerpt import Excerpt, Tape, cut_out, report_of
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.prefetch import AudioSegment, EndOfRecording, read_segments
from fun_asr.audio.report import AudioReport, Loss
from fun_asr.errors import AudioDecodeError

RATE = 16_000


def noise(seconds: float) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


@given(
    blocks=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    parts=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), min_size=1, max_size=6),
)
def test_parts_are_slices_whatever_the_blocks_and_however_they_overlap(
    blocks: list[int], parts: list[tuple[int, int]]
) -> None:
    tenths = sum(blocks)
    recording = noise(tenths / 10)
    limits = np.cumsum(blocks)[:-1] * RATE // 10
    excerpts = sorted((Excerpt("x.wav", a / 10, b / 10) for a, b in parts), key=lambda part: part.offset)
    tape = Tape(np.split(recording, limits))
    for number, excerpt in enumerate(excerpts):
        keep = excerpts[number + 1].start if number + 1 < len(excerpts) else None
        start, end = excerpt.start, excerpt.end
        assert end is not None
        if start >= len(recording):
            with pytest.raises(AudioDecodeError, match="begins behind the end of the recording"):
                list(tape.part(excerpt, keep, AudioReport()))
            continue
        # What is left is a tenth of a second, by which lists may round.
        expected = recording[start : len(recording) if len(recording) - end <= RATE // 10 else end]
        report = AudioReport()
        assert np.array_equal(np.concatenate(list(tape.part(excerpt, keep, report))), expected)
        assert bool(report.warnings) == (end > len(recording) + RATE // 10)


def test_a_long_part_is_never_held_whole() -> None:
    tape = Tape(np.zeros(RATE, np.float32) for _ in range(600))
    for block in tape.part(Excerpt("x.wav", 1, 500), None, AudioReport()):
        assert len(block) <= RATE
        assert sum(map(len, tape._held)) <= 2 * RATE


@pytest.mark.parametrize(("offset", "duration"), [(-1, None), (float("nan"), None), (0, 0), (0, -2), (0, float("inf"))])
def test_what_is_no_part_is_refused(offset: float, duration: float | None) -> None:
    with pytest.raises(ValueError, match=r"offset must be|duration must be"):
        Excerpt("x.wav", offset, duration)


def test_a_part_is_called_by_its_times() -> None:
    assert str(Excerpt("a b.wav", 12.5, 2.5004)) == "a b.wav#t=12.5,15"
    assert str(Excerpt("a.wav", 3)) == "a.wav#t=3"


def test_losses_are_those_of_the_part_and_count_from_its_start() -> None:
    report = AudioReport(
        lost=[Loss(RATE, RATE, "early"), Loss(3 * RATE, 4 * RATE, "across"), Loss(9 * RATE, None, "end", filled=False)]
    )
    lost = report_of(report, Excerpt("x.wav", 2, 3)).lost
    assert lost == [Loss(RATE, 2 * RATE, "across")]
    assert [loss.cause for loss in report_of(report, Excerpt("x.wav", 6)).lost] == ["across", "end"]


def segments_of(*sources: str | Excerpt) -> tuple[dict[int, npt.NDArray[np.float32]], dict[int, EndOfRecording]]:
    samples: dict[int, list[npt.NDArray[np.float32]]] = {}
    ends = {}
    for event in read_segments(sources, workers=2):
        if isinstance(event, AudioSegment):
            samples.setdefault(event.recording, []).append(event.samples)
        else:
            ends[event.recording] = event
    return {number: np.concatenate(pieces) for number, pieces in samples.items()}, ends


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", noise(40), RATE, subtype="FLOAT")
    return tmp_path / "talk.wav"


def test_parts_of_one_file_are_decoded_once_and_in_order(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = prefetch.passes

    def passes(path: str, options: AudioOptions, report: AudioReport) -> Iterator[object]:
        opened.append(path)
        yield from original(path, options, report)

    monkeypatch.setattr(prefetch, "passes", passes)
    parts = [Excerpt(str(talk), start, 2.5) for start in range(0, 38)]
    samples, ends = segments_of(str(talk), *parts, Excerpt(str(talk), 5, 2), Excerpt(str(talk), 60, 2), str(talk))
    whole = noise(40)
    for number, part in enumerate(parts, start=1):
        assert np.array_equal(samples[number], whole[part.start : part.end])
    assert np.array_equal(samples[39], whole[5 * RATE : 7 * RATE])
    assert len(opened) == 4, "whole, the parts in their order, those that begin again before them, whole"
    error = ends[40].error
    assert str(error) == f"{talk}#t=60,62: begins behind the end of the recording, 0:40.0"
    assert all(ends[number].error is None for number in ends if number != 40)


def test_a_missing_file_is_named_for_each_part(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.wav")
    _, ends = segments_of(Excerpt(missing, 0, 2), Excerpt(missing, 2, 2))
    assert [str(ends[number].error) for number in (0, 1)] == [
        f"{missing}#t={times}: No such file or directory" for times in ("0,2", "2,4")
    ]


def test_channels_each_are_cut_alike(tmp_path: Path) -> None:
    left, right = noise(4), noise(4)[::-1]
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    parts = [Excerpt(str(tmp_path / "two.wav"), start, 1) for start in (1, 2)]
    events = list(read_segments(parts, options=AudioOptions(channels="each")))
    heard = {(e.recording, e.channel): e.samples for e in events if isinstance(e, AudioSegment)}
    for number, part in enumerate(parts):
        for channel, wave in ((1, left), (2, right)):
            assert np.array_equal(heard[number, channel], wave[part.start : part.end])


def test_damage_costs_the_parts_behind_it(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        yield noise(10)
        raise AudioDecodeError("x", "is damaged")

    tape = Tape(blocks())
    assert len(np.concatenate(list(tape.part(Excerpt("x", 0, 5), 6 * RATE, AudioReport())))) == 5 * RATE
    for _ in range(2):
        with pytest.raises(AudioDecodeError, match="is damaged"):
            list(tape.part(Excerpt("x", 6, 5), 6 * RATE, AudioReport()))


def test_what_is_decoded_whole_is_cut_alike() -> None:
    wave = noise(3)
    assert np.array_equal(cut_out(wave, Excerpt("x", 1, 1)), wave[RATE : 2 * RATE])
    assert np.array_equal(cut_out(wave, Excerpt("x", 0, 2.95)), wave)
    with pytest.raises(AudioDecodeError, match="begins behind"):
        cut_out(wave, Excerpt("x", 3, 1))
