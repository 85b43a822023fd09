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
