"""Published folders given to the commands as `--model`: transcripts, batches, errors."""

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from transformers import WhisperForConditionalGeneration

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.cli import main
from tests.models.conformer import archives
from tests.models.conformer.conftest import publish
from tests.models.reference import DATA, clips
from tests.models.whisper.conftest import random_whisper, save_transformers
from tests.models.whisper.test_load import save_openai

CLIP = DATA / "libri-00001.opus"
LONG = 65  # seconds: three of Whisper's windows


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    return random_whisper()


@pytest.fixture(scope="module")
def models(whisper: WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What users download, as they give it to `--model`."""
    root = tmp_path_factory.mktemp("models")
    (root / "parakeet").mkdir()
    parakeet = publish("tdt", root / "parakeet")
    archive = archives.write(root / "parakeet.nemo", archives.parts(parakeet))
    return {
        "whisper": save_transformers(whisper, root / "whisper", "20KB"),
        "whisper.pt": save_openai(whisper, root / "openai"),
        "parakeet": parakeet.directory,
        "parakeet.nemo": archive,
    }


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.wav"
    speech = np.concatenate(clips())
    soundfile.write(path, np.tile(speech, 20)[: LONG * SAMPLE_RATE], SAMPLE_RATE)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(("name", "family"), [("whisper", "whisper"), ("parakeet", "conformer")])
def test_a_folder_transcribes_short_and_long_recordings(
    models: dict[str, Path], long_recording: Path, name: str, family: str
) -> None:
    code, out, err = run("transcribe", "-m", models[name], "-l", "en", "-f", "json", CLIP, long_recording)
    assert code == 0, err
    short, long = [json.loads(line) for line in out.splitlines()]
    assert short["model"]["family"] == family
    assert short["text"]
    assert len(long["segments"]) > 2
    words = [word for segment in long["segments"] for word in segment["words"]]
    assert words
    starts = [word["start"] for word in words]
    assert starts == sorted(starts) and 0 <= starts[0] and words[-1]["end"] <= LONG


@pytest.mark.parametrize(("one", "other"), [("whisper", "whisper.pt"), ("parakeet", "parakeet.nemo")])
def test_layouts_of_one_model_give_one_text(models: dict[str, Path], one: str, other: str) -> None:
    def text(name: str) -> str:
        code, out, err = run("transcribe", "-m", models[name], "-l", "en", "--beam_size", 1, CLIP)
        assert code == 0, err
        return out

    assert text(one) == text(other) != ""


@pytest.mark.parametrize(("name", "smaller"), [("whisper", 0.6), ("parakeet", 0.6)])
def test_a_folder_in_int8_is_small_and_writes_nearly_the_same(
    models: dict[str, Path], tmp_path: Path, name: str, smaller: float
) -> None:
    small = tmp_path / "small"
    code, out, err = run("convert", "int8", models[name], small)
    assert (code, out) == (0, f"{small}\n"), err

    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    assert size(small) < smaller * size(models[name])
    texts = [
        run("transcribe", "-m", folder, "-l", "en", "--beam_size", 1, "--compute_type", "int8", CLIP)[1]
        for folder in (models[name], small)
    ]
    # What stays in floating point comes of the integers, which moves a random model's choices here and there.
    assert texts[0] and jiwer.cer(*texts) < 0.2
    code, _, err = run("transcribe", "-m", small, "-l", "en", "--compute_type", "float32", CLIP)
    assert code == 0, err


def test_only_safetensors_are_written_again(models: dict[str, Path], tmp_path: Path) -> None:
    code, _, err = run("convert", "int8", models["whisper.pt"], tmp_path / "small")
    assert code == 2 and err.endswith("no safetensors here; only those are written again\n")
    code, _, err = run("convert", "int8", models["whisper"], models["whisper"])
    assert code == 2 and "would overwrite the model that is read" in err


def test_a_batch_goes_on_after_the_model_is_changed(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name in ("parakeet.nemo", "parakeet.nemo", "whisper"):
        code, _, err = run("batch", DATA, "-o", folder, "-m", models[name], "-l", "en", "--workers", 1)
        assert code == 0, err
        if name == "whisper":
            assert "0 transcribed" not in err  # other transcripts are not those of this model
    assert list(folder.glob("*.txt"))


def test_options_that_a_model_cannot_follow_are_refused(models: dict[str, Path]) -> None:
    for arguments, cause in (
        (["--task", "translate"], "task translate: this model can only transcribe"),
        (["--initial_prompt", "Fox"], "initial_prompt: this model takes no text before a segment"),
        (["--temperature_fallback"], "temperature_fallback: this model's search draws nothing at random"),
        (["--hotwords", "fox"], "it has only a transducer"),
    ):
        code, out, err = run("transcribe", "-m", models["parakeet"], *arguments, CLIP)
        assert (code, out) == (2, "")
        assert cause in err and len(err.splitlines()) <= 3
    code, _, err = run("transcribe", "-m", models["whisper"], "--task", "translate", "--initial_prompt", "fox", CLIP)
    assert code == 0, err


def test_a_folder_that_is_no_known_model_names_its_type_and_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    for command in (["transcribe"], ["batch", "-o", tmp_path / "out"]):
        code, out, err = run(*command, "-m", tmp_path, CLIP)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert "'wav2vec2'" in line and "whisper, parakeet_ctc" in line
