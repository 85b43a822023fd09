"""How a Python program gives recordings to a model and takes what comes of them."""

import inspect
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import fun_asr
from fun_asr import AudioDecodeError, ConfigError, Segment, Transcriber, Transcript, TranscriptionFailure, load_model
from fun_asr.audio.decode import SAMPLE_RATE, decode
from fun_asr.callbacks import iterate
from tests.models.reference import DATA

CLIP, OTHER = DATA / "libri-00001.opus", DATA / "cv-00001.opus"


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Transcriber:
    return load_model(tiny_model_dir, device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def text(model: Transcriber) -> str:
    (result,) = model.transcribe([CLIP])
    assert isinstance(result, Transcript) and result.text
    return result.text


def test_one_recording_gives_its_transcript(model: Transcriber, text: str) -> None:
    assert model.transcribe(str(CLIP)).text == model.transcribe(CLIP).text == text
    assert model.transcribe(CLIP).path == str(CLIP)
    with pytest.raises(AudioDecodeError, match="no-such-file"):
        model.transcribe("no-such-file.wav")


def test_content_is_as_good_as_a_path(
    model: Transcriber, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = CLIP.read_bytes()
    with CLIP.open("rb") as file:
        results = list(model.transcribe([content, io.BytesIO(content), file, CLIP, b"no recording"]))
    *good, bad = results
    assert [result.unwrap().text for result in good] == [text] * 4
    assert [result.path for result in good] == [None, None, str(CLIP), str(CLIP)]
    assert isinstance(bad, TranscriptionFailure)
    assert str(bad.error).startswith("a recording in memory: ")
    assert os.listdir(tmp_path) == []


def test_a_failure_is_raised_where_that_is_asked_for(model: Transcriber, text: str) -> None:
    good, bad, last = model.transcribe([CLIP, "missing.wav", CLIP])
    assert good.unwrap().text == last.unwrap().text == text
    with pytest.raises(AudioDecodeError, match=r"missing\.wav"):
        bad.unwrap()
    results = model.transcribe([CLIP, "missing.wav", CLIP], raise_on_error=True)
    assert next(results).unwrap().text == text
    with pytest.raises(AudioDecodeError, match=r"missing\.wav"):
        next(results)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_samples_of_any_rate_are_brought_to_the_model_s(model: Transcriber, tmp_path: Path, rate: int) -> None:
    wave = np.asarray(decode(CLIP))
    at_rate = np.interp(np.arange(0, len(wave), SAMPLE_RATE / rate), np.arange(len(wave)), wave).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", at_rate, rate, subtype="FLOAT")
    assert model.transcribe_samples(at_rate, sampling_rate=rate).text == model.transcribe(tmp_path / "a.wav").text != ""
    assert model.transcribe_samples((wave * 32767).astype(np.int16)).text
    with pytest.raises(ConfigError, match="divide by 32768"):
        model.transcribe_samples(wave * 32768)
    for taken_for_recordings in (wave, [wave]):
        with pytest.raises(ConfigError, match="transcribe_samples"):
            list(model.transcribe(taken_for_recordings))  # type: ignore[call-overload]


def test_segments_come_before_the_recording_is_done(model: Transcriber, tmp_path: Path) -> None:
    wave = np.asarray(decode(CLIP))
    soundfile.write(tmp_path / "long.wav", np.tile(wave, 1 + 200 * SAMPLE_RATE // len(wave)), SAMPLE_RATE)
    whole = model.transcribe(tmp_path / "long.wav", batch_size=1)
    segments: list[Segment] = []
    done = [0.0]
    first = None
    for segment in model.stream_segments(
        tmp_path / "long.wav", batch_size=1, on_progress=lambda seconds, _: done.append(seconds)
    ):
        first = first or done[-1]
        segments.append(segment)
    assert first is not None and first < done[-1] / 2
    assert [segment.text for segment in segments] == [segment.text for segment in whole.segments if segment.text]
    with pytest.raises(AudioDecodeError):
        list(model.stream_segments("missing.wav"))


def test_an_iterator_that_is_left_ends_what_fills_it() -> None:
    said: list[int] = []

    def count(call: object) -> None:
        assert callable(call)
        for number in range(100_000):
            said.append(number)
            call(number)

    values = iterate(count, ahead=2)
    assert [next(values), next(values)] == [0, 1]
    values.close()  # type: ignore[attr-defined]
    before = len(said)
    time.sleep(0.05)
    assert len(said) == before < 20


def test_an_unknown_option_is_an_error_as_python_s_own(model: Transcriber) -> None:
    with pytest.raises(TypeError, match="beam_sise"):
        model.transcribe(CLIP, beam_sise=2)  # type: ignore[call-overload]


def test_what_is_public_has_a_docstring() -> None:
    for name in fun_asr.__all__:
        value = getattr(fun_asr, name)
        if not name.startswith("__"):
            assert inspect.getdoc(value), name
    assert issubclass(ConfigError, ValueError)
