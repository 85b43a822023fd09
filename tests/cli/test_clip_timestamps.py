"""--clip_timestamps: parts of a recording, in one transcript with the recording's times."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import soundfile
from click.testing import Result

from fun_asr import AudioDecodeError, ConfigError, Segment, Transcriber, Transcript, load_model
from fun_asr.audio.decode import SAMPLE_RATE, decode
from fun_asr.audio.excerpt import Excerpt
from fun_asr.options import TranscriptionOptions
from tests.models.reference import DATA

CLIP = DATA / "libri-00001.opus"
RunOnTinyModel = Callable[[str], Callable[..., Result]]


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Transcriber:
    return load_model(tiny_model_dir, device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "a.wav"
    soundfile.write(path, decode(CLIP), SAMPLE_RATE)
    return path


def cut(wave: Path, start: float, end: float | None, place: Path) -> Path:
    samples, rate = soundfile.read(wave)
    soundfile.write(place, samples[round(start * rate) : None if end is None else round(end * rate)], rate)
    return place


@pytest.mark.parametrize("times", [(1.0, 3.5, 6.0, 9.0), (1.0, 3.5, 6.0), (2.0,), (0.0, 2.0, 2.0, 4.0)])
def test_a_part_is_transcribed_as_if_it_were_a_file(
    model: Transcriber, wave: Path, tmp_path: Path, times: Sequence[float]
) -> None:
    found = model.transcribe(wave, clip_timestamps=times, language="en")
    expected = []
    ends = [*times[1::2], None]
    for start, end in zip(times[::2], ends, strict=False):
        alone = model.transcribe(cut(wave, start, end, tmp_path / "part.wav"), language="en")
        for segment in alone.segments:
            words = [(word.text, round(word.start + start, 2)) for word in segment.words]
            expected.append((segment.text, round(segment.start + start, 2), round(segment.end + start, 2), words))
    assert expected and expected == [
        (
            segment.text,
            round(segment.start, 2),
            round(segment.end, 2),
            [(word.text, round(word.start, 2)) for word in segment.words],
        )
        for segment in found.segments
    ]
    assert found.path == str(wave)
    last = ends[len(times[::2]) - 1]
    assert found.duration == pytest.approx(len(decode(wave)) / SAMPLE_RATE if last is None else last)


def test_every_recording_has_one_result_and_its_own_failure(model: Transcriber, wave: Path) -> None:
    results = list(model.transcribe([wave, "missing.wav", wave], clip_timestamps=(0, 2, 5, 7)))
    assert [result.path for result in results] == [str(wave), "missing.wav", str(wave)]
    assert [isinstance(result, Transcript) for result in results] == [True, False, True]
    with pytest.raises(AudioDecodeError, match="begins behind the end of the recording"):
        model.transcribe(wave, clip_timestamps=(0, 2, 500, 600))


def test_segments_come_with_the_recording_s_times(model: Transcriber, wave: Path) -> None:
    whole = model.transcribe(wave, clip_timestamps=(1, 3, 6, 9))
    said: list[Segment] = []
    options = TranscriptionOptions(clip_timestamps=(1.0, 3.0, 6.0, 9.0))
    for _ in model.run([wave], options, on_segments=lambda _, segments: said.extend(segments)):
        pass
    assert [(segment.start, segment.text) for segment in said] == [(s.start, s.text) for s in whole.segments]


def test_times_count_from_where_a_part_begins(model: Transcriber, wave: Path) -> None:
    (of_part,) = model.transcribe([Excerpt(str(wave), 4.0, 3.0)], clip_timestamps=(1, 9))
    (same,) = model.transcribe([Excerpt(str(wave), 5.0, 2.0)])
    assert of_part.unwrap().text == same.unwrap().text != ""


@pytest.mark.parametrize("times", [(3, 1), (1, 1), (-1, 2), (float("nan"),), (0, 5, 4)])
def test_times_that_are_none_are_refused(model: Transcriber, wave: Path, times: Sequence[float]) -> None:
    with pytest.raises(ConfigError, match="clip_timestamps must"):
        model.transcribe(wave, clip_timestamps=times)


def test_the_command_line_takes_whisper_s_form(run_on_tiny_model: RunOnTinyModel, wave: Path) -> None:
    run = run_on_tiny_model("transcribe")
    found = json.loads(run("-f", "json", "--clip_timestamps", "1,3,6", wave).stdout)
    assert [segment["start"] for segment in found["segments"]] and all(
        1 <= segment["start"] <= 3 or segment["start"] >= 6 for segment in found["segments"]
    )
    result = run("--clip_timestamps", "0:30", wave)
    assert result.exit_code == 2 and "such as 0,30,60,90" in result.stderr
