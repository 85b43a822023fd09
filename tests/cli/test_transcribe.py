"""`fun-asr transcribe` as its user sees it: output, files, messages, exit status."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from fun_asr import Transcriber
from fun_asr.cli import main

RATE = 16_000


def write(path: Path, seconds: float = 1.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.2 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)), RATE)
    return path


@pytest.fixture
def run(run_on_tiny_model):  # type: ignore[no-untyped-def]
    return run_on_tiny_model("transcribe")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "in" / "b.wav", 1.0, 1), write(tmp_path / "in" / "a.wav", 2.0, 2)


def test_one_file_is_its_text_alone(run, two) -> None:
    result = run(two[0])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    assert result.stdout.strip()
    assert "\t" not in result.stdout


def test_several_files_are_a_line_each_in_their_order(run, two) -> None:
    result = run(*two)
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [path for path, _ in lines] == [str(path) for path in two]
    assert lines[0][1] == run(two[0]).stdout.strip()


def test_a_folder_gives_paths_even_for_one_file(run, two) -> None:
    two[0].unlink()
    assert run(two[0].parent).stdout.startswith(f"{two[1]}\t")


def test_json_is_one_object_a_line(run, two) -> None:
    result = run(two[0].parent, "-f", "json")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["path"] for entry in objects] == sorted(map(str, two))
    assert [entry["duration"] for entry in objects] == [2.0, 1.0]
    keys = {"path", "duration", "language", "language_probability", "text", "spoken", "word_times", "cut", "segments"}
    assert objects[0].keys() == keys | {"incomplete", "lost", "warnings", "model", "chunks"}
    assert objects[0]["model"]["arithmetic"]["encoder"] in {"float32", "bfloat16", "int8"}
    assert objects[0]["language"] in {"en", "de", "zh"}
    assert objects[0]["segments"][0].keys() >= {"start", "end", "text"}


def test_debug_says_what_the_model_computes_with(run, two) -> None:
    result = run(two[0], "--debug", "--compute_type", "float32")
    assert result.stderr.startswith("fun-asr: fun_asr on cpu: encoder float32, ctc float32, decoder float32")
    assert "float32" not in run(two[0]).stderr


def test_files_go_to_the_output_folder_and_nothing_to_stdout(run, two, tmp_path: Path) -> None:
    write(tmp_path / "in" / "sub" / "b.wav")
    write(tmp_path / "in" / "b.flac")
    result = run(tmp_path / "in", "-o", tmp_path / "out" / "deep")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    written = sorted(str(p.relative_to(tmp_path / "out/deep")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written == ["a.txt", "b.flac.txt", "b.wav.txt", "sub/b.txt"]
    assert (tmp_path / "out/deep/a.txt").read_text() == run(two[1]).stdout


def test_json_files(run, two, tmp_path: Path) -> None:
    assert run(two[0], "--output-dir", tmp_path / "out", "--output-format", "json").exit_code == 0
    assert json.loads((tmp_path / "out" / "b.json").read_text())["path"] == str(two[0])


def test_several_formats_are_several_files(run, two, tmp_path: Path) -> None:
    result = run(two[0], "-o", tmp_path / "out", "-f", "srt,TextGrid", "-f", "tsv", "--max_words_per_line", "1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b.srt", "b.TextGrid", "b.tsv"}


def test_formats_on_standard_output(run, two) -> None:
    assert run(two[0], "-f", "vtt").stdout.startswith("WEBVTT\n\n00:00.000 --> ")
    lines = [json.loads(line) for line in run(*two, "-f", "jsonl").stdout.splitlines()]
    assert [line["audio_filepath"] for line in lines] == [str(two[0]), str(two[1])]
    assert {line.split()[0] for line in run(*two, "-f", "ctm").stdout.splitlines()} == {"a", "b"}


def test_bad_files_are_a_line_each_and_the_rest_is_done(run, two, tmp_path: Path) -> None:
    bad, missing = tmp_path / "bad.wav", tmp_path / "missing.wav"
    bad.write_text("no audio")
    result = run(two[0], bad, missing, two[1], "-o", tmp_path / "out")
    assert result.exit_code == 1
    first, second, summary = result.stderr.splitlines()
    assert first.startswith(f"fun-asr: error: {bad}: ")
    assert second == f"fun-asr: error: {missing}: No such file or directory"
    assert summary == "fun-asr: 2 of 4 failed"
    assert {path.name for path in (tmp_path / "out").rglob("*.txt")} == {"a.txt", "b.txt"}


def test_a_single_bad_file_is_one_line(run, tmp_path: Path) -> None:
    result = run(tmp_path / "missing.wav")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"fun-asr: error: {tmp_path / 'missing.wav'}: No such file or directory\n"


def test_an_empty_folder_fails(run, tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"fun-asr: error: {tmp_path}: is a folder without audio or video files\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "klingon"], "unknown language 'klingon'"),
        (["--language", "fr"], "does not know 'fr'"),
        (["--beam_size", "0"], "0 is not in the range"),
        (["--batch_size", "0"], "0 is not in the range"),
        (["--decoding", "ctc", "--beam_size", "2"], "beam_size belongs to decoding generate"),
        (["--decoding", "magic"], "'magic' is not one of"),
        (["--device", "abacus"], "abacus"),
        (["--no_such_option"], "No such option"),
        (["-f", "docx"], "'docx' is not one of"),
        (["-f", "all"], "several formats need --output_dir"),
        (["-f", "srt", "x.wav"], "-f srt of several recordings needs --output_dir"),
        (["--highlight_words"], "options of subtitles need -f srt or vtt"),
    ],
)
def test_wrong_usage_is_status_2(run, two, options: list[str], message: str) -> None:
    result = run(two[0], *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_no_path_is_wrong_usage(run) -> None:
    assert run().exit_code == 2


@pytest.mark.parametrize("language", ["auto", "de", "German"])
def test_languages_by_code_and_name(run, two, language: str) -> None:
    assert run(two[0], "-l", language, "-f", "json").exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--decoding", "ctc"],
        ["--beam-size", "3"],
        ["--batch-size=1", "--threads", "1"],
        ["--hotwords", "Ada Lovelace, Zuse"],
        ["--hotwords", "fox,jugs", "--decoding", "ctc"],
    ],
)
def test_ways_to_decode(run, two, options: list[str]) -> None:
    assert run(*two, *options).exit_code == 0


def test_a_missing_model_is_one_line(two) -> None:
    result = CliRunner().invoke(main, ["transcribe", "-m", "/no/such/model", str(two[0])])
    assert result.exit_code == 2
    assert result.stderr.startswith("fun-asr: error: /no/such/model: no model directory")
    assert result.stderr.count("\n") == 1


def test_an_output_folder_that_cannot_be_is_one_line(run, two, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(two[0], "-o", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert result.stderr == f"fun-asr: error: {tmp_path / 'file' / 'out'}: cannot be written to: Not a directory\n"


def test_an_output_name_that_cannot_be_fails_alone(run, tmp_path: Path) -> None:
    good, long = write(tmp_path / "good.flac"), write(tmp_path / ("x" * 250 + ".flac"))
    result = run(long, good, "-f", "json", "-o", tmp_path / "out")
    assert result.exit_code == 0
    (tmp_path / "out" / "good.json").unlink()
    (tmp_path / "out" / "good.json").mkdir()
    result = run(good, long, "-f", "json", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"fun-asr: error: {tmp_path / 'out' / 'good.json'}: ")


def test_standard_input(run, two) -> None:
    result = run("-", stdin=two[0].read_bytes())
    assert (result.exit_code, result.stdout) == (0, run(two[0]).stdout)
    assert json.loads(run("-", "-f", "json", stdin=two[0].read_bytes()).stdout)["path"] == "-"


def test_standard_input_among_files(run, two, tmp_path: Path) -> None:
    result = run(two[1], "-", "-o", tmp_path / "out", stdin=two[0].read_bytes())
    assert result.exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.txt", "stdin.txt"}


def test_an_empty_standard_input_is_named_in_the_message(run) -> None:
    result = run("-", stdin=b"")
    assert result.exit_code == 1
    assert result.stderr == "fun-asr: error: standard input: is empty (0 bytes)\n"


def test_names_that_are_not_utf8(run, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\tx.wav")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(RATE, 0.1), RATE, format="WAV")
    Path(name).write_bytes(buffer.getvalue())
    missing = os.fsdecode(b"/no/\xe9.wav")
    result = run(name, missing)
    assert result.exit_code == 1
    assert result.stdout_bytes.startswith(os.fsencode(tmp_path) + b"/caf\xe9\\tx.wav\t")
    assert "/no/" in result.stderr
    assert run(name, "-o", tmp_path / "out").exit_code == 0
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"caf\xe9\tx.txt"]


def test_what_was_finished_before_an_interruption_is_there(
    run, two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Transcriber.run

    def interrupted(self, *arguments, **options):  # type: ignore[no-untyped-def]
        yield next(original(self, *arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(Transcriber, "run", interrupted)
    result = run(*two, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr == "fun-asr: interrupted\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.txt"]


@pytest.mark.slow
def test_a_closed_pipe_is_quiet_and_ends(tiny_model_dir: Path, two) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "fun_asr", "transcribe", "-m", tiny_model_dir, "--compute_type", "float32", *two]
    try:
        process = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(write_end)
    assert process.stderr == ""


def test_a_quoted_pattern_is_several_paths(run, two, tmp_path: Path) -> None:
    pattern = tmp_path / "in" / "*.wav"
    assert run(pattern).stdout == run(two[1], two[0]).stdout
    refused = run(pattern, "-f", "srt")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "-f srt of several recordings needs --output_dir" in refused.stderr
    two[0].unlink()
    assert run(pattern).stdout == f"{two[1]}\t{run(two[1]).stdout}", "like a folder that holds one"


def test_recordings_of_one_name_are_told_apart(run, tmp_path: Path) -> None:
    recordings = [write(tmp_path / folder / "talk.wav", 1.0, seed) for seed, folder in enumerate("xy")]
    for options in (["-f", "ctm"], ["-f", "stm"]):
        assert {line.split()[0] for line in run(*recordings, *options).stdout.splitlines()} == {"x/talk", "y/talk"}
    assert {line.split()[0] for line in run(recordings[0], "-f", "ctm").stdout.splitlines()} == {"talk"}
    assert run(*recordings, "-f", "ctm", "-o", tmp_path / "out").exit_code == 0
    for folder in "xy":
        assert (tmp_path / "out" / folder / "talk.ctm").read_text().startswith(f"{folder}/talk 1 ")


def test_a_name_with_points_is_kept(run, two, tmp_path: Path) -> None:
    name = two[0].with_name("1.1 Lesson name")
    two[0].rename(name)
    assert run(name, "-o", tmp_path / "out").exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1.1 Lesson name.txt"]


def test_a_list_is_told_where_it_belongs(run, two, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{two[0]}\n")
    result = run(listed, two[1])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0].endswith(f"a list of recordings is for batch: fun-asr batch - < {listed}")
    assert result.stdout.startswith(f"{two[1]}\t")
