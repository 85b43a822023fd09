"""`fun-asr evaluate`: what batch and wer do, in one go."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from fun_asr.cli import main
from fun_asr.options import TranscriptionOptions
from fun_asr.text.hotwords import Hotword
from fun_asr.transcriber import Transcriber


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two recordings of noise, and one that is missing."""
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    rows = [{"audio_filepath": f"{name}.wav", "duration": 1.0, "text": "one two"} for name in ("a", "b", "missing")]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path / "talks.jsonl"


def evaluate(manifest: Path, out: Path, model: Path, *options: str) -> Result:
    arguments = ["evaluate", str(manifest), "-o", str(out), "-m", str(model), "-l", "en", "--workers", "0", *options]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_scores_what_batch_wrote_and_goes_on_where_it_stopped(
    manifest: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    first = evaluate(manifest, tmp_path / "out", tiny_model_dir)
    assert first.exit_code == 1, "a recording is missing"
    assert first.stdout.startswith("%WER ")
    assert "missing.wav" in first.stderr
    assert "2 transcribed" in first.stderr
    (tmp_path / "missing.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    second = evaluate(manifest, tmp_path / "out", tiny_model_dir, "--json")
    assert second.exit_code == 0, second.stderr
    assert "1 transcribed" in second.stderr
    assert "2 done before" in second.stderr
    transcripts = tmp_path / "out" / "talks"
    compared = CliRunner().invoke(
        main,
        ["wer", "-r", str(manifest), "-h", str(transcripts), "--normalizer", "english", "--json"],
        catch_exceptions=False,
    )
    assert json.loads(second.stdout) == json.loads(compared.stdout)


def test_manifests_of_one_name_are_refused(manifest: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / manifest.name
    other.write_bytes(manifest.read_bytes())
    result = CliRunner().invoke(main, ["evaluate", str(manifest), str(other), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_hotwords_reach_the_recogniser(
    manifest: Path, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    original = Transcriber.run

    def run(self: Transcriber, paths: Any, options: TranscriptionOptions, *others: Any) -> Any:
        given.append(options.hotwords)
        return original(self, paths, options, *others)

    monkeypatch.setattr(Transcriber, "run", run)
    evaluate(manifest, tmp_path / "out", tiny_model_dir, "--hotwords", "Ada, Zuse")
    assert set(given) == {(Hotword("Ada"), Hotword("Zuse"))}


@pytest.fixture
def long_recording(tmp_path: Path) -> Path:
    """Three seconds of noise of different loudness, which the tiny model writes differently."""
    rng = np.random.default_rng(1)
    wave = np.concatenate([rng.normal(0, level, 16_000) for level in (0.05, 0.2, 0.1)])
    soundfile.write(tmp_path / "long.wav", wave, 16_000, subtype="FLOAT")
    for number in range(3):
        part = wave[number * 16_000 : (number + 1) * 16_000]
        soundfile.write(tmp_path / f"part{number}.wav", part, 16_000, subtype="FLOAT")
    return tmp_path / "long.wav"


def texts(folder: Path) -> dict[str, str]:
    return {path.stem: json.loads(path.read_text())["text"] for path in folder.glob("*.json")}


def test_offset_and_duration_cut_as_files_of_their_own_would(
    long_recording: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    files = [{"audio_filepath": f"part{n}.wav", "duration": 1.0, "text": "one two"} for n in range(3)]
    # Not in the order of their times.
    cuts = [{"audio_filepath": "long.wav", "offset": n, "duration": 1.0, "text": "one two"} for n in (2, 0, 1)]
    for name, rows in (("files", files), ("cuts", cuts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evaluate(tmp_path / "files.jsonl", tmp_path / "out", tiny_model_dir).exit_code == 0
    result = evaluate(tmp_path / "cuts.jsonl", tmp_path / "out", tiny_model_dir, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["missing"] == []
    of_files, of_cuts = texts(tmp_path / "out" / "files"), texts(tmp_path / "out" / "cuts")
    assert of_cuts == {"long": of_files["part0"], "long@1": of_files["part1"], "long@2": of_files["part2"]}
    assert len(set(of_cuts.values())) == 3
    again = evaluate(tmp_path / "cuts.jsonl", tmp_path / "out", tiny_model_dir)
    assert "3 done before" in again.stderr


def test_a_data_directory_of_kaldis_is_a_manifest(long_recording: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "dev"
    data.mkdir()
    (data / "wav.scp").write_text(f"rec {long_recording}\nnet ffmpeg -i x.m4a -f wav - |\n")
    (data / "segments").write_text("ada-1 rec 0 1\nbob-1 rec 1 2\nbob-2 rec 2 -1\nada-2 net 0 1\n")
    (data / "utt2spk").write_text("ada-1 ada\nbob-1 bob\nbob-2 bob\nada-2 ada\n")
    (data / "text").write_text("ada-1 one two\nbob-1 three\nbob-2 four\nada-2 five\n")
    result = evaluate(data, tmp_path / "out", tiny_model_dir, "--json", "--by", "speaker")
    assert result.exit_code == 1, "one recording is a command"
    assert result.stderr.count("net is a command (ffmpeg -i x.m4a -f wav - |)") == 1
    report = json.loads(result.stdout)
    assert (report["missing"], report["sentences"]) == (["ada-2"], 4)
    assert [group["name"] for group in report["groups"]["speaker"]] == ["ada", "bob"]
    rows = [{"audio_filepath": f"part{n}.wav", "duration": 1.0, "text": "x"} for n in range(3)]
    (tmp_path / "files.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluate(tmp_path / "files.jsonl", tmp_path / "out", tiny_model_dir)
    of_files, of_data = texts(tmp_path / "out" / "files"), texts(tmp_path / "out" / "dev")
    assert of_data == {"ada-1": of_files["part0"], "bob-1": of_files["part1"], "bob-2": of_files["part2"]}
