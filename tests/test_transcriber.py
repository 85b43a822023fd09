"""From files to transcripts, with a tiny random model: order, failures, batches, memory, languages."""

import itertools
import shutil
import string
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from fun_asr import Transcriber, Transcript, load_model
from fun_asr.audio import prefetch
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.excerpt import Excerpt
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.transcript import TranscriptionFailure

Samples = npt.NDArray[np.float32]


def sound(seconds: float, seed: int = 0) -> Samples:
    """Noise whose loudness and colour drift, so that the model writes something else for every seed."""
    draw = np.random.default_rng(seed)
    noise = draw.standard_normal(round(seconds * SAMPLE_RATE))
    width = int(draw.integers(1, 40))
    level = draw.uniform(0.05, 0.3)
    smooth = np.convolve(noise, np.ones(width) / np.sqrt(width), mode="same")
    return np.clip(level * smooth, -1, 1).astype(np.float32)


def write(path: Path, samples: Samples) -> Path:
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Transcriber:
    return load_model(tiny_model_dir, device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def deaf(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    """The tiny model with a CTC head that hears nothing."""
    directory = tmp_path_factory.mktemp("deaf") / "model"
    shutil.copytree(tiny_model_dir, directory)
    (shard,) = directory.glob("model-*.safetensors")
    state = load_file(shard)
    state["ctc.vocabulary.bias"][-1] = 1000.0
    save_file(state, shard)
    return load_model(directory, device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sounds")
    lengths = [4.0, 0.3, 7.5, 1.2, 4.1, 0.01, 2.0]
    return [write(folder / f"{i}.wav", sound(seconds, i)) for i, seconds in enumerate(lengths)]


def succeeded(result: Transcript | TranscriptionFailure) -> Transcript:
    assert isinstance(result, Transcript)
    return result


def test_results_come_in_the_order_of_the_paths(model: Transcriber, files: list[Path]) -> None:
    results = [succeeded(result) for result in model.transcribe(files, batch_size=3)]
    assert [result.path for result in results] == [str(path) for path in files]
    assert len({result.text for result in results}) > 3, "the tiny model should tell sounds apart"
    for result, path in zip(results, files, strict=True):
        assert result.duration == pytest.approx(soundfile.info(path).duration)


@pytest.mark.parametrize("decoding", ["generate", "ctc"])
@pytest.mark.parametrize("language", ["en", None])
def test_batches_change_no_text(model: Transcriber, files: list[Path], decoding: str, language: str | None) -> None:
    def texts(paths: list[Path], batch_size: int) -> dict[str | None, str]:
        results = model.transcribe(paths, language=language, decoding=decoding, batch_size=batch_size)  # type: ignore[arg-type]
        return {result.path: succeeded(result).text for result in results}

    alone = texts(files, 1)
    assert texts(files, 16) == alone
    assert texts(files[::-1], 4) == alone


def test_the_same_input_gives_the_same_output(model: Transcriber, files: list[Path]) -> None:
    assert list(model.transcribe(files, batch_size=4)) == list(model.transcribe(files, batch_size=4))


def test_beam_search_finds_hypotheses_too(model: Transcriber, files: list[Path]) -> None:
    assert all(succeeded(result).segments for result in model.transcribe(files, beam_size=3))


def test_bad_files_fail_alone(model: Transcriber, files: list[Path], tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("not audio")
    missing = tmp_path / "missing.wav"
    clean = [succeeded(result) for result in model.transcribe([files[0], files[2]])]
    first, bad, second, gone = model.transcribe([files[0], text, files[2], missing])
    assert [first, second] == clean
    for failure, path in ((bad, text), (gone, missing)):
        assert isinstance(failure, TranscriptionFailure)
        assert failure.path == str(path)
        assert str(failure.error).startswith(str(path))


def test_damage_after_some_segments_is_a_hole_and_strict_drops_the_file_and_no_other(
    model: Transcriber, files: list[Path], tmp_path: Path
) -> None:
    damaged = write(tmp_path / "damaged.flac", sound(80))
    content = bytearray(damaged.read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 4000] = bytes(4000)
    damaged.write_bytes(content)
    paths = [files[0], damaged, files[2]]
    first, kept, last = model.transcribe(paths)
    assert isinstance(kept, Transcript) and kept.incomplete
    assert kept.duration == pytest.approx(80, abs=0.01)
    assert sum(part.duration or 0 for part in kept.lost) < 1
    assert all(55 < part.start < 65 for part in kept.lost)
    assert next(model.transcribe([damaged])) == kept

    one, failure, other = model.transcribe(paths, strict=True)
    assert isinstance(failure, TranscriptionFailure)
    assert failure.path == str(damaged)
    assert [one, other] == [first, last] == list(model.transcribe([files[0], files[2]]))


def test_whatever_a_codec_raises_is_that_file_s_failure(
    model: Transcriber, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = prefetch.passes

    def passes(path: str, *others: Any) -> Any:
        if path == str(files[0]):
            raise RuntimeError("codec went mad")
        return original(path, *others)

    monkeypatch.setattr(prefetch, "passes", passes)
    failure, good = model.transcribe(files[:2])
    assert isinstance(failure, TranscriptionFailure)
    assert "codec went mad" in str(failure.error)
    assert isinstance(good, Transcript)


def test_chunks_cover_a_long_file(model: Transcriber, tmp_path: Path) -> None:
    path = write(tmp_path / "long.flac", sound(150.5))
    (result,) = (succeeded(one) for one in model.transcribe([path], language="en"))
    assert result.duration == 150.5
    assert len(result.chunks) >= 6
    edges = [0.0, *(chunk.end for chunk in result.chunks)]
    assert [chunk.start for chunk in result.chunks] == edges[:-1]
    assert edges[-1] == 150.5
    assert all(chunk.end - chunk.start <= 30 for chunk in result.chunks)
    assert result.text == " ".join(chunk.text for chunk in result.chunks if chunk.text)
    assert result.text.split() == " ".join(segment.text for segment in result.segments).split()


def test_progress_is_told_with_the_total(model: Transcriber, files: list[Path]) -> None:
    told: list[tuple[float, float | None]] = []
    results = [
        succeeded(result)
        for result in model.transcribe(files, batch_size=2, on_progress=lambda done, total: told.append((done, total)))
    ]
    seconds = pytest.approx(sum(result.duration for result in results))
    assert len(told) > 1
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (seconds, seconds)
    assert all(total == seconds for _, total in told[-3:]), "known before the end"


@pytest.mark.parametrize("form", ["one", "bytes", "iterator", "parts", "clips", "missing"])
def test_the_total_is_of_what_is_transcribed(model: Transcriber, tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "a.flac", sound(6.0))
    told: list[tuple[float, float | None]] = []

    def tell(done: float, total: float | None) -> None:
        told.append((done, total))

    clips: tuple[float, ...] = (1.0, 3.0, 5.0) if form == "clips" else ()
    sources = {
        "one": [path],
        "bytes": [path.read_bytes(), path.read_bytes()],
        "iterator": iter([path, path]),
        "parts": [Excerpt(str(path), 0.0, 2.0), Excerpt(str(path), 5.0)],
        "clips": [path],
        "missing": [path, tmp_path / "missing.wav", path],
    }
    for _ in model.transcribe(sources[form], on_progress=tell, clip_timestamps=clips):
        pass
    expected = {"one": 6.0, "bytes": 12.0, "iterator": 12.0, "parts": 3.0, "clips": 3.0, "missing": 12.0}[form]
    assert told[-1] == (pytest.approx(expected), pytest.approx(expected))
    assert all(total is None or total >= done for done, total in told)


def test_endless_paths_are_taken_a_few_at_a_time(model: Transcriber, files: list[Path]) -> None:
    taken = 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        for path in itertools.cycle(files):
            taken += 1
            yield path

    results = model.transcribe(paths(), batch_size=2)
    first = [next(results) for _ in range(10)]
    # Another batch: the same words, the score equal but for rounding.
    assert first[0].text == first[7].text
    assert first[0].chunks[0].score == pytest.approx(first[7].chunks[0].score, abs=1e-4)
    assert taken < 100
    results.close()
    deadline = time.monotonic() + 5
    while any(thread.name == "fun-asr-reader" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "reader threads outlive the iterator"
        time.sleep(0.05)


def test_no_paths_give_nothing(model: Transcriber) -> None:
    assert list(model.transcribe([])) == []


def test_a_language_is_detected_for_the_whole_file(model: Transcriber, tmp_path: Path) -> None:
    path = write(tmp_path / "long.flac", sound(70))
    (result,) = (succeeded(one) for one in model.transcribe([path]))
    assert result.language in model.languages
    assert result.language_probability is not None and 0 < result.language_probability <= 1
    assert {chunk.language for chunk in result.chunks} == {result.language}


def test_a_given_language_is_kept_by_name_or_code(model: Transcriber, files: list[Path]) -> None:
    for language in ("de", "German"):
        (result,) = (succeeded(one) for one in model.transcribe(files[:1], language=language))
        assert (result.language, result.language_probability) == ("de", None)


def test_cantonese_is_chinese_to_a_model_that_does_not_tell_them_apart(model: Transcriber, files: list[Path]) -> None:
    for given in ("yue", "Cantonese"):
        assert model.transcribe(files[0], language=given).language == "zh"
    assert model.transcribe(files[0], language=["yue", "zh"]).language == "zh"


def test_ctc_does_not_ask_the_decoder_for_a_language(model: Transcriber, files: list[Path]) -> None:
    (result,) = (succeeded(one) for one in model.transcribe(files[:1], decoding="ctc"))
    assert result.language is None
    assert result.text


@pytest.mark.parametrize("decoding", ["generate", "ctc"])
def test_digital_silence_has_no_text_and_does_not_run_the_network(
    model: Transcriber, decoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "silence.wav", np.zeros(40 * SAMPLE_RATE, np.float32))
    monkeypatch.setattr(model.recogniser, "recognise", None)
    (result,) = (succeeded(one) for one in model.transcribe([path], decoding=decoding))  # type: ignore[arg-type]
    assert result.text == ""
    assert result.duration == 40
    assert [chunk.score for chunk in result.chunks] == [None] * len(result.chunks)
    assert result.language is None


def test_what_ctc_does_not_hear_is_not_invented(deaf: Transcriber, files: list[Path]) -> None:
    for result in deaf.transcribe(files):
        assert succeeded(result).text == ""
        assert succeeded(result).language is None


def test_language_is_detected_on_the_first_segment_with_sound(model: Transcriber) -> None:
    samples = np.concatenate([np.zeros(35 * SAMPLE_RATE, np.float32), sound(20)])
    result = model.transcribe_samples(samples)
    assert result.chunks[0].text == ""
    assert result.language is not None


def test_samples_give_what_their_file_gives(model: Transcriber, files: list[Path]) -> None:
    (from_file,) = (succeeded(one) for one in model.transcribe(files[:1]))
    from_memory = model.transcribe_samples(sound(4.0, 0))
    assert from_memory.path is None
    assert (from_memory.segments, from_memory.chunks) == (from_file.segments, from_file.chunks)


def test_no_samples_are_an_empty_transcript(model: Transcriber) -> None:
    result = model.transcribe_samples(np.zeros(0, np.float32))
    assert (result.duration, result.segments, result.text) == (0, (), "")


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 100), np.float32), np.zeros(100, np.int64), np.array([0.0, np.nan], np.float32)]
)
def test_samples_of_another_form_are_refused(model: Transcriber, samples: Samples) -> None:
    with pytest.raises(ValueError, match="mono samples"):
        model.transcribe_samples(samples)


@pytest.mark.parametrize(
    "options",
    [
        {"language": "klingon"},
        {"language": "fr"},  # known, but not to the tiny model
        {"decoding": "magic"},
        {"beam_size": 0},
        {"batch_size": 0},
        {"decoding": "ctc", "beam_size": 2},
    ],
)
def test_options_out_of_range_are_refused_at_once(model: Transcriber, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        model.transcribe([], **options)  # type: ignore[arg-type]


def test_int8_and_bfloat16_load_and_write_text(tiny_model_dir: Path, files: list[Path]) -> None:
    for compute_type in ("int8", "bfloat16"):
        model = load_model(tiny_model_dir, device="cpu", compute_type=compute_type)
        assert all(isinstance(result, Transcript) for result in model.transcribe(files))


def test_no_model_there_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model directory"):
        load_model(tmp_path)


def test_tokenizers_of_another_model_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny_model_dir, directory)
    config = (directory / "config.json").read_text().replace('"vocab_size": 33', '"vocab_size": 34')
    (directory / "config.json").write_text(config)
    (shard,) = directory.glob("model-*.safetensors")
    state = load_file(shard)
    for name in ("ctc.vocabulary.weight", "ctc.vocabulary.bias"):
        state[name] = torch.cat([state[name], state[name][:1]])
    save_file(state, shard)
    with pytest.raises(CheckpointError, match="tokenizers"):
        load_model(directory)


@pytest.mark.parametrize("options", [{"device": "abacus"}, {"compute_type": "float8"}, {"threads": -1}])
def test_unknown_hardware_is_refused(tiny_model_dir: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        load_model(tiny_model_dir, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("decoding", ["generate", "ctc"])
def test_hotwords_change_texts_and_do_so_alike_in_any_batch(
    model: Transcriber, files: list[Path], decoding: Literal["generate", "ctc"]
) -> None:
    def texts(batch_size: int, hotwords: list[tuple[str, float]]) -> list[str]:
        results = model.transcribe(
            files, language="en", decoding=decoding, batch_size=batch_size, hotwords=hotwords, punctuation=False
        )
        return [succeeded(result).text for result in results]

    plain = texts(16, [])
    letters = {letter for text in plain for letter in text if letter != " "}
    hotwords = [(a + b, 10.0) for a in letters for b in string.ascii_lowercase]
    found = texts(16, hotwords)
    assert found != plain
    assert texts(1, hotwords) == found


@pytest.mark.parametrize("hotwords", ["Ada", ["?!"], [("Ada", 0.0)], ["x" * 200]])
def test_hotwords_that_cannot_be_used_are_refused(model: Transcriber, hotwords: Any) -> None:
    with pytest.raises(ConfigError, match="hotword"):
        model.transcribe_samples(sound(1.0), hotwords=hotwords)
