"""`fun-asr moe-stats` as its user sees it: table, JSON, picture, groups, messages, exit status."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from fun_asr import load_model
from fun_asr.cli import main
from fun_asr.decoding.generate import Hypothesis, generate
from fun_asr.models.fun_asr.load import load_config
from fun_asr.weights.directory import CTC_TOKENIZER_FILE, TOKENIZER_FILE, load_stored, save_model

RATE = 16_000


def write(path: Path, seconds: float = 1.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.2 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)), RATE)
    return path


@pytest.fixture
def run(run_on_tiny_model):  # type: ignore[no-untyped-def]
    return run_on_tiny_model("moe-stats")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "in" / f"{name}.wav", 0.5 + n, n) for n, name in enumerate("abc")]


@pytest.fixture
def manifest(tmp_path: Path, files: list[Path]) -> Path:
    rows = [
        {"audio_filepath": "in/a.wav", "language": "German", "speaker": "Ada"},
        {"audio_filepath": "in/b.wav", "language": "en"},
        {"audio_filepath": str(files[2]), "language": "de", "speaker": "Ada"},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def groups(result: click.testing.Result) -> dict[str, dict]:  # type: ignore[type-arg]
    return {group["group"]: group for group in json.loads(result.stdout)["groups"]}


def loads(group: dict) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([layer["load"] for layer in group["layers"]])


def test_table(run, files) -> None:
    result = run(files[0].parent)
    assert (result.exit_code, result.stderr) == (0, "")
    explanation, _, title, header, *rows = result.stdout.splitlines()
    assert "2 of 4 experts a token" in explanation
    assert title.startswith("all: 3 recordings, ")
    assert header.split() == ["layer", "|", "0", "1", "2", "3", "|", "max/mean", "entropy", "share", "dead"]
    for layer, row in enumerate(rows):
        fields = row.split()
        assert fields[0] == str(layer)
        assert sum(map(float, fields[2:6])) == pytest.approx(100, abs=0.3)
        assert 1 <= float(fields[7]) <= 2
    assert len(rows) == 2


def test_json_counts_what_the_api_counts(run, files, tiny_model_dir: Path) -> None:
    result = run(*files, "--json", "-l", "en")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["experts"], report["experts_per_token"]) == (0, 4, 2)
    (group,) = report["groups"]
    model = load_model(tiny_model_dir, device="cpu", compute_type="float32")
    with model.collect_routing() as layers:
        list(model.transcribe(files, language="en", beam_size=1))
    assert group["recordings"] == 3
    assert group["tokens"] == layers[0].tokens > 0
    for entry, layer in zip(group["layers"], layers, strict=True):
        assert entry["load"] == layer.load
        assert sum(entry["load"]) == 2 * group["tokens"]
        assert entry["entropy"] == pytest.approx(layer.entropy, abs=1e-4)
        assert entry["entropy_share"] == pytest.approx(entry["entropy"] / np.log(4), abs=1e-3)
        assert entry["dead"] == [expert for expert, count in enumerate(entry["load"]) if count == 0]


def test_a_text_token_counts_once(run, files, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def counting(*arguments: Any, **options: Any) -> list[Hypothesis]:
        nonlocal read
        found = generate(*arguments, **options)
        # The last token of a hypothesis that its limit ended is never read.
        read += sum(len(hypothesis.tokens) - (not hypothesis.complete) for hypothesis in found)
        return found

    monkeypatch.setattr("fun_asr.models.fun_asr.recogniser.generate", counting)
    (group,) = groups(run(*files, "--json", "-l", "en")).values()
    assert group["tokens"] == read > 0


def test_int8(run, files) -> None:
    result = run(*files, "--json", "--compute_type", "int8")
    (group,) = groups(result).values()
    assert (loads(group).sum(axis=1) == 2 * group["tokens"]).all()


@pytest.mark.parametrize(
    ("by", "recordings"),
    [("none", {"all": 3}), ("language", {"de": 2, "en": 1}), ("speaker", {"Ada": 2, "no speaker": 1})],
)
def test_groups_of_a_manifest(run, manifest, by: str, recordings: dict[str, int]) -> None:
    result = run(manifest, "--by", by, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = groups(result)
    assert list(found) == list(recordings)
    assert {name: group["recordings"] for name, group in found.items()} == recordings
    (everything,) = groups(run(manifest, "--json")).values()
    assert (sum(loads(group) for group in found.values()) == loads(everything)).all()


def test_a_manifest_gives_the_language_and_the_option_overrides_it(run, manifest, files) -> None:
    by_language = groups(run(manifest, "--by", "language", "--json"))
    (english,) = groups(run(files[1], "-l", "en", "--json")).values()
    (german,) = groups(run(files[0], files[2], "-l", "de", "--json")).values()
    assert by_language["en"]["layers"] == english["layers"]
    assert by_language["de"]["layers"] == german["layers"]
    (forced,) = groups(run(manifest, "-l", "zh", "--json")).values()
    (chinese,) = groups(run(*files, "-l", "zh", "--json")).values()
    assert forced == chinese


def test_a_language_that_the_model_does_not_know_is_only_a_label(run, tmp_path: Path, files) -> None:
    manifest = tmp_path / "list.jsonl"
    lines = [{"audio_filepath": "in/a.wav", "language": "fr"}, {"audio_filepath": "in/b.wav", "language": "Klingon"}]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    result = run(manifest, "--by", "language", "--json")
    assert (result.exit_code, list(groups(result))) == (0, ["fr", "Klingon"])
    (detected,) = groups(run(files[0], "--json")).values()
    assert groups(result)["fr"]["layers"] == detected["layers"]


def test_png_has_the_groups(run, manifest, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "map.png"
    result = run(manifest, "--by", "speaker", "--png", picture)
    assert (result.exit_code, result.stderr) == (0, "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in picture.parent.iterdir()] == ["map.png"]


def test_png_without_matplotlib_says_how_to_get_it(run, files, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(files[0], "--png", tmp_path / "map.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("fun-asr: error: --png needs matplotlib, which is not installed: pip install matplotlib\n")
    assert run(files[0]).exit_code == 0


def test_bad_files_are_a_line_each_and_the_rest_is_counted(run, files, manifest, tmp_path: Path) -> None:
    bad, missing = tmp_path / "bad.wav", tmp_path / "missing.wav"
    bad.write_text("no audio")
    with manifest.open("a") as lines:
        lines.write("no json\n")
    clean = groups(run(*files, "--json", "-l", "en"))
    result = run(bad, missing, manifest, "--json", "-l", "en")
    assert result.exit_code == 1
    first, second, third = result.stderr.splitlines()
    assert first == f"fun-asr: error: {manifest}:4: is not JSON"
    assert second.startswith(f"fun-asr: error: {bad}: ")
    assert third == f"fun-asr: error: {missing}: No such file or directory"
    assert groups(result) == clean


def test_nothing_to_count(run, tmp_path: Path) -> None:
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"fun-asr: error: {tmp_path}: is a folder without audio or video files\n"
    assert json.loads(run(tmp_path, "--json").stdout)["groups"] == []
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    assert run(tmp_path).exit_code == 0
    result = run(tmp_path, "--png", tmp_path / "map.png")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "all: 1 recording, 0 text tokens")
    assert result.stderr.endswith("map.png: not written, because no text token was counted\n")


def test_standard_input(run, files) -> None:
    assert groups(run("-", "--json", stdin=files[0].read_bytes())) == groups(run(files[0], "--json"))
    assert run("-", stdin=b"").stderr == "fun-asr: error: standard input: is empty (0 bytes)\n"


def test_a_model_without_routed_experts_is_one_line(tiny_model_dir: Path, tmp_path: Path, files) -> None:
    config = load_config(tiny_model_dir)
    config = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, num_experts=0))
    stored = load_stored(tiny_model_dir)
    state = {name: tensor for name, tensor in stored.items() if ".router." not in name and ".experts." not in name}
    tokenizers = [tiny_model_dir / TOKENIZER_FILE, tiny_model_dir / CTC_TOKENIZER_FILE]
    save_model(tmp_path / "dense", config, state, tokenizers, int8=False)
    with load_model(tmp_path / "dense", device="cpu").collect_routing() as layers:
        assert layers == []
    result = CliRunner().invoke(main, ["moe-stats", "-m", str(tmp_path / "dense"), str(files[0])])
    assert (result.exit_code, result.stdout) == (2, "")
    message = "the model has no routed experts, so there is nothing to count"
    assert result.stderr == f"fun-asr: error: {tmp_path / 'dense'}: {message}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "klingon"], "unknown language 'klingon'"),
        (["--language", "fr"], "does not know 'fr'"),
        (["--batch_size", "0"], "0 is not in the range"),
        (["--device", "abacus"], "abacus"),
        (["--by", "speaker"], "--by speaker needs a manifest"),
        (["--by", "age"], "'age' is not one of"),
        (["--png", "."], "is a directory"),
    ],
)
def test_wrong_usage_is_status_2(run, files, options: list[str], message: str) -> None:
    result = run(files[0], *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_no_path_is_wrong_usage(run) -> None:
    assert run().exit_code == 2


def test_a_missing_model_is_one_line(files) -> None:
    result = CliRunner().invoke(main, ["moe-stats", "-m", "/no/such/model", str(files[0])])
    assert result.exit_code == 2
    assert result.stderr.startswith("fun-asr: error: /no/such/model: no model directory")
    assert result.stderr.count("\n") == 1
